"""Vehicles that were there before a chunk go on from where they were to be, and do not stop as no vehicle would."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64

from dyncity_models.drive.bodies import Course
from dyncity_models.drive.forecast import Forecast
from dyncity_models.drive.pairs import nearest_pairs
from dyncity_sim.domain.frames import planar_from_poses
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.scene import Track

BORDER_FRAMES = 2
"""Who came from the chunk before is seen in one of so many first frames."""

SAME_M = 1.5
SAME_AXIS_RAD = np.radians(45.0)
"""A vehicle so near to the way of one that was to come, on the same axis, is that one."""

LEAST_SHARE = 0.5
"""Of the way that it was to drive, one covers half that brakes evenly until it stands."""

LEAST_M = 1.0
"""Shorter ways are within what cells of 0.4 m can tell."""

JUMP_M = 0.6
"""Who is farther from where it was to be jumped."""

EVENED_OUT_M = 8.0
"""Who jumped is where the network has it after so long a way."""


def ways_of(coming: Forecast, seconds: Float64[np.ndarray, " T"]) -> Float64[np.ndarray, "T N 3"]:
    """x, y, yaw in the world of the vehicles of a forecast in each frame of a chunk.

    Args:
        coming: how those before the chunk go on.
        seconds: since the frame that ``coming`` is of.
    """
    vehicles = coming.only(~coming.on_foot)
    return np.stack([vehicles.poses_at(np.zeros(3), second) for second in seconds])


def driven_on(
    tracks: Sequence[Track], chunk: OccupancySequence, ways: Float64[np.ndarray, "T N 3"]
) -> dict[int, Float64[np.ndarray, "T 3"]]:
    """Better ways than those of the network, by number of the track.

    Of vehicles that cover less than half of the way that they were to drive it is that way: nine in ten of recorded
    ones that drive do so a second later, and those of a network forget to, or stand from the first frame on where they
    were to come by. Of those that begin elsewhere than where they were to be it is their own, from there.

    Args:
        tracks: found in the chunk.
        chunk: as generated.
        ways: as ``ways_of`` has them.
    """
    spans = [np.searchsorted(chunk.times_us, track.times_us[[0, -1]]) for track in tracks]
    ends = [planar_from_poses(track.poses_world_from_actor[[0, -1]]) for track in tracks]
    away_m = np.full((len(tracks), ways.shape[1]), np.inf)
    for number, ((first, _), (start, _)) in enumerate(zip(spans, ends, strict=True)):
        if first < BORDER_FRAMES:
            away_m[number] = _away_m(start, tracks[number].size_m[0], ways, first)
    found = {}
    for number, which in nearest_pairs(away_m):
        way, (first, _), (start, _) = ways[:, which], spans[number], ends[number]
        if _stops(spans[number], ends[number], way):
            found[number] = _turned(way, first, start)
        elif away_m[number, which] > JUMP_M:
            found[number] = _without_jump(tracks[number], chunk, first, way[first, :2] - start[:2])
    return found


def _away_m(
    start: Float64[np.ndarray, " 3"], length_m: float, ways: Float64[np.ndarray, "T N 3"], first: int
) -> Float64[np.ndarray, " N"]:
    """How far from where each vehicle was to be in its first frame one is; infinite where it is another."""
    on_way_m = np.linalg.norm(ways[..., :2] - start[:2], axis=-1).min(axis=0)
    x_m, y_m = (start[:2] - ways[first, :, :2]).T
    yaw_rad = ways[first, :, 2]
    along_m, across_m = x_m * np.cos(yaw_rad) + y_m * np.sin(yaw_rad), y_m * np.cos(yaw_rad) - x_m * np.sin(yaw_rad)
    in_its_place = (np.abs(along_m) <= length_m / 2) & (np.abs(across_m) <= SAME_M)
    same_axis = np.abs(np.cos(yaw_rad - start[2])) >= np.cos(SAME_AXIS_RAD)
    return np.where(((on_way_m <= SAME_M) | in_its_place) & same_axis, np.hypot(x_m, y_m), np.inf)


def _stops(span: Int64[np.ndarray, " 2"], ends: Float64[np.ndarray, "2 3"], way: Float64[np.ndarray, "T 3"]) -> bool:
    """Whether what goes from one end to the other in a span of frames covers less than half of a way."""
    first, last = span
    expected_m, covered_m = (np.hypot(*(b - a)[:2]) for a, b in (way[[first, last]], ends))
    return bool(expected_m >= LEAST_M and covered_m < LEAST_SHARE * expected_m)


def _turned(
    way: Float64[np.ndarray, "T 3"], first: int, start: Float64[np.ndarray, " 3"]
) -> Float64[np.ndarray, "T 3"]:
    """The way, for the shape of what may have been found the wrong way round, because it stands."""
    turn_rad = 0.0 if np.cos(way[first, 2] - start[2]) > 0 else np.pi
    return way + np.array([0.0, 0.0, turn_rad])


def _without_jump(
    track: Track, chunk: OccupancySequence, first: int, step_m: Float64[np.ndarray, " 2"]
) -> Float64[np.ndarray, "T 3"]:
    """The way of a track moved by a step, less and less of it as it drives."""
    way = Course.of(track, chunk).in_world(chunk)
    driven_m = np.cumsum(np.linalg.norm(np.diff(way[:, :2], axis=0, prepend=way[:1, :2]), axis=1))
    left = 1 - np.clip((driven_m - driven_m[first]) / EVENED_OUT_M, 0, 1)
    return way + np.pad(left[:, None] * step_m, ((0, 0), (0, 1)))
