"""The static world as vertical columns on a fine horizontal raster.

A column holds the surface one stands on and up to two spans above it (a trunk under a crown, a door under a
canopy), which is all that a driving simulator's street level needs, at 9 bytes per column.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int16, Int64, UInt8

from dyncity_sim.errors import InvalidInputError

CELL_M = 0.2
"""Edge length of a column: half a cell of the CarlaSC grid."""

SPANS = 2
"""Spans a column can hold."""

HIGHEST_SPAN_DM = 255
"""Tops above this are stored as this: far above any grid."""

HEADROOM_DM = 20
"""What hangs higher than this is in nobody's way."""


@dataclass(frozen=True, eq=False)
class StaticColumns:
    """The static world in columns; column (i, j) covers ``origin_m + [i, i + 1) x [j, j + 1) * cell_m``.

    Attributes:
        origin_m: ``(2,)`` world x, y of the outer corner of column (0, 0).
        ground_class: ``(NX, NY)`` CARLASC_RAW label of the surface; 0 where the world is not built.
        ground_cm: ``(NX, NY)`` world height of the surface, centimetres.
        span_class: ``(NX, NY, 2)`` CARLASC_RAW label of each span; 0 is no span.
        span_lo_dm: ``(NX, NY, 2)`` lower end of each span, decimetres above the column's ground.
        span_hi_dm: ``(NX, NY, 2)`` upper end, above ``span_lo_dm`` wherever there is a span.
        cell_m: edge length of a column.
    """

    origin_m: Float64[np.ndarray, "2"]
    ground_class: UInt8[np.ndarray, "NX NY"]
    ground_cm: Int16[np.ndarray, "NX NY"]
    span_class: UInt8[np.ndarray, "NX NY 2"]
    span_lo_dm: UInt8[np.ndarray, "NX NY 2"]
    span_hi_dm: UInt8[np.ndarray, "NX NY 2"]
    cell_m: float = CELL_M

    def __post_init__(self) -> None:
        shape = self.ground_class.shape
        for name, dtype, expected in (
            ("ground_class", np.uint8, shape),
            ("ground_cm", np.int16, shape),
            ("span_class", np.uint8, (*shape, SPANS)),
            ("span_lo_dm", np.uint8, (*shape, SPANS)),
            ("span_hi_dm", np.uint8, (*shape, SPANS)),
        ):
            array = getattr(self, name)
            if array.dtype != dtype or array.shape != expected or len(shape) != 2:
                raise InvalidInputError(
                    f"columns.{name}", f"{array.dtype} {array.shape}", f"{np.dtype(dtype)} {expected}"
                )

    @property
    def shape(self) -> tuple[int, int]:
        """Number of columns along x and y."""
        return self.ground_class.shape[0], self.ground_class.shape[1]

    def index_of(self, points_m: Float64[np.ndarray, "... 2"]) -> Int64[np.ndarray, "... 2"]:
        """Column indices of world points; may lie outside of the raster."""
        return np.floor((np.asarray(points_m) - self.origin_m) / self.cell_m).astype(np.int64)

    def is_blocked(self, where: tuple[Any, Any]) -> Bool[np.ndarray, "..."]:
        """Whether anything stands or hangs below HEADROOM_DM in the columns at ``where``, any index of both axes."""
        return np.asarray(((self.span_class[where] > 0) & (self.span_lo_dm[where] < HEADROOM_DM)).any(axis=-1))


def empty_columns(lower_m: Float64[np.ndarray, "2"], upper_m: Float64[np.ndarray, "2"]) -> StaticColumns:
    """Columns over a rectangle of the world with nothing built yet.

    The origin is rounded down to whole metres, so that rasters of the same place agree cell by cell.
    """
    origin_m = np.floor(np.asarray(lower_m, dtype=np.float64))
    extent_m = np.ceil(np.asarray(upper_m, dtype=np.float64)) - origin_m
    if not (extent_m > 0).all():
        raise InvalidInputError("columns", f"extent {extent_m} m", "a rectangle with an area")
    shape = (round(extent_m[0] / CELL_M), round(extent_m[1] / CELL_M))
    return StaticColumns(
        origin_m,
        np.zeros(shape, np.uint8),
        np.zeros(shape, np.int16),
        np.zeros((*shape, SPANS), np.uint8),
        np.zeros((*shape, SPANS), np.uint8),
        np.zeros((*shape, SPANS), np.uint8),
    )
