"""Egos in traffic: a car that SUMO drives, or one that we drive and SUMO reacts to."""

from dataclasses import replace
from typing import Protocol

import numpy as np

from dyncity_sim.domain.frames import Pose
from dyncity_sim.errors import RoadEndsError
from dyncity_sumo.actors import ActorTable, merged
from dyncity_sumo.clearance import meets_others
from dyncity_sumo.ego import (
    HEADROOM_M,
    SIGHT_M,
    WHEELBASE_SHARE,
    Driver,
    Flaws,
    Motion,
    Obstacle,
    ego_pose,
    obstacles_ahead,
)
from dyncity_sumo.routes import GuideLine, Route, Stop
from dyncity_sumo.town import Town

ROUTE_AHEAD_M = 140.0
"""A route reaches at least this far ahead of its ego."""

STOP_SIGHT_M = 60.0
"""Signals farther ahead do not matter yet."""

YIELD_SIGHT_M = 14.0
"""Where one must give way, one looks from here on."""

PATIENCE_S = 12.0
"""Who has stood this long at a junction without a light goes."""

YELLOW_BRAKING_MPS2 = 2.8
"""Yellow means stop for whoever can do so with this much braking."""


class Ego(Protocol):
    """A car whose surroundings are recorded."""

    @property
    def vehicle_id(self) -> str:
        """SUMO's id of the car."""
        ...

    @property
    def kind(self) -> str:
        """``sumo``, ``own`` or ``off-nominal``: who drives, and how."""
        ...

    def prepare(self, actors: ActorTable) -> None:
        """Decide on the next step, before traffic takes it."""
        ...

    def pose_world_from_ego(self) -> Pose:
        """The ego frame after the step."""
        ...

    @property
    def is_off_nominal(self) -> bool:
        """Whether it is off its line now, or brakes for nothing, on purpose."""
        ...

    def is_astray(self, actors: ActorTable) -> bool:
        """Whether it is, against its driver's plan, where no car can be, or at a bridge; such drives are not kept."""
        ...

    @property
    def is_done(self) -> bool:
        """Whether it can drive no farther."""
        ...

    def leave(self) -> None:
        """Stop being an ego."""
        ...


class SumoEgo:
    """A car that SUMO drives."""

    kind = "sumo"
    is_off_nominal = False

    def __init__(self, town: Town, vehicle_id: str) -> None:
        self.vehicle_id = vehicle_id
        self._town = town
        town.traffic.watch(vehicle_id)

    def prepare(self, actors: ActorTable) -> None:
        """Nothing: SUMO decides."""

    def pose_world_from_ego(self) -> Pose:
        """From SUMO's position, on the built ground."""
        state = self._town.traffic.vehicle_state(self.vehicle_id)
        centre_m = np.array(state.xyz_m[:2])
        return ego_pose(centre_m, state.yaw_rad, self._town.scenery.ground_m(centre_m, state.xyz_m[2]))

    def is_astray(self, actors: ActorTable) -> bool:
        """Whether the car is on a bridge or under one; SUMO's driving is taken as it is."""
        return not self._town.scenery.carries(np.array([self._town.traffic.vehicle_state(self.vehicle_id).xyz_m]))[0]

    @property
    def is_done(self) -> bool:
        """Whether the car has arrived."""
        return not self._town.traffic.is_present(self.vehicle_id)

    def leave(self) -> None:
        """Let it drive on unwatched."""
        self._town.traffic.unwatch(self.vehicle_id)


