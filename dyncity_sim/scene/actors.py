"""Actors: tracks with oriented boxes of constant size, out of the moving classes of a whole drive."""

import numpy as np
from jaxtyping import Float64, Int64

from dyncity_sim.domain.frames import poses_from_planar, wrap_angle
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.scene import Track
from dyncity_sim.scene.footprint import doubled_axis
from dyncity_sim.scene.footprint import sides as rectangle_sides
from dyncity_sim.scene.instances import Instance, find_instances
from dyncity_sim.scene.tracking import Tracklet, associate, smooth

SHAPE_YAW_NOISE_RAD = np.deg2rad(4.0)
"""Standard deviation of the principal axis of an elongated blob."""

VELOCITY_NOISE_MPS = 0.35
"""Standard deviation of a smoothed velocity across the direction of travel."""

MOTION_YAW_NOISE_RAD = np.deg2rad(1.5)
"""How far a fast vehicle's heading may be from its direction of travel."""

MOVING_SPEED_MPS = 1.0
"""From this speed on a vehicle's motion says where its front is."""

TRAVELLED_M = 1.5
"""A vehicle whose whole track is shorter than this stood still: what seems to move is the cutting of its cells."""

WALKING_SPEED_MPS = 0.3
"""The same for pedestrians."""

YAW_SMOOTHING_S = 0.3
"""Standard deviation of the Gaussian over time that yaws are averaged with."""

HEIGHT_SMOOTHING_S = 0.5
"""Standard deviation of the Gaussian over time that heights are averaged with; one layer is 0.375 m thick."""

STAYING_M = 5.0
"""What moves less than this is taken to stand on one height."""

TRUNCATION_MARGIN_M = 0.2
"""A blob at the border of the grid is cut off when it is shorter than its track by more than this."""

ONCOMING_OFFSET_M = 2.5
"""Vehicles that never move and stand farther to the ego's left than this are taken to face the ego."""


def find_tracks(occupancy: OccupancySequence, inflation_cells: float = 0.0) -> tuple[Track, ...]:
    """All actors of a drive, numbered from 1 in order of first sight.

    Boxes come from the second moments of the columns seen from above, which neither depend on the
    rotation of the grid nor on a few stray cells. A track has poses at the frames in which the actor
    was seen and none in between, so a gap is a gap in observation; sizes are the median over the
    frames that show the whole actor. What reaches above the grid is as high as the grid shows it.
    Vehicles that never move have no visible front: those on the ego's left are taken to face the ego
    (right-hand traffic), the others to stand in its direction.

    Args:
        occupancy: the drive, in a taxonomy with the classes of CARLASC.
        inflation_cells: how much wider than a thing its cells are: 0 where a cell counts when its centre
            lies in the thing (the embedded world), 1 where any touch counts (LiDAR points put into cells).
    """
    instances = [
        find_instances(labels, pose, occupancy.grid, occupancy.taxonomy, inflation_cells)
        for labels, pose in zip(occupancy.labels, occupancy.poses_world_from_ego, strict=True)
    ]
    tracklets = associate(instances, occupancy.times_us)
    cell_m = float(np.mean(occupancy.grid.voxel_size_m[:2]))
    inflation_m = inflation_cells * cell_m
    return tuple(
        track_of(number, tracklet, occupancy.times_us[tracklet.frames], cell_m, inflation_m)
        for number, tracklet in enumerate(tracklets, start=1)
    )


def track_of(
    number: int, tracklet: Tracklet, times_us: Int64[np.ndarray, " N"], cell_m: float, inflation_m: float
) -> Track:
    """The track behind the instances of one thing.

    Args:
        number: the track's id.
        tracklet: the thing's instances.
        times_us: time of each of them.
        cell_m: edge of a cell seen from above.
        inflation_m: how much wider than a thing its cells are.
    """
    seen = tracklet.instances
    truncated = np.array([i.truncated for i in seen])
    centres = np.array([i.centre_world_m for i in seen])
    # Blobs that slide over the border seem to move: the second pass sees where their boxes really are.
    for _ in range(2):
        path, velocities = smooth(centres, times_us, tracklet.vehicle)
        yaws = _yaws(seen, path, velocities, times_us, tracklet.vehicle)
        sides = np.array(
            [rectangle_sides(i.columns_world_m, yaw, cell_m, inflation_m) for i, yaw in zip(seen, yaws, strict=True)]
        )
        length_m, width_m = _constant_size(sides, truncated)
        centres = np.array(
            [
                _whole_centre(instance, yaw, side, (length_m, width_m))
                for instance, yaw, side in zip(seen, yaws, sides, strict=True)
            ]
        )
    height_m = float(np.median([i.top_world_m - i.bottom_world_m for i in seen]))
    centres, velocities = smooth(centres, times_us, tracklet.vehicle)
    poses = poses_from_planar(np.column_stack([centres, yaws]))
    poses[:, 2, 3] = _bottoms(np.array([i.bottom_world_m for i in seen]), centres, times_us) + height_m / 2
    speed_mps = np.linalg.norm(velocities, axis=1)
    riders = float(np.mean([i.has_rider for i in seen]))
    return Track(
        id=number,
        kind=_kind(tracklet.vehicle, riders, (length_m, width_m, height_m), float(np.percentile(speed_mps, 90))),
        size_m=(length_m, width_m, height_m),
        poses_world_from_actor=poses,
        times_us=times_us,
        velocities_world_mps=np.column_stack([velocities, np.zeros(len(velocities))]),
    )


