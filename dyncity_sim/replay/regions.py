"""Which cells of a chunk are given, when only a part of it is to be generated."""

import enum

import numpy as np
from jaxtyping import Bool

from dyncity_sim.domain.grid import Grid

HOLE_AHEAD_M = 8.0
HOLE_HALF_M = 9.0
"""Middle of the hole in front of the ego, and half of its width."""


class Region(enum.Enum):
    """A part of a chunk."""

    FIRST_FRAME = "first-frame"
    """Everything in frame 0 and nothing after it: one frame to 4D."""
    FIRST_HALF = "first-half"
    """Everything in the first half of the frames: forecasting."""
    LEFT = "left"
    """What lies left of the ego in each frame: outpainting."""
    REAR = "rear"
    """What lies behind the ego's origin in each frame: outpainting."""
    AROUND = "around"
    """All but a square hole in front of the ego in each frame: inpainting."""


def region_mask(region: Region, frames: int, grid: Grid) -> Bool[np.ndarray, "T X Y Z"]:
    """True in the cells of ``region``, whose places are those of the ego frame of each frame."""
    mask = np.zeros((frames, *grid.shape), dtype=np.bool_)
    x, y = grid.centres(0), grid.centres(1)
    match region:
        case Region.FIRST_FRAME:
            mask[0] = True
        case Region.FIRST_HALF:
            mask[: frames // 2] = True
        case Region.LEFT:
            mask[:, :, y > 0] = True
        case Region.REAR:
            mask[:, x < 0] = True
        case Region.AROUND:
            hole = np.ix_(np.abs(x - HOLE_AHEAD_M) < HOLE_HALF_M, np.abs(y) < HOLE_HALF_M)
            columns = np.ones(grid.shape[:2], dtype=np.bool_)
            columns[hole] = False
            mask[:, columns] = True
    return mask
