"""Occ3D (Tian et al. 2023; Tsinghua-MARS-Lab/Occ3D), on nuScenes and on Waymo: 200 x 200 x 16 cells of 0.4 m.

::

    annotations.json                        Occ3D-nuScenes: scene_infos[scene][token] = timestamp, ego_pose, ...
    gts/<scene>/<token>/labels.npz          semantics, mask_lidar, mask_camera

    [<split>/]<scene>/<frame>_04.npz        Occ3D-Waymo: voxel_label, origin_voxel_state, final_voxel_state, infov

Both stand in the vehicle's frame, x forward, y left, z up, with the road near z = 0. A cell was observed where
``mask_lidar`` (Waymo: ``origin_voxel_state``) is 1: there the accumulated LiDAR sweeps hit or passed it. The other
masks say what cameras see of that, and are left to evaluations of cameras.

Times of nuScenes are the timestamps of ``annotations.json`` in microseconds. Its entries are in order of time, so
where timestamps are tokens, which the published text allows, frames are 0.5 s apart. Waymo's files are numbered at
10 Hz. Some of its copies hold each frame's pose as ``ego2global``; where they do not, poses are unknown.

Exports of ours (``groundtruth.formats.write_occ3d``) have the form of Occ3D-nuScenes, and the rate and the credit of
what was exported.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from dyncity_sim.compression import read_arrays
from dyncity_sim.dataset.label_maps import OCC3D_NUSCENES_LABELS, OCC3D_WAYMO_LABELS, LabelMap
from dyncity_sim.dataset.labelled import LabelledFrames, OccupancyDataset, check_range, rate_of
from dyncity_sim.dataset.occ3d_annotations import RATE_HZ as NUSCENES_RATE_HZ
from dyncity_sim.dataset.occ3d_annotations import Annotations
from dyncity_sim.domain.frames import Poses, check_poses
from dyncity_sim.domain.grid import OCC3D_GRID
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.groundtruth.formats.metadata import METADATA

WAYMO_RATE_HZ = 10

_MOST_FRAMES = 1_000_000
"""Of a scene at 10 Hz: more than a day of driving."""

_MOST_BYTES = 100 * OCC3D_GRID.cells
"""Of an array: all types of numbers, and larger grids, which are refused by their shape."""

_WAYMO_FILES = "[0-9]*_04.npz"
_CREDIT = "Occ3D (Tian et al., 2023), MIT licence; made from {0}, whose terms of use apply ({1})"


def open_occ3d_nuscenes(folder: Path) -> OccupancyDataset | None:
    """The data set in a folder that holds ``gts`` (or in ``gts`` itself); None where it is of another form.

    Raises:
        InvalidInputError: ``annotations.json`` or, in exports of ours, ``dyncity.json`` is damaged, or the former does
            not list what is there.
    """
    gts = folder if folder.name == "gts" else folder / "gts"
    if next(gts.glob("*/*/labels.npz"), None) is None:
        return None
    annotations = Annotations.read(gts.parent / "annotations.json")
    listed = {} if annotations is None else annotations.scene_infos
    folders = sorted(
        s for s in gts.iterdir() if s.is_dir() and (s.name in listed or any(f.is_dir() for f in s.iterdir()))
    )
    scenes = tuple(_nuscenes_scene(scene, annotations) for scene in folders)
    rate_hz, credit = float(NUSCENES_RATE_HZ), _credit_of_export(gts.parent / METADATA)
    if credit is not None:
        timed = (scene.times_us for scene in scenes if scene.times_us is not None and len(scene) > 1)
        rate_hz = next((rate_of(times_us, rate_hz) for times_us in timed), rate_hz)
    return OccupancyDataset(
        "Occ3D-nuScenes",
        OCC3D_GRID,
        OCC3D_NUSCENES_LABELS,
        rate_hz,
        _CREDIT.format("nuScenes", "nuscenes.org/terms-of-use") if credit is None else credit,
        False,
        scenes,
    )


def open_occ3d_waymo(folder: Path) -> OccupancyDataset | None:
    """The data set in a folder of splits, of scenes, or of one scene's frames; None where it is of another form.

    Raises:
        InvalidInputError: a frame's name is no number, or that of another.
    """
    files = sorted(file for depth in ("", "*/", "*/*/", "*/*/*/") for file in folder.glob(depth + _WAYMO_FILES))
    if not files:
        return None
    scenes: dict[Path, list[Path]] = {}
    for file in files:
        scenes.setdefault(file.parent, []).append(file)
    return OccupancyDataset(
        "Occ3D-Waymo",
        OCC3D_GRID,
        OCC3D_WAYMO_LABELS,
        WAYMO_RATE_HZ,
        _CREDIT.format("the Waymo Open Dataset", "waymo.com/open/terms"),
        False,
        tuple(_waymo_scene(scene, folder, frames) for scene, frames in sorted(scenes.items())),
    )


@dataclass(frozen=True)
class _Form:
    """Arrays of one frame's file: labels, 1 where the LiDAR saw, masks that go with them, and its pose if it may."""

    label_map: LabelMap
    labels: str
    observed: str
    other_masks: tuple[str, ...]
    pose: str | None


_NUSCENES = _Form(OCC3D_NUSCENES_LABELS, "semantics", "mask_lidar", ("mask_camera",), None)
_WAYMO = _Form(
    OCC3D_WAYMO_LABELS, "voxel_label", "origin_voxel_state", ("final_voxel_state", "infov"), pose="ego2global"
)


