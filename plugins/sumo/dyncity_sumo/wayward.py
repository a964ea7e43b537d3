"""An ego that leaves its lane's centre, cuts corners, swerves and brakes hard, but never where there is no room."""

import numpy as np

from dyncity_sumo.actors import ActorTable
from dyncity_sumo.clearance import meets_others, share_on_road
from dyncity_sumo.ego import ACCELERATION_MPS2, HEADWAY_S, SIGHT_M, STANDSTILL_M, STEP_S, Motion, Obstacle
from dyncity_sumo.egos import OwnEgo
from dyncity_sumo.excursions import Excursion, displaced, drawn_excursion
from dyncity_sumo.routes import GuideLine
from dyncity_sumo.town import Town

BETWEEN_S = (0.5, 2.5)
"""Pause between two excursions."""

SLOWEST_MPS = 2.5
"""Excursions begin at this speed at least."""

TRIES = 4
"""Excursions that are tried out at a time before the driver keeps to the line for a while."""

TRIED_FRAMES = 100
"""An excursion must be clear for so many frames, or to its end."""

LOOK_FRAMES = 25
"""Once under way it is given up when it is not clear for so many frames."""

ROOM_M = 0.3
"""Room to others that is planned with."""

KERB_M = 0.1
"""Distance to the kerb that is planned with."""

OFF_ROAD_SHARE = 0.05
"""More of a car's footprint than this may not leave the road: kerbs are known to a column, not better."""

BRAKING_EVERY_S = 15.0
BRAKING_MPS2 = (3.0, 6.0)
BRAKING_S = (0.6, 3.5)
"""How often, how hard and for how long the driver brakes for nothing."""

OFF_BY_M = 0.35
"""So far from its line, or braking for nothing, a drive is off-nominal."""


class WaywardEgo(OwnEgo):
    """A car of ours that is driven off-nominally."""

    kind = "off-nominal"

    def __init__(self, town: Town, vehicle_id: str, rng: np.random.Generator) -> None:
        super().__init__(town, vehicle_id, rng, attentive=True)
        self._rng = rng
        self._way: Excursion | None = None
        self._between_s = float(rng.uniform(*BETWEEN_S))
        self._wall_m, self._braking_s = 0.0, 0.0

    @property
    def line(self) -> GuideLine:
        """What the driver follows: the route, or an excursion from it."""
        return displaced(self.route.line, self._way)

    @property
    def is_off_nominal(self) -> bool:
        """Whether the car is off its line, or brakes for nothing."""
        motion = self.driver.motion
        point, yaw_rad = self.route.line.at(motion.s_m)
        left = np.array([-np.sin(yaw_rad), np.cos(yaw_rad)])
        return self._braking_s > 0 or abs(float((motion.xy_m - point[:2]) @ left)) > OFF_BY_M

    def prepare(self, actors: ActorTable) -> None:
        """Decide what to do wrong, drive one step and tell SUMO where the car will be."""
        self.extend(self.driver.motion)
        self._decide(actors)
        super().prepare(actors)

    def obstacles(self, motion: Motion, actors: ActorTable) -> list[Obstacle]:
        """What the driver must heed at ``motion``, and what it only believes to see."""
        found = super().obstacles(motion, actors)
        if self._braking_s > 0:
            found.append(Obstacle(max(self._wall_m - motion.s_m, 0.3), 0.0))
        return found

    def is_astray(self, actors: ActorTable) -> bool:
        """As any ego is, or where an excursion has led it off the road all the same."""
        own = [self.driver.motion]
        if self._way and share_on_road(own, self._size_m, 0.0, self._town.scenery.columns)[0] < 1 - OFF_ROAD_SHARE:
            return True
        return super().is_astray(actors)

    def _decide(self, actors: ActorTable) -> None:
        motion = self.driver.motion
        self._braking_s -= STEP_S
        if self._braking_s <= 0 and motion.speed_mps > SLOWEST_MPS and self._rng.random() < STEP_S / BRAKING_EVERY_S:
            self._brake(motion)
        if self._way is None:
            self._between_s -= STEP_S
            if self._between_s <= 0 and motion.speed_mps > SLOWEST_MPS:
                self._way = self._possible_excursion(actors)
                self._between_s = float(self._rng.uniform(*BETWEEN_S))
        elif motion.s_m > self._way.to_m:
            self._way = None
        elif not self._is_clear(self._way, LOOK_FRAMES, actors):
            self._way = self._way.given_up(motion.s_m)

    def _brake(self, motion: Motion) -> None:
        """Believe to see a wall, so near that the driver model brakes as hard for it as was drawn."""
        heeded_m = STANDSTILL_M + motion.speed_mps * HEADWAY_S + motion.speed_mps**2 / (2 * ACCELERATION_MPS2)
        drawn_mps2 = float(self._rng.uniform(*BRAKING_MPS2))
        # The model brakes by ACCELERATION_MPS2 * (heeded / gap)^2, less what it would accelerate on a free road.
        self._wall_m = motion.s_m + heeded_m * float(np.sqrt(ACCELERATION_MPS2 / (drawn_mps2 + ACCELERATION_MPS2)))
        self._braking_s = float(self._rng.uniform(*BRAKING_S))

    def _possible_excursion(self, actors: ActorTable) -> Excursion | None:
        motion = self.driver.motion
        for _ in range(TRIES):
            way = drawn_excursion(self.route.line, motion.s_m, motion.speed_mps, self._rng)
            if way.to_m + SIGHT_M < self.route.line.length_m and self._is_clear(way, TRIED_FRAMES, actors):
                return way
        return None

    def _is_clear(self, way: Excursion, frames: int, actors: ActorTable) -> bool:
        """Whether the driver, going on along ``way``, stays on the road and away from others."""
        line = displaced(self.route.line, way)
        motions = self.driver.predict(line, self.obstacles_on(line, self.driver.motion, actors), frames)
        motions = [motion for motion in motions if motion.s_m < way.to_m] or motions[:1]
        if share_on_road(motions, self._size_m, KERB_M, self._town.scenery.columns).min() < 1.0:
            return False
        return not meets_others(motions, self._size_m, ROOM_M, self._around(actors)).any()
