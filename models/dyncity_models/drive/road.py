"""The road that a chunk has under the way of its ego."""

import numpy as np

from dyncity_models.drive.classes import ROAD
from dyncity_sim.domain.frames import inverse, mirrored_poses
from dyncity_sim.domain.occupancy import OccupancySequence

PATH_HALF_WIDTH_M = 0.8
"""Columns this far to either side of the ego path must be road too."""


def road_under_path(occupancy: OccupancySequence, mirrored: bool = False) -> float:
    """Share of the columns under the ego path, seen from the middle frame, that hold road.

    Args:
        occupancy: one chunk.
        mirrored: look under the path that turns the other way instead, about where the ego stands and heads in the
            first frame.
    """
    middle = len(occupancy) // 2
    first_from_ego = inverse(occupancy.poses_world_from_ego[0]) @ occupancy.poses_world_from_ego
    path = mirrored_poses(first_from_ego) if mirrored else first_from_ego
    poses = inverse(first_from_ego[middle])[None] @ path
    sideways = np.array([-PATH_HALF_WIDTH_M, 0.0, PATH_HALF_WIDTH_M])
    offsets = np.stack([0 * sideways, sideways, 0 * sideways, 1 + 0 * sideways], axis=-1)
    points = (poses @ offsets.T).transpose(0, 2, 1).reshape(-1, 4)[:, :3]
    points[:, 2] = occupancy.grid.lower_m[2]
    index = occupancy.grid.indices(points)
    index = index[occupancy.grid.contains(index)]
    columns = occupancy.labels[middle][index[:, 0], index[:, 1]]
    return float((columns == ROAD).any(axis=-1).mean())
