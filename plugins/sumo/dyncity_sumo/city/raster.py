"""Which cells of a raster lie inside a polygon: scanline conversion by the even-odd rule, cell centres decide.

One row of the raster is one value of x; each polygon edge toggles the cells north of it in every row it crosses,
and a running parity over y fills the inside (Foley et al., Computer Graphics, section 3.6, on whole arrays).
"""

from collections.abc import Sequence
from dataclasses import dataclass

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
    end = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    lower = np.clip(np.floor(start.min(axis=0)).astype(np.int64), 0, shape)
    upper = np.clip(np.ceil(start.max(axis=0)).astype(np.int64), lower, shape)
    rows, columns = upper - lower
    window = (slice(int(lower[0]), int(upper[0])), slice(int(lower[1]), int(upper[1])))
    if rows == 0 or columns == 0:
        return Patch(window, np.zeros((rows, columns), np.bool_))
    start, end = start - lower - 0.5, end - lower - 0.5
    first = np.clip(np.ceil(np.minimum(start[:, 0], end[:, 0])), 0, rows).astype(np.int64)
    last = np.clip(np.ceil(np.maximum(start[:, 0], end[:, 0])), 0, rows).astype(np.int64)
    crossed = last - first
    edge = np.repeat(np.arange(len(start)), crossed)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(crossed) - crossed, crossed) + first[edge]
    run = end[edge] - start[edge]
    crossing = start[edge, 1] + (row - start[edge, 0]) * run[:, 1] / run[:, 0]
    column = np.clip(np.ceil(crossing), 0, columns).astype(np.int64)
    toggles = np.bincount(row * (columns + 1) + column, minlength=rows * (columns + 1))
    parity = np.cumsum(toggles.reshape(rows, columns + 1).astype(np.uint8), axis=1, dtype=np.uint8)
    return Patch(window, (parity[:, :columns] & 1).astype(np.bool_))