def _bottoms(
    seen_m: Float64[np.ndarray, " N"], centres_m: Float64[np.ndarray, "N 2"], times_us: Int64[np.ndarray, " N"]
) -> Float64[np.ndarray, " N"]:
    """Height of the ground under a track: constant where it stays, averaged over time where it travels."""
    if np.ptp(centres_m, axis=0).max() < STAYING_M:
        return np.full(len(seen_m), np.median(seen_m))
    weights = _gaussian(times_us, HEIGHT_SMOOTHING_S)
    return weights @ seen_m / weights.sum(axis=1)


def _gaussian(times_us: Int64[np.ndarray, " N"], deviation_s: float) -> Float64[np.ndarray, "N N"]:
    apart_s = (times_us[:, None] - times_us[None, :]) * 1e-6
    return np.exp(-0.5 * (apart_s / deviation_s) ** 2)


def _yaws(
    seen: list[Instance],
    path_m: Float64[np.ndarray, "N 2"],
    velocities: Float64[np.ndarray, "N 2"],
    times_us: Int64[np.ndarray, " N"],
    vehicle: bool,
) -> Float64[np.ndarray, " N"]:
    """Yaw at each time: shape and motion weighted by their certainty, averaged over time.

    Axes have no front, so they are averaged as doubled angles; the motion of the whole track then says
    which end is the front.
    """
    shape = np.array([doubled_axis(i.columns_world_m) * (0.1 if i.truncated else 1.0) for i in seen])
    speed_mps = np.linalg.norm(velocities, axis=1)
    moving = speed_mps > (MOVING_SPEED_MPS if vehicle else WALKING_SPEED_MPS)
    if vehicle:
        moving &= np.hypot(*np.ptp(path_m, axis=0)) > TRAVELLED_M
    noise_rad2 = (VELOCITY_NOISE_MPS / np.maximum(speed_mps, 1e-3)) ** 2 + MOTION_YAW_NOISE_RAD**2
    motion = np.where(moving, 1 / noise_rad2, 0.0) * np.exp(2j * np.arctan2(velocities[:, 1], velocities[:, 0]))
    doubled = motion + (shape / SHAPE_YAW_NOISE_RAD**2 if vehicle else 1e-6 * shape)
    doubled = _gaussian(times_us, YAW_SMOOTHING_S) @ doubled
    yaws = np.unwrap(np.angle(doubled), period=2 * np.pi) / 2
    if moving.any():
        front = np.sum(velocities[moving] * np.column_stack([np.cos(yaws[moving]), np.sin(yaws[moving])]))
    else:
        nearest = int(np.argmin([np.linalg.norm(i.centre_world_m - i.ego_world_m) for i in seen]))
        front = np.cos(yaws[nearest] - _parked_yaw(seen[nearest]))
    return np.asarray(wrap_angle(yaws if front >= 0 else yaws + np.pi))


def _parked_yaw(instance: Instance) -> float:
    offset = instance.centre_world_m - instance.ego_world_m
    yaw = instance.ego_yaw_rad
    left_m = -np.sin(yaw) * offset[0] + np.cos(yaw) * offset[1]
    return yaw + np.pi if left_m > ONCOMING_OFFSET_M else yaw


def _constant_size(sides: Float64[np.ndarray, "N 2"], truncated: np.ndarray) -> tuple[float, float]:
    whole = sides[~truncated]
    length_m, width_m = np.median(whole, axis=0) if len(whole) else np.max(sides, axis=0)
    return float(length_m), float(width_m)


def _whole_centre(
    instance: Instance, yaw_rad: float, sides_m: Float64[np.ndarray, " 2"], size_m: tuple[float, float]
) -> Float64[np.ndarray, " 2"]:
    """Centre of the whole box; what the border of the grid cut off lies on the side away from the ego."""
    centre = instance.centre_world_m
    if not instance.truncated:
        return centre
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    for axis, side_m, whole_m in zip(np.array([[cos, sin], [-sin, cos]]), sides_m, size_m, strict=True):
        if whole_m - side_m > TRUNCATION_MARGIN_M:
            away = np.sign(axis @ (centre - instance.ego_world_m)) or 1.0
            centre = centre + axis * away * (whole_m - side_m) / 2
    return centre


def _kind(vehicle: bool, riders: float, size_m: tuple[float, float, float], speed_mps: float) -> ActorKind:
    """What a thing of this size and speed is; ``riders`` is the share of frames that show one."""
    length_m, width_m, height_m = size_m
    if not vehicle:
        return ActorKind.PEDESTRIAN
    if riders >= 0.5 or (length_m < 2.6 and width_m < 1.2):
        return ActorKind.MOTORCYCLE if length_m > 1.95 or speed_mps > 9.0 else ActorKind.BICYCLE
    if length_m < 5.2 and height_m < 1.88:
        return ActorKind.CAR
    if length_m < 6.8:
        return ActorKind.VAN
    return ActorKind.TRUCK if length_m < 9.5 else ActorKind.BUS
