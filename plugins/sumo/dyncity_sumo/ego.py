"""An ego that we drive ourselves: kinematic bicycle, pure pursuit, intelligent driver model, and human flaws.

SUMO drives on lane centres and never errs, which teaches a model nothing of what happens off the ideal line. This
driver wanders, swerves, brakes for nothing and stops at odd places, all from its generator. It is a pure function
of its state and of what it is shown, so the same code predicts a plan and drives it.

Sources: intelligent driver model (Treiber, Hennecke and Helbing 2000), pure pursuit (Coulter 1992).
"""

import copy
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from dyncity_sim.domain.frames import Pose, poses_from_planar, wrap_angle
from dyncity_sim.domain.grid import LIDAR_BEHIND_M, LIDAR_HEIGHT_M
from dyncity_sumo.actors import ActorTable
from dyncity_sumo.routes import SPACING_M, GuideLine

STEP_S = 0.1
WHEELBASE_SHARE = 0.6
"""Wheelbase as a share of a car's length; the rear axle is half of it behind the centre."""

STEER_MAX_RAD, STEER_RATE_RADPS = 0.62, 0.9
ACCELERATION_MPS2, BRAKING_MPS2, HARDEST_MPS2 = 1.8, 2.2, 6.0
HEADWAY_S, STANDSTILL_M = 1.2, 2.0
SIGHT_M = 45.0
"""How far ahead the driver looks for obstacles."""

HEADROOM_M = 3.0
"""Who is this much higher or lower than the road is on another one."""


@dataclass(frozen=True)
class Motion:
    """State of the bicycle model.

    Attributes:
        x_m, y_m: centre of the car in the world.
        yaw_rad: heading.
        speed_mps: never negative.
        steer_rad: front wheel angle, positive to the left.
        s_m: distance along the guide line.
    """

    x_m: float
    y_m: float
    yaw_rad: float
    speed_mps: float
    steer_rad: float
    s_m: float

    @property
    def xy_m(self) -> Float64[np.ndarray, "2"]:
        """Centre of the car."""
        return np.array([self.x_m, self.y_m])


@dataclass(frozen=True)
class Obstacle:
    """Something ahead on the driver's line.

    Attributes:
        gap_m: from the front bumper to it.
        speed_mps: its speed along the line.
    """

    gap_m: float
    speed_mps: float


class Flaws:
    """What keeps a driver from being ideal, as processes in time.

    A wandering lateral offset (Ornstein-Uhlenbeck), swerves, a personal pace, braking for nothing, and stops.

    Args:
        rng: where all of it comes from.
        attentive: only wanders and has a pace; no swerves, no braking for nothing, no late reactions.
    """

    def __init__(self, rng: np.random.Generator, attentive: bool = False) -> None:
        self._rng = rng
        self._attentive = attentive
        self.pace = float(rng.uniform(0.75, 1.1))
        self._wander_m = float(rng.normal(0, 0.2))
        self._swerve_m, self._swerve_left_s = 0.0, 0.0
        self._brake_mps2, self._brake_left_s = 0.0, 0.0
        self.late_s = 0.0 if attentive else float(rng.choice([0.0, 0.0, 0.3, 0.6]))
        """How much later than it should this driver reacts to what is ahead (taken off the headway)."""

    def step(self) -> tuple[float, float]:
        """Lateral offset from the line (metres, left positive) and extra braking (m/s^2) of this step."""
        rng = self._rng
        self._wander_m += -self._wander_m * STEP_S / 4 + 0.16 * np.sqrt(STEP_S) * rng.normal()
        if self._attentive:
            return self._wander_m, 0.0
        if self._swerve_left_s <= 0 and rng.random() < STEP_S / 25:
            self._swerve_m, self._swerve_left_s = float(rng.choice([-1, 1]) * rng.uniform(0.4, 0.9)), rng.uniform(1, 3)
        if self._brake_left_s <= 0 and rng.random() < STEP_S / 35:
            stops = rng.random() < 0.25
            self._brake_mps2 = float(rng.uniform(1.0, 3.0))
            self._brake_left_s = float(rng.uniform(3, 6) if stops else rng.uniform(0.5, 1.8))
        self._swerve_left_s -= STEP_S
        self._brake_left_s -= STEP_S
        swerve_m = self._swerve_m if self._swerve_left_s > 0 else 0.0
        return self._wander_m + swerve_m, self._brake_mps2 if self._brake_left_s > 0 else 0.0


