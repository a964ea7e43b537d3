"""CarlaSC folders, ours and published ones, read right-handed, and recordings written as such.

Files and mirror are those of ``dyncity_sim.groundtruth.formats.carlasc_layout``; ``velodyne`` and ``labels`` are not
read, and recordings, which hold no sweeps, are written without them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8, UInt32

from dyncity_sim.dataset.carlasc_params import CarlaScParams
from dyncity_sim.dataset.label_maps import CARLASC_LABELS
from dyncity_sim.dataset.labelled import LabelledFrames, check_range, rate_of
from dyncity_sim.dataset.store import Recording
from dyncity_sim.domain.frames import Poses, check_poses, check_times, inverse, mirrored_poses
from dyncity_sim.domain.grid import FRAME_RATE_HZ, Grid
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.recording import RecordedFrame
from dyncity_sim.domain.taxonomy import CARLASC_RAW
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.files import whole_folder
from dyncity_sim.groundtruth.formats.carlasc_layout import CarlaScFiles, mirrored_box

_MOST = 1e12
"""Metres and seconds beyond this are no places and times."""

_MOST_BYTES = 100_000_000
"""Of a text of poses or times: hours of driving."""


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
            files = CarlaScFiles(partial / drive.file.stem / "cartesian", drive.grid, recording.meta.attribution)
            _write_sequence(drive.each(), files)


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
        _write_sequence(frames, CarlaScFiles(partial / "cartesian", frames[0].grid, attribution))


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
        rate_hz: frames per second; CarlaSC's where one frame says nothing of it.

    Raises:
        InvalidInputError: files are missing or damaged.
    """

    def __init__(self, folder: Path, name: str = "") -> None:
        self._cartesian = folder / "cartesian"
        self.name = name or folder.name
        params = CarlaScParams.read(self._cartesian)
        self.grid, self.attribution = params.grid, params.attribution
        relative = mirrored_poses(_square(_table(self._cartesian / "poses.txt", 12)))
        times_us = np.round(_table(self._cartesian / "times.txt", 1)[:, 0] * 1e6).astype(np.int64)
        self.poses_world_from_ego: Poses = check_poses(
            params.pose_world_from_first @ relative, str(self._cartesian / "poses.txt")
        )
        self.times_us = check_times(times_us, str(self._cartesian / "times.txt"), len(relative))
        self.rate_hz = rate_of(self.times_us, FRAME_RATE_HZ)
        # Archives from a Mac hold a hidden file beside each.
        labelled = sum(1 for _ in (self._cartesian / "evaluation").glob("[!.]*.label"))
        if labelled > len(relative):
            raise InvalidInputError(
                str(self._cartesian / "evaluation"),
                f"{labelled} frames",
                f"{len(relative)}, one for each line of poses.txt",
                "Frames without a pose and a time have no place in the sequence.",
            )

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
        counts = self._cells("evaluation", ".bin", "<f4", start, stop)
        wrong = np.argwhere(~((counts >= 0) & (counts < np.inf)).all(axis=(1, 2, 3)))
        if len(wrong):
            row = int(wrong[0, 0])
            file = self._cartesian / "evaluation" / f"{start + row:06d}.bin"
            raise InvalidInputError(
                str(file), f"counts from {counts[row].min():g} to {counts[row].max():g}", "0 (unobserved) or more"
            )
        return counts

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


def _write_sequence(frames: Iterable[RecordedFrame], files: CarlaScFiles) -> None:
    for frame in frames:
        boxes = [
            mirrored_box(
                actor.id,
                actor.kind,
                inverse(frame.pose_world_from_ego) @ actor.pose_world_from_actor,
                actor.size_m,
                actor.speed_mps,
            )
            for actor in frame.actors
        ]
        files.add(frame.labels, frame.counts, frame.instances, boxes, frame.pose_world_from_ego, frame.time_us)
    files.finish()


def _square(rows: np.ndarray) -> Poses:
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    poses[:, :3] = rows.reshape(-1, 3, 4)
    return poses


def _cells(files: list[Path], dtype: np.dtype[Any], grid: Grid) -> np.ndarray:
    for file in files:
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
    frames = np.empty((len(files), *grid.shape), dtype)
    for number, file in enumerate(files):
        frames[number] = np.fromfile(file, dtype).reshape(grid.shape)[:, ::-1]
    return frames


def _table(file: Path, columns: int) -> np.ndarray:
    if not file.is_file():
        raise InvalidInputError(
            "CarlaSC sequence",
            f"no {file}",
            "a CarlaSC folder",
            "CarlaSC's finer grids come without: put them into the folders of its Cartesian ones, as evaluation.",
        )
    if file.stat().st_size > _MOST_BYTES:
        raise InvalidInputError(str(file), f"{file.stat().st_size} bytes", f"at most {_MOST_BYTES}")
    try:
        lines = [line.split() for line in file.read_text(encoding="ascii").splitlines()]
        for number, numbers in enumerate(lines, 1):
            if len(numbers) not in (0, columns):
                raise ValueError(f"{len(numbers)} words in line {number}")
        rows = np.array([numbers for numbers in lines if numbers], float).reshape(-1, columns)
    except (OSError, ValueError) as error:
        raise InvalidInputError(str(file), str(error), f"{columns} numbers in each line") from error
    wrong = np.argwhere(~(np.abs(rows) < _MOST))
    if len(wrong):
        line, column = wrong[0]
        raise InvalidInputError(str(file), f"{rows[line, column]:g} in line {line + 1}", f"numbers below {_MOST:g}")
    return rows
