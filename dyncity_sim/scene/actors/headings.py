"""Headings: which way a thing faces, by the shape of its cells, the way it moves, and where its roof sits.

Axes have no front, so they are averaged as doubled angles; which end is the front is told once for a whole track.
"""

import numpy as np
from jaxtyping import Bool, Complex128, Float64, Int64

from dyncity_sim.domain.frames import wrap_angle
from dyncity_sim.scene.actors.instances import Instance

SHAPE_YAW_NOISE_RAD = np.deg2rad(4.0)
"""Standard deviation of the principal axis of an elongated blob."""

CUT_WEIGHT = 0.1
"""What the shape of a blob at the border of the grid weighs beside one that is seen whole."""

END_OF_CAR_M = 2.5
"""What a border leaves of a vehicle is its end when it is not wider than this; its side would be longer."""

VELOCITY_NOISE_MPS = 0.35
"""Standard deviation of a smoothed velocity across the direction of travel."""

MOTION_YAW_NOISE_RAD = np.deg2rad(1.5)
"""How far a fast vehicle's heading may be from its direction of travel."""

MOVING_SPEED_MPS = 1.0
"""From this speed on a vehicle's motion says where its front is."""

TRAVELLED_M = 1.5
"""A vehicle whose whole track is shorter than this may stand still: what seems to move is the cutting of its cells."""

WALKING_SPEED_MPS = 0.3
"""The speed of pedestrians from which on their motion is their heading."""

WALKING_SMOOTHING_S = 0.3
"""Standard deviation of the Gaussian over time that yaws of pedestrians are averaged with."""

TURNING_SMOOTHINGS_M = (2.0, 4.0, 8.0, 16.0)
"""The same of vehicles, over the distance travelled: they turn only as they roll. The first that gives a turn that a
vehicle can make is taken; if none does, it keeps one heading."""

TIGHTEST_TURN_M = 3.0
MOST_YAW_RATE_RADPS = 1.2
MOST_LATERAL_MPS2 = 8.0
"""Turns of vehicles: their radius, and what steering and tyres give."""

ROOF_BEHIND_M = 0.15
"""A vehicle whose roof sits by this much behind its middle shows its front: bonnets are longer than boots."""

ONCOMING_OFFSET_M = 2.5
"""Vehicles that show no front and stand farther to the ego's left than this are taken to face the ego."""

Yaws = Float64[np.ndarray, " N"]


def headings(
    seen: list[Instance],
    path_m: Float64[np.ndarray, "N 2"],
    velocities: Float64[np.ndarray, "N 2"],
    times_us: Int64[np.ndarray, " N"],
    vehicle: bool,
) -> Yaws:
    """Yaw at each time, radians: shape and motion weighted by their certainty, averaged over the track.

    Args:
        seen: the thing's instances.
        path_m: its smoothed centres.
        velocities: its smoothed velocities, m/s.
        times_us: time of each.
        vehicle: a vehicle, or else a pedestrian.
    """
    speed_mps = np.linalg.norm(velocities, axis=1)
    moving = speed_mps > (MOVING_SPEED_MPS if vehicle else WALKING_SPEED_MPS)
    if vehicle:
        moving &= np.hypot(*np.ptp(path_m, axis=0)) > TRAVELLED_M
    noise_rad2 = (VELOCITY_NOISE_MPS / np.maximum(speed_mps, 1e-3)) ** 2 + MOTION_YAW_NOISE_RAD**2
    motion = np.where(moving, 1 / noise_rad2, 0.0) * np.exp(2j * np.arctan2(velocities[:, 1], velocities[:, 0]))
    shape = np.array([_axis(i) for i in seen]) * _shape_weights(seen)
    if vehicle:
        yaws = _turning(motion + shape / SHAPE_YAW_NOISE_RAD**2, path_m, times_us)
    else:
        yaws = _averaged(motion + 1e-6 * shape, times_us * 1e-6, WALKING_SMOOTHING_S)
    return np.asarray(wrap_angle(yaws if _faces_forward(seen, yaws, velocities, moving) else yaws + np.pi))


