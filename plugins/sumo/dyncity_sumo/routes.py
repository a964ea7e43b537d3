"""Where an ego of our own goes: a random walk over lanes, smoothed into a line that can be driven.

SUMO's lane shapes are polylines with kinks. A car that follows them as they are turns in jerks, so the walk is
resampled and smoothed before anyone steers along it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float64
from scipy.ndimage import gaussian_filter1d

from dyncity_sumo.junctions import Link
from dyncity_sumo.roads import Lane, LaneKind, RoadNetwork

SPACING_M = 0.5
"""Distance between points of a guide line."""

SMOOTHING_M = 1.5
"""Standard deviation of the smoothing along the line."""

COMFORT_LATERAL_MPS2 = 2.2
COMFORT_BRAKING_MPS2 = 1.6
"""Sideways acceleration in curves, and braking ahead of them."""

TURN_WEIGHTS: Mapping[str, float] = {"s": 1.0, "l": 1.6, "r": 1.6, "L": 1.2, "R": 1.2, "t": 0.0}
"""How willingly the walk takes each kind of link: more turns than real traffic, which mostly goes straight on."""


LOOK_AHEAD = 5
"""The walk avoids ways that end before so many junctions."""


class LaneGraph(Protocol):
    """What the walk needs to know of a network's connections."""

    def links(self, lane_id: str) -> tuple[Link, ...]:
        """Ways out of a lane."""
        ...

    def inner_lanes(self, link: Link) -> tuple[str, ...]:
        """Lanes inside of the junction that a link runs over."""
        ...


@dataclass(frozen=True)
class Stop:
    """A place on a route where one may have to wait.

    Attributes:
        at_m: distance of the stop line from the start of the route.
        lane_id: the lane that ends there.
        link: the way on.
    """

    at_m: float
    lane_id: str
    link: Link


@dataclass(frozen=True, eq=False)
class GuideLine:
    """A smooth line to drive along, in points SPACING_M apart.

    Attributes:
        points_m: ``(N, 3)`` world.
        yaws_rad: ``(N,)`` unwrapped.
        speeds_mps: ``(N,)`` highest comfortable speed, for the limit, the curves here and the curves ahead.
    """

    points_m: Float64[np.ndarray, "N 3"]
    yaws_rad: Float64[np.ndarray, " N"]
    speeds_mps: Float64[np.ndarray, " N"]

    @property
    def length_m(self) -> float:
        """From the first point to the last."""
        return (len(self.points_m) - 1) * SPACING_M

    def at(self, s_m: float) -> tuple[Float64[np.ndarray, "3"], float]:
        """Point and yaw at a distance from the start, clamped to the line."""
        where = min(max(s_m / SPACING_M, 0.0), len(self.points_m) - 1.001)
        i, share = int(where), where - int(where)
        point = (1 - share) * self.points_m[i] + share * self.points_m[i + 1]
        return point, float((1 - share) * self.yaws_rad[i] + share * self.yaws_rad[i + 1])

    def speed_at(self, s_m: float) -> float:
        """Highest comfortable speed at a distance from the start."""
        return float(self.speeds_mps[min(max(round(s_m / SPACING_M), 0), len(self.speeds_mps) - 1)])

    def project(self, xy_m: Float64[np.ndarray, "2"], near_m: float, reach_m: float = 8.0) -> float:
        """Distance from the start of the point closest to ``xy_m``, sought within ``reach_m`` of ``near_m``."""
        first = int(np.clip((near_m - reach_m) / SPACING_M, 0, len(self.points_m) - 1))
        last = int(np.clip((near_m + reach_m) / SPACING_M + 1, first + 1, len(self.points_m)))
        offset = self.points_m[first:last, :2] - xy_m
        nearest = first + int(np.einsum("nd,nd->n", offset, offset).argmin())
        along = np.array([np.cos(self.yaws_rad[nearest]), np.sin(self.yaws_rad[nearest])])
        return nearest * SPACING_M + float(np.clip((xy_m - self.points_m[nearest, :2]) @ along, -0.5, 0.5))


