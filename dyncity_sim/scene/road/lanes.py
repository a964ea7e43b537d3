"""How the width of a road is divided into lanes."""

import numpy as np
from jaxtyping import Float64
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import gaussian_filter1d, median_filter

from dyncity_sim.scene.road.carriageway import Carriageway

LANE_M = 3.25
"""Width that lanes come close to, metres."""

EGO_HALF_M = (1.3, 1.75)
"""Least and most of the ego's lane to each side of its path, where another lane follows."""

NARROWEST_LANE_M = 2.0
"""Where less is left beside the ego's lane, its lane takes it."""

WIDEST_LANE_M = 5.5

NARROWEST_TWO_WAY_M = 4.4
"""A road across that is narrower has one lane, which leads away from the drive."""

FARTHEST_M = 20.0

USUAL_M = 30.0

BULGE_M = 3.5
"""A road is at most this much wider to a side than it is for most of its length around; more is a mouth."""


def reaches_m(
    way: Carriageway, points: Float64[np.ndarray, "N 2"], headings: Float64[np.ndarray, " N"]
) -> tuple[Float64[np.ndarray, " N"], Float64[np.ndarray, " N"]]:
    """How far the road reaches to the left and to the right of a line."""
    left, right = (way.reach_m(points, headings + side * np.pi / 2, FARTHEST_M) for side in (1, -1))
    return left, right


def usual_m(reach: Float64[np.ndarray, " N"], spacing_m: float) -> Float64[np.ndarray, " N"]:
    """What a reach is for most of the 30 m before or after: mouths of other roads do not count.

    The wider side counts, because a road may have another width beyond a junction.
    """
    size = round(USUAL_M / spacing_m)
    windows = sliding_window_view(np.pad(reach, size, mode="reflect"), size + 1)
    lowest = np.percentile(windows, 20, axis=1)
    return np.asarray(np.maximum(lowest[: len(reach)], lowest[size:]))


def steady_m(reach: Float64[np.ndarray, " N"], usual: Float64[np.ndarray, " N"], spacing_m: float) -> np.ndarray:
    """A reach without mouths and without the steps of cells."""
    size = 2 * round(2.5 / spacing_m) + 1
    held = median_filter(np.minimum(reach, usual + BULGE_M), size=size, mode="mirror")
    return np.asarray(gaussian_filter1d(held, 1.5 / spacing_m, mode="nearest"))


def driven_lanes(
    left: Float64[np.ndarray, " N"], right: Float64[np.ndarray, " N"]
) -> tuple[Float64[np.ndarray, " N"], Float64[np.ndarray, "N L"], Float64[np.ndarray, "N R"]]:
    """Lanes beside the ego's path: centre, left and right widths as ``network.Road`` has them.

    The ego's lane is the innermost to the right; what is left of it runs against it. It ends where the road ends,
    or where there is room for another lane.
    """
    middle_left, middle_right = float(np.median(left)), float(np.median(right))
    half = float(np.clip(min(middle_left, middle_right), *EGO_HALF_M))
    widest_half = half + NARROWEST_LANE_M
    inner_left, inner_right = (
        np.full(len(reach), half) if middle - half >= NARROWEST_LANE_M else np.clip(reach, EGO_HALF_M[0], widest_half)
        for reach, middle in ((left, middle_left), (right, middle_right))
    )
    left_lanes = _divided(left - inner_left, middle_left - half)
    right_lanes = _divided(right - inner_right, middle_right - half)
    own = (inner_left + inner_right)[:, None]
    return inner_left, left_lanes, np.concatenate([own, right_lanes], axis=1)


def crossing_lanes(
    left: Float64[np.ndarray, " N"], right: Float64[np.ndarray, " N"]
) -> tuple[Float64[np.ndarray, " N"], Float64[np.ndarray, "N L"], Float64[np.ndarray, "N R"]]:
    """Lanes of a road that was not driven: as many each way; one, along its line, where it is narrow."""
    width = left + right
    middle = float(np.median(width))
    if middle < NARROWEST_TWO_WAY_M:
        return left, np.zeros((len(left), 0)), np.clip(width, 0.0, WIDEST_LANE_M)[:, None]
    count = max(1, round(middle / 2 / LANE_M))
    each = np.clip(width / 2 / count, 0.0, WIDEST_LANE_M)[:, None].repeat(count, axis=1)
    return (left - right) / 2, each, each


def _divided(space: Float64[np.ndarray, " N"], middle_m: float) -> Float64[np.ndarray, "N L"]:
    if middle_m < NARROWEST_LANE_M:
        return np.zeros((len(space), 0))
    count = max(1, round(middle_m / LANE_M))
    return np.clip(space / count, 0.0, WIDEST_LANE_M)[:, None].repeat(count, axis=1)
