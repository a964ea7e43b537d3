"""Vehicles that were driving drive on, where a network lets them stop as no vehicle would."""

import numpy as np
from jaxtyping import Float64

from dyncity_models.drive.forecast import Forecast
from dyncity_sim.domain.frames import planar_from_poses
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.scene import Track

BORDER_FRAMES = 2
"""Who came from the chunk before is seen in one of so many first frames."""

SAME_M = 1.5
SAME_AXIS_RAD = np.radians(45.0)
"""A vehicle so near to where one was to come, on the same axis, is that one."""

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
    track: Track, chunk: OccupancySequence, ways: Float64[np.ndarray, "T N 3"]
) -> Float64[np.ndarray, "T 3"] | None:
    """The way that a vehicle was to drive, if it covers less than half of it; None for all others.

    Nine in ten of recorded vehicles that drive do so a second later; those of a network forget to.

    Args:
        track: of the vehicle, found in the chunk.
        chunk: as generated.
        ways: as ``ways_of`` has them.
    """
    first, last = np.searchsorted(chunk.times_us, track.times_us[[0, -1]])
    if first >= BORDER_FRAMES or not ways.shape[1]:
        return None
    start, end = planar_from_poses(track.poses_world_from_actor[[0, -1]])
    away_m = np.linalg.norm(ways[first, :, :2] - start[:2], axis=1)
    way = ways[:, int(away_m.argmin())].copy()
    along = np.cos(way[first, 2] - start[2])
    if away_m.min() > SAME_M or abs(along) < np.cos(SAME_AXIS_RAD):
        return None
    expected_m, covered_m = (float(np.hypot(*(b - a)[:2])) for a, b in ((way[first], way[last]), (start, end)))
    if expected_m < LEAST_M or covered_m >= LEAST_SHARE * expected_m:
        return None
    # What stands may have been found the wrong way round, and so is its shape.
    way[:, 2] += 0.0 if along > 0 else np.pi
    return way
