"""What is in a data set, counted: cells of each class, what was observed, commands of its chunks."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Int64

from dyncity_sim.dataset.labelled import LabelledFrames, OccupancyDataset, OccupancySource, gaps
from dyncity_sim.domain.conditions import Command, EgoPlan
from dyncity_sim.domain.grid import FRAMES_PER_CHUNK
from dyncity_sim.errors import InvalidInputError

_FRAMES_AT_ONCE = 16


@dataclass(frozen=True, eq=False)
class Survey:
    """Cells of the frames that were read.

    Attributes:
        frames: how many were read.
        observed: observed cells of each class, ``(K,)``.
        unobserved: unobserved cells that carry the label of each class, ``(K,)``; means something in dense data alone.
    """

    frames: int
    observed: Int64[np.ndarray, " K"]
    unobserved: Int64[np.ndarray, " K"]

    @property
    def unobserved_share(self) -> float:
        """Share of all cells that no sensor saw."""
        hidden = int(self.unobserved.sum())
        return hidden / max(hidden + int(self.observed.sum()), 1)


@dataclass(frozen=True)
class Gap:
    """Where a sequence leaves frames out, or holds too many.

    Attributes:
        sequence: its name.
        frame: the one before the gap.
        seconds: to the next one.
    """

    sequence: str
    frame: int
    seconds: float


def spread_frames(lengths: Sequence[int], most: int | None) -> list[list[int]]:
    """Frames to read of each sequence: all of them, or ``most`` at even distances over the whole data set."""
    total = sum(lengths)
    if most is None or most >= total:
        return [list(range(length)) for length in lengths]
    # In the middle of its stretch each, so that a single one is not the first of a drive.
    chosen = (2 * np.arange(most) + 1) * total // (2 * most)
    starts = np.cumsum([0, *lengths])
    return [
        [int(frame - start) for frame in chosen[(chosen >= start) & (chosen < stop)]]
        for start, stop in pairwise(starts)
    ]


def take_survey(
    dataset: OccupancyDataset, most: int | None, told: Callable[[int], None] = lambda frames: None
) -> Survey:
    """Count the cells of a data set.

    Args:
        dataset: what to read.
        most: read so many frames at even distances, or all when None.
        told: called with the number of frames just read.

    Raises:
        InvalidInputError: a file is damaged, of another grid, or holds an unknown label.
    """
    classes = len(dataset.taxonomy)
    observed, unobserved = np.zeros(classes, np.int64), np.zeros(classes, np.int64)
    read = 0
    chosen = spread_frames([len(sequence) for sequence in dataset.sequences], most)
    for sequence, numbers in zip(dataset.sequences, chosen, strict=True):
        for frames in _blocks(sequence, numbers):
            everywhere = np.bincount(frames.labels.ravel(), minlength=classes)
            seen = np.bincount(frames.labels[frames.observed], minlength=classes)
            observed += seen
            unobserved += everywhere - seen
            read += len(frames)
            told(len(frames))
    return Survey(read, observed, unobserved)


def count_commands(dataset: OccupancyDataset) -> Counter[Command]:
    """Commands of all chunks of 16 frames, end to end from the start of each sequence whose poses are known.

    Frames on both sides of a gap make no chunk.

    Raises:
        InvalidInputError: poses or times are damaged, or ask for what no vehicle can drive.
    """
    counts: Counter[Command] = Counter()
    for sequence in dataset.sequences:
        poses, times_us = sequence.poses_world_from_ego, sequence.times_us
        if poses is None or times_us is None:
            continue
        broken = gaps(times_us, dataset.rate_hz)
        for start in range(0, len(sequence) - FRAMES_PER_CHUNK + 1, FRAMES_PER_CHUNK):
            if ((broken >= start) & (broken < start + FRAMES_PER_CHUNK - 1)).any():
                continue
            chunk = slice(start, start + FRAMES_PER_CHUNK)
            try:
                counts[EgoPlan(poses[chunk], times_us[chunk]).command] += 1
            except InvalidInputError as error:
                raise InvalidInputError(
                    f"poses of {sequence.name} from frame {start} on", error.got, error.expected, error.mend
                ) from error
    return counts


def find_gaps(dataset: OccupancyDataset) -> list[Gap]:
    """All gaps in sequences whose times are known.

    Raises:
        InvalidInputError: times are damaged.
    """
    found: list[Gap] = []
    for sequence in dataset.sequences:
        times_us = sequence.times_us
        if times_us is not None:
            steps_s = np.diff(times_us) / 1e6
            found += [Gap(sequence.name, f, float(steps_s[f])) for f in gaps(times_us, dataset.rate_hz).tolist()]
    return found


def locate_frame(dataset: OccupancyDataset, frame: int) -> tuple[OccupancySource, int]:
    """The sequence that holds a frame, counted over the whole data set, and its number there.

    Raises:
        InvalidInputError: there is no such frame.
    """
    if not 0 <= frame < len(dataset):
        raise InvalidInputError("frame", frame, f"0 to {len(dataset) - 1}")
    for sequence in dataset.sequences:
        if frame < len(sequence):
            return sequence, frame
        frame -= len(sequence)
    raise AssertionError("a data set is as long as its sequences together")


def _blocks(sequence: OccupancySource, numbers: Sequence[int]) -> Iterator[LabelledFrames]:
    """The frames of a sequence, neighbours read together."""
    first = 0
    for last in range(len(numbers)):
        following = numbers[last + 1] if last + 1 < len(numbers) else None
        if following != numbers[last] + 1 or last - first + 1 == _FRAMES_AT_ONCE:
            yield sequence.frames(numbers[first], numbers[last] + 1)
            first = last + 1
