"""Shape of the static world seen from above: straight kerbs and walls, rectangular buildings.

All of it is read off the middle frame, which a chunk's common frame is, of recorded and of generated occupancy
alike; occupancy with unobserved cells raises InvalidInputError. Cells quantise every shape, so each measure has a
floor that its docstring states, and recorded occupancy is the yardstick.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8
from scipy import ndimage, sparse
from scipy.sparse.csgraph import connected_components
from scipy.spatial import ConvexHull

from dyncity_models.evaluation.dense import check_dense
from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.occupancy import OccupancySequence

KERB_WINDOW_M = 6.0
"""Diameter of the windows that lines are fitted to kerbs in: longer than a car, shorter than a block's side."""

WALL_WINDOW_M = 4.0
"""The same for walls, whose next corner is nearer: in wider windows most walls of a town turn."""

SPANNED_SHARE = 0.8
"""A piece of border spans its window when it is this share of the window long; one that turns a corner is not."""

SMALLEST_BUILDING_M2 = 20.0
"""Smaller footprints are sheds and noise; of a rectangle this small, cells at its rim are a third."""

SIDES_TOUCH = ndimage.generate_binary_structure(2, 1)
"""Columns are connected through their sides, not through their corners."""


@dataclass(frozen=True)
class BorderStraightness:
    """How straight the borders of one frame are.

    Attributes:
        residual_m: median over windows of the root mean square distance from the window's line, metres; NaN without
            a window.
        fitted_share: share of the border's cell sides with a window; the rest is specks, corners and ends. NaN
            without a border.
        sides: cell sides along the border.
    """

    residual_m: float
    fitted_share: float
    sides: int


@dataclass(frozen=True)
class BuildingRectangularity:
    """How much of their rectangles the buildings of one frame fill.

    Attributes:
        filled_share: area of a building over that of the smallest rectangle around it, in [0, 1]; mean over
            buildings, weighted by their areas. NaN without a building.
        buildings: how many stand wholly in the grid.
        area_m2: their area.
    """

    filled_share: float
    buildings: int
    area_m2: float


def kerb_straightness(occupancy: OccupancySequence) -> BorderStraightness:
    """Straightness of the borders between road and sidewalk or ground.

    Around the middle of every cell side on the border, the piece of border that runs through it within a disc of
    ``KERB_WINDOW_M`` gets the line of total least squares (Pearson 1901); the measure is the median over these
    windows of the root mean square distance from the line. Unlike the ratio of the border's length to that of its
    simplified course, it needs no tolerance and does not take the staircase of a slanted kerb, ``|cos| + |sin|``
    times too long, for raggedness: a straight kerb has 0 along the grid and at most ``cell / sqrt(12)``, 0.12 m on
    CarlaSC's grid, at any yaw. Kerbs that bend count as what they are in a window, an arc of radius R about
    ``0.3 KERB_WINDOW_M^2 / (8 R)``; the median forgives those of junctions.

    What stands on a kerb hides it: sides between road and a column with no surface at all do not count.
    """
    labels = _middle(occupancy)
    road, sidewalk, ground = (
        np.asarray((labels == occupancy.taxonomy.index(name)).any(axis=2)) for name in ("road", "sidewalk", "ground")
    )
    beside = sidewalk | ground
    return _straightness(road, beside & ~road, occupancy.grid, KERB_WINDOW_M)


def wall_straightness(occupancy: OccupancySequence) -> BorderStraightness:
    """Straightness, as of kerbs, of the outlines of buildings, in windows of ``WALL_WINDOW_M``.

    It asks about buildings that the border of the grid cuts too, which have no rectangle and are most of those in
    CarlaSC's grid.
    """
    building = np.asarray((_middle(occupancy) == occupancy.taxonomy.index("building")).any(axis=2))
    return _straightness(building, ~building, occupancy.grid, WALL_WINDOW_M)


def building_rectangularity(occupancy: OccupancySequence) -> BuildingRectangularity:
    """Share of its smallest enclosing rectangle, at any yaw, that each building fills.

    A building is a set of columns connected through their sides; those that touch the border of the grid or are
    under ``SMALLEST_BUILDING_M2`` are left out. The rectangle is drawn around whole cells, so the share never
    exceeds 1: a rectangle along the grid has 1, one of 15 m x 10 m at any other yaw above 0.9.
    """
    grid = occupancy.grid
    numbered, count = ndimage.label(
        (_middle(occupancy) == occupancy.taxonomy.index("building")).any(axis=2), SIDES_TOUCH
    )
    column_m2 = grid.voxel_size_m[0] * grid.voxel_size_m[1]
    areas_m2, rectangles_m2 = [], []
    for columns in (np.argwhere(numbered == number) for number in range(1, count + 1)):
        cut = ((columns == 0) | (columns == np.asarray(grid.shape[:2]) - 1)).any()
        if not cut and len(columns) * column_m2 >= SMALLEST_BUILDING_M2:
            areas_m2.append(len(columns) * column_m2)
            rectangles_m2.append(smallest_rectangle_m2(_corners(columns) * np.asarray(grid.voxel_size_m[:2])))
    filled = np.asarray(areas_m2) / np.asarray(rectangles_m2)
    share = float(np.average(filled, weights=areas_m2)) if areas_m2 else float("nan")
    return BuildingRectangularity(share, len(areas_m2), float(np.sum(areas_m2)))