@dataclass(frozen=True, eq=False)
class Occ3dScene:
    """One scene: a file for each frame. An OccupancySource.

    Attributes:
        name: its name in the data set.
        times_us: None where the order of the files is unknown.
    """

    name: str
    times_us: Int64[np.ndarray, " T"] | None
    _files: Sequence[Path]
    _form: _Form
    _annotated_poses: Poses | None = None

    def __len__(self) -> int:
        return len(self._files)

    @cached_property
    def poses_world_from_ego(self) -> Poses | None:
        """``(T, 4, 4)``; None unless every frame has one."""
        if self._annotated_poses is not None or self._form.pose is None:
            return self._annotated_poses
        # Copies hold either all or none, and a scene has hundreds of files: where both ends have none, none has.
        if all(self._pose(file) is None for file in (self._files[0], self._files[-1])):
            return None
        poses = [self._pose(file) for file in self._files]
        lacking = [file for file, pose in zip(self._files, poses, strict=True) if pose is None]
        if lacking:
            got = f"no {self._form.pose} in {len(lacking)} of {len(poses)} files of the scene"
            raise InvalidInputError(str(lacking[0]), got, "a pose in every file, or in none")
        return check_poses(poses, f"{self._files[0].parent} {self._form.pose}")

    def _pose(self, file: Path) -> np.ndarray | None:
        assert self._form.pose is not None
        pose = read_arrays(file, (), (self._form.pose,), _MOST_BYTES).get(self._form.pose)
        if pose is not None and (pose.shape != (4, 4) or pose.dtype.kind not in "iuf"):
            raise InvalidInputError(
                f"{file} {self._form.pose}", f"shape {pose.shape}, type {pose.dtype}", "(4, 4) of numbers"
            )
        return pose

    def frames(self, start: int, stop: int) -> LabelledFrames:
        """See OccupancySource."""
        chosen = check_range(start, stop, len(self), self.name)
        labels = np.empty((len(chosen), *OCC3D_GRID.shape), np.uint8)
        observed = np.empty(labels.shape, np.bool_)
        for row, frame in enumerate(chosen):
            file, form = self._files[frame], self._form
            arrays = read_arrays(file, (form.labels, form.observed, *form.other_masks), most_bytes=_MOST_BYTES)
            for name, array in arrays.items():
                if array.shape != OCC3D_GRID.shape:
                    raise InvalidInputError(
                        f"{file} {name}",
                        f"shape {array.shape}",
                        f"{OCC3D_GRID.shape}, cells of 0.4 m",
                        "Grids are never resampled silently.",
                    )
            labels[row] = form.label_map.read(arrays[form.labels], f"{file} {form.labels}")
            observed[row] = _mask(arrays[form.observed], f"{file} {form.observed}")
        return LabelledFrames(labels, observed)


def _credit_of_export(file: Path) -> str | None:
    """What an export of ours says of where it comes from; None for what others published."""
    if not file.is_file():
        return None
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["provenance"]["attribution"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidInputError(str(file), repr(error), "an export's description with its provenance") from error


def _nuscenes_scene(scene: Path, annotations: Annotations | None) -> Occ3dScene:
    there = sorted(frame.name for frame in scene.iterdir() if frame.is_dir())
    if annotations is None:
        return Occ3dScene(scene.name, None, [scene / token / "labels.npz" for token in there], _NUSCENES)
    tokens, times_us, poses = annotations.scene(scene.name)
    if sorted(tokens) != there:
        missing, surplus = sorted(set(tokens) - set(there)), sorted(set(there) - set(tokens))
        got = f"{len(missing)} listed frames missing {missing[:1]}, {len(surplus)} not listed {surplus[:1]}"
        raise InvalidInputError(str(scene), got, "the frames that annotations.json lists")
    return Occ3dScene(scene.name, times_us, [scene / token / "labels.npz" for token in tokens], _NUSCENES, poses)


def _waymo_scene(scene: Path, root: Path, files: Sequence[Path]) -> Occ3dScene:
    numbers: dict[int, Path] = {}
    for file in files:
        number = re.fullmatch(r"(\d+)_04\.npz", file.name)
        if number is None:
            raise InvalidInputError(str(file), "a name that is no frame number", "NNN_04.npz")
        if int(number[1]) in numbers:
            other = numbers[int(number[1])].name
            raise InvalidInputError(
                str(file), f"frame {int(number[1])} twice, also in {other}", "one file for each frame"
            )
        numbers[int(number[1])] = file
    ordered = sorted(numbers)
    name = scene.name if scene == root else str(scene.relative_to(root))
    if ordered[-1] > _MOST_FRAMES:
        raise InvalidInputError(str(numbers[ordered[-1]]), f"frame {ordered[-1]}", f"frames up to {_MOST_FRAMES}")
    times_us = np.array(ordered, np.int64) * (1_000_000 // WAYMO_RATE_HZ)
    return Occ3dScene(name, times_us, [numbers[number] for number in ordered], _WAYMO)


def _mask(stored: np.ndarray, field: str) -> np.ndarray:
    if stored.dtype.kind not in "biuf":
        raise InvalidInputError(field, f"values of type {stored.dtype.str}", "0 (unobserved) and 1 alone")
    if not np.isin(stored, (0, 1)).all():
        raise InvalidInputError(field, f"values from {stored.min()} to {stored.max()}", "0 (unobserved) and 1 alone")
    return stored.astype(np.bool_)
