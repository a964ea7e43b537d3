"""The world around an ego as a labelled voxel grid.

The static world is pulled: each cell looks up nine points of the fine columns and the columns vote. The actors'
boxes are then painted over it. Both are in numba for speed; ``voxelise_reference`` has them in NumPy for reading, and
gives the same bytes.

Nine points, because a lattice of a third of a cell (0.133 m) meets every 0.2 m column from any direction, so that
poles do not flicker as the ego turns.
"""

from dataclasses import dataclass

import numba
import numpy as np
from jaxtyping import UInt8, UInt16

from dyncity_sim.domain.frames import Pose, planar_from_poses
from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.taxonomy import CARLASC_RAW
from dyncity_sumo.bodies import Boxes
from dyncity_sumo.columns import SPANS, StaticColumns

SAMPLES = 3
"""Columns are looked up at SAMPLES x SAMPLES points of a cell."""

GROUND_VOTES = 3
"""Votes that a surface needs to fill a cell: on a slope it may fill two on top of each other, and leaves no hole."""

LINE_VOTES = 3
"""Votes from which on a road cell shows its mark."""

SMALLEST_HALF_M = 0.29
"""Half a cell's diagonal, rounded up: a box of at least this half width holds a cell's centre wherever it stands."""

ROAD = CARLASC_RAW.index("road")
ROAD_LINE = CARLASC_RAW.index("road_line")

_THIN = ("pole", "traffic_sign", "traffic_light")
_NARROW = ("fence", "wall", "guard_rail", "vegetation", "other", "static", "dynamic")


def _votes_needed() -> np.ndarray:
    """Votes of nine that a span's class needs: one for poles, two for fences and trunks, else a majority."""
    needed = np.full(len(CARLASC_RAW), 5, np.uint8)
    needed[[CARLASC_RAW.index(name) for name in _NARROW]] = 2
    needed[[CARLASC_RAW.index(name) for name in _THIN]] = 1
    return needed


def _ranks() -> np.ndarray:
    """Which class wins a cell that several may claim: thin over narrow over broad; higher wins."""
    ranks = np.arange(len(CARLASC_RAW), dtype=np.uint8)
    ranks[[CARLASC_RAW.index(name) for name in _NARROW]] += 50
    ranks[[CARLASC_RAW.index(name) for name in _THIN]] += 100
    return ranks


VOTES_NEEDED = _votes_needed()
RANKS = _ranks()


@dataclass(frozen=True, eq=False)
class Voxels:
    """One frame's truth.

    Attributes:
        labels: ``(X, Y, Z)`` CARLASC_RAW classes, nothing hidden.
        instances: ``(X, Y, Z)`` actor ids in cells of actors, 0 elsewhere.
    """

    labels: UInt8[np.ndarray, "X Y Z"]
    instances: UInt16[np.ndarray, "X Y Z"]


def voxelise(columns: StaticColumns, boxes: Boxes, pose_world_from_ego: Pose, grid: Grid) -> Voxels:
    """Labels and instances of one frame; the ego frame must be upright (yaw only)."""
    x_m, y_m, yaw_rad = planar_from_poses(pose_world_from_ego)
    z_m = float(pose_world_from_ego[2, 3])
    labels = np.zeros(grid.shape, np.uint8)
    instances = np.zeros(grid.shape, np.uint16)
    along, across = axis_samples(columns, grid, float(x_m), float(y_m), float(yaw_rad))
    _pull(
        columns.ground_class,
        columns.ground_cm,
        columns.span_class,
        columns.span_lo_dm,
        columns.span_hi_dm,
        along,
        across,
        z_m + grid.lower_m[2],
        grid.voxel_size_m[2],
        VOTES_NEEDED,
        RANKS,
        labels,
    )
    centres_m, yaws_rad = boxes_in_ego(boxes, float(x_m), float(y_m), float(yaw_rad))
    _paint(
        centres_m,
        boxes.z_m - z_m,
        yaws_rad,
        np.maximum(boxes.halves_m, SMALLEST_HALF_M),
        boxes.labels,
        boxes.ids,
        np.asarray(grid.lower_m),
        np.asarray(grid.voxel_size_m),
        labels,
        instances,
    )
    return Voxels(labels, instances)


