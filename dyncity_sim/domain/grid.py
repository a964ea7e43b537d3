"""The voxel grid: where cells lie in the ego frame."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from dyncity_sim.errors import InvalidInputError


@dataclass(frozen=True)
class Grid:
    """An axis-aligned voxel grid in the ego frame.

    Attributes:
        shape: cells along (x forward, y left, z up).
        lower_m: corner of cell (0, 0, 0) in the ego frame, metres.
        voxel_size_m: edge lengths of a cell, metres.
    """

    shape: tuple[int, int, int]
    lower_m: tuple[float, float, float]
    voxel_size_m: tuple[float, float, float]

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or any(n < 1 for n in self.shape):
            raise InvalidInputError("grid.shape", self.shape, "three positive cell counts")
        if len(self.lower_m) != 3 or not np.isfinite(self.lower_m).all():
            raise InvalidInputError("grid.lower_m", self.lower_m, "three finite metres")
        if len(self.voxel_size_m) != 3 or any(not np.isfinite(s) or s <= 0 for s in self.voxel_size_m):
            raise InvalidInputError("grid.voxel_size_m", self.voxel_size_m, "three positive metres")

    @property
    def upper_m(self) -> tuple[float, float, float]:
        """Corner opposite to ``lower_m``, metres."""
        x, y, z = (lo + n * s for lo, n, s in zip(self.lower_m, self.shape, self.voxel_size_m, strict=True))
        return (x, y, z)

    @property
    def cells(self) -> int:
        """Number of cells."""
        return self.shape[0] * self.shape[1] * self.shape[2]

    def centres(self, axis: int) -> Float[np.ndarray, " N"]:
        """Cell centres along one axis (0 = x, 1 = y, 2 = z), metres in the ego frame."""
        return self.lower_m[axis] + (np.arange(self.shape[axis]) + 0.5) * self.voxel_size_m[axis]

    def indices(self, points_ego_m: Float[np.ndarray, "... 3"]) -> np.ndarray:
        """Cell index (int64, may lie outside the grid) that holds each point of the ego frame."""
        offset = np.asarray(points_ego_m) - np.asarray(self.lower_m)
        return np.floor(offset / np.asarray(self.voxel_size_m)).astype(np.int64)

    def contains(self, indices: np.ndarray) -> Bool[np.ndarray, "..."]:
        """True where an index triple (..., 3) lies inside the grid."""
        return np.asarray(((indices >= 0) & (indices < np.asarray(self.shape))).all(axis=-1))


def columns_of(cells: Bool[np.ndarray, "*N X Y Z"]) -> Bool[np.ndarray, "*N X Y"]:
    """Columns with any of some cells: ``cells.any(axis=-1)``, which over so short an axis takes many times as long."""
    if cells.shape[-1] == 8 and cells.flags.c_contiguous:
        return np.asarray(cells.view(np.uint64)[..., 0] != 0)
    columns = cells[..., 0].copy()
    for layer in range(1, cells.shape[-1]):
        columns |= cells[..., layer]
    return columns


CARLASC_GRID = Grid(shape=(128, 128, 8), lower_m=(-25.6, -25.6, -2.0), voxel_size_m=(0.4, 0.4, 0.375))
"""CarlaSC's grid (MotionSC, Wilson et al. 2022): the ego frame sits at the LiDAR, 1.8 m above the road."""

OCC3D_GRID = Grid(shape=(200, 200, 16), lower_m=(-40.0, -40.0, -1.0), voxel_size_m=(0.4, 0.4, 0.4))
"""Occ3D's grid (Tian et al. 2023): x and y in [-40, 40] m, z in [-1, 5.4] m of the vehicle's frame on the road."""

SEMANTICKITTI_GRID = Grid(shape=(256, 256, 32), lower_m=(0.0, -25.6, -2.0), voxel_size_m=(0.2, 0.2, 0.2))
"""SemanticKITTI's grid of scene completion (Behley et al. 2019): in front of the car, in the LiDAR's frame."""

LIDAR_HEIGHT_M = 1.8
"""Height of CarlaSC's ego frame above the road, metres."""

LIDAR_BEHIND_M = 0.5
"""CarlaSC's LiDAR, which is our ego frame, stands this far behind the middle of the car, on its centre line."""

EGO_LOWER_M = (-1.9, -0.95, -LIDAR_HEIGHT_M + 0.15)
EGO_UPPER_M = (2.7, 0.95, -0.25)
"""What the ego's own body takes of its frame, metres: 4.6 m whose middle lies 0.4 m before the LiDAR."""

FRAME_RATE_HZ = 10
"""Frames per second of CarlaSC and of everything generated on its grid."""

FRAMES_PER_CHUNK = 16
"""Frames that are generated at once."""
