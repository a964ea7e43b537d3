"""Who is in a chunk and was not in the one before: some come into view, others come from nowhere."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64, UInt8
from scipy import ndimage

from dyncity_models.data.clips import UNOBSERVED
from dyncity_models.drive.bodies import Course
from dyncity_models.drive.forecast import Forecast
from dyncity_models.hexplane import compose, invert
from dyncity_sim.domain.frames import planar_from_poses
from dyncity_sim.domain.grid import columns_of
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.scene import Track

SAME_M = 2.0
"""A pedestrian so near to where one was to come is that one."""

INSIDE_M = 1.0
"""Who is nearer to the border of the view before may have stood outside; of a vehicle its ends."""

BESIDE_M = 2.0
"""A vehicle whose middle is so near to the body of one that was to come is that one, or a piece of it."""


def pedestrians_from_nowhere(
    courses: Sequence[Course],
    chunk: OccupancySequence,
    coming: Forecast,
    seconds: Float64[np.ndarray, " T"],
    known: UInt8[np.ndarray, "X Y Z"],
) -> Bool[np.ndarray, " N"]:
    """Which pedestrians begin a chunk where a drive knew the world, saw it a frame ago, and had nobody come.

    Args:
        courses: of the chunk's pedestrians.
        chunk: as generated.
        coming: how those before the chunk go on.
        seconds: of each frame since the one that ``coming`` is of.
        known: what the drive knew of the static world in the first frame, ``UNOBSERVED`` elsewhere.
    """
    starts = _starts(courses)
    alone = _nobody_comes_to(starts, coming, planar_from_poses(chunk.poses_world_from_ego[:1])[0], seconds[0])
    return alone & _just_seen(starts, INSIDE_M, chunk, coming, known)


def vehicles_from_nowhere(
    tracks: Sequence[Track],
    chunk: OccupancySequence,
    coming: Forecast,
    seconds: Float64[np.ndarray, " T"],
    known: UInt8[np.ndarray, "X Y Z"],
) -> Bool[np.ndarray, " N"]:
    """Which vehicles begin a chunk where a drive has just seen none; arguments as of ``pedestrians_from_nowhere``."""
    starts = _starts([Course.of(track, chunk) for track in tracks])
    inside_m = INSIDE_M + np.array([max(track.size_m[:2]) / 2 for track in tracks])
    first = planar_from_poses(chunk.poses_world_from_ego[:1])
    bodies = columns_of(coming.only(~coming.on_foot).seen_from(first, seconds[:1])[0])
    away_m = ndimage.distance_transform_edt(~bodies, chunk.grid.voxel_size_m[:2]) if bodies.any() else np.inf
    x, y, _ = _indices(starts, chunk)
    alone = np.broadcast_to(away_m, bodies.shape)[x, y] > BESIDE_M
    return alone & _just_seen(starts, inside_m, chunk, coming, known)


def not_there_before(
    courses: Sequence[Course], chunk: OccupancySequence, coming: Forecast, seconds: Float64[np.ndarray, " T"]
) -> Bool[np.ndarray, " N"]:
    """Which pedestrians are nobody who was to come when they are first seen; arguments as of the others."""
    planar = planar_from_poses(chunk.poses_world_from_ego)
    alone = np.zeros(len(courses), dtype=np.bool_)
    for number, course in enumerate(courses):
        first = course.seen[0]
        (alone[number],) = _nobody_comes_to(course.ego_from_body[[first]], coming, planar[first], seconds[first])
    return alone


def _nobody_comes_to(
    places: Float64[np.ndarray, "N 3"], coming: Forecast, planar: Float64[np.ndarray, " 3"], second: float
) -> Bool[np.ndarray, " N"]:
    """Which places of the ego frame at a pose nobody on foot is to be near to at some time."""
    others_m = coming.only(coming.on_foot).poses_at(planar, second)[:, :2]
    return np.asarray((np.linalg.norm(places[:, None, :2] - others_m, axis=-1) > SAME_M).all(axis=1))


def _starts(courses: Sequence[Course]) -> Float64[np.ndarray, "N 3"]:
    return np.array([course.ego_from_body[0] for course in courses]).reshape(-1, 3)


def _just_seen(
    starts: Float64[np.ndarray, "N 3"],
    inside_m: float | Float64[np.ndarray, " N"],
    chunk: OccupancySequence,
    coming: Forecast,
    known: UInt8[np.ndarray, "X Y Z"],
) -> Bool[np.ndarray, " N"]:
    """Which places of the first frame are known, and were so far inside of the view of the frame before."""
    first = planar_from_poses(chunk.poses_world_from_ego[:1])[0]
    before_from_first = compose(invert(torch.from_numpy(coming.planar)), torch.from_numpy(first))
    seen_before = compose(before_from_first.expand(len(starts), 3), torch.from_numpy(starts)).numpy()[:, :2]
    was_in_view = np.abs(seen_before).max(axis=1, initial=0.0) < coming.half_extent_m - inside_m
    x, y, _ = _indices(starts, chunk)
    in_grid = chunk.grid.contains(chunk.grid.indices(_on_ground(starts)))
    return np.asarray(was_in_view & in_grid & columns_of(known != UNOBSERVED)[x, y])


def _indices(starts: Float64[np.ndarray, "N 3"], chunk: OccupancySequence) -> Int64[np.ndarray, "3 N"]:
    """The cells of the grid that places are in, or nearest to."""
    index = chunk.grid.indices(_on_ground(starts))
    return np.asarray(index.clip(0, np.array(chunk.grid.shape) - 1).T)


def _on_ground(starts: Float64[np.ndarray, "N 3"]) -> Float64[np.ndarray, "N 3"]:
    return np.pad(starts[:, :2], ((0, 0), (0, 1)))
