"""Exact traversal of a voxel grid by rays (Amanatides and Woo, Eurographics 1987), compiled.

Distances to the next cell border are computed from the border itself and never accumulated, so that a
ray visits exactly the cells it passes through, up to one rounding of a quotient.
"""

import numpy as np
from jaxtyping import Bool, Float64, Int8, Int64, UInt8, UInt16

from dyncity_sim.errors import MissingExtraError

try:
    import numba
except ImportError as error:
    raise MissingExtraError("numba", "scene", "Casting rays") from error

Traced = tuple[Int64[np.ndarray, " R"], Float64[np.ndarray, " R"], Int8[np.ndarray, " R"]]


@numba.njit(cache=True, nogil=True)
def trace(
    labels: UInt8[np.ndarray, "X Y Z"],
    origins: Float64[np.ndarray, "R 3"],
    directions: Float64[np.ndarray, "R 3"],
    reach: Float64[np.ndarray, " R"],
    seen: Bool[np.ndarray, "X Y Z"] | None = None,
    instances: UInt16[np.ndarray, "X Y Z"] | None = None,
    crossed: Int64[np.ndarray, " I"] | None = None,
) -> Traced:
    """First occupied cell along each ray.

    Args:
        labels: 0 is free.
        origins: start of each ray, in cells: cell (i, j, k) spans [i, i+1) x [j, j+1) x [k, k+1). A ray that starts
            outside the grid hits nothing.
        directions: in cells per unit of distance, none of them zero; distances are in that unit. Where
            a ray leaves a cell through an edge or a corner, x goes before y, and y before z.
        reach: cells that a ray enters farther away are not visited.
        seen: takes True in the cells that a ray passes through and in the one that it hits.
        instances: 0 for none; with ``crossed``.
        crossed: is counted up, for each number in ``instances``, by the rays that meet a cell that carries it,
            whatever stands before it.

    Returns:
        Flat index of the cell (-1: nothing was hit), distance at which the ray enters it (infinity: nothing), and
        the axis across which it enters (-1 where the origin lies in it).
    """
    nx, ny, nz = labels.shape
    count = directions.shape[0]
    cells = np.full(count, -1, dtype=np.int64)
    distances = np.full(count, np.inf)
    axes = np.full(count, -1, dtype=np.int8)
    last_ray = np.full(0 if crossed is None else crossed.size, -1, dtype=np.int64)
    for ray in range(count):
        ox, oy, oz = origins[ray]
        dx, dy, dz = directions[ray]
        x, y, z = int(np.floor(ox)), int(np.floor(oy)), int(np.floor(oz))
        step_x, step_y, step_z = (1 if dx > 0 else -1), (1 if dy > 0 else -1), (1 if dz > 0 else -1)
        ahead_x, ahead_y, ahead_z = (1 if dx > 0 else 0), (1 if dy > 0 else 0), (1 if dz > 0 else 0)
        next_x = (x + ahead_x - ox) / dx if dx != 0 else np.inf
        next_y = (y + ahead_y - oy) / dy if dy != 0 else np.inf
        next_z = (z + ahead_z - oz) / dz if dz != 0 else np.inf
        distance = 0.0
        axis = -1
        open_way = True
        while 0 <= x < nx and 0 <= y < ny and 0 <= z < nz and distance <= reach[ray]:
            if open_way:
                if seen is not None:
                    seen[x, y, z] = True
                if labels[x, y, z] != 0:
                    cells[ray] = (x * ny + y) * nz + z
                    distances[ray] = distance
                    axes[ray] = axis
                    open_way = False
                    if instances is None:
                        break
            if instances is not None and crossed is not None:
                number = instances[x, y, z]
                if number != 0 and last_ray[number] != ray:
                    last_ray[number] = ray
                    crossed[number] += 1
            if next_x <= next_y and next_x <= next_z:
                distance = next_x
                axis = 0
                x += step_x
                next_x = (x + ahead_x - ox) / dx
            elif next_y <= next_z:
                distance = next_y
                axis = 1
                y += step_y
                next_y = (y + ahead_y - oy) / dy
            else:
                distance = next_z
                axis = 2
                z += step_z
                next_z = (z + ahead_z - oz) / dz
    return cells, distances, axes


@numba.njit(cache=True, nogil=True)
def first_hits(
    labels: UInt8[np.ndarray, "X Y Z"], origin: Float64[np.ndarray, " 3"], directions: Float64[np.ndarray, "R 3"]
) -> Traced:
    """``trace`` for rays of any reach that start at one place."""
    origins = np.empty_like(directions)
    origins[:] = origin
    return trace(labels, origins, directions, np.full(len(directions), np.inf), None, None, None)