def smallest_rectangle_m2(points_m: Float64[np.ndarray, "N 2"]) -> float:
    """Area of the smallest rectangle around points: one of its sides lies on a side of their convex hull.

    Freeman and Shapira, Determining the minimum-area encasing rectangle for an arbitrary closed curve, 1975.
    """
    corners = points_m[ConvexHull(points_m).vertices]
    steps = np.roll(corners, -1, axis=0) - corners
    along = steps / np.linalg.norm(steps, axis=1, keepdims=True)
    across = along[:, ::-1] * np.array([-1.0, 1.0])
    return float((np.ptp(corners @ along.T, axis=0) * np.ptp(corners @ across.T, axis=0)).min())


def _middle(occupancy: OccupancySequence) -> UInt8[np.ndarray, "X Y Z"]:
    check_dense(occupancy)
    return occupancy.labels[len(occupancy) // 2]


def _straightness(
    inside: Bool[np.ndarray, "X Y"], outside: Bool[np.ndarray, "X Y"], grid: Grid, window_m: float
) -> BorderStraightness:
    ends = _border(inside, outside)
    middles_m = ends.mean(axis=1) * np.asarray(grid.voxel_size_m[:2])
    touching = _touching(ends, grid)
    residuals_m = []
    for side, middle_m in enumerate(middles_m):
        near = np.nonzero(np.hypot(*(middles_m - middle_m).T) <= window_m / 2)[0]
        _, piece = connected_components(touching[near][:, near], directed=False)
        own = near[piece == piece[near == side]]
        length_m, residual_m = _line(middles_m[own])
        if length_m >= SPANNED_SHARE * window_m:
            residuals_m.append(residual_m)
    if len(ends) == 0:
        return BorderStraightness(float("nan"), float("nan"), 0)
    residual_m = float(np.median(residuals_m)) if residuals_m else float("nan")
    return BorderStraightness(residual_m, len(residuals_m) / len(ends), len(ends))


def _border(inside: Bool[np.ndarray, "X Y"], outside: Bool[np.ndarray, "X Y"]) -> Int64[np.ndarray, "S 2 2"]:
    """Both ends of every cell side with ``inside`` on one side and ``outside`` on the other, in cell corners."""
    x, y = np.eye(2, dtype=np.int64)
    across_x = np.argwhere((inside[1:] & outside[:-1]) | (outside[1:] & inside[:-1])) + x
    across_y = np.argwhere((inside[:, 1:] & outside[:, :-1]) | (outside[:, 1:] & inside[:, :-1])) + y
    return np.concatenate([np.stack([across_x, across_x + y], axis=1), np.stack([across_y, across_y + x], axis=1)])


def _touching(ends: Int64[np.ndarray, "S 2 2"], grid: Grid) -> sparse.csr_array:
    """Which cell sides share a corner, ``(S, S)``."""
    corner = ends @ np.array([grid.shape[1] + 1, 1])
    side = np.repeat(np.arange(len(ends)), 2)
    shape = (len(ends), (grid.shape[0] + 1) * (grid.shape[1] + 1))
    holds = sparse.csr_array((np.ones(2 * len(ends)), (side, corner.ravel())), shape=shape)
    return sparse.csr_array(holds @ holds.T)


def _line(points_m: Float64[np.ndarray, "N 2"]) -> tuple[float, float]:
    """Extent of points along their line of total least squares, and root mean square distance from it, metres."""
    centred = points_m - points_m.mean(axis=0)
    variances, axes = np.linalg.eigh(centred.T @ centred / len(centred))
    return float(np.ptp(centred @ axes[:, 1])), float(np.sqrt(max(variances[0], 0.0)))


def _corners(columns: Int64[np.ndarray, "C 2"]) -> Int64[np.ndarray, "C4 2"]:
    """The four corners of each column, in cell corners."""
    return np.concatenate([columns + offset for offset in ([0, 0], [0, 1], [1, 0], [1, 1])])
