"""Vehicles over time: whole or in pieces, of one size or jittering, moving as vehicles can.

Everything is measured on the instances of single frames, before ``find_tracks`` gives a track one size and a smooth
path, for these hide what is asked about. Occupancy with unobserved cells raises InvalidInputError.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy import ndimage
from scipy.stats import wasserstein_distance

from dyncity_models.evaluation.dense import check_dense
from dyncity_sim.domain.frames import inverse, planar_from_poses
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.scene import Track
from dyncity_sim.scene.actors.find import track_of
from dyncity_sim.scene.actors.footprint import doubled_axis, sides
from dyncity_sim.scene.actors.instances import MIN_VEHICLE_CELLS, Instance, find_instances
from dyncity_sim.scene.actors.tracking import Tracklet, associate

SHORTEST_VEHICLE_M = 1.3
"""A piece whose longer side is shorter is a fragment: even a bicycle is 1.6 m long and covers four cells."""

FITTED_FRAMES = 7
"""Sightings, 0.6 s of them at 10 Hz, that a parabola of motion is fitted to."""

MOST_ACCELERATION_MPS2 = 10.0
"""What tyres give on a dry road, braking, accelerating and turning together: friction of 1, 9.8 m/s^2."""

MOST_SPEED_MPS = 30.0
"""108 km/h: no street of CARLA's towns allows more than 90."""


@dataclass(frozen=True)
class VehicleSizes:
    """Sizes of the vehicles of one sequence, one value a track.

    Attributes:
        lengths_m: lengths.
        widths_m: widths.
    """

    lengths_m: tuple[float, ...]
    widths_m: tuple[float, ...]


@dataclass(frozen=True)
class SizeDistance:
    """How far the sizes of generated vehicles are from recorded ones.

    Attributes:
        length_m: Wasserstein-1 distance of the distributions of lengths, metres: how far lengths must be moved in the
            mean to turn one into the other. NaN when either has no vehicle.
        width_m: the same of widths.
        generated: vehicles in one distribution.
        recorded: vehicles in the other.
    """

    length_m: float
    width_m: float
    generated: int
    recorded: int


@dataclass(frozen=True)
class VehicleMotion:
    """Vehicles of one chunk or drive.

    Attributes:
        tracks: vehicles that were followed over three frames or more.
        fragment_share: share of connected pieces that are too small for a vehicle, all frames together, those at the
            border of the grid left out; NaN without any. (Not per vehicle: it counts where nothing else is left.)
        untracked_share: share of the columns of instances that no border of the grid cuts, all frames together, in
            no track: flicker. NaN without any.
        lifetime_share: frames in which a track was seen over those in which its vehicle should be in view; median
            over tracks.
        length_jitter_m: standard deviation over time of the length of a track's cells; median over tracks. Of a whole
            vehicle that moves over the grid the cells alone give about 0.1 m.
        width_jitter_m: the same of the width.
        steps: sightings with speed and acceleration.
        impossible_share: share of them beyond ``MOST_ACCELERATION_MPS2`` or ``MOST_SPEED_MPS``; NaN without any.
    """

    tracks: int
    fragment_share: float
    untracked_share: float
    lifetime_share: float
    length_jitter_m: float
    width_jitter_m: float
    steps: int
    impossible_share: float


@dataclass(frozen=True, eq=False)
class _Vehicle:
    """What was seen of one vehicle, and the box that explains it."""

    seen: Tracklet
    box: Track


def vehicle_sizes(occupancy: OccupancySequence) -> VehicleSizes:
    """Length and width of every vehicle's box, two-wheelers too; those never seen whole are left out."""
    vehicles = _vehicles(occupancy, _instances(occupancy))
    whole = [v.box.size_m for v in vehicles if not all(i.truncated for i in v.seen.instances)]
    return VehicleSizes(tuple(size[0] for size in whole), tuple(size[1] for size in whole))


