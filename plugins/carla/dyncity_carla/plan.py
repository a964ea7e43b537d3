"""Plans: where the ego will be, step by step, along its route.

The ego frame stands at CarlaSC's LiDAR: LIDAR_BEHIND_M behind the middle of the car on its centre line, 1.8 m above
the road, upright. The middle of the car runs along the route.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from dyncity_carla.leaders import Leader, leaders_on
from dyncity_carla.route import SPACING_M, Route
from dyncity_carla.speed import SpeedLimits, allowed_mps, next_speed
from dyncity_sim.domain.conditions import EgoPlan
from dyncity_sim.domain.frames import Pose, poses_from_planar
from dyncity_sim.domain.grid import FRAME_RATE_HZ, LIDAR_BEHIND_M, LIDAR_HEIGHT_M
from dyncity_sim.domain.recording import ActorState
from dyncity_sim.errors import InvalidInputError, RoadEndsError

STEP_US = 1_000_000 // FRAME_RATE_HZ
"""One frame."""

SIGHT_M = 100.0
"""The route is kept this much longer than the plans: braking from the highest speed takes this long."""

BEHIND_M = 10.0
"""What is driven is dropped from the route but for so much: tangents and bends need the line around a point."""

STANDING_MPS = 0.2
PATIENCE_S = 60.0
PASSED_M = 20.0
"""Nobody is waited for any longer: they may be waiting for the ego, which then goes on through who is so near."""

END_M = 1.0
"""An ego that stands this close to the end of its road cannot be planned for."""


def ego_pose(centre_m: Float64[np.ndarray, " 3"], yaw_rad: float) -> Pose:
    """The ego frame of a car whose footprint's middle stands at ``centre_m`` on the road."""
    back = LIDAR_BEHIND_M * np.array([np.cos(yaw_rad), np.sin(yaw_rad)])
    x_m, y_m = centre_m[:2] - back
    return poses_from_planar(np.array([x_m, y_m, yaw_rad]), float(centre_m[2]) + LIDAR_HEIGHT_M)


def pose_of_car(pose_world_from_ego: Pose) -> Pose:
    """Pose of the middle of the footprint, on the road, of the car whose ego frame this is."""
    pose = pose_world_from_ego.copy()
    pose[:3, 3] += LIDAR_BEHIND_M * pose[:3, 0] - LIDAR_HEIGHT_M * pose[:3, 2]
    return pose


class Planner:
    """Plans one ego's drive along its route, chunk after chunk; each plan begins where the one before ended.

    Args:
        route: the way ahead, from the ego's place on.
        limits: speed limits of its roads.
        speed_mps: the ego's speed now.
        time_us: the drive's time now.
    """

    def __init__(self, route: Route, limits: SpeedLimits, speed_mps: float, time_us: int) -> None:
        self._route, self._limits = route, limits
        self._speed_mps, self._acceleration_mps2 = speed_mps, 0.0
        self._along_m = 0.0
        self._time_us = time_us
        self._allowed = allowed_mps(route, limits)
        self._waited_s, self._heeded_from_m = 0.0, -math.inf

    def plan(self, frames: int, others: Sequence[ActorState] = ()) -> EgoPlan:
        """The next ``frames`` poses at 10 Hz.

        Args:
            frames: at least two.
            others: actors that the ego stops behind, as they are when the plan begins. An ego that has stood for
                PATIENCE_S goes on, whoever is in its way.

        Raises:
            InvalidInputError: fewer than two frames.
            RoadEndsError: the ego stands where its road ends.
        """
        if frames < 2:
            raise InvalidInputError("frames", frames, "at least 2")
        self._extend(frames)
        left_m = self._route.length_m - self._along_m
        if self._route.ends and left_m < END_M + SPACING_M and self._speed_mps < STANDING_MPS:
            raise RoadEndsError(
                f"The ego's road ends {max(left_m, 0.0):.1f} m ahead of it: start again with another --seed, or put "
                "the ego on a road that goes on."
            )
        if self._waited_s > PATIENCE_S:
            self._heeded_from_m, self._waited_s = self._along_m + PASSED_M, 0.0
        leaders = leaders_on(self._route, self._along_m, others)
        leaders = [leader for leader in leaders if leader.rear_m > self._heeded_from_m]
        poses = np.stack([self._step(leaders, step * STEP_US * 1e-6) for step in range(1, frames + 1)])
        times_us = self._time_us + STEP_US * np.arange(1, frames + 1, dtype=np.int64)
        self._time_us = int(times_us[-1])
        return EgoPlan(poses, times_us)

    def _extend(self, frames: int) -> None:
        farthest_m = self._along_m + SIGHT_M + frames * self._allowed.max() * STEP_US * 1e-6
        if self._route.length_m < farthest_m and not self._route.ends:
            self._route.forget(self._along_m - BEHIND_M)
            self._route.grow(farthest_m + SIGHT_M)
            self._allowed = allowed_mps(self._route, self._limits)

    def _step(self, leaders: Sequence[Leader], after_s: float) -> Pose:
        step_s = STEP_US * 1e-6
        ahead_m = self._along_m + self._speed_mps * step_s
        behind_others = (leader.limit_mps(ahead_m, after_s) for leader in leaders)
        allowed = min(self._allowed_at(ahead_m), *behind_others, math.inf)
        speed, self._acceleration_mps2 = next_speed(self._speed_mps, self._acceleration_mps2, allowed, step_s)
        travelled_m = (self._speed_mps + speed) / 2 * step_s
        self._along_m = min(self._along_m + travelled_m, self._route.length_m)
        self._speed_mps = speed
        self._waited_s = self._waited_s + step_s if speed < STANDING_MPS else 0.0
        return ego_pose(*self._route.at(self._along_m))

    def _allowed_at(self, distance_m: float) -> float:
        return float(
            np.interp((distance_m - self._route.begin_m) / SPACING_M, np.arange(len(self._allowed)), self._allowed)
        )
