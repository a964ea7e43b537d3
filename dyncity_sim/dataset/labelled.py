"""Data sets of labelled occupancy behind one face, whatever form their files have.

A data set is plain facts and a list of sequences; a sequence reads frames when they are asked for. Labels come in the
data set's own classes, ``OccupancyDataset.label_map`` says what they are in CarlaSC's merged ones. Grids are what they
are: nothing is resampled.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from dyncity_sim.dataset.label_maps import LabelMap
from dyncity_sim.domain.frames import Poses
from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.taxonomy import Taxonomy
from dyncity_sim.errors import InvalidInputError


@dataclass(frozen=True, eq=False)
class LabelledFrames:
    """Consecutive frames of a sequence.

    Attributes:
        labels: class of each cell in the data set's taxonomy, ``(T, X, Y, Z)`` uint8, X forward, Y left, Z up.
        observed: True where a sensor saw the cell. A label elsewhere says nothing, unless the data set is dense.
    """

    labels: UInt8[np.ndarray, "T X Y Z"]
    observed: Bool[np.ndarray, "T X Y Z"]

    def __len__(self) -> int:
        return len(self.labels)


class OccupancySource(Protocol):
    """One sequence of a data set: consecutive frames around one ego."""

    @property
    def name(self) -> str:
        """Its name in the data set, e.g. ``scene-0061``."""
        ...

    def __len__(self) -> int:
        """Number of frames."""
        ...

    @property
    def times_us(self) -> Int64[np.ndarray, " T"] | None:
        """Time of each frame, strictly increasing microseconds; None where the order of the frames is unknown."""
        ...

    @property
    def poses_world_from_ego(self) -> Poses | None:
        """``(T, 4, 4)`` right-handed, world the same over the sequence; None where the files do not say."""
        ...

    def frames(self, start: int, stop: int) -> LabelledFrames:
        """Read the frames ``start`` to ``stop`` (exclusive).

        Raises:
            InvalidInputError: a range out of the sequence, or a file that is damaged, of another grid, or holds a
                label that is unknown.
        """
        ...


@dataclass(frozen=True, eq=False)
class OccupancyDataset:
    """A data set on disk.

    Attributes:
        name: what it is, e.g. ``Occ3D-nuScenes``.
        grid: where the cells of all frames lie in the ego frame.
        label_map: its classes, and what they are in CarlaSC's merged ones.
        rate_hz: frames per second.
        attribution: credit and terms that come with it; empty when none are known.
        dense: whether labels of unobserved cells are true as well, as where a simulator knows them.
        sequences: its sequences, sorted by name.
        digest: tells it from others of the same name whose sequences have the same names, as recordings do; empty for
            published data sets.
    """

    name: str
    grid: Grid
    label_map: LabelMap
    rate_hz: float
    attribution: str
    dense: bool
    sequences: Sequence[OccupancySource]
    digest: str = ""

    def __len__(self) -> int:
        """Frames of all sequences."""
        return sum(len(sequence) for sequence in self.sequences)

    @property
    def taxonomy(self) -> Taxonomy:
        """What the labels mean."""
        return self.label_map.taxonomy


def check_range(start: int, stop: int, frames: int, name: str) -> range:
    """The frames asked for, or InvalidInputError when they are none or not all within the sequence."""
    if not 0 <= start < stop <= frames:
        raise InvalidInputError("frames", f"[{start}, {stop})", f"a range within [0, {frames}) of {name}")
    return range(start, stop)


def rate_of(times_us: Int64[np.ndarray, " T"], otherwise: float) -> float:
    """Frames per second of most steps; clocks of sensors that run by a fiftieth otherwise are those of a whole number.

    Args:
        times_us: ``(T,)`` microseconds.
        otherwise: the rate where one frame says nothing of it.
    """
    if len(times_us) < 2:
        return otherwise
    rate_hz = 1e6 / float(np.median(np.diff(times_us)))
    return round(rate_hz) if abs(rate_hz - round(rate_hz)) < 0.02 * round(rate_hz) else round(rate_hz, 3)


def gaps(times_us: Int64[np.ndarray, " T"], rate_hz: float) -> Int64[np.ndarray, " G"]:
    """Frames whose next one does not follow: not after one step of the rate, which real sensors keep to half a step."""
    return np.flatnonzero(np.abs(np.diff(times_us) * (rate_hz / 1e6) - 1) > 0.5)


def check_consecutive(times_us: Int64[np.ndarray, " T"], rate_hz: float, field: str) -> None:
    """Raise InvalidInputError where there are gaps: chunks are of frames that follow each other."""
    broken = gaps(times_us, rate_hz)
    if len(broken):
        frame = int(broken[0])
        raise InvalidInputError(
            field,
            f"{(times_us[frame + 1] - times_us[frame]) / 1e6:.3g} s between frames {frame} and {frame + 1}",
            f"{1 / rate_hz:.3g} s, as of {rate_hz:g} Hz",
            f"Leave the sequence out, or part it there; it has {len(broken)} such places.",
        )
