"""Vehicles that were driving drive on, where a network lets them stop as no vehicle would."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64

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


def ways_of(coming: Forecast, seconds: Float64[np.ndarray, " T"]) -> Float64[np.ndarray, "T N 3"]:
    """x, y, yaw in the world of the vehicles of a forecast that drive, in each frame of a chunk.

    Args:
        coming: how those before the chunk go on.
        seconds: since the frame that ``coming`` is of.
    """
    drive = coming.only(~coming.on_foot & (coming.rolled_m(seconds[-1:])[:, 0] >= LEAST_M))
    return np.stack([drive.poses_at(np.zeros(3), second) for second in seconds])


def driven_on(
    tracks: Sequence[Track], chunk: OccupancySequence, ways: Float64[np.ndarray, "T N 3"]
) -> dict[int, Float64[np.ndarray, "T 3"]]:
    """The ways that vehicles were to drive, by number of the track, of those which cover less than half of theirs.

    Nine in ten of recorded vehicles that drive do so a second later; those of a network forget to, or stand from the
    first frame on where they were to come by.

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
            on_way_m = np.linalg.norm(ways[..., :2] - start[:2], axis=-1).min(axis=0)
            same = (on_way_m <= SAME_M) & (np.abs(np.cos(ways[first, :, 2] - start[2])) >= np.cos(SAME_AXIS_RAD))
            away_m[number] = np.where(same, np.linalg.norm(ways[first, :, :2] - start[:2], axis=-1), np.inf)
    found = {}
    for number, which in nearest_pairs(away_m):
        if _stops(spans[number], ends[number], ways[:, which]):
            found[number] = _turned(ways[:, which], spans[number][0], ends[number][0])
    return found


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
