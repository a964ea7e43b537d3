"""What of a decoded chunk stands, and where the drive knows better."""

import numpy as np
from jaxtyping import UInt8
from scipy.ndimage import gaussian_filter

from dyncity_models.data.clips import UNOBSERVED
from dyncity_sim.domain.grid import EGO_LOWER_M, EGO_UPPER_M, Grid
from dyncity_sim.domain.taxonomy import CARLASC

SURFACES = np.array([CARLASC.index(name) for name in ("road", "sidewalk", "ground")], dtype=np.uint8)

KERB_SMOOTHING_CELLS = 2.0
"""Standard deviation of the Gaussian that surfaces are averaged with: narrower strips than sidewalks are not kept."""


def with_smooth_kerbs(
    learned: UInt8[np.ndarray, "N N Z"], known: UInt8[np.ndarray, "N N Z"]
) -> UInt8[np.ndarray, "N N Z"]:
    """A drive's memory with smooth borders between road, sidewalk and ground in what has just been learned.

    What a sampler is not sure of waves along kerbs by half a cell. Each new column takes the surface that most of those
    around it have; what was known before counts and stays.

    Args:
        learned: labels of the memory.
        known: the same before.
    """
    surface = np.isin(learned, SURFACES)
    heights = np.arange(surface.shape[-1])
    top = (surface * heights).argmax(axis=-1)[..., None]
    shown = np.take_along_axis(np.where(surface, learned, UNOBSERVED), top, axis=-1)[..., 0]
    around = [gaussian_filter((shown == one).astype(np.float32), KERB_SMOOTHING_CELLS) for one in SURFACES]
    most = SURFACES[np.argmax(around, axis=0)]
    new = (known == UNOBSERVED) & surface & (heights == top)
    return np.where(new, most[..., None], learned).astype(np.uint8)


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
