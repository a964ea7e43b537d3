"""Recorded drives as a model sees the world: in chunks of its length, on its grid, in its classes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dyncity_models.data.chunks import ChunkSource
from dyncity_models.reference.conventions import convention_named
from dyncity_sim.domain.conditions import Command, EgoPlan
from dyncity_sim.domain.generation import ModelInfo
from dyncity_sim.domain.occupancy import OccupancySequence


class RecordedDrives:
    """Every drive of some data sets that is at least a chunk long, addressed by number.

    Args:
        folders: anything that ``dyncity inspect`` reads, on a grid whose middle is the model's.
        info: the model that is measured on them.

    Raises:
        InvalidInputError: naming what of the data does not fit the model, or drives without poses.
    """

    def __init__(self, folders: Sequence[Path], info: ModelInfo) -> None:
        self.frames = info.frames_per_chunk
        self.source = ChunkSource.open(folders, self.frames, "merged", convention_named("ego"), info.grid.shape)
        self.source.check(info.grid, info.taxonomy, info.rate_hz)
        self.tracks = [self.source.track(number) for number in range(len(self.source))]

    def __len__(self) -> int:
        """Number of drives."""
        return len(self.source)

    def length(self, drive: int) -> int:
        """Frames of a drive."""
        return self.source.length(drive)

    def plan(self, drive: int, start: int) -> EgoPlan:
        """Where the ego went in the chunk that begins with a frame."""
        poses, times_us = self.tracks[drive]
        return EgoPlan(poses[start : start + self.frames], times_us[start : start + self.frames])

    def occupancy(self, drive: int, start: int, frames: int | None = None) -> OccupancySequence:
        """Labels, and where sensors saw them, of a chunk, or of more or fewer frames.

        Labels of unseen cells are the truth in our recordings, and free in published data.
        """
        poses, times_us = self.tracks[drive]
        stop = start + (frames or self.frames)
        read = self.source.read(drive, start, stop)
        return OccupancySequence(
            read.labels, poses[start:stop], times_us[start:stop], self.source.grid, self.source.taxonomy, read.observed
        )

    def middle(self, drive: int) -> int:
        """First frame of the chunk in the middle of a drive."""
        return (self.length(drive) - self.frames) // 2

    def spread(self, count: int) -> Iterator[OccupancySequence]:
        """Chunks from the middle of at most ``count`` evenly spread drives, each once."""
        for drive in evenly(count, len(self)):
            yield self.occupancy(drive, self.middle(drive))


def evenly(count: int, there: int) -> list[int]:
    """Numbers of at most ``count`` of those that there are, evenly spread over them, each once."""
    return np.linspace(0, there - 1, min(count, there)).astype(int).tolist()


@dataclass(frozen=True, eq=False)
class RecordedPlan:
    """The plan of a recorded chunk.

    Attributes:
        drive: number of the drive in its data.
        start: first frame of the chunk.
        plan: where the ego went.
    """

    drive: int
    start: int
    plan: EgoPlan

    @property
    def turns(self) -> bool:
        """Whether its command is LEFT or RIGHT."""
        return self.plan.command in (Command.LEFT, Command.RIGHT)


def recorded_plans(drives: RecordedDrives, count: int, turns: int) -> tuple[list[RecordedPlan], list[RecordedPlan]]:
    """Plans from the middle of evenly spread recorded drives.

    Returns:
        ``count`` plans, half of them turning as far as the recording has turns, and further turning plans,
        so that both together hold ``turns`` of them or all there are.
    """
    turning: list[RecordedPlan] = []
    other: list[RecordedPlan] = []
    for drive in range(len(drives)):
        start = drives.middle(drive)
        recorded = RecordedPlan(drive, start, drives.plan(drive, start))
        (turning if recorded.turns else other).append(recorded)
    mixed, further = _split(turning, min(len(turning), max(count // 2, count - len(other))))
    return mixed + _split(other, count - len(mixed))[0], _split(further, max(0, turns - len(mixed)))[0]


def _split(plans: list[RecordedPlan], count: int) -> tuple[list[RecordedPlan], list[RecordedPlan]]:
    """(``count`` of the plans, evenly spread, or all of them; the rest)."""
    chosen = set(evenly(count, len(plans)))
    return [p for i, p in enumerate(plans) if i in chosen], [p for i, p in enumerate(plans) if i not in chosen]
