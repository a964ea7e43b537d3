"""Where cars stand parked: in the parking lanes."""

from collections.abc import Iterator

import numpy as np
import shapely
from jaxtyping import Float64

from dyncity_sumo.roads import Lane, LaneKind, Streets

CLEAR_M = 9.0
"""Distance kept from both ends of an edge: junctions and crossings stay open to view."""

PITCH_M = 6.2
"""Length of road that one parked car takes."""

TAKEN_SHARE = 0.7
"""Share of the spots of a street with a car in them, on average."""

NARROWEST_LANE_M = 1.8
"""A parking lane narrower than this is for two-wheelers."""


def parking_spots(network: Streets, rng: np.random.Generator) -> Float64[np.ndarray, "N 3"]:
    """Poses of parked cars: world x, y of the car's middle in metres, and yaw in radians.

    Spots lie at least 9 m from junctions and crossings and 6.2 m apart along a street.
    """
    spots: list[Float64[np.ndarray, 3]] = []
    for lane in network.lanes_of(LaneKind.PARKING):
        if lane.width_m < NARROWEST_LANE_M:
            continue
        taken_share = float(np.clip(rng.normal(TAKEN_SHARE, 0.2), 0.1, 1.0))
        spots += [spot for spot in _row(lane) if rng.random() < taken_share]
    return _apart(np.array(spots).reshape(-1, 3))


def _row(lane: Lane) -> Iterator[Float64[np.ndarray, "3"]]:
    line = shapely.linestrings(lane.centreline_m[:, :2])
    for along_m in np.arange(CLEAR_M + PITCH_M / 2, line.length - CLEAR_M - PITCH_M / 2, PITCH_M):
        ends = shapely.line_interpolate_point(line, [along_m - 2.0, along_m + 2.0])
        tail, head = shapely.get_coordinates(ends)
        forward = (head - tail) / np.linalg.norm(head - tail)
        yield np.array([*(tail + head) / 2, np.arctan2(forward[1], forward[0])])


def _apart(spots: Float64[np.ndarray, "N 3"]) -> Float64[np.ndarray, "M 3"]:
    """Drop spots that come too near to an earlier one, as where two streets meet at a sharp angle."""
    if len(spots) == 0:
        return spots
    near = shapely.STRtree(shapely.points(spots[:, :2])).query(
        shapely.points(spots[:, :2]), predicate="dwithin", distance=PITCH_M - 0.5
    )
    dropped = np.zeros(len(spots), np.bool_)
    for first, second in sorted(map(tuple, near.T)):
        if first < second and not dropped[first]:
            dropped[second] = True
    return spots[~dropped]
