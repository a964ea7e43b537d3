"""Pedestrians whom a chunk shows and the one before did not: some come into view, others come from nowhere."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float64, UInt8

from dyncity_models.data.clips import UNOBSERVED
from dyncity_models.drive.bodies import Course
from dyncity_models.drive.forecast import Forecast
from dyncity_models.hexplane import compose, invert
from dyncity_sim.domain.frames import planar_from_poses
from dyncity_sim.domain.grid import columns_of
from dyncity_sim.domain.occupancy import OccupancySequence

SAME_M = 2.0
"""A pedestrian so near to where one was to come is that one."""

INSIDE_M = 1.0
"""Who is nearer to the border of the view before may have stood outside."""


def from_nowhere(
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
    starts = np.array([course.ego_from_body[0] for course in courses]).reshape(-1, 3)
    first = planar_from_poses(chunk.poses_world_from_ego[:1])[0]
    alone = _nobody_comes_to(starts, coming, first, seconds[0])
    before_from_first = compose(invert(torch.from_numpy(coming.planar)), torch.from_numpy(first))
    seen_before = compose(before_from_first.expand(len(starts), 3), torch.from_numpy(starts)).numpy()[:, :2]
    was_in_view = (np.abs(seen_before) < coming.half_extent_m - INSIDE_M).all(axis=1)
    index = chunk.grid.indices(np.pad(starts[:, :2], ((0, 0), (0, 1))))
    x, y, _ = index.clip(0, np.array(chunk.grid.shape) - 1).T
    known_there = chunk.grid.contains(index) & columns_of(known != UNOBSERVED)[x, y]
    return np.asarray(alone & was_in_view & known_there)


def not_there_before(
    courses: Sequence[Course], chunk: OccupancySequence, coming: Forecast, seconds: Float64[np.ndarray, " T"]
) -> Bool[np.ndarray, " N"]:
    """Which pedestrians are nobody who was to come when they are first seen; arguments as of ``from_nowhere``."""
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
