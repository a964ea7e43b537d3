"""Exact traversal of a voxel grid by rays (Amanatides and Woo, Eurographics 1987), compiled.

Distances to the next cell border are computed from the border itself and never accumulated, so that a
ray visits exactly the cells it passes through, up to one rounding of a quotient.
"""

import numpy as np
from jaxtyping import Float64, Int8, Int64, UInt8

from dyncity_sim.errors import MissingExtraError

try:
    import numba
except ImportError as error:
    raise MissingExtraError("numba", "scene", "Casting LiDAR rays") from error

Hits = tuple[Int64[np.ndarray, " R"], Float64[np.ndarray, " R"], Int8[np.ndarray, " R"]]


@numba.njit(cache=True, nogil=True)
def first_hits(
    labels: UInt8[np.ndarray, "X Y Z"], origin: Float64[np.ndarray, " 3"], directions: Float64[np.ndarray, "R 3"]
) -> Hits:
    """First occupied cell along each ray.

    Args:
        labels: 0 is free.
        origin: start of all rays, in cells: cell (i, j, k) spans [i, i+1) x [j, j+1) x [k, k+1). Inside the grid.
        directions: in cells per unit of distance, none of them zero; distances come back in that unit. Where
            a ray leaves a cell through an edge or a corner, x goes before y, and y before z.

    Returns:
        Flat index of the cell (-1: nothing was hit), distance at which the ray enters it, and the axis
        across which it enters (-1 where the origin lies in it).
    """
    nx, ny, nz = labels.shape
    count = directions.shape[0]
    cells = np.full(count, -1, dtype=np.int64)
    distances = np.full(count, np.inf)
    axes = np.full(count, -1, dtype=np.int8)
    for ray in range(count):
        dx, dy, dz = directions[ray]
        x, y, z = int(np.floor(origin[0])), int(np.floor(origin[1])), int(np.floor(origin[2]))
        step_x, step_y, step_z = (1 if dx > 0 else -1), (1 if dy > 0 else -1), (1 if dz > 0 else -1)
        ahead_x, ahead_y, ahead_z = (1 if dx > 0 else 0), (1 if dy > 0 else 0), (1 if dz > 0 else 0)
        next_x = (x + ahead_x - origin[0]) / dx if dx != 0 else np.inf
        next_y = (y + ahead_y - origin[1]) / dy if dy != 0 else np.inf
        next_z = (z + ahead_z - origin[2]) / dz if dz != 0 else np.inf
        distance = 0.0
        axis = -1
        while 0 <= x < nx and 0 <= y < ny and 0 <= z < nz:
            if labels[x, y, z] != 0:
                cells[ray] = (x * ny + y) * nz + z
                distances[ray] = distance
                axes[ray] = axis
                break
            if next_x <= next_y and next_x <= next_z:
                distance = next_x
                axis = 0
                x += step_x
                next_x = (x + ahead_x - origin[0]) / dx
            elif next_y <= next_z:
                distance = next_y
                axis = 1
                y += step_y
                next_y = (y + ahead_y - origin[1]) / dy
            else:
                distance = next_z
                axis = 2
                z += step_z
                next_z = (z + ahead_z - origin[2]) / dz
    return cells, distances, axes
