"""Who is on the ego's way ahead, and how fast the ego may go behind them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.spatial import cKDTree

from dyncity_carla.route import SPACING_M, Route
from dyncity_carla.speed import BRAKING_MPS2
from dyncity_sim.domain.frames import planar_from_poses, transform_points
from dyncity_sim.domain.recording import ActorState

SIGHT_M = 100.0
GAP_M = 3.0
"""The ego stops so far behind who stands."""

HALF_LENGTH_M = 2.5
"""Of the ego."""

SIDE_M = 1.2
"""Half the ego's width and some air: who is nearer to its line is in its way."""

OTHER_LEVEL_M = 3.0
"""Who is so much higher or lower than the road is on another one."""

LEADER_BRAKING_MPS2 = 3.0
"""Whoever drives ahead is taken to brake like this from now on: a plan is not changed once it is made."""

_OUTLINE = np.array([(x, y, -1.0) for x in (-1.0, 0.0, 1.0) for y in (-1.0, 0.0, 1.0)]) / 2
"""Points of the underside of a box of edges of 1."""


@dataclass(frozen=True)
class Leader:
    """Somebody on the ego's route.

    Attributes:
        rear_m: how far along the route the nearest part of them is.
        speed_mps: along the route.
    """

    rear_m: float
    speed_mps: float

    def limit_mps(self, along_m: float, after_s: float) -> float:
        """Speed from which an ego can stop behind them.

        Args:
            along_m: how far along the route the middle of the ego is then.
            after_s: time from when they were seen.
        """
        braking_s = min(after_s, self.speed_mps / LEADER_BRAKING_MPS2)
        speed_mps = self.speed_mps - LEADER_BRAKING_MPS2 * braking_s
        rear_m = self.rear_m + (self.speed_mps + speed_mps) / 2 * braking_s
        gap_m = max(rear_m - GAP_M - HALF_LENGTH_M - along_m, 0.0)
        return math.sqrt(speed_mps**2 + 2 * BRAKING_MPS2 * gap_m)


def leaders_on(route: Route, along_m: float, actors: Sequence[ActorState]) -> list[Leader]:
    """All who are in the way within sight; who is beside the ego, or in it, cannot be stopped for any more.

    Args:
        route: the way ahead.
        along_m: how far along it the middle of the ego is.
        actors: all but the ego.
    """
    first = max(math.ceil((along_m - HALF_LENGTH_M - route.begin_m) / SPACING_M), 0)
    line_m = route.points_m[first : first + round(SIGHT_M / SPACING_M)]
    tree = cKDTree(line_m[:, :2])
    leaders = []
    for actor in actors:
        nearest = _nearest_on(line_m, tree, actor)
        rear_m = route.begin_m + SPACING_M * (first + nearest)
        if rear_m > along_m + HALF_LENGTH_M:
            ahead = line_m[nearest, :2] - line_m[nearest - 1, :2]
            turned_rad = float(planar_from_poses(actor.pose_world_from_actor)[2]) - math.atan2(ahead[1], ahead[0])
            leaders.append(Leader(rear_m, max(actor.speed_mps * math.cos(turned_rad), 0.0)))
    return leaders


def _nearest_on(line_m: Float64[np.ndarray, "N 3"], tree: cKDTree, actor: ActorState) -> int:
    """Index of the first point of a line that an actor is on; 0 where it is on none, or on the first."""
    outline_m = transform_points(actor.pose_world_from_actor, _OUTLINE * actor.size_m)
    away_m, indices = tree.query(outline_m[:, :2], distance_upper_bound=SIDE_M)
    on = away_m < SIDE_M
    on[on] &= np.abs(line_m[indices[on], 2] - outline_m[on, 2]) < OTHER_LEVEL_M
    return int(indices[on].min()) if on.any() else 0
