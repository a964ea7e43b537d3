"""What a label format is: a writer that takes the frames of a drive one by one."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, TypeAlias

from dyncity_sim.domain.ground_truth import LabelledDrive, LabelledFrame


class FrameWriter(Protocol):
    """Takes frames in order; what it writes is whole when the context that gave it is left."""

    def add(self, frame: LabelledFrame) -> None:
        """Write the next frame."""
        ...


OpenWriter: TypeAlias = Callable[[Path, LabelledDrive], AbstractContextManager[FrameWriter]]
"""Opens a writer into a folder (or a file) that must not exist: it takes its name when the context is left without
an error, and nothing is left of it otherwise. The same drive and frames give the same bytes.

Raises InvalidInputError before anything is written where the format cannot hold the drive."""

Join: TypeAlias = Callable[[Sequence[Path], Path], None]
"""Moves what an OpenWriter wrote of several drives, a folder for each, into one folder, which it makes.

Drives of formats that number them are numbered in the order of the folders. Their names differ."""
