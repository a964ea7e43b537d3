"""The server's own traffic: vehicles that follow lanes, keep their distance, and turn at random."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float64, Int64
from scipy.spatial import cKDTree

from dyncity_carla.loopback.actors import Actor, ActorTable
from dyncity_carla.loopback.geometry import wrapped

STEP_M = 2.0
WAY_POINTS = 80
REFILL_POINTS = 30
"""A way is lengthened when less of it is left."""

LOOK_POINTS = 20
BEND_POINTS = 6
"""A driver looks this far ahead along its way for others, and for bends."""

LANE_HALF_M = 1.7
"""What is nearer to the way than this is in the way."""

GAP_M = 3.0
HEADWAY_S = 0.5
ACCELERATION_MPS2 = 1.5
BRAKING_MPS2 = 3.0
LATERAL_MPS2 = 2.0
CRUISE_MPS = (6.0, 12.0)

Walk = Callable[[np.ndarray, float, float, np.random.Generator], Float64[np.ndarray, "P 6"]]
"""A way along lanes: start row, length, step, and what decides the turns."""


class Traffic:
    """Vehicles that the server drives, all moved at once.

    Args:
        walk: ways along the lanes of the map.
        rng: decides every turn.
    """

    def __init__(self, walk: Walk, rng: np.random.Generator) -> None:
        self._walk, self._rng = walk, rng
        self._actors: list[Actor] = []
        self._ways = np.zeros((0, WAY_POINTS, 6))
        self._s_m = np.zeros(0)
        self._speeds_mps = np.zeros(0)
        self._cruises_mps = np.zeros(0)

    def __len__(self) -> int:
        return len(self._actors)

    def add(self, actor: Actor, table: ActorTable) -> None:
        """Drive an actor from where it stands; it is on a lane from the next tick on."""
        actor.own_traffic = True
        self._actors.append(actor)
        start = table.transforms[actor.row][None]
        self._ways = np.concatenate([self._ways, self._lengthened(start)[None]])
        self._s_m = np.append(self._s_m, STEP_M)
        self._speeds_mps = np.append(self._speeds_mps, 0.0)
        self._cruises_mps = np.append(self._cruises_mps, self._rng.uniform(*CRUISE_MPS))

    def step(self, table: ActorTable, delta_s: float) -> None:
        """Move every vehicle on; one whose lanes end there stops, and one that a client destroyed is forgotten."""
        self._forget(table)
        if not self._actors:
            return
        rows = np.array([actor.row for actor in self._actors])
        self._refill()
        before_mps = self._speeds_mps
        wanted = np.minimum(np.minimum(self._cruises_mps, self._bend_limits_mps()), self._gap_limits_mps(rows, table))
        slowest, fastest = before_mps - 2 * BRAKING_MPS2 * delta_s, before_mps + ACCELERATION_MPS2 * delta_s
        self._speeds_mps = np.maximum(np.clip(wanted, slowest, fastest), 0.0)
        self._s_m = np.minimum(self._s_m + self._speeds_mps * delta_s, (WAY_POINTS - 1) * STEP_M)
        places = self._places()
        turned = wrapped(places[:, 4] - table.transforms[rows, 4])
        yaws = np.radians(places[:, 4])
        ahead = np.stack([np.cos(yaws), np.sin(yaws), np.zeros(len(yaws))], axis=-1)
        table.transforms[rows] = places
        table.velocities[rows] = self._speeds_mps[:, None] * ahead
        table.accelerations[rows] = ((self._speeds_mps - before_mps) / delta_s)[:, None] * ahead
        table.angular_velocities[rows, 2] = turned / delta_s

    def _forget(self, table: ActorTable) -> None:
        kept = [n for n, actor in enumerate(self._actors) if table.get(actor.id) is actor]
        if len(kept) < len(self._actors):
            self._actors = [self._actors[n] for n in kept]
            self._ways, self._s_m = self._ways[kept], self._s_m[kept]
            self._speeds_mps, self._cruises_mps = self._speeds_mps[kept], self._cruises_mps[kept]

    def _refill(self) -> None:
        for n in np.flatnonzero(self._s_m > (WAY_POINTS - REFILL_POINTS) * STEP_M):
            behind = int(self._s_m[n] / STEP_M) - 1
            self._ways[n] = self._lengthened(self._ways[n, behind:])
            self._s_m[n] -= behind * STEP_M

    def _lengthened(self, way: Float64[np.ndarray, "P 6"]) -> Float64[np.ndarray, "W 6"]:
        """A way with more ahead of it; where lanes end, its last point is repeated."""
        more = self._walk(way[-1], (WAY_POINTS - len(way) + 1) * STEP_M, STEP_M, self._rng)
        longer = np.concatenate([way, more[1:]])[:WAY_POINTS] if len(way) > 1 else more[:WAY_POINTS]
        return np.concatenate([longer, np.repeat(longer[-1:], WAY_POINTS - len(longer), axis=0)])

    def _ahead(self, points: int) -> Int64[np.ndarray, "D points"]:
        first = (self._s_m / STEP_M).astype(np.int64)[:, None]
        return np.minimum(first + np.arange(points), WAY_POINTS - 1)

    def _places(self) -> Float64[np.ndarray, "D 6"]:
        """Where vehicles are on their ways, between two points; headings are turned the short way round."""
        n = np.minimum((self._s_m / STEP_M).astype(np.int64), WAY_POINTS - 2)
        each = np.arange(len(n))
        change = self._ways[each, n + 1] - self._ways[each, n]
        change[:, 3:] = wrapped(change[:, 3:])
        return self._ways[each, n] + (self._s_m / STEP_M - n)[:, None] * change

    def _bend_limits_mps(self) -> Float64[np.ndarray, " D"]:
        """Speeds at which the bends ahead are comfortable, and zero where the way ends."""
        ahead = np.take_along_axis(self._ways, self._ahead(BEND_POINTS + 1)[..., None], axis=1)
        bends_per_m = np.radians(np.abs(wrapped(np.diff(ahead[..., 4], axis=1))).max(axis=1)) / STEP_M
        ends = (ahead[:, 0, :2] == ahead[:, -1, :2]).all(axis=1)
        return np.where(ends, 0.0, np.sqrt(LATERAL_MPS2 / np.maximum(bends_per_m, 1e-6)))

    def _gap_limits_mps(self, rows: np.ndarray, table: ActorTable) -> Float64[np.ndarray, " D"]:
        """Speeds from which each vehicle can stop behind the first thing in its way."""
        solid = [actor for actor in table if actor.blueprint.is_solid and actor.collides]
        solid_rows = np.array([actor.row for actor in solid])
        halves_m = np.zeros(len(table))
        halves_m[solid_rows] = [actor.blueprint.extent_m[0] for actor in solid]
        points = self._ahead(LOOK_POINTS)
        looked_at = np.take_along_axis(self._ways[..., :2], points[..., None], axis=1)
        tree = cKDTree(table.transforms[solid_rows, :2])
        _, found = tree.query(looked_at, k=2, distance_upper_bound=LANE_HALF_M)
        nearest = np.append(solid_rows, -1)[found]
        others = np.where(nearest == rows[:, None, None], -1, nearest).max(axis=2)
        blocked = others >= 0
        first = blocked.argmax(axis=1)
        each = np.arange(len(rows))
        away_m = points[each, first] * STEP_M - self._s_m
        gaps_m = np.where(blocked.any(axis=1), away_m - halves_m[rows] - halves_m[others[each, first]], np.inf)
        free_m = np.maximum(gaps_m - GAP_M - HEADWAY_S * self._speeds_mps, 0.0)
        return np.sqrt(2 * BRAKING_MPS2 * free_m)
