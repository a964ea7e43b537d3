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

SMOOTHING_REACH_M = 4 * SMOOTHING_M
"""What lies farther off does not move a point of the smoothed line."""

SAME_POINT_M = 1e-3
"""Where roads meet, waypoints may stand on each other."""

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
        begin_m: distance of the first point; the ego's first place is at distance 0.
        points_m: ``(N, 3)`` the line, SPACING_M apart, right-handed world.
        lanes: the lane under each point.
        ends: whether the road ends behind the last point.
    """

    def __init__(self, start: Waypoint, rng: np.random.Generator, origin_m: Float64[np.ndarray, " 3"]) -> None:
        self._rng = rng
        self._tip = start
        self._raw: list[Float64[np.ndarray, " 3"]] = [start.pose_world_from_lane[:3, 3]]
        self._raw_lanes: list[LaneKey] = [start.lane]
        self._raw_along_m: list[float] = [0.0]
        self._offset_m = origin_m - start.pose_world_from_lane[:3, 3]
        self.ends = False
        self.begin_m = 0.0
        self.points_m: Points = np.zeros((0, 3))
        self.lanes: tuple[LaneKey, ...] = ()
        self.grow(GROW_M)

    @property
    def length_m(self) -> float:
        """How far the line goes."""
        return self.begin_m + SPACING_M * (len(self.points_m) - 1)

    def grow(self, length_m: float) -> bool:
        """Make the line at least this long; returns whether it is, or the road ends before."""
        while self.length_m < length_m and not self.ends:
            for _ in range(round(GROW_M / STEP_M)):
                self._step()
            self._smooth()
        return self.length_m >= length_m

    def forget(self, before_m: float) -> None:
        """Drop what lies before a distance, but for what the line from there on depends on."""
        first = int(np.searchsorted(self._raw_along_m, before_m - SMOOTHING_REACH_M)) - 1
        if first > 0:
            del self._raw[:first], self._raw_lanes[:first], self._raw_along_m[:first]
            self._smooth()

    def at(self, distance_m: float) -> tuple[Float64[np.ndarray, " 3"], float]:
        """Point and heading (radians, counter-clockwise) of the line at a distance along it."""
        place = float(np.clip((distance_m - self.begin_m) / SPACING_M, 0, len(self.points_m) - 1.001))
        index, share = int(place), place - int(place)
        point = (1 - share) * self.points_m[index] + share * self.points_m[index + 1]
        yaws = self._yaws_rad[[index, index + 1]]
        return point, float(yaws[0] + share * (yaws[1] - yaws[0]))

    def curvature(self) -> Float64[np.ndarray, " N"]:
        """Change of heading per metre at each point."""
        return np.gradient(self._yaws_rad, SPACING_M)

    def _step(self) -> None:
        ways = [] if self.ends else self._tip.next(STEP_M)
        if not ways:
            self.ends = True
            return
        self._tip = choose(ways, self._rng)
        self._add(self._tip.pose_world_from_lane[:3, 3])

    def _add(self, point_m: Float64[np.ndarray, " 3"]) -> None:
        """Take a point of the tip's lane, unless it is where the last one is."""
        moved_m = float(np.linalg.norm(point_m[:2] - self._raw[-1][:2]))
        if moved_m > SAME_POINT_M:
            self._raw.append(point_m)
            self._raw_lanes.append(self._tip.lane)
            self._raw_along_m.append(self._raw_along_m[-1] + moved_m)

    def _smooth(self) -> None:
        """Points at even distances through the waypoints; the ego's own offset fades out over MERGE_M."""
        if self._raw_along_m[-1] < 2 * SPACING_M:
            self._add(self._raw[0] + 2 * SPACING_M * self._heading())
            self.ends = True
        raw, along_m = np.array(self._raw), np.array(self._raw_along_m)
        first = int(np.ceil(along_m[0] / SPACING_M))
        even_m = SPACING_M * np.arange(first, int(np.ceil(along_m[-1] / SPACING_M)))
        line = np.stack([np.interp(even_m, along_m, raw[:, axis]) for axis in range(3)], axis=-1)
        line = _smoothed(line)
        line += _fading(even_m)[:, None] * self._offset_m
        self.begin_m, self.points_m = SPACING_M * first, line
        tangent = np.gradient(line[:, :2], axis=0)
        self._yaws_rad: Float64[np.ndarray, " N"] = np.unwrap(np.arctan2(tangent[:, 1], tangent[:, 0]))
        passed = np.searchsorted(along_m, even_m, side="right") - 1
        self.lanes = tuple(self._raw_lanes[index] for index in passed)

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


def _smoothed(line: Points) -> Points:
    """Gaussian along the line; point reflection at both ends keeps them where they are."""
    pad = min(len(line) - 1, round(SMOOTHING_REACH_M / SPACING_M))
    before = 2 * line[0] - line[pad:0:-1]
    after = 2 * line[-1] - line[-2 : -pad - 2 : -1]
    padded = np.concatenate([before, line, after])
    return np.asarray(gaussian_filter1d(padded, SMOOTHING_M / SPACING_M, axis=0)[pad : pad + len(line)])


def _fading(distance_m: Float64[np.ndarray, " N"]) -> Float64[np.ndarray, " N"]:
    """From 1 to 0 over MERGE_M, with level ends (a smooth step)."""
    share = np.clip(distance_m / MERGE_M, 0.0, 1.0)
    return 1 - share**3 * (share * (6 * share - 15) + 10)
