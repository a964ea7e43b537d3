"""Footprints: sets of grid columns seen from above, and the rectangles behind them.

A cell counts as a thing's when its centre lies in it. Second moments then measure a rectangle without bias, whatever
the rotation of the grid; extreme cells do not.
"""

import numpy as np
from jaxtyping import Float64

WIDEST_VEHICLE_M = 2.9
"""No vehicle is wider; a wider blob is several that touch."""

LONGEST_LOW_VEHICLE_M = 6.4
"""No vehicle under LOW_VEHICLE_M is longer; a longer blob is a row of them."""

LOW_VEHICLE_M = 1.95

FRAGMENT_M = 3.0
"""A vehicle without rider whose longer side is shorter may be a part of one."""

ONE_CAR_M = (5.3, 2.3)
ONE_TALL_VEHICLE_M = (12.6, 2.9)
"""Length and width that one low or tall vehicle does not exceed."""

FILLED_SHARE = 0.4
"""A vehicle fills at least this share of the rectangle around it, whatever was not seen of it."""

TYPICAL_CAR_M = (4.6, 1.9)

SMALLEST_SIDE_M = 0.3

Columns = Float64[np.ndarray, "C 2"]


def sides(columns_m: Columns, yaw_rad: float, cell_m: float) -> tuple[float, float]:
    """Length along ``yaw_rad`` and width across it of the rectangle behind a footprint, metres.

    A rectangle's side is ``sqrt(12 variance)`` of its area.
    """
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    along = columns_m @ np.array([[cos, -sin], [sin, cos]])
    side = np.sqrt(12 * along.var(axis=0) + cell_m**2)
    return float(max(side[0], SMALLEST_SIDE_M)), float(max(side[1], SMALLEST_SIDE_M))


def doubled_axis(columns_m: Columns) -> complex:
    """Principal axis as a doubled angle; its modulus in [0, 1] says how elongated the footprint is."""
    if len(columns_m) < 2:
        return 0j
    off_m = columns_m - columns_m.mean(axis=0)
    spread = off_m.T @ off_m / len(off_m)
    total = float(np.trace(spread))
    return complex(spread[0, 0] - spread[1, 1], 2 * spread[0, 1]) / total if total > 0 else 0j


def is_fragment(columns_m: Columns, cell_m: float) -> bool:
    """Whether a footprint is too short for a vehicle that nobody rides on."""
    return max(sides(columns_m, float(np.angle(doubled_axis(columns_m))) / 2, cell_m)) < FRAGMENT_M


def fits_one_vehicle(columns_m: Columns, tall: bool, cell_m: float) -> bool:
    """Whether one vehicle, such as a van or truck where ``tall``, can fill all of a footprint with gaps in it."""
    yaw_rad = _tightest_yaw(columns_m)
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    extent_m = np.sort(np.ptp(columns_m @ np.array([[cos, -sin], [sin, cos]]), axis=0) + cell_m)
    most_m = ONE_TALL_VEHICLE_M if tall else ONE_CAR_M
    filled = len(columns_m) * cell_m**2 / np.prod(extent_m)
    return bool(extent_m[1] <= most_m[0] and extent_m[0] <= most_m[1] and filled >= FILLED_SHARE)


def split_touching(columns_m: Columns, height_m: float, cell_m: float) -> list[np.ndarray]:
    """Boolean masks over ``columns_m``, one for each vehicle that a footprint can only be explained by.

    A blob too wide for a vehicle is cut lengthwise, a low one too long for a car is cut across.
    """
    whole = [np.ones(len(columns_m), dtype=np.bool_)]
    axis = doubled_axis(columns_m)
    length_m, width_m = sides(columns_m, float(np.angle(axis)) / 2, cell_m)
    too_long = height_m < LOW_VEHICLE_M and length_m > LONGEST_LOW_VEHICLE_M
    if not too_long and width_m < WIDEST_VEHICLE_M:
        return whole
    yaw_rad = _tightest_yaw(columns_m)
    along = columns_m @ np.array([np.cos(yaw_rad), np.sin(yaw_rad)])
    across = columns_m @ np.array([-np.sin(yaw_rad), np.cos(yaw_rad)])
    length_m, width_m = sides(columns_m, yaw_rad, cell_m)
    lanes = max(1, round((width_m + 0.6) / (TYPICAL_CAR_M[1] + 0.6))) if width_m > WIDEST_VEHICLE_M else 1
    low = height_m < LOW_VEHICLE_M
    rows = max(1, round((length_m + 0.5) / (TYPICAL_CAR_M[0] + 0.5))) if low and length_m > LONGEST_LOW_VEHICLE_M else 1
    cell = _band(along, rows) * lanes + _band(across, lanes)
    return [cell == number for number in range(rows * lanes) if (cell == number).any()]


def _band(position_m: np.ndarray, bands: int) -> np.ndarray:
    """Which of ``bands`` equal parts of the extent each position falls in."""
    extent = max(float(np.ptp(position_m)), 1e-9)
    return np.minimum(((position_m - position_m.min()) / extent * bands).astype(np.int64), bands - 1)


def _tightest_yaw(columns_m: Columns) -> float:
    """Yaw of the smallest rectangle around a footprint, of its two axes the one nearer to 0."""
    candidates = np.deg2rad(np.arange(-45, 45, 3))
    cos, sin = np.cos(candidates), np.sin(candidates)
    along = columns_m @ np.stack([cos, sin])
    across = columns_m @ np.stack([-sin, cos])
    area = np.ptp(along, axis=0) * np.ptp(across, axis=0)
    return float(candidates[int(np.argmin(np.round(area, 6)))])
