"""Sizes that vehicles have, for those that a network draws of a size that none has."""

import numpy as np
from jaxtyping import Float64

from dyncity_sim.scene.actors.kinds import Size, kind_of, typical_of

DRAWN_ERROR_M: Size = (1.0, 0.4, 0.0)
"""How far off length and width of a drawn vehicle may be: its kind is told by its height, and by these if they are far
from those of another."""

MOST_SPREADS = np.array([2.0, 3.0])
"""A length that is farther from the mean of its kind, in standard deviations, is that of one in twenty vehicles; widths
differ by less than cells can tell."""


def usual_sizes(size_m: Size, ridden: bool, speed_mps: float) -> Float64[np.ndarray, "N 2"]:
    """Lengths and widths, metres, that a vehicle may have rather than those drawn, most likely ones first.

    None where length and width are those that vehicles of its kind have. Else what is too far from the mean of its kind
    is that mean, or as little nearer to it as makes it usual.

    Args:
        size_m: length, width and height as drawn.
        ridden: somebody sits on it.
        speed_mps: about the highest it went.
    """
    typical = typical_of(kind_of(True, size_m, True, ridden, speed_mps, DRAWN_ERROR_M)[0])
    drawn, mean_m, spread_m = (np.array(size[:2]) for size in (size_m, typical.size_m, typical.spread_m))
    nearest = drawn.clip(mean_m - MOST_SPREADS * spread_m, mean_m + MOST_SPREADS * spread_m)
    odd = nearest != drawn
    return np.stack([np.where(odd, mean_m, drawn), nearest]) if odd.any() else np.empty((0, 2))
