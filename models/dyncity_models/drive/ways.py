"""Ways that are free to drive or to walk: along arcs, as far as nothing stands there, and how to brake for what does.

Constant speed along an arc is the simplest motion of a vehicle that steers (Schubert et al. 2008, *Comparison and
Evaluation of Advanced Motion Models for Vehicle Tracking*: constant turn rate and velocity).
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64

from dyncity_models.hexplane import cell_centres, compose, invert, transform
from dyncity_sim.domain.grid import EGO_LOWER_M, EGO_UPPER_M, Grid, columns_of

SAME_WAY_RAD = np.deg2rad(45.0)
"""Vehicles that face the ego's way to within this go along with it."""

CURVATURES_PER_M = (0.0, 0.02, -0.02, 0.04, -0.04, 0.08, -0.08)
"""Arcs that a vehicle may drive, the most usual first."""

GAP_M = 2.0
"""What a vehicle keeps free before it where it cannot go on."""

MOST_BRAKING_MPS2 = 8.0
"""Of an emergency stop on a dry road."""

WALKER_GAP_M = 0.4
"""What a pedestrian keeps free before it."""

GRAZED_SHARE = 0.1
"""Seen from above, more of a body than this is not where the ego is, which drives as it was told."""

STEP_M = 0.4
"""Distance of the places at which a way is looked at."""


def ways_driven(
    cells: Bool[np.ndarray, "N X Y Z"],
    poses: Float64[np.ndarray, "N 3"],
    sizes_m: Float64[np.ndarray, "N 2"],
    wanted_m: Float64[np.ndarray, " N"],
    road: Bool[np.ndarray, "X Y"],
    ego_way: Bool[np.ndarray, "X Y"],
    grid: Grid,
) -> tuple[Float64[np.ndarray, " N"], Float64[np.ndarray, " N"]]:
    """Curvatures of the ways of vehicles that want to come some metres far, and how far each is free.

    ``ego_way`` are the columns that the ego passes over: those that face its way follow it, the others keep off.
    """
    free = (road | cells.any(axis=(0, 3))) & ~cells[wanted_m == 0].any(axis=(0, 3))
    same_way = np.cos(poses[:, 2]) > np.cos(SAME_WAY_RAD)
    curvatures, reach_m = np.zeros((2, len(cells)))
    # Who cannot drive is in the way of those behind: the ego's way is looked at last, from its front to its rear.
    for n in sorted(np.flatnonzero(wanted_m), key=lambda one: (same_way[one], -poses[one, 0])):
        way = free if same_way[n] else free & ~ego_way
        curvatures[n], reach_m[n] = best_arc(poses[n], sizes_m[n], way, grid, wanted_m[n], CURVATURES_PER_M, GAP_M)
        if reach_m[n] == 0:
            free &= ~cells[n].any(axis=-1)
    return curvatures, reach_m


def walked_m(
    poses: Float64[np.ndarray, "N 3"],
    sizes_m: Float64[np.ndarray, "N 2"],
    wanted_m: Float64[np.ndarray, " N"],
    free: Bool[np.ndarray, "X Y"],
    grid: Grid,
) -> Float64[np.ndarray, " N"]:
    """How far the ways of pedestrians, who want to come some metres far straight on, are free."""
    ones = zip(poses, sizes_m, wanted_m, strict=True)
    return np.array([best_arc(pose, size, free, grid, far, (0.0,), WALKER_GAP_M)[1] for pose, size, far in ones])


def brakings_mps2(
    speeds_mps: Float64[np.ndarray, " N"], reach_m: Float64[np.ndarray, " N"], left_s: float
) -> Float64[np.ndarray, " N"]:
    """The constant decelerations by which vehicles come no farther in some time, if brakes can do that."""
    excess_m = speeds_mps * left_s - reach_m
    stop = np.divide(speeds_mps**2, 2 * reach_m, out=np.full_like(reach_m, np.inf), where=reach_m > 0)
    slow_down = 2 * excess_m / left_s**2
    needed = np.where(2 * reach_m <= speeds_mps * left_s, stop, slow_down)
    return np.where(excess_m > 1e-6, np.minimum(needed, MOST_BRAKING_MPS2), 0.0)


