"""Kinds of actors by size, rider and speed: Bayes' rule over sizes that vehicles of each kind commonly have.

Sizes and their spread are those of nuScenes' annotations, rounded (Caesar et al., CVPR 2020), two-wheelers with their
riders' height, cars and vans apart; the spread includes half a cell of measurement. What no kind explains leaves a low
confidence.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from dyncity_sim.domain.recording import ActorKind

Size = tuple[float, float, float]


@dataclass(frozen=True)
class Typical:
    """What actors of a kind are like.

    Attributes:
        kind: the kind.
        size_m: mean length, width and height.
        spread_m: standard deviations.
        share: how many of all vehicles in a city are of this kind.
        ridden: how likely a frame shows a rider on top.
    """

    kind: ActorKind
    size_m: Size
    spread_m: Size
    share: float
    ridden: float = 0.01


PEDESTRIAN = Typical(ActorKind.PEDESTRIAN, (0.65, 0.6, 1.65), (0.25, 0.25, 0.3), 1.0)

VEHICLES = (
    Typical(ActorKind.CAR, (4.4, 1.85, 1.55), (0.5, 0.18, 0.18), 0.65),
    Typical(ActorKind.VAN, (5.2, 1.98, 2.25), (0.7, 0.18, 0.28), 0.12),
    Typical(ActorKind.TRUCK, (8.2, 2.5, 2.9), (1.4, 0.18, 0.4), 0.05),
    Typical(ActorKind.BUS, (11.8, 2.6, 2.95), (1.2, 0.2, 0.35), 0.04),
    Typical(ActorKind.MOTORCYCLE, (2.1, 0.8, 1.55), (0.25, 0.18, 0.2), 0.05, 0.9),
    Typical(ActorKind.BICYCLE, (1.8, 0.65, 1.7), (0.2, 0.18, 0.2), 0.09, 0.9),
)

UNKNOWN_SHARE = 0.02
UNKNOWN_DENSITY_PM3 = 1 / 200
"""Things that are none of these, of any size up to 12.5 x 4 x 4 m."""

CYCLING_MPS = 5.0
CYCLING_SPREAD_MPS = 1.5
"""Bicycles seldom go faster."""


EXACT_M: Size = (0.0, 0.0, 0.0)


def kind_of(
    vehicle: bool, size_m: Size, seen_whole: bool, ridden: bool, speed_mps: float, error_m: Size = EXACT_M
) -> tuple[ActorKind, float]:
    """The most likely kind and how likely it is, in (0, 1].

    Args:
        vehicle: of the class of vehicles, or else of pedestrians.
        size_m: length, width and height.
        seen_whole: False where the border of the grid cut the thing in every frame; it may be longer then.
        ridden: most frames show a rider on top.
        speed_mps: about the highest it went.
        error_m: standard deviations of length, width and height, beyond half a cell of measurement.
    """
    candidates = VEHICLES if vehicle else (PEDESTRIAN,)
    kinds = [replace(typical, spread_m=_added(typical.spread_m, error_m)) for typical in candidates]
    likely = np.array([_likelihood(typical, size_m, seen_whole, ridden, speed_mps) for typical in kinds])
    share = likely / (likely.sum() + UNKNOWN_SHARE * UNKNOWN_DENSITY_PM3)
    best = int(share.argmax())
    return kinds[best].kind, float(max(share[best], np.finfo(np.float64).tiny))


def typical_size_m(kind: ActorKind) -> Size:
    """Mean length, width and height of a kind."""
    return typical_of(kind).size_m


def typical_of(kind: ActorKind) -> Typical:
    """What actors of a kind are like."""
    return next(typical for typical in (*VEHICLES, PEDESTRIAN) if typical.kind is kind)


def _added(spread_m: Size, error_m: Size) -> Size:
    length_m, width_m, height_m = np.hypot(spread_m, error_m).tolist()
    return length_m, width_m, height_m


def _likelihood(typical: Typical, size_m: Size, seen_whole: bool, ridden: bool, speed_mps: float) -> float:
    spread: Float64[np.ndarray, " 3"] = np.array(typical.spread_m)
    off = (np.array(size_m) - np.array(typical.size_m)) / spread
    if not seen_whole:
        off[:2] = np.maximum(off[:2], 0.0)
    density = np.exp(-0.5 * off @ off) / np.prod(spread * np.sqrt(2 * np.pi))
    rider = typical.ridden if ridden else 1 - typical.ridden
    too_fast = max(0.0, speed_mps - CYCLING_MPS) / CYCLING_SPREAD_MPS if typical.kind is ActorKind.BICYCLE else 0.0
    return float(typical.share * density * rider * np.exp(-0.5 * too_fast**2))