def size_distance(generated: Sequence[VehicleSizes], recorded: Sequence[VehicleSizes]) -> SizeDistance:
    """Distance of the sizes of all generated vehicles from those of all recorded ones.

    The distance of two halves of the recordings says how small it can be expected to get.
    """
    ours, theirs = (
        np.array([side for s in sizes for side in zip(s.lengths_m, s.widths_m, strict=True)]).reshape(-1, 2)
        for sizes in (generated, recorded)
    )
    if not len(ours) or not len(theirs):
        return SizeDistance(float("nan"), float("nan"), len(ours), len(theirs))
    length_m, width_m = (float(wasserstein_distance(a, b)) for a, b in zip(ours.T, theirs.T, strict=True))
    return SizeDistance(length_m, width_m, len(ours), len(theirs))


def vehicle_motion(occupancy: OccupancySequence) -> VehicleMotion:
    """Pieces, sizes, lifetimes and motion of the vehicles of a chunk or a drive.

    Sizes and positions are those of instances that no border of the grid cuts. Sizes are measured along the box's
    yaw at the time. Speed and acceleration are those, in its middle, of the parabola that fits ``FITTED_FRAMES``
    consecutive centroids best (Savitzky and Golay 1964, of order two): recorded ones stray by about 0.05 m to
    either axis, which makes 1 m/s^2, and one that jumps 0.9 m aside for a frame shows 10 m/s^2. What jumps too far for
    the tracker ends a track instead, and shows in the lifetimes; what is never where it expects it, in what is
    untracked.
    """
    instances = _instances(occupancy)
    vehicles = _vehicles(occupancy, instances)
    fragments, pieces = _pieces(occupancy)
    columns = _whole_columns(i for found in instances for i in found)
    tracked = _whole_columns(i for v in vehicles for i in v.seen.instances)
    jitter_m = np.array([_jitter_m(v, occupancy) for v in vehicles]).reshape(-1, 2)
    impossible = np.array([fast for v in vehicles for fast in _impossible(v)], dtype=np.bool_)
    return VehicleMotion(
        tracks=len(vehicles),
        fragment_share=fragments / pieces if pieces else float("nan"),
        untracked_share=1 - tracked / columns if columns else float("nan"),
        lifetime_share=_median([_lifetime_share(v, occupancy) for v in vehicles]),
        length_jitter_m=_median(jitter_m[:, 0]),
        width_jitter_m=_median(jitter_m[:, 1]),
        steps=len(impossible),
        impossible_share=float(impossible.mean()) if len(impossible) else float("nan"),
    )


def _instances(occupancy: OccupancySequence) -> list[list[Instance]]:
    """Vehicles of each frame."""
    check_dense(occupancy)
    return [
        [i for i in find_instances(labels, pose, occupancy.grid, occupancy.taxonomy) if i.vehicle]
        for labels, pose in zip(occupancy.labels, occupancy.poses_world_from_ego, strict=True)
    ]


def _vehicles(occupancy: OccupancySequence, instances: Sequence[Sequence[Instance]]) -> list[_Vehicle]:
    tracklets = associate(instances, occupancy.times_us)
    cell_m = _cell_m(occupancy)
    return [
        _Vehicle(tracklet, track_of(number, tracklet, occupancy.times_us[tracklet.frames], cell_m))
        for number, tracklet in enumerate(tracklets, start=1)
    ]


def _pieces(occupancy: OccupancySequence) -> tuple[int, int]:
    """(Fragments, all) among the connected footprints of vehicles that no border of the grid cuts."""
    cell_m = _cell_m(occupancy)
    last = np.asarray(occupancy.grid.shape[:2]) - 1
    fragments = pieces = 0
    for mask in occupancy.labels == occupancy.taxonomy.index("vehicle"):
        heights = mask.sum(axis=2)
        numbered, count = ndimage.label(heights)
        for columns in (np.argwhere(numbered == number) for number in range(1, count + 1)):
            if ((columns == 0) | (columns == last)).any():
                continue
            footprint_m = columns * np.asarray(occupancy.grid.voxel_size_m[:2])
            longest_m = max(sides(footprint_m, float(np.angle(doubled_axis(footprint_m))) / 2, cell_m))
            few = heights[tuple(columns.T)].sum() < MIN_VEHICLE_CELLS
            fragments += int(few or longest_m < SHORTEST_VEHICLE_M)
            pieces += 1
    return fragments, pieces


