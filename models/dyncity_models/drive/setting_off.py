"""Pedestrians whom a network draws standing set off, for weights that draw fewer on their way than there should be."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64

from dyncity_models.drive.bodies import Course
from dyncity_models.drive.classes import ROAD, SIDEWALK
from dyncity_models.drive.onward import HEADROOM_M, PASSABLE
from dyncity_models.drive.road_users import WALKING_MPS
from dyncity_models.drive.steady_pedestrians import Pedestrian
from dyncity_models.drive.ways import along_arc, within_ego
from dyncity_sim.domain.frames import planar_from_poses
from dyncity_sim.domain.grid import FRAME_RATE_HZ, columns_of
from dyncity_sim.domain.occupancy import OccupancySequence

PACE_MPS, PACE_SPREAD_MPS = 1.34, 0.26
"""Mean and standard deviation of how fast people walk (Weidmann 1993, *Transporttechnik der Fussgaenger*)."""

SLOWEST_MPS = 0.7
"""Slower ones could be taken to stand in the next chunk."""

HEADINGS = 16
"""Directions that somebody chooses from."""

AHEAD_M, STEP_M = 8.0, 0.4
"""So far ahead they look, and at places so far from each other."""

LEAST_M, NEARLY = 3.0, 0.8
"""Nobody sets off for less than this, or to a side that is so many times as good as the best one."""


def setting_off(
    pedestrians: Sequence[Pedestrian],
    may: Bool[np.ndarray, " N"],
    chunk: OccupancySequence,
    share: float,
    rng: np.random.Generator,
) -> list[Pedestrian]:
    """Pedestrians of whom some of those who stand go on from where they are first seen.

    On a sidewalk one goes straight on towards one of the sides on which that reaches about as far as on any, and in the
    road towards a sidewalk that is about as near as any. Who finds no free way stands on.

    Args:
        pedestrians: of the chunk.
        may: which of them may set off.
        chunk: as generated, without pedestrians; its classes are those of CARLASC.
        share: of those who stand and may, that sets off.
        rng: draws who does, how fast and where to.
    """
    return [_setting_off(one, chunk, share, rng) if free else one for one, free in zip(pedestrians, may, strict=True)]


def _setting_off(one: Pedestrian, chunk: OccupancySequence, share: float, rng: np.random.Generator) -> Pedestrian:
    sets_off, pace_mps = rng.random() < share, max(SLOWEST_MPS, rng.normal(PACE_MPS, PACE_SPREAD_MPS))
    turn_rad = rng.uniform(0, 2 * np.pi)
    if not sets_off or not _stands(one.course, chunk):
        return one
    tried = (_straight_on(one, yaw_rad, pace_mps, chunk) for yaw_rad in _headings(one, chunk, turn_rad))
    return next((way for way in tried if _is_free(way, chunk)), one)


def _stands(course: Course, chunk: OccupancySequence) -> bool:
    first, last = course.seen[[0, -1]]
    way_m = np.diff(course.in_world(chunk)[[first, last], :2], axis=0)
    return bool(np.linalg.norm(way_m) < WALKING_MPS * (last - first) / FRAME_RATE_HZ)


def _headings(one: Pedestrian, chunk: OccupancySequence, turn_rad: float) -> Float64[np.ndarray, " H"]:
    """Yaws in the world of the ways that somebody may choose, in an order that is turned by some angle."""
    first = min(one.cells)
    yaws_rad = turn_rad + np.arange(HEADINGS) * 2 * np.pi / HEADINGS
    in_ego_rad = yaws_rad - planar_from_poses(chunk.poses_world_from_ego[first : first + 1])[0, 2]
    ahead_m = np.arange(0.0, AHEAD_M, STEP_M)[:, None, None]
    ahead = np.stack([np.cos(in_ego_rad), np.sin(in_ego_rad)], axis=-1)
    places_m = one.course.ego_from_body[first, :2] + ahead_m * ahead
    labels = chunk.labels[first]
    low = labels[..., chunk.grid.centres(2) < chunk.grid.lower_m[2] + HEADROOM_M]
    clear = _are(np.asarray(np.isin(low, PASSABLE).all(axis=-1)), places_m, chunk) & ~within_ego(places_m)
    sidewalk, road = (_are(columns_of(labels == surface), places_m, chunk) for surface in (SIDEWALK, ROAD))
    if sidewalk[0].all():
        reach_m = STEP_M * np.logical_and.accumulate(clear & sidewalk).sum(axis=0)
        return yaws_rad[reach_m >= max(LEAST_M, NEARLY * reach_m.max())]
    arrives = np.logical_and.accumulate(clear & (road | sidewalk)) & sidewalk
    across_m = np.where(arrives.any(axis=0), STEP_M * arrives.argmax(axis=0), np.inf)
    return yaws_rad[np.isfinite(across_m) & (NEARLY * across_m <= across_m.min())]


def _are(
    columns: Bool[np.ndarray, "X Y"], places_m: Float64[np.ndarray, "*P 2"], chunk: OccupancySequence
) -> Bool[np.ndarray, "*P"]:
    """Whether places of the ego frame lie in some columns of its grid, or beyond the grid."""
    index = chunk.grid.indices(np.pad(places_m, [(0, 0)] * (places_m.ndim - 1) + [(0, 1)]))
    x, y, _ = np.moveaxis(index.clip(0, np.array(chunk.grid.shape) - 1), -1, 0)
    return np.asarray(columns[x, y] | ~chunk.grid.contains(index))


def _straight_on(one: Pedestrian, yaw_rad: float, pace_mps: float, chunk: OccupancySequence) -> Pedestrian:
    first = min(one.cells)
    start = np.array([*one.course.in_world(chunk)[first, :2], yaw_rad])
    way = along_arc(start, 0.0, pace_mps * (np.arange(len(chunk)) - first) / FRAME_RATE_HZ)
    return Pedestrian(one.course.along(way, chunk), {first: one.cells[first]})


def _is_free(one: Pedestrian, chunk: OccupancySequence) -> bool:
    """Whether there is room for somebody from the first sighting on, or until they leave the view."""
    frames = (frame for frame in range(min(one.cells), len(chunk)) if len(one.moved_to(frame, chunk)))
    return all(one.free_in(frame, chunk.labels[frame], chunk) is not None for frame in frames)
