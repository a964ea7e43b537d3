"""Free space from above: where a vehicle could drive, and how much of the plane is in sight of the ego."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, UInt8

from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.taxonomy import Taxonomy
from dyncity_sim.errors import InvalidInputError

CLEARANCE_M = 1.6
"""Height over the ground that a car needs; what hangs higher is in nobody's way."""

GROUND = ("road", "ground", "sidewalk")
"""Classes that things stand on."""


@dataclass(frozen=True, eq=False)
class FreeSpace:
    """Free space of a frame.

    Attributes:
        drivable: columns with a known road cell over which every cell up to CLEARANCE_M is known and free, ``(X, Y)``;
            a grid that ends lower counts as far as it goes.
        visible: known columns that are in sight of the ego along level lines towards the middle of every column,
            ``(X, Y)``: those to whose middle a line leads through no other column with an obstacle, and those whose
            obstacle is the first that some line meets, also beyond the middle that it was drawn to. An obstacle is a
            known cell that is occupied, not of ground, and less than CLEARANCE_M over the topmost ground cell of its
            column (in a column without one: at any height).
    """

    drivable: Bool[np.ndarray, "X Y"]
    visible: Bool[np.ndarray, "X Y"]


def free_space(
    labels: UInt8[np.ndarray, "X Y Z"],
    known: Bool[np.ndarray, "X Y Z"],
    grid: Grid,
    taxonomy: Taxonomy,
    position_m: tuple[float, float] = (0.0, 0.0),
) -> FreeSpace:
    """Where a vehicle could drive, and what is in sight.

    Args:
        labels: class of each cell.
        known: which of them the source knows.
        grid: where the cells lie.
        taxonomy: with the classes of CARLASC.
        position_m: x, y that is looked from, in the grid's frame.

    Raises:
        InvalidInputError: ``position_m`` lies outside the grid.
        MissingExtraError: numba is not installed.
    """
    road = known & (labels == taxonomy.index("road"))
    blocked = ~known | (labels > 0)
    drivable = road.any(axis=2) & ~(blocked & _within_clearance(road, grid)).any(axis=2)
    ground = known & np.isin(labels, [taxonomy.index(name) for name in GROUND])
    standing = known & (labels > 0) & ~ground
    reached = _within_clearance(ground, grid) | ~ground.any(axis=2, keepdims=True)
    obstacles = np.asarray((standing & reached).any(axis=2))
    return FreeSpace(drivable, _in_sight(obstacles, grid, position_m) & known.any(axis=2))


def _within_clearance(floor: Bool[np.ndarray, "X Y Z"], grid: Grid) -> Bool[np.ndarray, "X Y Z"]:
    """Cells above the topmost cell of ``floor`` in their column that begin less than CLEARANCE_M over its top."""
    layers = np.arange(floor.shape[2])
    top = floor.shape[2] - 1 - np.argmax(floor[:, :, ::-1], axis=2)
    above = layers - top[..., None] - 1
    return floor.any(axis=2, keepdims=True) & (above >= 0) & (above * grid.voxel_size_m[2] < CLEARANCE_M)


def _in_sight(
    obstacles: Bool[np.ndarray, "X Y"], grid: Grid, position_m: tuple[float, float]
) -> Bool[np.ndarray, "X Y"]:
    from dyncity_sim.groundtruth.sensors.traversal import first_hits

    start = (np.asarray(position_m) - np.asarray(grid.lower_m[:2])) / np.asarray(grid.voxel_size_m[:2])
    if not ((start >= 0) & (start < obstacles.shape)).all():
        raise InvalidInputError("free space position_m", position_m, "a place over the grid")
    columns = np.argwhere(np.ones_like(obstacles))
    ways = np.column_stack([columns + 0.5 - start, np.zeros(len(columns))])
    elsewhere = (columns != np.floor(start).astype(np.int64)).any(axis=1)
    hits, distances, _ = first_hits(
        obstacles[..., None].astype(np.uint8), np.array([*start, 0.5]), np.ascontiguousarray(ways[elsewhere])
    )
    seen = np.ones(len(columns), dtype=np.bool_)
    seen[elsewhere] = distances >= 1.0
    seen[hits[hits >= 0]] = True
    return seen.reshape(obstacles.shape)
