"""Recordings: what a simulator showed, compact on disk and fast to read.

A recording is a folder::

    recording.json     format, grid, rate, taxonomy, attribution, how it was made, and the list of drives
    drive_00000.npz    one drive, see ``drive_file``

The folder appears under its name only when it is whole; before that it is a hidden sibling.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dyncity_sim.dataset.drive_file import Drive, write_drive_file
from dyncity_sim.domain.grid import FRAME_RATE_HZ, Grid
from dyncity_sim.domain.recording import RecordedFrame
from dyncity_sim.domain.taxonomy import CARLASC_RAW
from dyncity_sim.errors import InvalidInputError, StorageError
from dyncity_sim.files import json_bytes

FORMAT = "dyncity-recording"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class RecordingMeta:
    """What a recording is of.

    Attributes:
        map: map specification it was made on.
        seed: what its randomness came from.
        grid: grid of all frames.
        attribution: credit that the map's licence asks for; empty when none is due.
        simulator: name and version, e.g. ``SUMO 1.28.0``.
        options: how it was recorded; plain JSON values.
    """

    map: str
    seed: int
    grid: Grid
    attribution: str
    simulator: str
    options: Mapping[str, Any] = field(default_factory=dict)


class RecordingWriter:
    """Writes a recording; use as a context manager.

    Leaving the ``with`` block normally publishes the folder, an exception removes what was written.

    Attributes:
        meta: what the recording is of; may be replaced until it is published, but for the grid.

    Raises:
        InvalidInputError: the folder exists already.
        StorageError: the disk is full or may not be written to.
    """

    def __init__(self, folder: Path, meta: RecordingMeta) -> None:
        if folder.exists():
            raise InvalidInputError("recording", f"{folder}, which exists", "a new folder", "Choose another --out.")
        # A symbolic link stays, and what it leads to is written.
        self._folder = Path(os.path.realpath(folder))
        self._partial = self._folder.with_name(f".{self._folder.name}.{os.getpid()}.part")
        self.meta = meta
        self._drives: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        try:
            shutil.rmtree(self._partial, ignore_errors=True)
            self._partial.mkdir(parents=True)
        except OSError as error:
            raise StorageError(f"{self._partial} cannot be made: {error.strerror or error}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            shutil.rmtree(self._partial, ignore_errors=True)
            return
        try:
            (self._partial / "recording.json").write_bytes(json_bytes(self._description()))
            os.replace(self._partial, self._folder)
        except OSError as failure:
            shutil.rmtree(self._partial, ignore_errors=True)
            raise StorageError(f"{self._folder} cannot be finished: {failure.strerror or failure}") from failure

    def write_drive(self, frames: Sequence[RecordedFrame], notes: Mapping[str, Any] | None = None) -> str:
        """Write consecutive frames of one ego as one drive and return its file name.

        Args:
            frames: at least one, in order of time, on the recording's grid.
            notes: what else to say of the drive in ``recording.json`` (plain JSON values).
        """
        if not frames:
            raise InvalidInputError("drive", "no frame", "at least one")
        for frame in frames:
            if frame.grid != self.meta.grid:
                raise InvalidInputError("frame.grid", frame.grid, f"{self.meta.grid}, the recording's grid")
        write_drive_file(frames, self.drive_file(len(self._drives)))
        return self.list_drive(len(frames), notes)

    def drive_file(self, number: int) -> Path:
        """Where the file of drive ``number`` lies until the recording is published.

        For processes that write drives of one recording side by side, with ``write_drive_file``.
        """
        return self._partial / f"drive_{number:05d}.npz"

    def list_drive(self, frames: int, notes: Mapping[str, Any] | None = None) -> str:
        """Make the next drive, whose file is written, part of the recording and return its file name.

        Args:
            frames: how many the file holds.
            notes: see ``write_drive``.
        """
        file = self.drive_file(len(self._drives))
        assert file.exists()
        self._drives.append({"file": file.name, "frames": frames, **(notes or {})})
        return file.name

    def _description(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "rate_hz": FRAME_RATE_HZ,
            "taxonomy": CARLASC_RAW.id,
            **asdict(self.meta),
            "drives": self._drives,
        }


@dataclass(frozen=True, eq=False)
class Recording:
    """A recording on disk.

    Attributes:
        folder: where it lies.
        meta: what it is of.
        drives: its drives, in the order they were recorded.
        digest: of ``recording.json``; tells it from others of the same name.
    """

    folder: Path
    meta: RecordingMeta
    drives: tuple[Drive, ...]
    digest: str

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read what a recording holds; frames are read when asked for.

        Raises:
            InvalidInputError: no recording, or one of another version.
        """
        file = folder / "recording.json"
        if not file.is_file():
            raise InvalidInputError(
                "recording", str(folder), "a folder with recording.json", "Make one: dyncity record"
            )
        try:
            content = file.read_bytes()
            described = json.loads(content)
            if described["format"] != FORMAT or described["version"] != FORMAT_VERSION:
                raise InvalidInputError(
                    "recording",
                    f"{file}: {described['format']} version {described['version']}",
                    f"{FORMAT} version {FORMAT_VERSION}",
                )
            for name, ours in (("rate_hz", FRAME_RATE_HZ), ("taxonomy", CARLASC_RAW.id)):
                if described[name] != ours:
                    raise InvalidInputError(f"{file} {name}", repr(described[name]), repr(ours))
            if not isinstance(described["attribution"], str):
                raise InvalidInputError(f"{file} attribution", repr(described["attribution"])[:40], "text")
            grid = Grid(**{name: tuple(value) for name, value in described["grid"].items()})
            meta = RecordingMeta(
                described["map"],
                described["seed"],
                grid,
                described["attribution"],
                described["simulator"],
                described["options"],
            )
            if any(type(cells) is not int for cells in grid.shape):
                raise InvalidInputError(f"{file} grid.shape", grid.shape, "whole numbers of cells")
            drives = tuple(Drive(folder / _file_name(notes), grid, notes) for notes in described["drives"])
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InvalidInputError("recording", f"{file}: {error!r}", "a recording's description") from error
        return cls(folder, meta, drives, hashlib.sha256(content).hexdigest()[:16])

    def __len__(self) -> int:
        """Frames of all drives."""
        return sum(len(drive) for drive in self.drives)


def _file_name(notes: Mapping[str, Any]) -> str:
    """Of a drive; it lies in the recording's folder, wherever else a foreign description may point."""
    name: str = notes["file"]
    if Path(name).name != name:
        raise ValueError(f"the drive {name!r}, which is no name of a file")
    return name
