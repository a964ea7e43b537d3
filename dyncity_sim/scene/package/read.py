"""Reading a scene package back: what ``scene.package.write`` wrote."""

import json
from pathlib import Path

from dyncity_sim.compression import read_arrays
from dyncity_sim.domain.scene import Provenance, Scene, StaticMap
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.scene.package.tables import EGO_COLUMNS, TRACK_COLUMNS, poses_of, read_columns, tracks_of
from dyncity_sim.scene.package.write import EGO, FORMAT, MANIFEST, PROVENANCE, ROAD, STATIC_CELLS, TRACKS, VERSION

_MOST_STATIC_BYTES = 2**32
"""Of a static map: 4 km x 4 km of 40 layers of CarlaSC's cells."""


def read_scene(folder: Path) -> Scene:
    """The scene in a folder, tracks and poses as they were written (rotations to within rounding).

    Raises:
        InvalidInputError: no scene in the folder, of another version, or a damaged file.
        MissingExtraError: pyarrow is not installed.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise InvalidInputError(
            "scene", str(folder), f"a folder with {MANIFEST}", "dyncity cosim and dyncity demo write one as OUT/scene."
        )
    try:
        described = json.loads(manifest.read_text(encoding="utf-8"))
        check_version(described, manifest)
        ego = read_columns(folder / EGO, EGO_COLUMNS)
        return Scene(
            tracks=tracks_of(read_columns(folder / TRACKS, TRACK_COLUMNS)),
            static_map=read_static_map(folder / STATIC_CELLS),
            ego_poses_world_from_ego=poses_of(ego),
            times_us=ego["time_us"],
            opendrive=(folder / ROAD).read_text(encoding="utf-8"),
        )
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InvalidInputError("scene", f"{folder}: {type(error).__name__}: {error}", "a whole scene") from error


def read_provenance(folder: Path) -> Provenance:
    """Who made the scene in a folder, with which seeds, on whose map; how it was sampled stays in the file.

    Raises:
        InvalidInputError: no provenance in the folder, or a damaged one.
    """
    try:
        told = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
        seeds = tuple(chunk["seed"] for chunk in told["chunks"])
        return Provenance(told["model_id"], seeds, told["attribution"], told["taxonomy"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InvalidInputError(
            str(folder / PROVENANCE), f"{type(error).__name__}: {error}", "the provenance of a scene"
        ) from error


def check_version(described: dict[str, object], manifest: Path) -> None:
    """Raise InvalidInputError where a manifest is not that of a scene of this version."""
    if (described["format"], described["version"]) != (FORMAT, VERSION):
        raise InvalidInputError(
            str(manifest),
            f"{described['format']} version {described['version']}",
            f"{FORMAT} version {VERSION}",
            "Scenes are made again of their drive: open_drive, build_scene, write_scene (docs/scenes.md).",
        )


def read_static_map(file: Path) -> StaticMap:
    """The cells of ``static.npz``.

    Raises:
        InvalidInputError: no such file, or a damaged one.
        TypeError, ValueError: origin or size are not three numbers.
    """
    arrays = read_arrays(file, ("labels", "origin_world_m", "voxel_size_m"), most_bytes=_MOST_STATIC_BYTES)
    x_m, y_m, z_m = arrays["origin_world_m"].tolist()
    along_x_m, along_y_m, along_z_m = arrays["voxel_size_m"].tolist()
    return StaticMap(arrays["labels"], (x_m, y_m, z_m), (along_x_m, along_y_m, along_z_m))
