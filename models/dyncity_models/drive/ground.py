"""The ground along a plan: generation sees and draws a level world, which rises and falls as the plan does.

Networks learn streets around a road that lies 1.8 m under the ego, and what they draw ahead is as level as that. Here
hills are taken out of what a drive remembers before a chunk is generated, and put into what was generated after it:
each column moves up or down by whole layers, as the nearest place of the plan says.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int64
from scipy.spatial import cKDTree

from dyncity_models.data.clips import UNOBSERVED
from dyncity_models.drive.borders import IS_SURFACE
from dyncity_models.drive.classes import FREE, ROAD
from dyncity_models.drive.memory import LAYERS_AROUND, DriveMemory, columns_seen_from, raised, with_surfaces_under
from dyncity_sim.domain.conditions import EgoPlan
from dyncity_sim.domain.frames import driven_ahead_m, planar_from_poses
from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.occupancy import OccupancySequence

STEP_M = 0.4
"""Distance of the places at which a plan is looked at."""

BEYOND_M = 26.0
"""So far before and after a plan, which is as far as its egos see, its street goes on straight, and as steep."""

STEEPEST = 0.15

LEAST_M = 4.0
"""Over shorter ways a slope cannot be told from how a vehicle shakes."""


@dataclass(frozen=True, eq=False)
class Ground:
    """The heights of a street, in layers over that of an ego at the height of a memory.

    Attributes:
        places: x, y in the world along the street, and the yaw in which it is driven: an ego that reverses faces the
            other way.
        planned: of the plan at each place.
        remembered: of the road there as the drive remembers it; where it remembers none, as far from the plan as at the
            nearest place.
        end: which place is the last one of the plan.
        height_m: of the memory.
        grid: of the frames.
    """

    places: Float64[np.ndarray, "P 3"]
    planned: Int64[np.ndarray, " P"]
    remembered: Int64[np.ndarray, " P"]
    end: int
    height_m: float
    grid: Grid

    @classmethod
    def under(cls, plan: EgoPlan, memory: DriveMemory, grid: Grid) -> "Ground":
        """The ground that a plan leads over, of a memory that is centred on it."""
        poses = plan.poses_world_from_ego
        places, heights_m, end = _street(planar_from_poses(poses), poses[:, 2, 3])
        planned = memory.lifts(heights_m, grid)
        road = memory.labels_at(places[:, :2], grid) == ROAD
        known = np.flatnonzero(road.any(axis=-1))
        if not len(known):
            return cls(places, planned, planned, end, memory.height_m, grid)
        found = road.shape[-1] - 1 - road[:, ::-1].argmax(axis=-1) - LAYERS_AROUND
        nearest = known[np.abs(np.arange(len(places))[:, None] - known).argmin(axis=-1)]
        return cls(places, planned, planned + (found - planned)[nearest], end, memory.height_m, grid)

    @property
    def driven(self) -> Float64[np.ndarray, "D 3"]:
        """The places of the plan itself."""
        return self.places[int(BEYOND_M / STEP_M) : self.end + 1]

    def level(self, plan: EgoPlan) -> EgoPlan:
        """The plan at one height."""
        poses = plan.poses_world_from_ego.copy()
        poses[:, 2, 3] = self.height_m
        return replace(plan, poses_world_from_ego=poses)

    def taken_out(self, memory: DriveMemory) -> DriveMemory:
        """A memory of a world in which the remembered road is level."""
        if not self.remembered.any():
            return memory
        labels = raised(memory.labels, -self.remembered[self._nearest_of(memory)])
        # On a hill the ground may have been under all that was seen; on level ground, what is free has some under it.
        bottomless = ~IS_SURFACE[labels].any(axis=-1, keepdims=True) & (labels == FREE)
        return replace(memory, labels=np.where(bottomless, UNOBSERVED, labels).astype(np.uint8))

    def put_into(self, memory: DriveMemory) -> DriveMemory:
        """A memory of a level world with the plan's heights, centred on that of its end."""
        if not self.planned.any():
            return memory
        last = self.planned[self.end]
        labels = raised(memory.labels, self.planned[self._nearest_of(memory)] - last)
        return replace(memory, labels=labels, height_m=self.height_m + last * self.grid.voxel_size_m[2])

    def seen(self, chunk: OccupancySequence, plan: EgoPlan) -> OccupancySequence:
        """A chunk of a level world, with the plan's heights and in its frames; what falls under a grid is gone."""
        chunk = replace(chunk, poses_world_from_ego=plan.poses_world_from_ego)
        if not self.planned.any():
            return chunk
        planar = planar_from_poses(plan.poses_world_from_ego)
        _, nearest = self._tree.query(columns_seen_from(planar, self.grid))
        _, own = self._tree.query(planar[:, :2])
        lifts = self.planned[nearest] - self.planned[own][:, None, None]
        unknown_under = np.concatenate([np.full_like(chunk.labels[..., :1], UNOBSERVED), chunk.labels], axis=-1)
        labels = with_surfaces_under(raised(unknown_under, lifts))
        return replace(chunk, labels=np.where(labels == UNOBSERVED, FREE, labels).astype(np.uint8))

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self.places[:, :2])

    def _nearest_of(self, memory: DriveMemory) -> Int64[np.ndarray, "N N"]:
        return np.asarray(self._tree.query(memory.columns_world(self.grid))[1])


def _street(
    planar: Float64[np.ndarray, "T 3"], heights_m: Float64[np.ndarray, " T"]
) -> tuple[Float64[np.ndarray, "P 3"], Float64[np.ndarray, " P"], int]:
    """(Places in even steps along a plan and beyond it, their heights, the number of the plan's last one)."""
    driven_m = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(planar[:, :2], axis=0).T))])
    beyond, middle = int(BEYOND_M / STEP_M), len(planar) // 2
    count = int(driven_m[-1] / STEP_M) + 1
    places_m = STEP_M * np.arange(-beyond, count + beyond)
    yaws = np.unwrap(planar[:, 2]) + (np.pi if driven_ahead_m(planar) < 0 else 0.0)
    x, y, yaw, height_m = (np.interp(places_m, driven_m, value) for value in (*planar[:, :2].T, yaws, heights_m))
    over_m = places_m - places_m.clip(0.0, driven_m[-1])
    slopes = [_slope(driven_m, heights_m, half) for half in (slice(0, middle), slice(middle, None))]
    height_m += over_m * np.where(over_m < 0, *slopes)
    places = np.column_stack([x + over_m * np.cos(yaw), y + over_m * np.sin(yaw), yaw])
    return places, height_m, beyond + count - 1


def _slope(driven_m: Float64[np.ndarray, " T"], heights_m: Float64[np.ndarray, " T"], half: slice) -> float:
    """That of a half of a plan, or of all of it, where the half is too short."""
    for part in (half, slice(None)):
        way_m, rise_m = np.ptp(driven_m[part]), heights_m[part][-1] - heights_m[part][0]
        if way_m >= LEAST_M:
            return float(np.clip(rise_m / way_m, -STEEPEST, STEEPEST))
    return 0.0
