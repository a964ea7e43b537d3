"""Where cars stand parked: in parking lanes, and half on the kerb of some streets."""

import zlib
from collections.abc import Iterator

import numpy as np
import shapely
from jaxtyping import Float64

from dyncity_sumo.roads import Lane, LaneKind, RoadNetwork

CLEAR_M = 9.0
"""Distance kept from both ends of an edge: junctions and crossings stay open to view."""

PITCH_M = 6.2
"""Length of road that one parked car takes."""

TAKEN_SHARE = 0.7
"""Share of the spots of a street with a car in them, on average."""

KERB_PARKING_SHARE = 0.5
"""Share of street sides without a parking lane where cars stand half on the kerb."""

FASTEST_MPS = 14.0
"""On faster streets (from 50 km/h up) nobody parks on the kerb."""

GUTTER_M = 1.0
"""A shoulder narrower than this is a gutter: it belongs to the kerb."""

KERB_OFFSET_M = 0.7
"""Cars on the kerb stand with their middle this far behind it: two wheels up, and room left to pass."""


def parking_spots(network: RoadNetwork, rng: np.random.Generator) -> Float64[np.ndarray, "N 3"]:
    """Poses of parked cars: world x, y of the car's middle in metres, and yaw in radians.

    Spots lie at least 9 m from junctions and crossings and 6.2 m apart along a street.
    """
    spots: list[Float64[np.ndarray, 3]] = []
    for lane, offset_m in _rows(network):
        taken_share = float(np.clip(rng.normal(TAKEN_SHARE, 0.2), 0.1, 1.0))
        spots += [spot for spot in _row(lane, offset_m) if rng.random() < taken_share]
    return _apart(np.array(spots).reshape(-1, 3))


def kerb_parking(network: RoadNetwork) -> list[tuple[Lane, float]]:
    """Lanes beside which cars may stand on the kerb, with the distance of their middle to the right.

    A property of the network alone, so that the city can keep trees and posts off these strips.
    """
    edges: dict[str, list[Lane]] = {}
    for lane in network.lanes:
        if lane.kind in (LaneKind.DRIVING, LaneKind.PARKING, LaneKind.SHOULDER, LaneKind.BICYCLE):
            edges.setdefault(lane.edge_id, []).append(lane)
    rows = []
    for edge_id, lanes in sorted(edges.items()):
        lanes.sort(key=lambda lane: int(lane.id.rpartition("_")[2]))
        gutter = lanes[0].kind is LaneKind.SHOULDER and lanes[0].width_m < GUTTER_M and len(lanes) > 1
        driven = lanes[1] if gutter else lanes[0]
        chosen = zlib.crc32(edge_id.encode()) % 1000 < 1000 * KERB_PARKING_SHARE
        if chosen and driven.kind is LaneKind.DRIVING and driven.speed_mps <= FASTEST_MPS and driven.width_m >= 3.0:
            rows.append((lanes[0], lanes[0].width_m / 2 + KERB_OFFSET_M))
    return rows


def _rows(network: RoadNetwork) -> list[tuple[Lane, float]]:
    marked = [(lane, 0.0) for lane in network.lanes_of(LaneKind.PARKING) if lane.width_m >= 1.8]
    return marked + kerb_parking(network)


def _row(lane: Lane, offset_m: float) -> Iterator[Float64[np.ndarray, "3"]]:
    line = shapely.linestrings(lane.centreline_m[:, :2])
    for along_m in np.arange(CLEAR_M + PITCH_M / 2, line.length - CLEAR_M - PITCH_M / 2, PITCH_M):
        ends = shapely.line_interpolate_point(line, [along_m - 2.0, along_m + 2.0])
        tail, head = shapely.get_coordinates(ends)
        forward = (head - tail) / np.linalg.norm(head - tail)
        middle = (tail + head) / 2 + offset_m * np.array([forward[1], -forward[0]])
        yield np.array([*middle, np.arctan2(forward[1], forward[0])])


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
