"""Where the ego frame of a drive stands: at the LiDAR, or on the road as nuScenes has it.

nuScenes' ego frame stands on the road below the middle of the rear axle (Caesar et al., CVPR 2020); ours stands at the
LiDAR, LIDAR_HEIGHT_M above the road, except in drives of Occ3D, which have nuScenes'.
"""

from dataclasses import replace

import numpy as np

from dyncity_sim.domain.frames import Pose
from dyncity_sim.domain.grid import EGO_LOWER_M, LIDAR_HEIGHT_M, OCC3D_GRID, Grid
from dyncity_sim.domain.sensors import SensorRig

REAR_OVERHANG_M = 1.0
"""From the end of the ego's body to its rear axle: a mid-size car's."""

BASE_POSITION_EGO_M = (EGO_LOWER_M[0] + REAR_OVERHANG_M, 0.0, -LIDAR_HEIGHT_M)
"""Origin of nuScenes' ego frame in ours."""


def pose_ego_from_lidar(grid: Grid) -> Pose:
    """Where our ego frame, at the LiDAR, stands in that of a drive: other than there in Occ3D's grid alone."""
    pose = np.eye(4)
    if grid == OCC3D_GRID:
        pose[:3, 3] = -np.asarray(BASE_POSITION_EGO_M)
    return pose


def pose_ego_from_base(grid: Grid) -> Pose:
    """Where nuScenes' ego frame stands in that of a drive: in Occ3D's grid they are one."""
    pose = pose_ego_from_lidar(grid)
    pose[:3, 3] += BASE_POSITION_EGO_M
    return pose


def mounted(rig: SensorRig, grid: Grid) -> SensorRig:
    """A rig that is described in our ego frame, in the ego frame of drives of ``grid``: other than ours in Occ3D's."""
    if grid != OCC3D_GRID:
        return rig
    pose = pose_ego_from_lidar(grid)
    lidars = (replace(s, pose_ego_from_sensor=pose @ s.pose_ego_from_sensor) for s in rig.lidars)
    cameras = (replace(s, pose_ego_from_sensor=pose @ s.pose_ego_from_sensor) for s in rig.cameras)
    return SensorRig(rig.name, tuple(lidars), tuple(cameras))