def axis_samples(
    columns: StaticColumns, grid: Grid, x_m: float, y_m: float, yaw_rad: float
) -> tuple[np.ndarray, np.ndarray]:
    """What a sample's x and its y in the ego frame each add to its place in the raster: (NX, 2) and (NY, 2)."""
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    ego_x, ego_y = (
        grid.lower_m[axis] + (np.arange(grid.shape[axis] * SAMPLES) + 0.5) * (grid.voxel_size_m[axis] / SAMPLES)
        for axis in (0, 1)
    )
    along = np.stack([x_m + cos * ego_x, y_m + sin * ego_x], axis=1) - columns.origin_m
    across = np.stack([-sin * ego_y, cos * ego_y], axis=1)
    return along / columns.cell_m, across / columns.cell_m


def boxes_in_ego(boxes: Boxes, x_m: float, y_m: float, yaw_rad: float) -> tuple[np.ndarray, np.ndarray]:
    """(Centres, yaws) of boxes in the ego frame, metres and radians."""
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    dx, dy = boxes.centres_m[:, 0] - x_m, boxes.centres_m[:, 1] - y_m
    return np.column_stack([cos * dx + sin * dy, cos * dy - sin * dx]), boxes.yaws_rad - yaw_rad


@numba.njit(cache=True)
def _pull(
    ground_class: np.ndarray,
    ground_cm: np.ndarray,
    span_class: np.ndarray,
    span_lo_dm: np.ndarray,
    span_hi_dm: np.ndarray,
    along: np.ndarray,
    across: np.ndarray,
    floor_m: float,
    level_m: float,
    votes_needed: np.ndarray,
    ranks: np.ndarray,
    labels: np.ndarray,
) -> None:
    nx, ny, nz = labels.shape
    classes = len(ranks)
    ground_votes = np.zeros((nz, classes), np.int64)
    span_votes = np.zeros((nz, classes), np.int64)
    rows = np.empty(SAMPLES * SAMPLES, np.int64)
    cols = np.empty(SAMPLES * SAMPLES, np.int64)
    for x in range(nx):
        for y in range(ny):
            found = 0
            plain = True
            for sx in range(x * SAMPLES, (x + 1) * SAMPLES):
                for sy in range(y * SAMPLES, (y + 1) * SAMPLES):
                    i = int(np.floor(along[sx, 0] + across[sy, 0]))
                    j = int(np.floor(along[sx, 1] + across[sy, 1]))
                    if i < 0 or j < 0 or i >= ground_class.shape[0] or j >= ground_class.shape[1]:
                        continue
                    if ground_class[i, j] == 0:
                        continue
                    rows[found], cols[found] = i, j
                    found += 1
                    plain = plain and span_class[i, j, 0] == 0 and span_class[i, j, 1] == 0
                    plain = plain and ground_class[i, j] == ground_class[rows[0], cols[0]]
                    plain = plain and ground_cm[i, j] == ground_cm[rows[0], cols[0]]
            if plain and found == 0:
                continue
            if plain and found >= GROUND_VOTES:
                # Most cells hold one flat surface and nothing else: nothing to vote on.
                level = int(np.floor((ground_cm[rows[0], cols[0]] / 100 - floor_m) / level_m))
                if 0 <= level < nz:
                    labels[x, y, level] = ground_class[rows[0], cols[0]]
                continue
            ground_votes[:] = 0
            span_votes[:] = 0
            for sample in range(found):
                i, j = rows[sample], cols[sample]
                ground_m = ground_cm[i, j] / 100 - floor_m
                level = int(np.floor(ground_m / level_m))
                if 0 <= level < nz:
                    ground_votes[level, ground_class[i, j]] += 1
                for span in range(SPANS):
                    label = span_class[i, j, span]
                    if label == 0:
                        continue
                    lo_m = ground_m + span_lo_dm[i, j, span] / 10
                    hi_m = ground_m + span_hi_dm[i, j, span] / 10
                    for level in _levels(lo_m, hi_m, level_m, nz):
                        span_votes[level, label] += 1
            for z in range(nz):
                labels[x, y, z] = _elect(ground_votes[z], span_votes[z], votes_needed, ranks)