def guide_line(points_m: Float64[np.ndarray, "N 3"], limits_mps: Float64[np.ndarray, " N"]) -> GuideLine:
    """Resample and smooth a polyline with a speed limit at each point."""
    steps_m = np.linalg.norm(np.diff(points_m[:, :2], axis=0), axis=1)
    keep = np.concatenate([[True], steps_m > 1e-3])
    points_m, limits_mps = points_m[keep], limits_mps[keep]
    s_m = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points_m[:, :2], axis=0), axis=1))])
    even_m = np.arange(0, max(s_m[-1], 2 * SPACING_M), SPACING_M)
    even = np.column_stack([np.interp(even_m, s_m, points_m[:, axis]) for axis in range(3)])
    # Smoothing pulls a line's ends inwards; a straight run-in and run-out keep them where they are.
    margin = int(4 * SMOOTHING_M / SPACING_M)
    runs = np.arange(1, margin + 1)[:, None]
    before = even[0] + (even[0] - even[1]) * runs[::-1]
    after = even[-1] + (even[-1] - even[-2]) * runs
    smooth = gaussian_filter1d(np.concatenate([before, even, after]), SMOOTHING_M / SPACING_M, axis=0)
    smooth = smooth[margin:-margin]
    tangent = np.gradient(smooth[:, :2], axis=0)
    yaws_rad = np.unwrap(np.arctan2(tangent[:, 1], tangent[:, 0]))
    curvature = np.abs(np.gradient(yaws_rad)) / np.maximum(np.linalg.norm(tangent, axis=1), 1e-3)
    speeds_mps = np.minimum(
        np.interp(even_m, s_m, limits_mps), np.sqrt(COMFORT_LATERAL_MPS2 / np.maximum(curvature, 1e-4))
    )
    for i in range(len(speeds_mps) - 2, -1, -1):
        braked = np.sqrt(speeds_mps[i + 1] ** 2 + 2 * COMFORT_BRAKING_MPS2 * SPACING_M)
        speeds_mps[i] = min(speeds_mps[i], braked)
    return GuideLine(smooth, yaws_rad, speeds_mps)


class Route:
    """A walk over lanes that grows ahead of its ego.

    Args:
        lanes: drivable lanes by id, those inside of junctions included.
        graph: how they connect.
        lane_id: where the walk starts.
        rng: chooses at junctions.
    """

    def __init__(self, lanes: Mapping[str, Lane], graph: LaneGraph, lane_id: str, rng: np.random.Generator) -> None:
        self._lanes = lanes
        self._graph = graph
        self._rng = rng
        self._last = lane_id
        self._points: list[Float64[np.ndarray, "N 3"]] = []
        self._limits: list[Float64[np.ndarray, " N"]] = []
        self._length_m = 0.0
        self._append(lane_id)
        self.stops: list[Stop] = []
        self.line = self._line()

    def grow(self, until_m: float) -> bool:
        """Go on until the route is that long; False when it ends before, at a dead end."""
        grown = False
        while self._length_m < until_m:
            link = self._choose()
            if link is None:
                break
            self.stops.append(Stop(self._length_m, self._last, link))
            for inner in self._graph.inner_lanes(link):
                if inner in self._lanes:
                    self._append(inner)
            self._append(link.lane_id)
            self._last = link.lane_id
            grown = True
        if grown:
            self.line = self._line()
        return self._length_m >= until_m

    def _choose(self) -> Link | None:
        links = self._ways_out(self._last)
        if not links:
            return None
        onward = [link for link in links if self._leads_on(link.lane_id, LOOK_AHEAD)] or links
        weights = np.array([TURN_WEIGHTS[x.turn] for x in onward])
        return onward[int(self._rng.choice(len(onward), p=weights / weights.sum()))]

    def _ways_out(self, lane_id: str) -> list[Link]:
        return [x for x in self._graph.links(lane_id) if x.lane_id in self._lanes and TURN_WEIGHTS[x.turn] > 0]

    def _leads_on(self, lane_id: str, junctions: int) -> bool:
        """Whether one can get past that many more junctions."""
        if junctions == 0:
            return True
        return any(self._leads_on(link.lane_id, junctions - 1) for link in self._ways_out(lane_id))

    def _append(self, lane_id: str) -> None:
        lane = self._lanes[lane_id]
        points = lane.centreline_m
        if self._points:
            self._length_m += float(np.linalg.norm(points[0, :2] - self._points[-1][-1, :2]))
        self._points.append(points)
        self._limits.append(np.full(len(points), lane.speed_mps))
        self._length_m += float(np.linalg.norm(np.diff(points[:, :2], axis=0), axis=1).sum())

    def _line(self) -> GuideLine:
        return guide_line(np.concatenate(self._points), np.concatenate(self._limits))


def drivable_lanes(network: RoadNetwork) -> dict[str, Lane]:
    """Lanes that a car may use, by id, those inside of junctions included."""
    return {lane.id: lane for lane in network.lanes_of(LaneKind.DRIVING, LaneKind.INTERNAL)}
