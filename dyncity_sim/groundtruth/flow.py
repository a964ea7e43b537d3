"""Occupancy flow: how fast what fills each cell moves over ground."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float32, Float64
from scipy.spatial.transform import Rotation

from dyncity_sim.domain.frames import Pose
from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.ground_truth import LabelledFrame
from dyncity_sim.domain.scene import Track
from dyncity_sim.domain.taxonomy import Taxonomy

STEADY_S = 0.5
"""Poses farther apart than this say nothing of how fast a track turns."""


def occupancy_flow(
    frame: LabelledFrame, tracks: Mapping[int, Track], grid: Grid, taxonomy: Taxonomy
) -> Float32[np.ndarray, "X Y Z 3"]:
    """Velocity over ground of what fills each cell, metres per second along the axes of the ego frame.

    A track's cells move with its box as a rigid body, ``v + w x (p - c)`` at each cell's centre ``p``, and not with
    the ego. Free and static cells have velocity 0. Cells of moving classes without a track are NaN: nobody knows.

    Args:
        frame: one frame of a drive.
        tracks: the drive's tracks by id.
        grid: of the frame.
        taxonomy: of the frame.
    """
    flow = np.zeros((*grid.shape, 3), dtype=np.float32)
    flow[np.isin(frame.labels, taxonomy.moving_labels) & (frame.instances == 0)] = np.nan
    for box in frame.boxes:
        cells = np.argwhere(frame.instances == box.track_id)
        arms_m = np.asarray(grid.lower_m) + (cells + 0.5) * np.asarray(grid.voxel_size_m)
        arms_m -= box.pose_ego_from_actor[:3, 3]
        turning = angular_velocity(tracks[box.track_id], frame.time_us) @ frame.pose_world_from_ego[:3, :3]
        flow[tuple(cells.T)] = np.asarray(box.velocity_ego_mps) + np.cross(turning, arms_m)
    return flow


def angular_velocity(track: Track, time_us: int) -> Float64[np.ndarray, " 3"]:
    """Angular velocity of a track at one of its times, radians per second along the axes of the world frame.

    The difference of the poses before and after, where they are near in time; 0 where a track has no second pose.
    """
    step = int(np.searchsorted(track.times_us, time_us))
    near = [
        other
        for other in (step - 1, step, step + 1)
        if 0 <= other < len(track) and abs(track.times_us[other] - time_us) <= STEADY_S * 1e6
    ]
    if len(near) < 2:
        return np.zeros(3)
    seconds = (track.times_us[near[-1]] - track.times_us[near[0]]) * 1e-6
    return _turn(track.poses_world_from_actor, near) / seconds


def _turn(poses: Sequence[Pose] | np.ndarray, steps: Sequence[int]) -> Float64[np.ndarray, " 3"]:
    before, after = poses[steps[0]][:3, :3], poses[steps[-1]][:3, :3]
    return np.asarray(Rotation.from_matrix(after @ before.T).as_rotvec())