class Driver:
    """Drives one car of a given length along a guide line.

    Attributes:
        motion: where the car is.
        flaws: its driver's errors.
    """

    def __init__(self, motion: Motion, length_m: float, flaws: Flaws) -> None:
        self.motion = motion
        self.flaws = flaws
        self._length_m = length_m
        self._wheelbase_m = WHEELBASE_SHARE * length_m

    def step(self, line: GuideLine, obstacles: list[Obstacle]) -> Motion:
        """Drive on by one step and return where the car is then."""
        offset_m, extra_braking = self.flaws.step()
        acceleration = self._acceleration(line, obstacles) - extra_braking
        steer_rad = self._steer(line, offset_m)
        self.motion = self._roll(line, acceleration, steer_rad)
        return self.motion

    def predict(
        self, line: GuideLine, obstacles: list[Obstacle], frames: int, start: Motion | None = None
    ) -> list[Motion]:
        """The next motions with every obstacle going on at its speed; leaves the driver as it is.

        Args:
            line: what is followed.
            obstacles: as seen from ``start``.
            frames: how many motions.
            start: where the car is before the first of them; None is where it is now.
        """
        twin = copy.deepcopy(self)
        twin.motion = start or self.motion
        motions = []
        for _ in range(frames):
            start_m = twin.motion.s_m
            motions.append(twin.step(line, obstacles))
            driven_m = twin.motion.s_m - start_m
            obstacles = [Obstacle(o.gap_m + o.speed_mps * STEP_S - driven_m, o.speed_mps) for o in obstacles]
        return motions

    def _acceleration(self, line: GuideLine, obstacles: list[Obstacle]) -> float:
        """The intelligent driver model against the most pressing obstacle."""
        speed = self.motion.speed_mps
        wanted = max(self.flaws.pace * line.speed_at(self.motion.s_m + 0.5 * speed), 0.5)
        free = ACCELERATION_MPS2 * (1 - (speed / wanted) ** 4)
        acceleration = max(free, -BRAKING_MPS2)
        left_m = line.length_m - self.motion.s_m - self._length_m / 2
        headway_s = max(HEADWAY_S - self.flaws.late_s, 0.4)
        for obstacle in [*obstacles, Obstacle(left_m, 0.0)]:
            closing = speed - obstacle.speed_mps
            needed_m = STANDSTILL_M + max(
                speed * headway_s + speed * closing / (2 * np.sqrt(ACCELERATION_MPS2 * BRAKING_MPS2)), 0.0
            )
            pressed = min(free, ACCELERATION_MPS2) - ACCELERATION_MPS2 * (needed_m / max(obstacle.gap_m, 0.3)) ** 2
            acceleration = min(acceleration, pressed)
        return max(acceleration, -HARDEST_MPS2)

    def _steer(self, line: GuideLine, offset_m: float) -> float:
        """Pure pursuit from the rear axle to a point on the offset line."""
        motion = self.motion
        ahead_m = min(2.2 + 0.32 * motion.speed_mps + self._wheelbase_m / 2, 12.0)
        point, yaw_rad = line.at(motion.s_m + ahead_m)
        target = point[:2] + offset_m * np.array([-np.sin(yaw_rad), np.cos(yaw_rad)])
        rear = motion.xy_m - self._wheelbase_m / 2 * np.array([np.cos(motion.yaw_rad), np.sin(motion.yaw_rad)])
        to = target - rear
        distance_m = max(float(np.hypot(*to)), 0.5)
        bearing_rad = np.arctan2(to[1], to[0]) - motion.yaw_rad
        wanted = np.arctan2(2 * self._wheelbase_m * np.sin(bearing_rad), distance_m)
        change = np.clip(wanted - motion.steer_rad, -STEER_RATE_RADPS * STEP_S, STEER_RATE_RADPS * STEP_S)
        return float(np.clip(motion.steer_rad + change, -STEER_MAX_RAD, STEER_MAX_RAD))

    def _roll(self, line: GuideLine, acceleration: float, steer_rad: float) -> Motion:
        """The kinematic bicycle about the rear axle, integrated along its exact arc."""
        motion = self.motion
        speed = max(motion.speed_mps + acceleration * STEP_S, 0.0)
        moved_m = 0.5 * (motion.speed_mps + speed) * STEP_S
        half_m = self._wheelbase_m / 2
        yaw = motion.yaw_rad
        turned = moved_m * np.tan(steer_rad) / self._wheelbase_m
        middle = yaw + turned / 2
        arc = moved_m * np.sinc(turned / 2 / np.pi)
        rear_x = motion.x_m - half_m * np.cos(yaw) + arc * np.cos(middle)
        rear_y = motion.y_m - half_m * np.sin(yaw) + arc * np.sin(middle)
        x_m, y_m = rear_x + half_m * np.cos(yaw + turned), rear_y + half_m * np.sin(yaw + turned)
        s_m = line.project(np.array([x_m, y_m]), motion.s_m + moved_m)
        yaw_rad = float(wrap_angle(yaw + turned))
        return replace(
            motion, x_m=float(x_m), y_m=float(y_m), yaw_rad=yaw_rad, speed_mps=speed, steer_rad=steer_rad, s_m=s_m
        )


