"""CarlaSC folders (MotionSC, Wilson et al. 2022; UMich-CURLY/3DMapping): what published loaders read.

::

    <sequence>/cartesian/
        evaluation/NNNNNN.label   uint32 raw class of each cell, C order (X, Y, Z); 0 where nothing was seen
        evaluation/NNNNNN.bin     float32 count of samples in each cell; 0 = never observed, excluded from scores
        poses.txt                 3x4 row-major, each frame's LiDAR relative to the first one's
        times.txt                 seconds, one line per frame
        params.json               grid; here also "handedness" and where the first frame stands in the world
        instances/NNNNNN.instance uint32 actor id of each cell (ours)
        boxes.json                boxes of the actors of each frame (ours)

CarlaSC comes from CARLA's left-handed frames: y grows to the right, in its grids as in its poses. Everything in this
project is right-handed, so the writer mirrors axis Y of the grids and takes poses through ``S M S`` with
``S = diag(1, -1, 1, 1)``, and the reader does the same again.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8, UInt32

from dyncity_sim.dataset.label_maps import CARLASC_LABELS
from dyncity_sim.dataset.labelled import LabelledFrames, check_range
from dyncity_sim.dataset.store import Recording
from dyncity_sim.domain.frames import Poses, check_poses, check_times, inverse, planar_from_poses
from dyncity_sim.domain.grid import CARLASC_GRID, Grid
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.recording import RecordedFrame
from dyncity_sim.domain.taxonomy import CARLASC_RAW
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.files import whole_folder

CHANNELS = 25
"""What CarlaSC's own params.json calls num_channels."""