def _whole_columns(instances: Iterable[Instance]) -> int:
    return sum(len(i.columns_world_m) for i in instances if not i.truncated)


def _whole(vehicle: _Vehicle) -> np.ndarray:
    """Positions along the track of the sightings that show the whole vehicle."""
    return np.nonzero([not instance.truncated for instance in vehicle.seen.instances])[0]


def _jitter_m(vehicle: _Vehicle, occupancy: OccupancySequence) -> Float64[np.ndarray, " 2"]:
    """Standard deviation of length and width over the frames that show the whole vehicle; NaN under two."""
    whole = _whole(vehicle)
    if len(whole) < 2:
        return np.full(2, np.nan)
    yaws_rad = planar_from_poses(vehicle.box.poses_world_from_actor)[:, 2]
    seen, cell_m = vehicle.seen.instances, _cell_m(occupancy)
    measured = [sides(seen[n].columns_world_m, float(yaws_rad[n]), cell_m) for n in whole]
    return np.asarray(np.std(measured, axis=0))


def _impossible(vehicle: _Vehicle) -> Iterator[bool]:
    """Whether no vehicle can move like that, for each run of ``FITTED_FRAMES`` sightings that show the whole of it."""
    whole = _whole(vehicle)
    centres_m = np.array([instance.centre_world_m for instance in vehicle.seen.instances])
    for run in np.lib.stride_tricks.sliding_window_view(whole, FITTED_FRAMES) if len(whole) >= FITTED_FRAMES else ():
        times_us = vehicle.box.times_us[run]
        since_s = (times_us - times_us[FITTED_FRAMES // 2]) * 1e-6
        half_acceleration, velocity, _ = np.polyfit(since_s, centres_m[run], 2)
        acceleration_mps2, speed_mps = 2 * np.hypot(*half_acceleration), np.hypot(*velocity)
        yield bool(acceleration_mps2 > MOST_ACCELERATION_MPS2 or speed_mps > MOST_SPEED_MPS)


def _lifetime_share(vehicle: _Vehicle, occupancy: OccupancySequence) -> float:
    """Sightings over the frames from first to last and those before and after that should show all of the box.

    Outside its track a vehicle goes on at its first and last velocity.
    """
    box, frames = vehicle.box, np.asarray(vehicle.seen.frames)
    numbers = np.arange(len(occupancy))
    nearest = np.where(numbers < frames[0], 0, -1)
    since_s = (occupancy.times_us - box.times_us[nearest]) * 1e-6
    centres_m = box.poses_world_from_actor[nearest, :3, 3] + box.velocities_world_mps[nearest] * since_s[:, None]
    poses_ego_from_world = inverse(occupancy.poses_world_from_ego)
    local_m = np.einsum("tij,tj->ti", poses_ego_from_world[:, :3, :3], centres_m) + poses_ego_from_world[:, :3, 3]
    reach_m = box.size_m[0] / 2 + _cell_m(occupancy)
    lower_m, upper_m = np.asarray(occupancy.grid.lower_m[:2]), np.asarray(occupancy.grid.upper_m[:2])
    inside = ((local_m[:, :2] - reach_m > lower_m) & (local_m[:, :2] + reach_m < upper_m)).all(axis=1)
    within = (numbers >= frames[0]) & (numbers <= frames[-1])
    return len(frames) / int((inside | within).sum())


def _cell_m(occupancy: OccupancySequence) -> float:
    return float(np.mean(occupancy.grid.voxel_size_m[:2]))


def _median(values: Sequence[float] | Float64[np.ndarray, " N"]) -> float:
    measured = np.asarray(values, dtype=np.float64)
    measured = measured[~np.isnan(measured)]
    return float(np.median(measured)) if len(measured) else float("nan")