def obstacles_ahead(
    line: GuideLine, motion: Motion, size_m: tuple[float, float, float], others: ActorTable
) -> list[Obstacle]:
    """Actors whose boxes reach into the car's way within SIGHT_M, seen along the line."""
    first = int(motion.s_m / SPACING_M)
    points = line.points_m[first : first + int(SIGHT_M / SPACING_M), :2]
    near = others.near(motion.xy_m, SIGHT_M)
    if len(near) == 0 or len(points) == 0:
        return []
    offset = near.centres_m[:, None, :2] - points[None]
    distance2 = np.einsum("and,and->an", offset, offset)
    nearest = distance2.argmin(axis=1)
    lateral_m = np.sqrt(distance2[np.arange(len(near)), nearest])
    turn = near.yaws_rad - line.yaws_rad[first + nearest]
    sideways_m = (np.abs(np.sin(turn)) * near.sizes_m[:, 0] + np.abs(np.cos(turn)) * near.sizes_m[:, 1]) / 2
    along_m = (np.abs(np.cos(turn)) * near.sizes_m[:, 0] + np.abs(np.sin(turn)) * near.sizes_m[:, 1]) / 2
    gap_m = nearest * SPACING_M - size_m[0] / 2 - along_m
    level = np.abs(near.feet_m[:, 2] - line.points_m[first + nearest, 2]) < HEADROOM_M
    hit = level & (lateral_m < size_m[1] / 2 + sideways_m + 0.25) & (nearest > 0) & (gap_m > -size_m[0])
    return [
        Obstacle(max(float(gap), 0.3), max(float(speed * np.cos(angle)), 0.0))
        for gap, speed, angle in zip(gap_m[hit], near.speeds_mps[hit], turn[hit], strict=True)
    ]


def ego_pose(centre_m: Float64[np.ndarray, "2"], yaw_rad: float, road_m: float) -> Pose:
    """The ego frame of a car: upright, at its LiDAR, LIDAR_HEIGHT_M above the road."""
    back = LIDAR_BEHIND_M * np.array([np.cos(yaw_rad), np.sin(yaw_rad)])
    x_m, y_m = centre_m - back
    return poses_from_planar(np.array([x_m, y_m, yaw_rad]), road_m + LIDAR_HEIGHT_M)


def car_of_ego(pose_world_from_ego: Pose) -> tuple[Float64[np.ndarray, "2"], float]:
    """Centre and yaw of the car whose ego frame this is."""
    yaw_rad = float(np.arctan2(pose_world_from_ego[1, 0], pose_world_from_ego[0, 0]))
    ahead = LIDAR_BEHIND_M * np.array([np.cos(yaw_rad), np.sin(yaw_rad)])
    return pose_world_from_ego[:2, 3] + ahead, yaw_rad