class OwnEgo:
    """A car that a Driver of ours takes along a Route, placed in SUMO at each step.

    Attributes:
        driver: how it moves.
        route: where it goes.
    """

    kind = "own"

    def __init__(self, town: Town, vehicle_id: str, rng: np.random.Generator, attentive: bool = False) -> None:
        state = town.traffic.vehicle_state(vehicle_id)
        self.vehicle_id = vehicle_id
        self._town = town
        self._size_m = state.type.size_m
        self._waited_s = 0.0
        self._passed: set[float] = set()
        self.route = Route(town.lanes, town.traffic.junctions, state.lane_id, rng)
        x_m, y_m, self._z_m = state.xyz_m
        near_m = self.route.line.project(np.array([x_m, y_m]), 0.0, reach_m=np.inf)
        self._arrived = not self.route.grow(near_m + ROUTE_AHEAD_M)
        motion = Motion(float(x_m), float(y_m), state.yaw_rad, state.speed_mps, 0.0, near_m)
        self.driver = Driver(motion, self._size_m[0], Flaws(rng, attentive))
        town.traffic.take_over(vehicle_id)
        town.traffic.watch(vehicle_id)

    def prepare(self, actors: ActorTable) -> None:
        """Drive one step and tell SUMO where the car will be."""
        self.extend(self.driver.motion)
        self.place(self.driver.step(self.line, self.obstacles(self.driver.motion, actors)))

    @property
    def is_off_nominal(self) -> bool:
        """Never: this driver's flaws are small."""
        return False

    @property
    def line(self) -> GuideLine:
        """What the driver follows."""
        return self.route.line

    @property
    def wheelbase_m(self) -> float:
        """Distance between the axles."""
        return WHEELBASE_SHARE * self._size_m[0]

    def predict(self, start: Motion, actors: ActorTable, frames: int) -> list[Motion]:
        """Where the driver would take the car from ``start`` if all others went on as they do; moves nothing.

        Args:
            start: the car's motion when the prediction begins.
            actors: all actors at that time.
            frames: steps.

        Raises:
            RoadEndsError: the road ends ahead of ``start``.
        """
        self.extend(start)
        if self._ends_near(start):
            raise RoadEndsError("The ego's road ends ahead of it: start again with another seed.")
        obstacles = self.obstacles(start, actors)
        return self.driver.predict(self.route.line, obstacles, frames, start)

    def extend(self, motion: Motion) -> None:
        """Let the route reach ROUTE_AHEAD_M ahead of ``motion``."""
        self._arrived = not self.route.grow(motion.s_m + ROUTE_AHEAD_M)

    def place(self, motion: Motion) -> None:
        """Tell SUMO where the car is after the next step."""
        self.driver.motion = motion
        self._note_waiting()
        self._z_m = float(self.route.line.at(motion.s_m)[0][2])
        self._town.traffic.place(self.vehicle_id, motion.xy_m, motion.yaw_rad, motion.speed_mps)

    def obstacles(self, motion: Motion, actors: ActorTable) -> list[Obstacle]:
        """What the driver must heed at ``motion``: actors in the way, and stop lines that are closed now."""
        return self.obstacles_on(self.line, motion, actors)

    def obstacles_on(self, line: GuideLine, motion: Motion, actors: ActorTable) -> list[Obstacle]:
        """The same for a driver who follows ``line``."""
        own = self._town.traffic.actor_id(self.vehicle_id)
        found = obstacles_ahead(line, motion, self._size_m, actors[actors.ids != own])
        for stop in self.route.stops:
            gap_m = stop.at_m - motion.s_m - self._size_m[0] / 2
            if -1.0 < gap_m < STOP_SIGHT_M and self._must_stop(stop, gap_m, motion.speed_mps):
                found.append(Obstacle(max(gap_m + 1.0, 0.3), 0.0))
        return found

    def pose_world_from_ego(self) -> Pose:
        """From our own motion, on the built ground."""
        motion = self.driver.motion
        return ego_pose(motion.xy_m, motion.yaw_rad, self._town.scenery.ground_m(motion.xy_m, self._z_m))

    def is_astray(self, actors: ActorTable) -> bool:
        """Whether the car is on a bridge or under one, or overlaps anyone: people walk into cars, some brake late."""
        motion = self.driver.motion
        if not self._town.scenery.carries(np.array([[motion.x_m, motion.y_m, self._z_m]]))[0]:
            return True
        around = self._around(actors)
        return bool(meets_others([motion], self._size_m, 0.0, replace(around, speeds_mps=np.zeros(len(around))))[0])

    @property
    def is_done(self) -> bool:
        """Whether the route ends close ahead, or the car is gone."""
        return self._ends_near(self.driver.motion) or not self._town.traffic.is_present(self.vehicle_id)

    def leave(self) -> None:
        """Take the car out of traffic: SUMO has no route for it any more."""
        if self._town.traffic.is_present(self.vehicle_id):
            self._town.traffic.remove(self.vehicle_id)

    def _around(self, actors: ActorTable) -> ActorTable:
        own = self._town.traffic.actor_id(self.vehicle_id)
        xy_m = self.driver.motion.xy_m
        near = [table.near(xy_m, 2 * SIGHT_M) for table in (self._town.scenery.parked, actors)]
        everyone = merged(near)
        # Who is higher or lower by a storey is on another road.
        level = np.abs(everyone.feet_m[:, 2] - self._z_m) < HEADROOM_M
        return everyone[level & (everyone.ids != own)]

    def _ends_near(self, motion: Motion) -> bool:
        return self._arrived and self.route.line.length_m - motion.s_m < 25.0

    def _must_stop(self, stop: Stop, gap_m: float, speed: float) -> bool:
        state = self._town.traffic.junctions.signal_state(stop.link)
        if state:
            if state in "yY":
                return speed**2 / (2 * max(gap_m, 0.1)) < YELLOW_BRAKING_MPS2
            if state in "ru":
                # Who is already over the line, or cannot stop before it any more, clears the junction.
                return gap_m > 0 and speed**2 / (2 * max(gap_m, 0.1)) < 1.8 * YELLOW_BRAKING_MPS2
        if stop.at_m in self._passed or not self._town.traffic.junctions.must_give_way(stop.link):
            return False
        if gap_m > YIELD_SIGHT_M or (not state and self._waited_s > PATIENCE_S):
            return False
        if self._town.traffic.junctions.way_is_free(stop.lane_id, stop.link):
            if gap_m < 3.0:
                self._passed.add(stop.at_m)
            return False
        return gap_m > 0

    def _note_waiting(self) -> None:
        standing = self.driver.motion.speed_mps < 0.3
        self._waited_s = self._waited_s + 0.1 if standing else max(self._waited_s - 0.5, 0.0)
