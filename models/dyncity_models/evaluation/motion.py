"""The ego's motion as the generated static world shows it, found without looking at the plan."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float64, Int64

from dyncity_sim.domain.conditions import command_along
from dyncity_sim.domain.frames import inverse, planar_from_poses, wrap_angle
from dyncity_sim.domain.occupancy import OccupancySequence

STRIDE = 3
"""Frames between those that are registered one on another: 0.3 s, 4.5 m at 15 m/s."""

MOST_CELLS = 2500
"""Static cells that a registration looks at, evenly chosen."""

LEAST_OVERLAP = 0.3
"""Share of them that must fall into the other frame's grid."""

FIRST_WINDOW = (np.arange(-1.2, 6.1, 0.4), np.arange(-1.6, 1.7, 0.4), np.deg2rad(np.arange(-14.0, 14.1, 2.0)))
"""Metres forward and left and radians, tried for the first step: all that an ego may do within ``STRIDE``."""

NEXT_WINDOW = (np.arange(-1.2, 1.3, 0.4), np.arange(-0.8, 0.9, 0.4), np.deg2rad(np.arange(-6.0, 6.1, 2.0)))
"""The same around the step before, for all others."""

FINER = (0.4, 0.1)
"""Steps to either side, of 0.4 m and 2 degrees times this, that refine a registration."""

Planar = Float64[np.ndarray, " 3"]


@dataclass(frozen=True)
class RecoveredMotion:
    """What a chunk's static world says of the ego's motion, against its plan.

    Attributes:
        error_m: distance of the last frame's recovered from its planned place.
        error_deg: difference of yaw there.
        commanded: whether the recovered motion amounts to the plan's command.
    """

    error_m: float
    error_deg: float
    commanded: bool


def recover_motion(occupancy: OccupancySequence) -> RecoveredMotion:
    """Register every third frame on the one before, chain the steps, and refine the whole on the first frame.

    Each registration takes the planar motion under which most static cells find their own class. Neither plan nor
    poses are used but to compare with: the search begins with an ego that may stand or drive up to 20 m/s and turn up
    to 45 degrees per second either way. Along a street that looks the same everywhere the motion cannot be found.
    """
    frames = list(range(0, len(occupancy), STRIDE))
    if frames[-1] != len(occupancy) - 1:
        frames.append(len(occupancy) - 1)
    chain = [np.zeros(3)]
    step, window = np.zeros(3), FIRST_WINDOW
    for before, after in pairwise(frames):
        # The last step may be a shorter one; the window is wide enough for the difference.
        step = registered(occupancy, before, after, step, window)
        chain.append(_composed(chain[-1], step))
        window = NEXT_WINDOW
    chain[-1] = registered(occupancy, 0, frames[-1], chain[-1], NEXT_WINDOW)

    poses = occupancy.poses_world_from_ego
    planned = planar_from_poses(inverse(poses[0]) @ poses)
    every = np.arange(len(occupancy))
    recovered = np.stack([np.interp(every, frames, np.array(chain)[:, axis]) for axis in range(3)], axis=1)
    same = command_along(planned) is command_along(recovered)
    error = recovered[-1] - planned[-1]
    return RecoveredMotion(
        float(np.hypot(*error[:2])), float(np.rad2deg(np.abs(wrap_angle(np.array([error[2]]))[0]))), same
    )


def registered(
    occupancy: OccupancySequence,
    first: int,
    second: int,
    around: Planar,
    window: tuple[Float64[np.ndarray, " A"], Float64[np.ndarray, " B"], Float64[np.ndarray, " C"]],
) -> Planar:
    """Planar pose of the second frame in the first, best among those in a window, then refined.

    Args:
        occupancy: one drive.
        first: frame that is looked up in.
        second: frame whose static cells are carried there.
        around: x, y (metres) and yaw (radians) that the window lies around.
        window: offsets of each.
    """
    static = np.ones(256, dtype=np.bool_)
    static[[0, *occupancy.taxonomy.moving_labels]] = False
    cells = np.argwhere(static[occupancy.labels[second]])
    if not len(cells):
        return around
    cells = cells[np.linspace(0, len(cells) - 1, min(len(cells), MOST_CELLS)).astype(int)]
    best = _best(occupancy, first, second, cells, around + _offsets(*window))
    for finer in FINER:
        metres, radians = 0.4 * finer * np.arange(-2, 3), np.deg2rad(2.0) * finer * np.arange(-2, 3)
        best = _best(occupancy, first, second, cells, best + _offsets(metres, metres, radians))
    return best


def _offsets(
    x: Float64[np.ndarray, " A"], y: Float64[np.ndarray, " B"], yaw: Float64[np.ndarray, " C"]
) -> Float64[np.ndarray, "N 3"]:
    return np.stack(np.meshgrid(x, y, yaw, indexing="ij"), axis=-1).reshape(-1, 3)


def _best(
    occupancy: OccupancySequence,
    first: int,
    second: int,
    cells: Int64[np.ndarray, "N 3"],
    candidates: Float64[np.ndarray, "M 3"],
) -> Planar:
    """The candidate with most cells of the same class; among equals the middle, because cells are coarse."""
    grid, there = occupancy.grid, occupancy.labels[first]
    labels = occupancy.labels[second][tuple(cells.T)]
    xy = np.stack([grid.centres(axis)[cells[:, axis]] for axis in (0, 1)], axis=1)
    scores = np.full(len(candidates), -1.0)
    for number, (x_m, y_m, yaw) in enumerate(candidates):
        c, s = np.cos(yaw), np.sin(yaw)
        i = np.floor((c * xy[:, 0] - s * xy[:, 1] + x_m - grid.lower_m[0]) / grid.voxel_size_m[0]).astype(np.int64)
        j = np.floor((s * xy[:, 0] + c * xy[:, 1] + y_m - grid.lower_m[1]) / grid.voxel_size_m[1]).astype(np.int64)
        inside = (i >= 0) & (i < grid.shape[0]) & (j >= 0) & (j < grid.shape[1])
        if inside.mean() >= LEAST_OVERLAP:
            scores[number] = (there[i[inside], j[inside], cells[inside, 2]] == labels[inside]).mean()
    return np.asarray(candidates[scores >= scores.max() - 1e-9].mean(axis=0))


def _composed(first: Planar, second: Planar) -> Planar:
    c, s = np.cos(first[2]), np.sin(first[2])
    return first + np.array([c * second[0] - s * second[1], s * second[0] + c * second[1], second[2]])
