"""Reading a scene package back: what ``scene.package`` wrote."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from dyncity_sim.domain.frames import Poses
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.scene import Scene, StaticMap, Track
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.scene.package import SCENE_VERSION, STATIC_CELLS


def read_scene(folder: Path) -> Scene:
    """The scene in a folder; poses come back to a micrometre, as they were written.

    Raises:
        InvalidInputError: no scene in the folder, of another version, or a damaged file.
    """
    manifest = folder / "scene.json"
    if not manifest.is_file():
        raise InvalidInputError(
            "scene", str(folder), "a folder with scene.json", "dyncity cosim and dyncity demo write one as OUT/scene."
        )
    try:
        described = json.loads(manifest.read_text(encoding="utf-8"))
        if (described["format"], described["version"]) != ("dyncity-scene", SCENE_VERSION):
            raise InvalidInputError(
                str(manifest), f"{described['format']} version {described['version']}", f"version {SCENE_VERSION}"
            )
        tracks = json.loads((folder / "tracks.json").read_text(encoding="utf-8"))
        return Scene(
            tracks=tuple(_track(track) for track in tracks["tracks"]),
            static_map=_static_map(folder / STATIC_CELLS),
            ego_poses_world_from_ego=_poses(tracks["ego"]["poses_world_from_ego"]),
            times_us=np.array(tracks["ego"]["times_us"], dtype=np.int64),
            opendrive=(folder / "map.xodr").read_text(encoding="utf-8"),
        )
    except (OSError, KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InvalidInputError("scene", f"{folder}: {type(error).__name__}: {error}", "a whole scene") from error


def _track(values: dict[str, Any]) -> Track:
    length_m, width_m, height_m = (float(edge) for edge in values["size_m"])
    return Track(
        id=int(values["id"]),
        kind=ActorKind(values["kind"]),
        size_m=(length_m, width_m, height_m),
        poses_world_from_actor=_poses(values["poses_world_from_actor"]),
        times_us=np.array(values["times_us"], dtype=np.int64),
        velocities_world_mps=np.array(values["velocities_world_mps"], dtype=np.float64),
    )


def _poses(rows: list[list[float]]) -> Poses:
    """Poses of ``[x_m, y_m, z_m, qw, qx, qy, qz]``."""
    values = np.array(rows, dtype=np.float64).reshape(-1, 7)
    poses = np.tile(np.eye(4), (len(values), 1, 1))
    poses[:, :3, :3] = Rotation.from_quat(values[:, [4, 5, 6, 3]]).as_matrix()
    poses[:, :3, 3] = values[:, :3]
    return poses


def _static_map(file: Path) -> StaticMap:
    # NumPy leaves a file open that it opened itself and finds damaged.
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        origin, size = arrays["origin_world_m"].tolist(), arrays["voxel_size_m"].tolist()
        return StaticMap(arrays["labels"], (origin[0], origin[1], origin[2]), (size[0], size[1], size[2]))
