"""Rigid transforms between named frames, as 4x4 float64 matrices.

A transform is named ``pose_<to>_from_<from>``: ``p_world = pose_world_from_ego @ p_ego``.
All frames are right-handed: ``world`` is x east, y north, z up; ``ego`` is x forward, y left, z up
(ISO 8855). Leading axes of every function are free, so a track of T poses is ``(T, 4, 4)``.
"""

import math

import numpy as np
from jaxtyping import Float

from dyncity_sim.errors import InvalidInputError

Pose = Float[np.ndarray, "4 4"]
Poses = Float[np.ndarray, "T 4 4"]
PlanarPoses = Float[np.ndarray, "T 3"]

MAX_DISTANCE_M = 1e9
"""Translations lie within this of zero: float64 then tells a tenth of a micrometre apart, and the Earth fits in."""

MAX_TIME_US = 2**62 - 1
"""Times lie within this of zero, 146,000 years, so that those of chunks to come and their differences are int64."""

RIGID_TOLERANCE = 1e-4
"""Largest accepted deviation of ``R.T @ R`` from the identity (float32 round trips stay under it)."""

_MIRROR = np.diag([1.0, -1.0, 1.0, 1.0])


def poses_from_planar(xy_yaw: Float[np.ndarray, "... 3"], z_m: float = 0.0) -> Float[np.ndarray, "... 4 4"]:
    """Poses that stand upright at x, y (metres) with a yaw (radians, counter-clockwise)."""
    xy_yaw = np.asarray(xy_yaw, dtype=np.float64)
    cos, sin = np.cos(xy_yaw[..., 2]), np.sin(xy_yaw[..., 2])
    poses = np.zeros((*xy_yaw.shape[:-1], 4, 4))
    poses[..., 0, 0], poses[..., 0, 1] = cos, -sin
    poses[..., 1, 0], poses[..., 1, 1] = sin, cos
    poses[..., 2, 2] = poses[..., 3, 3] = 1.0
    poses[..., :2, 3] = xy_yaw[..., :2]
    poses[..., 2, 3] = z_m
    return poses


def planar_from_poses(poses: Float[np.ndarray, "... 4 4"]) -> Float[np.ndarray, "... 3"]:
    """x, y (metres) and yaw (radians in [-pi, pi]) of the forward axis; z, roll and pitch are dropped."""
    yaw = np.arctan2(poses[..., 1, 0], poses[..., 0, 0])
    return np.concatenate([poses[..., :2, 3], yaw[..., None]], axis=-1)


def driven_ahead_m(planar: Float[np.ndarray, "T 3"]) -> float:
    """How far poses (x, y, yaw) lead ahead of each other, metres; negative for who mostly reverses."""
    facing = np.stack([np.cos(planar[1:, 2]), np.sin(planar[1:, 2])], axis=-1)
    return float((np.diff(planar[:, :2], axis=0) * facing).sum())


def inverse(poses: Float[np.ndarray, "... 4 4"]) -> Float[np.ndarray, "... 4 4"]:
    """Inverse of rigid transforms, by transposition of the rotation (exact for rigid input)."""
    rotation_t = np.swapaxes(poses[..., :3, :3], -1, -2)
    result = np.zeros_like(poses)
    result[..., :3, :3] = rotation_t
    result[..., :3, 3] = -np.einsum("...ij,...j->...i", rotation_t, poses[..., :3, 3])
    result[..., 3, 3] = 1.0
    return result


def mirrored_poses(poses: Float[np.ndarray, "... 4 4"]) -> Float[np.ndarray, "... 4 4"]:
    """``S M S``: left-handed poses, y to the right, of right-handed ones, and the other way round."""
    return _MIRROR @ poses @ _MIRROR


def transform_points(
    pose: Float[np.ndarray, "... 4 4"], points: Float[np.ndarray, "... N 3"]
) -> Float[np.ndarray, "... N 3"]:
    """Points of the source frame expressed in the target frame."""
    return points @ np.swapaxes(pose[..., :3, :3], -1, -2) + pose[..., None, :3, 3]


def wrap_angle(angle_rad: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """The same angle in [-pi, pi)."""
    return (np.asarray(angle_rad) + np.pi) % (2 * np.pi) - np.pi


def check_poses(poses: object, field: str, frames: int | None = None) -> Poses:
    """Return ``poses`` as a fresh read-only float64 array of rigid transforms.

    Raises:
        InvalidInputError: wrong shape or count, NaN or infinity, not rigid, or beyond MAX_DISTANCE_M.
    """
    array = np.array(poses, dtype=np.float64)
    count = "T" if frames is None else str(frames)
    if array.ndim != 3 or array.shape[1:] != (4, 4) or (frames is not None and len(array) != frames):
        raise InvalidInputError(field, f"shape {array.shape}", f"({count}, 4, 4)")
    if len(array) == 0:
        raise InvalidInputError(field, "no pose", "at least one")
    if not np.isfinite(array).all():
        frame = int(np.argwhere(~np.isfinite(array))[0, 0])
        raise InvalidInputError(field, f"a value that is not finite in frame {frame}", "finite numbers")
    rotation = array[:, :3, :3]
    deviation = np.abs(np.swapaxes(rotation, 1, 2) @ rotation - np.eye(3)).max(axis=(1, 2))
    rigid = (deviation < RIGID_TOLERANCE) & (np.linalg.det(rotation) > 0)
    rigid &= np.abs(array[:, 3] - np.array([0.0, 0.0, 0.0, 1.0])).max(axis=1) < RIGID_TOLERANCE
    if not rigid.all():
        raise InvalidInputError(
            field,
            f"frame {int(np.argmin(rigid))} that is not a rigid transform",
            "a proper rotation and a translation in metres",
            "Left-handed matrices (CARLA) go through S M S with S = diag(1, -1, 1, 1) first.",
        )
    farthest_m = float(np.abs(array[:, :3, 3]).max())
    if farthest_m > MAX_DISTANCE_M:
        raise InvalidInputError(
            field, f"a translation of {farthest_m:.3g} m", f"at most {MAX_DISTANCE_M:g} m along each axis"
        )
    array.flags.writeable = False
    return array


def check_size(size_m: tuple[float, float, float], field: str) -> None:
    """Raise InvalidInputError unless length, width and height are finite and positive."""
    if len(size_m) != 3 or not all(0 < edge_m < math.inf for edge_m in size_m):
        raise InvalidInputError(field, size_m, "three positive metres")


def check_times(times_us: object, field: str, frames: int) -> np.ndarray:
    """Return ``times_us`` as a fresh read-only int64 array, strictly increasing, microseconds.

    Raises:
        InvalidInputError: wrong count, fractions, beyond MAX_TIME_US, or time that stands still or runs backwards.
    """
    raw = np.asarray(times_us)
    if raw.shape != (frames,):
        raise InvalidInputError(field, f"shape {raw.shape}", f"({frames},)")
    if raw.dtype.kind not in "iu":
        raise InvalidInputError(field, f"dtype {raw.dtype}", "integer microseconds")
    for time_us in (int(raw.min(initial=0)), int(raw.max(initial=0))):
        if abs(time_us) > MAX_TIME_US:
            raise InvalidInputError(field, f"{time_us} microseconds", f"{-MAX_TIME_US} to {MAX_TIME_US}")
    array = raw.astype(np.int64)
    later = array[1:] > array[:-1]
    if not later.all():
        frame = int(np.argmin(later)) + 1
        raise InvalidInputError(field, f"frame {frame} not later than the one before", "strictly increasing")
    array.flags.writeable = False
    return array
