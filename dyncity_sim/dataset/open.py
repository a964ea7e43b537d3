"""What a folder holds: a recording of ours, CarlaSC, or Occ3D, opened as one kind of data set."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from dyncity_sim.dataset.carlasc import CarlaScFolder
from dyncity_sim.dataset.drive_file import Drive
from dyncity_sim.dataset.label_maps import CARLASC_LABELS
from dyncity_sim.dataset.labelled import LabelledFrames, OccupancyDataset, check_range
from dyncity_sim.dataset.occ3d import open_occ3d_nuscenes, open_occ3d_waymo
from dyncity_sim.dataset.store import Recording
from dyncity_sim.domain.frames import Poses, check_poses, check_times
from dyncity_sim.domain.grid import FRAME_RATE_HZ
from dyncity_sim.errors import InvalidInputError

_CARLASC_CREDIT = "CarlaSC (Wilson et al., MotionSC, 2022), with the terms it is published under"
_DRIVES_IN_MEMORY = 2
_FOLDERS_DEEP = 4
"""How far below a folder CarlaSC's sequences are looked for: ``Cartesian/Test_Cartesian/Test/Town10_Heavy``."""


def open_dataset(path: Path, besides: str = "") -> OccupancyDataset:
    """The data set in a folder, told by its files.

    Args:
        path: a recording; a CarlaSC sequence or a folder of them (of their splits); Occ3D-nuScenes, the folder of
            ``gts`` and ``annotations.json``; Occ3D-Waymo, a folder of splits or scenes, or a scene.
        besides: what the caller would have taken, too, for the error.

    Raises:
        InvalidInputError: no data set, or one whose description is damaged. Frames are checked when they are read.
    """
    if not path.is_dir():
        raise InvalidInputError(str(path), "no folder", "the folder of a data set")
    # Sequences are named after their folders, and "." is no name.
    folder = path.resolve()
    for opened in (open_recording, open_carlasc, open_occ3d_nuscenes, open_occ3d_waymo):
        dataset = opened(folder)
        if dataset is not None:
            return dataset
    if (path / "captures.json").is_file():
        raise InvalidInputError(
            str(path),
            "captures, which recordings are made from",
            "a data set with frames",
            f"Make a recording of them: dyncity render {path} --out DIR",
        )
    raise InvalidInputError(
        str(path),
        "nothing that is known",
        f"{besides}a recording (recording.json), CarlaSC (.../cartesian/evaluation), "
        "Occ3D-nuScenes (gts/*/*/labels.npz), or Occ3D-Waymo (.../NNN_04.npz)",
    )


def open_recording(folder: Path) -> OccupancyDataset | None:
    """One of our recordings; None where the folder is none."""
    if not (folder / "recording.json").is_file():
        return None
    recording = Recording.open(folder)

    # A drive keeps what it has read: a survey of many must not keep them all.
    @lru_cache(maxsize=_DRIVES_IN_MEMORY)
    def drive(number: int) -> Drive:
        listed = recording.drives[number]
        return Drive(listed.file, listed.grid, listed.notes)

    return OccupancyDataset(
        "recording",
        recording.meta.grid,
        CARLASC_LABELS,
        FRAME_RATE_HZ,
        recording.meta.attribution,
        True,
        tuple(
            RecordedDrive(listed.file.stem, len(listed), partial(drive, number))
            for number, listed in enumerate(recording.drives)
        ),
        recording.digest,
    )


def open_carlasc(folder: Path) -> OccupancyDataset | None:
    """CarlaSC as published or as exported by us, read right-handed; None where the folder is none.

    Raises:
        InvalidInputError: a sequence lacks files or is damaged, or its grid or rate is not that of the others.
    """
    root = folder.parent if folder.name == "cartesian" else folder
    found = sorted(_carlasc_folders(root, _FOLDERS_DEEP))
    if not found:
        return None
    sequences = [CarlaScFolder(f, f.name if f == root else str(f.relative_to(root))) for f in found]
    # One frame says nothing of a rate.
    timed = [sequence for sequence in sequences if len(sequence) > 1]
    grid, rate_hz = sequences[0].grid, (timed or sequences)[0].rate_hz
    for name, compared in (("grid", sequences), ("rate_hz", timed)):
        for sequence in compared:
            got, expected = getattr(sequence, name), getattr(compared[0], name)
            if got != expected:
                raise InvalidInputError(
                    f"{name} of {sequence.name}", got, f"{expected}, that of {compared[0].name}", "Open them apart."
                )
    due = {_CARLASC_CREDIT if sequence.attribution is None else sequence.attribution for sequence in sequences}
    return OccupancyDataset(
        "CarlaSC",
        grid,
        CARLASC_LABELS,
        rate_hz,
        "; ".join(sorted(due - {""})),
        False,
        tuple(sequences),
    )


def _carlasc_folders(folder: Path, deep: int) -> Iterator[Path]:
    """Folders that hold ``cartesian/evaluation``: this one, and those below it as deep as that."""
    if (folder / "cartesian" / "evaluation").is_dir():
        yield folder
    if deep:
        for below in _subfolders(folder):
            if below.name != "cartesian":
                yield from _carlasc_folders(below, deep - 1)


def _subfolders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [
                Path(e) for e in entries if e.is_dir(follow_symlinks=False) or (e.is_symlink() and Path(e).is_dir())
            ]
    except PermissionError as error:
        raise InvalidInputError(
            str(folder), "a folder that may not be read", "one that may", "Name the folder of the data set itself."
        ) from error


@dataclass(frozen=True)
class RecordedDrive:
    """One drive of a recording. An OccupancySource.

    Attributes:
        name: the drive's.
    """

    name: str
    _frames: int
    _drive: Callable[[], Drive]

    def __len__(self) -> int:
        return self._frames

    @property
    def times_us(self) -> Int64[np.ndarray, " T"]:
        """``(T,)`` microseconds."""
        with self._named() as drive:
            return check_times(drive.times_us, f"{drive.file} times_us", len(self))

    @property
    def poses_world_from_ego(self) -> Poses:
        """``(T, 4, 4)``."""
        with self._named() as drive:
            return check_poses(drive.poses_world_from_ego, f"{drive.file} poses_world_from_ego", len(self))

    def frames(self, start: int, stop: int) -> LabelledFrames:
        """Dense raw classes and what the emulated sensors saw; see OccupancySource."""
        check_range(start, stop, len(self), self.name)
        with self._named() as drive:
            labels, counts = drive.arrays(start, stop)
            return LabelledFrames(CARLASC_LABELS.read(labels, f"{drive.file} labels"), counts > 0)

    @contextmanager
    def _named(self) -> Iterator[Drive]:
        """The drive; whatever comes of decoding arrays that are missing or damaged is laid to its file."""
        drive = self._drive()
        try:
            yield drive
        except InvalidInputError:
            raise
        except Exception as error:
            raise InvalidInputError(str(drive.file), repr(error), "a whole drive of a recording") from error
