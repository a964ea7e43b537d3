"""What of a decoded chunk stands, and where the drive knows better."""

import numpy as np
from jaxtyping import UInt8

from dyncity_models.data.clips import UNOBSERVED
from dyncity_sim.domain.grid import EGO_LOWER_M, EGO_UPPER_M, Grid
from dyncity_sim.domain.taxonomy import CARLASC


def with_known(
    decoded: UInt8[np.ndarray, "T X Y Z"], known: UInt8[np.ndarray, "T X Y Z"]
) -> UInt8[np.ndarray, "T X Y Z"]:
    """The known static world, with generated movers wherever it leaves room for them."""
    mover_in_free_space = np.isin(decoded, CARLASC.moving_labels) & (known == 0)
    return np.where((known == UNOBSERVED) | mover_in_free_space, decoded, known).astype(np.uint8)


def made_rigid(
    labels: UInt8[np.ndarray, "T X Y Z"], known: UInt8[np.ndarray, "T X Y Z"], learned: UInt8[np.ndarray, "T X Y Z"]
) -> UInt8[np.ndarray, "T X Y Z"]:
    """The static world of a chunk as the drive will remember it, wherever it was not known before.

    The decoder sees each frame in its own ego view, so that edges may differ by a cell from frame to frame.
    """
    fresh = (known == UNOBSERVED) & (learned != UNOBSERVED) & ~np.isin(labels, CARLASC.moving_labels)
    return np.where(fresh, learned, labels).astype(np.uint8)


def without_ego(labels: UInt8[np.ndarray, "T X Y Z"], grid: Grid) -> UInt8[np.ndarray, "T X Y Z"]:
    """Nothing stands where the ego's own body and its sensor are."""
    upper_m = (*EGO_UPPER_M[:2], grid.voxel_size_m[2] / 2)
    inside = [(grid.centres(axis) > EGO_LOWER_M[axis]) & (grid.centres(axis) < upper_m[axis]) for axis in range(3)]
    emptied = labels.copy()
    emptied[np.ix_(np.ones(len(labels), dtype=np.bool_), *inside)] = 0
    return emptied
