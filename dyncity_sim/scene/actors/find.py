"""Actors: tracks with oriented boxes of constant size, out of the moving classes of a whole drive."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float64, Int64

from dyncity_sim.domain.frames import poses_from_planar
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.scene import Track
from dyncity_sim.scene.actors.footprint import sides as rectangle_sides
from dyncity_sim.scene.actors.headings import headings
from dyncity_sim.scene.actors.instances import Instance, find_instances, join_fragments
from dyncity_sim.scene.actors.kinds import Size, kind_of, typical_size_m
from dyncity_sim.scene.actors.motion import CENTRE_NOISE_M, smooth
from dyncity_sim.scene.actors.one_place import in_one_place
from dyncity_sim.scene.actors.tracking import Tracklet, associate

HEIGHT_SMOOTHING_S = 0.5
"""Standard deviation of the Gaussian over time that lines through heights are fitted with; a layer is 0.375 m thick."""

HEIGHT_RIDGE_S2 = 0.02
"""Added to the variance of times: a climb that few sightings show is drawn towards level."""

STAYING_M = 5.0
"""What moves less than this is taken to stand on one height."""

TRUNCATION_MARGIN_M = 0.2
"""A blob at the border of the grid is cut off when it is shorter than its track by more than this."""

STANDING_M = 0.4
STANDING_S = 0.5
"""A vehicle that is seen for at least this long and moves less than this stands still."""

MISSING_NOISE = 0.25
"""Noise of a centre by how much of the thing is missing, metres by metre."""


def find_tracks(occupancy: OccupancySequence) -> tuple[Track, ...]:
    """All actors of a drive, numbered from 1 in order of first sight.

    Boxes come from the second moments of the columns seen from above, which neither depend on the
    rotation of the grid nor on a few stray cells. A track has poses at the frames in which the actor
    was seen and none in between, so a gap is a gap in observation; sizes are the median over the
    frames that show the whole actor. What reaches above the grid is as high as the grid shows it.
    Vehicles that never move have their front where their roof ends short of it; where that does not
    show, those on the ego's left are taken to face the ego (right-hand traffic), the others to stand
    in its direction.

    Args:
        occupancy: the drive, in a taxonomy with the classes of CARLASC.
    """
    cell_m = float(np.mean(occupancy.grid.voxel_size_m[:2]))
    instances = [instances_of(occupancy, frame) for frame in range(len(occupancy))]

    def made(tracklet: Tracklet) -> Track:
        return track_of(1, tracklet, occupancy.times_us[tracklet.frames], cell_m)

    found = in_one_place(associate(instances, occupancy.times_us), made)
    return tuple(replace(track, id=number) for number, track in enumerate(found, start=1))


def instances_of(occupancy: OccupancySequence, frame: int) -> list[Instance]:
    """The things of one frame as ``find_tracks`` takes them, fragments joined; unobserved cells hold none."""
    cell_m = float(np.mean(occupancy.grid.voxel_size_m[:2]))
    pose = occupancy.poses_world_from_ego[frame]
    found = find_instances(occupancy.known_labels(frame), pose, occupancy.grid, occupancy.taxonomy)
    return join_fragments(found, cell_m)


def track_of(number: int, tracklet: Tracklet, times_us: Int64[np.ndarray, " N"], cell_m: float) -> Track:
    """The track behind the instances of one thing.

    Args:
        number: the track's id.
        tracklet: the thing's instances.
        times_us: time of each of them.
        cell_m: edge of a cell seen from above.
    """
    seen, vehicle = tracklet.instances, tracklet.vehicle
    centres_m, noise_m = np.array([i.centre_world_m for i in seen]), np.full(len(seen), CENTRE_NOISE_M)
    # Blobs that slide over the border seem to move: the second pass sees where their boxes really are.
    for _ in range(2):
        path_m, velocities = _path(centres_m, times_us, vehicle, noise_m)
        yaws = headings(seen, path_m, velocities, times_us, vehicle)
        sides_m = np.array([rectangle_sides(i.columns_world_m, yaw, cell_m) for i, yaw in zip(seen, yaws, strict=True)])
        size_m = _constant_size(seen, sides_m, vehicle)
        centres_m = np.array(
            [_whole_centre(i, yaw, side, size_m) for i, yaw, side in zip(seen, yaws, sides_m, strict=True)]
        )
        noise_m = CENTRE_NOISE_M + MISSING_NOISE * np.maximum(np.array(size_m[:2]) - sides_m, 0.0).max(axis=1)
    path_m, velocities = _path(centres_m, times_us, vehicle, noise_m)
    poses = poses_from_planar(np.column_stack([path_m, yaws]))
    bottoms_m, climbing_mps = _bottoms(np.array([i.bottom_world_m for i in seen]), path_m, times_us)
    poses[:, 2, 3] = bottoms_m + size_m[2] / 2
    speed_mps = float(np.percentile(np.linalg.norm(velocities, axis=1), 90))
    whole = not all(i.truncated for i in seen)
    kind, confidence = kind_of(vehicle, size_m, whole, _ridden(seen), speed_mps)
    return Track(
        id=number,
        kind=kind,
        size_m=size_m,
        poses_world_from_actor=poses,
        times_us=times_us,
        velocities_world_mps=np.column_stack([velocities, climbing_mps]),
        kind_confidence=confidence,
    )


def _path(
    centres_m: Float64[np.ndarray, "N 2"],
    times_us: Int64[np.ndarray, " N"],
    vehicle: bool,
    noise_m: Float64[np.ndarray, " N"],
) -> tuple[Float64[np.ndarray, "N 2"], Float64[np.ndarray, "N 2"]]:
    """Smoothed centres and velocities; a vehicle that hardly moves stands where it is."""
    path_m, velocities = smooth(centres_m, times_us, vehicle, noise_m)
    long = times_us[-1] - times_us[0] >= STANDING_S * 1e6
    if vehicle and long and np.hypot(*np.ptp(path_m, axis=0)) < STANDING_M:
        return np.broadcast_to(np.median(path_m, axis=0), path_m.shape), np.zeros_like(velocities)
    return path_m, velocities


def _ridden(seen: list[Instance]) -> bool:
    return float(np.mean([i.has_rider for i in seen])) >= 0.5


def _bottoms(
    seen_m: Float64[np.ndarray, " N"], centres_m: Float64[np.ndarray, "N 2"], times_us: Int64[np.ndarray, " N"]
) -> tuple[Float64[np.ndarray, " N"], Float64[np.ndarray, " N"]]:
    """Height of the ground under a track and how fast it rises: level where the thing stays, else by lines.

    A line through the heights around each time, weighted by a Gaussian, is not drawn to one side at the ends of a slope
    (as in ``scene.surfaces.ground``).
    """
    level_m = float(np.median(seen_m))
    if np.ptp(centres_m, axis=0).max() < STAYING_M:
        return np.full(len(seen_m), level_m), np.zeros(len(seen_m))
    times_s, above_m = (times_us - times_us[0]) * 1e-6, seen_m - level_m
    weights = np.exp(-0.5 * ((times_s[:, None] - times_s[None, :]) / HEIGHT_SMOOTHING_S) ** 2)
    weights /= weights.sum(axis=1, keepdims=True)
    middle_s, middle_m = weights @ times_s, weights @ above_m
    spread_s2 = weights @ times_s**2 - middle_s**2 + HEIGHT_RIDGE_S2
    rising_mps = (weights @ (times_s * above_m) - middle_s * middle_m) / spread_s2
    return level_m + middle_m + rising_mps * (times_s - middle_s), rising_mps


def _constant_size(seen: list[Instance], sides_m: Float64[np.ndarray, "N 2"], vehicle: bool) -> Size:
    """Length, width and height of the whole thing.

    A vehicle that the border of the grid cuts in every frame is as large as its kind usually is, if it shows no more.
    """
    height_m = float(np.median([i.height_m for i in seen]))
    whole = sides_m[[not i.truncated for i in seen]]
    if len(whole):
        length_m, width_m = np.median(whole, axis=0)
    else:
        length_m, width_m = np.max(sides_m, axis=0)
        if vehicle:
            kind, _ = kind_of(vehicle, (length_m, width_m, height_m), False, _ridden(seen), 0.0)
            length_m, width_m = np.maximum((length_m, width_m), typical_size_m(kind)[:2])
    return float(length_m), float(width_m), height_m


def _whole_centre(
    instance: Instance, yaw_rad: float, sides_m: Float64[np.ndarray, " 2"], size_m: Size
) -> Float64[np.ndarray, " 2"]:
    """Centre of the whole box; what the border of the grid cut off lies on the side away from the ego."""
    centre = instance.centre_world_m
    if not instance.truncated:
        return centre
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    for axis, side_m, whole_m in zip(np.array([[cos, sin], [-sin, cos]]), sides_m, size_m[:2], strict=True):
        if whole_m - side_m > TRUNCATION_MARGIN_M:
            away = np.sign(axis @ (centre - instance.ego_world_m)) or 1.0
            centre = centre + axis * away * (whole_m - side_m) / 2
    return centre
