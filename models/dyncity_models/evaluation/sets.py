"""Generated frames against recorded ones as sets, beside recorded ones against each other."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from jaxtyping import UInt8

from dyncity_models.evaluation.distribution import NEIGHBOURS, Drives, Features, memorisation, set_distance
from dyncity_models.evaluation.features import FeatureEncoder, features_of
from dyncity_models.evaluation.recorded import RecordedDrives

FRAMES = 4
"""Frames of each chunk that are looked at, evenly spread: 0, 5, 10 and 15 of 16."""

Frames = list[UInt8[np.ndarray, "X Y Z"]]


@dataclass(frozen=True, eq=False)
class FrameSet:
    """Frames of chunks.

    Attributes:
        frames: all of them.
        drives: number of the drive that each is of.
    """

    frames: Frames = field(default_factory=list)
    drives: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, chunks: Iterable[tuple[int, UInt8[np.ndarray, "T X Y Z"]]]) -> "FrameSet":
        """The chosen frames of chunks, each given with the number of its drive."""
        found = [(frame, drive) for drive, labels in chunks for frame in chosen_frames(labels)]
        return cls([frame for frame, _ in found], [drive for _, drive in found])


@dataclass(frozen=True, eq=False)
class FrameSets:
    """Frames of equally many chunks but for training, as far as there are; those that there are not are empty.

    Attributes:
        generated: from plans.
        recorded: along the same plans.
        recorded_elsewhere: from other drives of the same recordings.
        training: what the weights were trained on, if it was named.
        held_out: of towns that the weights never saw, if plans or what was named are of other towns.
    """

    generated: FrameSet
    recorded: FrameSet
    recorded_elsewhere: FrameSet
    training: FrameSet
    held_out: FrameSet


def chosen_frames(labels: UInt8[np.ndarray, "T X Y Z"]) -> Frames:
    """The frames of a chunk that are looked at."""
    return [labels[frame] for frame in np.linspace(0, len(labels) - 1, FRAMES).astype(int)]


def spread_frames(recorded: RecordedDrives, chunks: int, drives: Sequence[int] | None = None) -> FrameSet:
    """Frames of at most ``chunks`` chunks, each once, evenly spread over drives, and over the length of each."""
    drives = range(len(recorded)) if drives is None else drives
    if not drives:
        return FrameSet()
    starts: dict[tuple[int, int], None] = {}
    for number in np.linspace(0, len(drives) * 1000 - 1, chunks):
        drive = drives[int(number) // 1000]
        starts[drive, round((recorded.length(drive) - recorded.frames) * (number % 1000) / 1000)] = None
    return FrameSet.of((drive, recorded.occupancy(drive, start).labels) for drive, start in starts)


def compare_sets(encoders: Iterable[FeatureEncoder], sets: FrameSets) -> dict[str, object]:
    """Distances in the features of each encoder.

    Returns:
        For each kind of features: ``generated_recorded``, and what two sets of recorded frames come to,
        ``recorded_recorded`` (the same towns) and ``training_held_out`` (towns of training against held-out ones; those
        that plans were taken from where training is not named); ``memorisation`` where it is. Each distance is
        of as many frames as the smaller set has, evenly chosen; there is none of sets too small for neighbourhoods.
    """
    result: dict[str, object] = {}
    for encoder in encoders:
        generated, recorded, elsewhere, training, held_out = (
            (features_of(encoder, those.frames), np.array(those.drives, dtype=np.int64))
            for those in (sets.generated, sets.recorded, sets.recorded_elsewhere, sets.training, sets.held_out)
        )
        learnt = next(those for those in (training, elsewhere, recorded) if len(those[0]))
        pairs = {
            "generated_recorded": (generated, recorded),
            "recorded_recorded": (elsewhere, recorded),
            "training_held_out": (held_out, learnt),
        }
        found: dict[str, object] = {
            name: _distance(*a, *b) for name, (a, b) in pairs.items() if min(len(a[0]), len(b[0])) > NEIGHBOURS
        }
        if len(training[0]):
            found["memorisation"] = asdict(memorisation(generated[0], held_out[0], training[0]))
        result[encoder.kind] = found
    return result


def likeness(encoder: FeatureEncoder, chunks: Sequence[Frames], recorded: Features) -> list[float]:
    """How far the frames of each chunk are from the nearest recorded ones, means; small is good."""
    means = []
    for frames in chunks:
        apart = np.linalg.norm(features_of(encoder, frames)[:, None] - recorded[None], axis=2)
        means.append(float(apart.min(axis=1).mean()))
    return means


def _distance(a: Features, a_of: Drives, b: Features, b_of: Drives) -> dict[str, float]:
    """Both sets thinned to the size of the smaller, because Fréchet distances depend on it."""
    least = min(len(a), len(b))
    of_a, of_b = (np.linspace(0, len(features) - 1, least).astype(int) for features in (a, b))
    return asdict(set_distance(a[of_a], b[of_b], a_of[of_a], b_of[of_b]))