def along_arc(
    pose: Float64[np.ndarray, " 3"], curvature_per_m: float, rolled_m: Float64[np.ndarray, " F"]
) -> Float64[np.ndarray, "F 3"]:
    """x, y, yaw after some metres along an arc that begins at a pose."""
    half = curvature_per_m * rolled_m / 2
    # The chord of an arc of this length; numpy's sinc has pi in it.
    chord_m = rolled_m * np.sinc(half / np.pi)
    return np.column_stack(
        [pose[0] + chord_m * np.cos(pose[2] + half), pose[1] + chord_m * np.sin(pose[2] + half), pose[2] + 2 * half]
    )


def passed_by_ego(
    ego: Float64[np.ndarray, " 3"], planar: Float64[np.ndarray, "F 3"], grid: Grid
) -> Bool[np.ndarray, "X Y"]:
    """Columns of the ego grid at one pose that the ego's body passes over at others."""
    points = cell_centres(grid.shape[0], -grid.lower_m[0]).double()
    ego_from_world = invert(torch.from_numpy(ego))
    passed = np.zeros(grid.shape[:2], dtype=np.bool_)
    for pose in compose(ego_from_world.expand(len(planar), 3), torch.from_numpy(np.ascontiguousarray(planar))):
        local = transform(invert(pose)[None, None], points).numpy()
        passed |= within_ego(local)
    return passed


def within_ego(points_m: Float64[np.ndarray, "*P 2"]) -> Bool[np.ndarray, "*P"]:
    """Whether points of the ego frame lie where the ego's own body is."""
    within = (points_m > EGO_LOWER_M[:2]) & (points_m < EGO_UPPER_M[:2])
    return np.asarray(within[..., 0] & within[..., 1])


def middles_m(cells: Int64[np.ndarray, "P K"], grid: Grid) -> Float64[np.ndarray, "P 2"]:
    """x, y in the ego frame of the middles of the columns of some cells, or of some columns."""
    return np.stack([grid.centres(axis)[cells[:, axis]] for axis in range(2)], axis=-1)


def under_ego(cells: Int64[np.ndarray, "P K"], grid: Grid) -> Bool[np.ndarray, " P"]:
    """Which cells, or columns, lie in columns of the ego's own body."""
    return within_ego(middles_m(cells, grid))


def runs_into(cells: Bool[np.ndarray, "F X Y Z"], half_extent_m: float) -> bool:
    """Whether the ego would drive through a body that has some cells of its grid in each frame."""
    columns = columns_of(cells)
    under = columns & within_ego(cell_centres(columns.shape[1], half_extent_m).double().numpy())
    return bool((under.sum(axis=(1, 2)) > GRAZED_SHARE * columns.sum(axis=(1, 2))).any())


def best_arc(
    pose: Float64[np.ndarray, " 3"],
    size_m: Float64[np.ndarray, " 2"],
    free: Bool[np.ndarray, "X Y"],
    grid: Grid,
    wanted_m: float,
    arcs_per_m: Sequence[float],
    gap_m: float,
) -> tuple[float, float]:
    """Curvature of the least bent of the arcs that reach farthest, and how far, at most what is wanted."""
    front_m, half_width_m = size_m[0] / 2, size_m[1] / 2
    steps_m = np.arange(front_m + STEP_M, front_m + wanted_m + gap_m, STEP_M)
    reaches = []
    for curvature in arcs_per_m:
        x, y, yaw = along_arc(pose, curvature, steps_m).T
        aside = np.array([-half_width_m, 0.0, half_width_m])[:, None]
        points = np.stack([x - aside * np.sin(yaw), y + aside * np.cos(yaw), np.zeros((3, len(x)))], axis=-1)
        index = grid.indices(points)
        inside = grid.contains(index)
        # Nothing is known outside of the grid, and one may well get out of it.
        blocked = inside & ~free[tuple(np.moveaxis(index[..., :2].clip(0, np.array(free.shape) - 1), -1, 0))]
        first = blocked.any(axis=0)
        clear_m = steps_m[first.argmax()] - front_m - gap_m if first.any() else wanted_m
        reaches.append(min(max(clear_m, 0.0), wanted_m))
    best = int(np.argmax(np.array(reaches) - 1e-6 * np.arange(len(reaches))))
    return arcs_per_m[best], float(reaches[best])
