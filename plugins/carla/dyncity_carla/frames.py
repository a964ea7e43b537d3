"""CARLA's frames and ours: the one place where a handedness changes.

CARLA (Unreal) is left-handed: x forward, y to the right, z up; angles are in degrees, a positive yaw turns to the
right seen from above, a positive pitch lifts the nose. Ours are right-handed with y to the left. Both describe the
same rigid motions, so every pose goes over as a matrix, ``M_ours = S M_carla S`` with ``S = diag(1, -1, 1, 1)``, and
points as ``S p``. No Euler angle is ever negated by hand.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from dyncity_sim.domain.frames import Pose, mirrored_poses

GIMBAL_LOCK = 1e-9
"""Cosine of the pitch under which yaw and roll turn about the same axis; the roll is then 0."""


@dataclass(frozen=True)
class CarlaTransform:
    """A ``carla.Transform``: where a thing stands, in CARLA's own frame.

    Attributes:
        x_m, y_m, z_m: location; y to the right of x seen from above.
        pitch_deg, yaw_deg, roll_deg: Unreal's rotation.
    """

    x_m: float
    y_m: float
    z_m: float
    pitch_deg: float = 0.0
    yaw_deg: float = 0.0
    roll_deg: float = 0.0

    @property
    def matrix(self) -> Float[np.ndarray, "4 4"]:
        """Unreal's left-handed matrix, the same as ``carla.Transform.get_matrix``."""
        pitch, yaw, roll = np.deg2rad([self.pitch_deg, self.yaw_deg, self.roll_deg])
        (cp, sp), (cy, sy), (cr, sr) = ((np.cos(angle), np.sin(angle)) for angle in (pitch, yaw, roll))
        return np.array(
            [
                [cp * cy, cy * sp * sr - sy * cr, -cy * sp * cr - sy * sr, self.x_m],
                [cp * sy, sy * sp * sr + cy * cr, -sy * sp * cr + cy * sr, self.y_m],
                [sp, -cp * sr, cp * cr, self.z_m],
                [0.0, 0.0, 0.0, 1.0],
            ]
        )

    def distance_m(self, other: "CarlaTransform") -> float:
        """Distance between two locations."""
        return float(np.linalg.norm([self.x_m - other.x_m, self.y_m - other.y_m, self.z_m - other.z_m]))


def pose_from_carla(transform: CarlaTransform) -> Pose:
    """The right-handed ``pose_world_from_thing`` of a CARLA transform."""
    return mirrored_poses(transform.matrix)


def carla_from_pose(pose_world_from_thing: Pose) -> CarlaTransform:
    """The CARLA transform of a right-handed pose; its pitch lies in [-90, 90], yaw and roll in [-180, 180]."""
    return carla_from_poses(pose_world_from_thing[None])[0]


def carla_from_poses(poses_world_from_thing: Float[np.ndarray, "N 4 4"]) -> list[CarlaTransform]:
    """The CARLA transforms of many right-handed poses."""
    matrix = mirrored_poses(poses_world_from_thing)
    cos_pitch = np.hypot(matrix[:, 2, 1], matrix[:, 2, 2])
    level = cos_pitch >= GIMBAL_LOCK
    pitch = np.arctan2(matrix[:, 2, 0], cos_pitch)
    yaw = np.where(level, np.arctan2(matrix[:, 1, 0], matrix[:, 0, 0]), np.arctan2(-matrix[:, 0, 1], matrix[:, 1, 1]))
    roll = np.where(level, np.arctan2(-matrix[:, 2, 1], matrix[:, 2, 2]), 0.0)
    # Adding 0.0 makes zeros of negative zeros.
    degrees = np.rad2deg(np.stack([pitch, yaw, roll], axis=-1)) + 0.0
    return [CarlaTransform(*row) for row in np.concatenate([matrix[:, :3, 3], degrees], axis=1).tolist()]


def mirrored_points(points_m: Float[np.ndarray, "... 3"]) -> Float[np.ndarray, "... 3"]:
    """``S p``: left-handed points of right-handed ones, and the other way round."""
    return np.asarray(points_m) * np.array([1.0, -1.0, 1.0])
