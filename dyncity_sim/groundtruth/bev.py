"""Occupancy seen from above: class, instance and height of each column."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, UInt8, UInt16

from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.taxonomy import Taxonomy


@dataclass(frozen=True, eq=False)
class BevMap:
    """A frame from above.

    Attributes:
        labels: class that each column shows, ``(X, Y)``; 0 where all that is known of it is free.
        instances: track id of the cell that a column shows, ``(X, Y)``; 0 where that has none.
        height_m: top of that cell, ``(X, Y)`` metres in the grid's frame; NaN where a column shows nothing.
        observed: columns of which at least one cell is known, ``(X, Y)``.
    """

    labels: UInt8[np.ndarray, "X Y"]
    instances: UInt16[np.ndarray, "X Y"]
    height_m: Float32[np.ndarray, "X Y"]
    observed: Bool[np.ndarray, "X Y"]


def bev_map(
    labels: UInt8[np.ndarray, "X Y Z"],
    known: Bool[np.ndarray, "X Y Z"],
    instances: UInt16[np.ndarray, "X Y Z"],
    grid: Grid,
    taxonomy: Taxonomy,
) -> BevMap:
    """What each column shows: its topmost known cell of a moving class, or else its topmost known occupied cell.

    Actors come first, so that neither a tree nor a gantry over a road hides who drives under it.
    """
    moving = known & np.isin(labels, taxonomy.moving_labels)
    shows = np.where(moving.any(axis=2, keepdims=True), moving, known & (labels > 0))
    top = labels.shape[2] - 1 - np.argmax(shows[:, :, ::-1], axis=2)
    anything = shows.any(axis=2)

    def shown(cells: np.ndarray) -> np.ndarray:
        return np.where(anything, np.take_along_axis(cells, top[..., None], axis=2)[..., 0], 0)

    height_m = grid.lower_m[2] + (top + 1) * grid.voxel_size_m[2]
    return BevMap(
        shown(labels),
        shown(instances),
        np.where(anything, height_m, np.nan).astype(np.float32),
        np.asarray(known.any(axis=2)),
    )