def _axis(instance: Instance) -> complex:
    """The principal axis as a doubled angle; the end of a car at the border goes on across it."""
    if instance.cut_yaw_rad is None or not instance.vehicle or instance.has_rider:
        return instance.axis
    reach_m = np.linalg.norm(instance.columns_world_m - instance.centre_world_m, axis=1).max()
    return complex(np.exp(2j * instance.cut_yaw_rad)) if 2 * reach_m < END_OF_CAR_M else instance.axis


def _shape_weights(seen: list[Instance]) -> Float64[np.ndarray, " N"]:
    """Fragments and what the grid cuts off say less about an axis than the whole thing does."""
    filled = np.array([len(i.columns_world_m) for i in seen], dtype=np.float64)
    whole = np.array([not i.truncated for i in seen])
    usual = np.median(filled[whole]) if whole.any() else filled.max()
    return np.minimum(filled / usual, 1.0) ** 2 * np.where(whole, 1.0, CUT_WEIGHT)


def _averaged(doubled: Complex128[np.ndarray, " N"], along: Float64[np.ndarray, " N"], deviation: float) -> Yaws:
    """Half the angles, averaged with a Gaussian over times or distances, without jumps by half a turn."""
    weights = np.exp(-0.5 * ((along[:, None] - along[None, :]) / deviation) ** 2)
    return np.unwrap(np.angle(weights @ doubled), period=2 * np.pi) / 2


def _turning(
    doubled: Complex128[np.ndarray, " N"], path_m: Float64[np.ndarray, "N 2"], times_us: Int64[np.ndarray, " N"]
) -> Yaws:
    """Yaws of a vehicle, averaged over no more of its way than it takes for turns that it can make."""
    rolled_m = np.linalg.norm(np.diff(path_m, axis=0), axis=1)
    along_m, steps_s = np.concatenate([[0.0], np.cumsum(rolled_m)]), np.diff(times_us) * 1e-6
    most_rad = np.minimum(rolled_m / TIGHTEST_TURN_M, MOST_YAW_RATE_RADPS * steps_s)
    most_rad = np.minimum(most_rad, MOST_LATERAL_MPS2 * steps_s**2 / np.maximum(rolled_m, 1e-6))
    for deviation_m in TURNING_SMOOTHINGS_M:
        yaws = _averaged(doubled, along_m, deviation_m)
        if (np.abs(np.diff(yaws)) <= most_rad + 1e-9).all():
            return yaws
    return np.full(len(doubled), np.angle(doubled.sum()) / 2)


def _faces_forward(
    seen: list[Instance], yaws: Yaws, velocities: Float64[np.ndarray, "N 2"], moving: Bool[np.ndarray, " N"]
) -> bool:
    """Whether the front is where the yaws point to, rather than behind."""
    forward = np.column_stack([np.cos(yaws), np.sin(yaws)])
    if moving.any():
        return bool(np.sum(velocities[moving] * forward[moving]) >= 0)
    roofs_m = [_roof(i) @ axis for i, axis in zip(seen, forward, strict=True) if i.vehicle and not i.truncated]
    behind_m = -float(np.mean(roofs_m)) if roofs_m else 0.0
    if abs(behind_m) > ROOF_BEHIND_M:
        return behind_m > 0
    nearest = int(np.argmin([np.linalg.norm(i.centre_world_m - i.ego_world_m) for i in seen]))
    return bool(np.cos(yaws[nearest] - _parked_yaw(seen[nearest])) >= 0)


def _roof(instance: Instance) -> Float64[np.ndarray, " 2"]:
    """From the middle of a thing to the middle of its highest columns."""
    highest = instance.tops_world_m > instance.tops_world_m.max() - 1e-6
    return instance.columns_world_m[highest].mean(axis=0) - instance.centre_world_m


def _parked_yaw(instance: Instance) -> float:
    offset = instance.centre_world_m - instance.ego_world_m
    yaw = instance.ego_yaw_rad
    left_m = -np.sin(yaw) * offset[0] + np.cos(yaw) * offset[1]
    return yaw + np.pi if left_m > ONCOMING_OFFSET_M else yaw