_MIRROR = np.diag([1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class CarlaScSequence:
    """One sequence of a CarlaSC folder, right-handed.

    Attributes:
        occupancy: raw classes as seen; ``observed`` is ``counts > 0``.
        counts: ``(T, X, Y, Z)`` samples per cell.
        instances: ``(T, X, Y, Z)`` actor ids, or None where the folder has none (CarlaSC as published).
    """

    occupancy: OccupancySequence
    counts: Float32[np.ndarray, "T X Y Z"]
    instances: UInt32[np.ndarray, "T X Y Z"] | None


def export_carlasc(recording: Recording, folder: Path) -> None:
    """Write every drive of a recording as a CarlaSC sequence ``folder/drive_NNNNN``.

    Raises:
        InvalidInputError: the folder exists, or the recording is damaged.
        StorageError: a file could not be written.
    """
    with whole_folder(folder) as partial:
        for drive in recording.drives:
            _write_sequence(drive.frames(), partial / drive.file.stem / "cartesian", recording.meta.attribution)


def write_carlasc(frames: Sequence[RecordedFrame], folder: Path, attribution: str = "") -> None:
    """Write consecutive frames as one sequence; the folder appears when it is whole.

    Raises:
        InvalidInputError: no frames, frames of several grids, or the folder exists.
        StorageError: a file could not be written.
    """
    if not frames:
        raise InvalidInputError("frames", "none", "at least one")
    if any(frame.grid != frames[0].grid for frame in frames):
        raise InvalidInputError("frames", "frames of several grids", "one grid")
    with whole_folder(folder) as partial:
        _write_sequence(frames, partial / "cartesian", attribution)


class CarlaScFolder:
    """One sequence on disk, ours or a published one, right-handed; cells are read when asked for. An OccupancySource.

    Published sequences say nothing of their place in the world: their first frame is put at the origin.

    Args:
        folder: the one that holds ``cartesian``.
        name: what to call it; the folder's name when empty.

    Attributes:
        name: its name.
        grid: where the cells lie.
        attribution: credit that came with it; None in CarlaSC as published, which says nothing of it.
        poses_world_from_ego: ``(T, 4, 4)``.
        times_us: ``(T,)``.

    Raises:
        InvalidInputError: files are missing or damaged.
    """

    def __init__(self, folder: Path, name: str = "") -> None:
        self._cartesian = folder / "cartesian"
        self.name = name or folder.name
        params = _params(self._cartesian)
        if params.get("handedness", "left") != "left":
            raise InvalidInputError("params.json handedness", repr(params["handedness"]), "'left'")
        try:
            self.grid = _grid(params)
            first = np.array(params.get("pose_world_from_first", np.eye(4)), dtype=np.float64).reshape(4, 4)
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInputError(
                str(self._cartesian / "params.json"), repr(error), "grid_size, min_bound and max_bound of CarlaSC"
            ) from error
        self.attribution: str | None = str(params["attribution"]) if "attribution" in params else None
        relative = _mirrored(_square(_table(self._cartesian / "poses.txt", 12)))
        times_us = np.round(_table(self._cartesian / "times.txt", 1)[:, 0] * 1e6).astype(np.int64)
        self.poses_world_from_ego: Poses = check_poses(first @ relative, f"{self._cartesian / 'poses.txt'}")
        self.times_us = check_times(times_us, f"{self._cartesian / 'times.txt'}", len(relative))

    def __len__(self) -> int:
        return len(self.poses_world_from_ego)

    def frames(self, start: int, stop: int) -> LabelledFrames:
        """Raw classes and ``counts > 0`` of some frames; see OccupancySource."""
        return LabelledFrames(self.labels(start, stop), self.counts(start, stop) > 0)

    def labels(self, start: int, stop: int) -> UInt8[np.ndarray, "T X Y Z"]:
        """Raw classes as seen."""
        stored = self._cells("evaluation", ".label", "<u4", start, stop)
        labels = [
            CARLASC_LABELS.read(cells, str(self._cartesian / "evaluation" / f"{start + row:06d}.label"))
            for row, cells in enumerate(stored)
        ]
        return np.stack(labels)

    def counts(self, start: int, stop: int) -> Float32[np.ndarray, "T X Y Z"]:
        """Samples per cell."""
        return self._cells("evaluation", ".bin", "<f4", start, stop)

    def instances(self, start: int, stop: int) -> UInt32[np.ndarray, "T X Y Z"] | None:
        """Actor ids, or None where there are none (CarlaSC as published)."""
        if not (self._cartesian / "instances").is_dir():
            return None
        return self._cells("instances", ".instance", "<u4", start, stop)

    def _cells(self, folder: str, suffix: str, dtype: str, start: int, stop: int) -> np.ndarray:
        chosen = check_range(start, stop, len(self), self.name)
        files = [self._cartesian / folder / f"{frame:06d}{suffix}" for frame in chosen]
        return _cells(files, np.dtype(dtype), self.grid)


def read_carlasc(folder: Path) -> CarlaScSequence:
    """Read one whole sequence, given the folder that holds ``cartesian``; see CarlaScFolder.

    Raises:
        InvalidInputError: files are missing, have the wrong size, or hold labels out of the taxonomy.
    """
    sequence = CarlaScFolder(folder)
    frames = len(sequence)
    counts = sequence.counts(0, frames)
    occupancy = OccupancySequence(
        sequence.labels(0, frames),
        sequence.poses_world_from_ego,
        sequence.times_us,
        sequence.grid,
        CARLASC_RAW,
        counts > 0,
    )
    return CarlaScSequence(occupancy, counts, sequence.instances(0, frames))


def _write_sequence(frames: Sequence[RecordedFrame], cartesian: Path, attribution: str) -> None:
    (cartesian / "evaluation").mkdir(parents=True)
    (cartesian / "instances").mkdir()
    poses: Poses = np.stack([frame.pose_world_from_ego for frame in frames])
    relative = _mirrored(inverse(poses[0]) @ poses)
    for number, frame in enumerate(frames):
        name = f"{number:06d}"
        seen = np.where(frame.counts > 0, frame.labels, 0)
        (cartesian / "evaluation" / f"{name}.label").write_bytes(_flipped(seen, np.dtype("<u4")).tobytes())
        (cartesian / "evaluation" / f"{name}.bin").write_bytes(_flipped(frame.counts, np.dtype("<f4")).tobytes())
        (cartesian / "instances" / f"{name}.instance").write_bytes(_flipped(frame.instances, np.dtype("<u4")).tobytes())
    grid = frames[0].grid
    params = {
        "grid_size": list(grid.shape),
        "min_bound": [round(edge, 9) for edge in grid.lower_m],
        "max_bound": [round(edge, 9) for edge in grid.upper_m],
        "num_channels": CHANNELS,
        "coordinates": "cartesian",
        "handedness": "left",
        "pose_world_from_first": poses[0].tolist(),
        "attribution": attribution,
    }
    _write_json(cartesian / "params.json", params)
    _write_json(cartesian / "boxes.json", [_boxes(frame) for frame in frames])
    lines = (" ".join(repr(float(value)) for value in pose[:3].ravel()) for pose in relative)
    (cartesian / "poses.txt").write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
    seconds = (f"{frame.time_us / 1e6:.6f}\n" for frame in frames)
    (cartesian / "times.txt").write_text("".join(seconds), encoding="ascii")


def _boxes(frame: RecordedFrame) -> list[dict[str, Any]]:
    """Boxes of one frame in its left-handed ego frame: centre, yaw (clockwise from above), size."""
    boxes = []
    for actor in frame.actors:
        pose_ego_from_actor = _mirrored(inverse(frame.pose_world_from_ego) @ actor.pose_world_from_actor)
        boxes.append(
            {
                "id": actor.id,
                "kind": actor.kind.value,
                "centre_m": pose_ego_from_actor[:3, 3].tolist(),
                "yaw_rad": float(planar_from_poses(pose_ego_from_actor)[2]),
                "size_m": list(actor.size_m),
                "speed_mps": actor.speed_mps,
            }
        )
    return boxes


def _mirrored(poses: np.ndarray) -> np.ndarray:
    return _MIRROR @ poses @ _MIRROR


def _flipped(array: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    return np.ascontiguousarray(array[:, ::-1], dtype=dtype)


def _square(rows: np.ndarray) -> Poses:
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    poses[:, :3] = rows.reshape(-1, 3, 4)
    return poses


def _cells(files: list[Path], dtype: np.dtype[Any], grid: Grid) -> np.ndarray:
    frames = np.empty((len(files), *grid.shape), dtype)
    for number, file in enumerate(files):
        if not file.is_file():
            raise InvalidInputError("CarlaSC sequence", f"no {file}", "a file for each line of poses.txt")
        size = file.stat().st_size
        if size != grid.cells * dtype.itemsize:
            raise InvalidInputError(
                str(file),
                f"{size} bytes",
                f"{grid.cells * dtype.itemsize} for {' x '.join(map(str, grid.shape))} cells",
                "The file is damaged, or of another grid than params.json says.",
            )
        frames[number] = np.fromfile(file, dtype).reshape(grid.shape)[:, ::-1]
    return frames


def _table(file: Path, columns: int) -> np.ndarray:
    if not file.is_file():
        raise InvalidInputError("CarlaSC sequence", f"no {file}", "a CarlaSC folder")
    try:
        rows = np.array([line.split() for line in file.read_text(encoding="ascii").splitlines() if line.strip()], float)
    except ValueError as error:
        raise InvalidInputError(str(file), str(error), f"{columns} numbers in each line") from error
    if rows.ndim != 2 or rows.shape[1] != columns:
        raise InvalidInputError(str(file), f"shape {rows.shape}", f"{columns} numbers in each line")
    return rows


def _params(cartesian: Path) -> dict[str, Any]:
    file = cartesian / "params.json"
    if not file.is_file():
        return {}
    try:
        params = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidInputError(str(file), str(error), "JSON") from error
    if not isinstance(params, dict):
        raise InvalidInputError(str(file), type(params).__name__, "a JSON object")
    return params


def _grid(params: dict[str, Any]) -> Grid:
    if "grid_size" not in params:
        return CARLASC_GRID
    shape = tuple(int(n) for n in params["grid_size"])
    lower, upper = np.array(params["min_bound"], float), np.array(params["max_bound"], float)
    if (
        shape == CARLASC_GRID.shape
        and np.allclose(lower, CARLASC_GRID.lower_m)
        and np.allclose(upper, CARLASC_GRID.upper_m)
    ):
        return CARLASC_GRID
    x, y, z = (float(edge) for edge in (upper - lower) / np.array(shape))
    return Grid((shape[0], shape[1], shape[2]), (float(lower[0]), float(lower[1]), float(lower[2])), (x, y, z))


def _write_json(file: Path, value: object) -> None:
    file.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")
