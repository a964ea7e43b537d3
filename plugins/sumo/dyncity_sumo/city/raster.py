"""Which cells of a raster lie inside a polygon: scanline conversion by the even-odd rule, cell centres decide.

One row of the raster is one value of x; each polygon edge toggles the cells north of it in every row it crosses,
and a running parity over y fills the inside (Foley et al., Computer Graphics, section 3.6).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
from jaxtyping import Bool, Float64


@dataclass(frozen=True, eq=False)
class Patch:
    """Some cells of a raster.

    Attributes:
        window: slices of the raster along x and y.
        inside: ``(X, Y)`` of the window's shape: True for the cells meant.
    """

    window: tuple[slice, slice]
    inside: Bool[np.ndarray, "X Y"]


def cells_inside(rings: Sequence[Float64[np.ndarray, "N 2"]], shape: tuple[int, int]) -> Patch:
    """Cells whose centres lie inside ``rings`` (cell units, not closed; inner rings are holes)."""
    start = np.concatenate(rings)
    end = np.concatenate([part for ring in rings for part in (ring[1:], ring[:1])])
    (x_from, x_to), (y_from, y_to) = (
        _clipped(float(low), float(high), size)
        for low, high, size in zip(start.min(axis=0), start.max(axis=0), shape, strict=True)
    )
    inside = np.zeros((x_to - x_from, y_to - y_from), np.bool_)
    if inside.size:
        lower = np.array([x_from, y_from])
        _fill(start - lower - 0.5, end - lower - 0.5, inside)
    return Patch((slice(x_from, x_to), slice(y_from, y_to)), inside)


def _clipped(low: float, high: float, size: int) -> tuple[int, int]:
    """First cell and the one past the last that an extent along an axis touches, within the raster."""
    first = min(max(math.floor(low), 0), size)
    return first, min(max(math.ceil(high), first), size)


@numba.njit(cache=True)
def _fill(start: Float64[np.ndarray, "E 2"], end: Float64[np.ndarray, "E 2"], inside: Bool[np.ndarray, "X Y"]) -> None:
    rows, columns = inside.shape
    for edge in range(len(start)):
        x, y = start[edge, 0], start[edge, 1]
        run_x, run_y = end[edge, 0] - x, end[edge, 1] - y
        first = max(math.ceil(min(x, x + run_x)), 0)
        last = min(math.ceil(max(x, x + run_x)), rows)
        for row in range(first, last):
            column = max(math.ceil(y + (row - x) * run_y / run_x), 0)
            if column < columns:
                inside[row, column] = not inside[row, column]
    for row in range(rows):
        parity = False
        for column in range(columns):
            parity ^= inside[row, column]
            inside[row, column] = parity