@numba.njit(cache=True, inline="always")
def _levels(lo_m: float, hi_m: float, level_m: float, nz: int) -> range:
    """Levels of the grid whose centres lie in a span above its floor, or the one of the span's middle."""
    lowest = int(np.ceil(lo_m / level_m - 0.5))
    highest = int(np.ceil(hi_m / level_m - 0.5)) - 1
    if highest < lowest:
        lowest = highest = int(np.floor((lo_m + hi_m) / 2 / level_m))
    return range(max(lowest, 0), min(highest, nz - 1) + 1)


@numba.njit(cache=True, inline="always")
def _elect(ground_votes: np.ndarray, span_votes: np.ndarray, votes_needed: np.ndarray, ranks: np.ndarray) -> int:
    """The class of a cell: the highest ranked span with enough votes, else the surface with most."""
    winner, rank = 0, -1
    best_votes, total = 0, 0
    for c in range(1, len(ranks)):
        if span_votes[c] >= votes_needed[c] and ranks[c] > rank:
            winner, rank = c, ranks[c]
        total += ground_votes[c]
    if winner > 0 or total < GROUND_VOTES:
        return winner
    for c in range(1, len(ranks)):
        votes = ground_votes[c]
        if c == ROAD:
            votes += ground_votes[ROAD_LINE]
        elif c == ROAD_LINE:
            votes = 0
        if votes > best_votes:
            winner, best_votes = c, votes
    if winner == ROAD and ground_votes[ROAD_LINE] >= LINE_VOTES:
        return ROAD_LINE
    return winner


@numba.njit(cache=True)
def _paint(
    centres_m: np.ndarray,
    z_m: np.ndarray,
    yaws_rad: np.ndarray,
    halves_m: np.ndarray,
    box_labels: np.ndarray,
    ids: np.ndarray,
    lower_m: np.ndarray,
    voxel_m: np.ndarray,
    labels: np.ndarray,
    instances: np.ndarray,
) -> None:
    nx, ny, nz = labels.shape
    for box in range(len(ids)):
        cos, sin = np.cos(yaws_rad[box]), np.sin(yaws_rad[box])
        reach_x = abs(cos) * halves_m[box, 0] + abs(sin) * halves_m[box, 1]
        reach_y = abs(sin) * halves_m[box, 0] + abs(cos) * halves_m[box, 1]
        lo_m, hi_m = z_m[box, 0] - lower_m[2], z_m[box, 1] - lower_m[2]
        levels = _levels(lo_m, hi_m, voxel_m[2], nz)
        x_from = max(int(np.floor((centres_m[box, 0] - reach_x - lower_m[0]) / voxel_m[0])), 0)
        x_to = min(int(np.floor((centres_m[box, 0] + reach_x - lower_m[0]) / voxel_m[0])), nx - 1)
        y_from = max(int(np.floor((centres_m[box, 1] - reach_y - lower_m[1]) / voxel_m[1])), 0)
        y_to = min(int(np.floor((centres_m[box, 1] + reach_y - lower_m[1]) / voxel_m[1])), ny - 1)
        for x in range(x_from, x_to + 1):
            dx = lower_m[0] + (x + 0.5) * voxel_m[0] - centres_m[box, 0]
            for y in range(y_from, y_to + 1):
                dy = lower_m[1] + (y + 0.5) * voxel_m[1] - centres_m[box, 1]
                if abs(cos * dx + sin * dy) <= halves_m[box, 0] and abs(cos * dy - sin * dx) <= halves_m[box, 1]:
                    for z in levels:
                        labels[x, y, z] = box_labels[box]
                        instances[x, y, z] = ids[box]
