"""The way ahead of the ego: a smooth line along driving lanes, chosen by seed where lanes branch."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64
from scipy.ndimage import gaussian_filter1d

from dyncity_carla.ports import LaneKey, Waypoint

STEP_M = 1.0
"""Distance between the waypoints that a route is made of."""

SPACING_M = 0.5
"""Distance between the points of the smoothed line."""

SMOOTHING_M = 1.5
"""Standard deviation of the Gaussian along the line: lanes of neighbouring roads do not join exactly."""

GROW_M = 120.0
"""So much is added to a route at a time."""

LOOK_AHEAD_M = 80.0
"""A branch that ends within this distance is taken only when all do."""

MERGE_M = 14.0
"""An ego beside its lane comes back to it over this distance."""

LONGEST_DRAW = 200
"""Branches that are tried out, at most, when one way on is looked for."""

Points = Float64[np.ndarray, "N 3"]


class Route:
    """A route from an ego's place on, extended as it is driven.

    Args:
        start: the lane that the ego drives on.
        rng: chooses at branches; the same generator and start give the same route.
        origin_m: ``(3,)`` centre of the ego's footprint on the ground, which need not lie on its lane.

    Attributes:
        points_m: ``(N, 3)`` the line, SPACING_M apart, right-handed world; the ego's place is at distance 0.
        lanes: the lane under each point.
        ends: whether the road ends behind the last point.
    """

    def __init__(self, start: Waypoint, rng: np.random.Generator, origin_m: Float64[np.ndarray, " 3"]) -> None:
        self._rng = rng
        self._tip = start
        self._raw: list[Float64[np.ndarray, " 3"]] = [start.pose_world_from_lane[:3, 3]]
        self._raw_lanes: list[LaneKey] = [start.lane]
        self._offset_m = origin_m - start.pose_world_from_lane[:3, 3]
        self.ends = False
        self.points_m: Points = np.zeros((0, 3))
        self.lanes: tuple[LaneKey, ...] = ()
        self.grow(GROW_M)

    @property
    def length_m(self) -> float:
        """How far the line goes."""
        return SPACING_M * (len(self.points_m) - 1)

    def grow(self, length_m: float) -> bool:
        """Make the line at least this long; returns whether it is, or the road ends before."""
        while self.length_m < length_m and not self.ends:
            goal = len(self._raw) + round(GROW_M / STEP_M)
            while len(self._raw) < goal and not self.ends:
                self._step()
            self._smooth()
        return self.length_m >= length_m

    def at(self, distance_m: float) -> tuple[Float64[np.ndarray, " 3"], float]:
        """Point and heading (radians, counter-clockwise) of the line at a distance along it."""
        place = float(np.clip(distance_m / SPACING_M, 0, len(self.points_m) - 1.001))
        index, share = int(place), place - int(place)
        point = (1 - share) * self.points_m[index] + share * self.points_m[index + 1]
        yaws = self._yaws_rad[[index, index + 1]]
        return point, float(yaws[0] + share * (yaws[1] - yaws[0]))

    def curvature(self) -> Float64[np.ndarray, " N"]:
        """Change of heading per metre at each point."""
        return np.gradient(self._yaws_rad, SPACING_M)

    def _step(self) -> None:
        ways = self._tip.next(STEP_M)
        if not ways:
            self.ends = True
            return
        self._tip = choose(ways, self._rng)
        self._raw.append(self._tip.pose_world_from_lane[:3, 3])
        self._raw_lanes.append(self._tip.lane)

    def _smooth(self) -> None:
        """Points at even distances through the waypoints; the ego's own offset fades out over MERGE_M."""
        raw = _without_repeats(np.array(self._raw))
        along_m = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(raw[:, :2], axis=0), axis=1))])
        if along_m[-1] < 2 * SPACING_M:
            raw = np.array([raw[0], raw[0] + 2 * SPACING_M * self._heading()])
            along_m = np.array([0.0, 2 * SPACING_M])
            self.ends = True
        even_m = np.arange(0.0, along_m[-1], SPACING_M)
        line = np.stack([np.interp(even_m, along_m, raw[:, axis]) for axis in range(3)], axis=-1)
        line = _smoothed(line)
        line += _fading(even_m)[:, None] * self._offset_m
        self.points_m = line
        tangent = np.gradient(line[:, :2], axis=0)
        self._yaws_rad: Float64[np.ndarray, " N"] = np.unwrap(np.arctan2(tangent[:, 1], tangent[:, 0]))
        nearest = np.clip(np.round(even_m / STEP_M).astype(int), 0, len(self._raw_lanes) - 1)
        self.lanes = tuple(self._raw_lanes[index] for index in nearest)

    def _heading(self) -> Float64[np.ndarray, " 3"]:
        return np.asarray(self._tip.pose_world_from_lane[:3, 0])


def choose(ways: Sequence[Waypoint], rng: np.random.Generator) -> Waypoint:
    """One way on, drawn among those that do not end soon; a draw is spent only where there is a choice."""
    if len(ways) == 1:
        return ways[0]
    ordered = sorted(ways, key=lambda way: (way.lane.road, way.lane.section, way.lane.lane, way.lane.s_m))
    goes_on = [way for way in ordered if _goes_on(way)] or ordered
    return goes_on[int(rng.integers(len(goes_on)))]


def _goes_on(start: Waypoint) -> bool:
    """Whether any way from here is LOOK_AHEAD_M long."""
    step_m = 10.0
    frontier: list[tuple[Waypoint, float]] = [(start, 0.0)]
    for _ in range(LONGEST_DRAW):
        if not frontier:
            return False
        waypoint, driven_m = frontier.pop()
        if driven_m >= LOOK_AHEAD_M:
            return True
        frontier.extend((way, driven_m + step_m) for way in waypoint.next(step_m))
    return True


def _without_repeats(points: Points) -> Points:
    moved = np.concatenate([[True], np.linalg.norm(np.diff(points[:, :2], axis=0), axis=1) > 1e-3])
    return points[moved]


def _smoothed(line: Points) -> Points:
    """Gaussian along the line; point reflection at both ends keeps them where they are."""
    pad = min(len(line) - 1, round(4 * SMOOTHING_M / SPACING_M))
    before = 2 * line[0] - line[pad:0:-1]
    after = 2 * line[-1] - line[-2 : -pad - 2 : -1]
    padded = np.concatenate([before, line, after])
    return np.asarray(gaussian_filter1d(padded, SMOOTHING_M / SPACING_M, axis=0)[pad : pad + len(line)])


def _fading(distance_m: Float64[np.ndarray, " N"]) -> Float64[np.ndarray, " N"]:
    """From 1 to 0 over MERGE_M, with level ends (a smooth step)."""
    share = np.clip(distance_m / MERGE_M, 0.0, 1.0)
    return 1 - share**3 * (share * (6 * share - 15) + 10)
