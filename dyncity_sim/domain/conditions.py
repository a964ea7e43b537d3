"""What a chunk is generated from: ego plan, command, continuation."""

import enum
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from dyncity_sim.domain.frames import Poses, check_poses, check_times, planar_from_poses, wrap_angle
from dyncity_sim.errors import InvalidInputError

MAX_SPEED_MPS = 70.0
"""Fastest ego a plan may ask for between two frames (252 km/h); faster is a unit mistake."""


class Command(enum.Enum):
    """A driving command for one chunk; LEFT is a positive change of yaw (counter-clockwise from above)."""

    STATIC = "static"
    FORWARD = "forward"
    LEFT = "left"
    RIGHT = "right"


STATIC_DISTANCE_M = 0.8
"""Under this path length over a chunk the ego counts as standing (0.5 m/s over 1.6 s)."""

TURN_ANGLE_RAD = np.deg2rad(10.0)
"""From this change of yaw over a chunk on, the ego counts as turning."""


@dataclass(frozen=True, eq=False)
class EgoPlan:
    """Where the ego will be over the next chunk.

    Attributes:
        poses_world_from_ego: ``(T, 4, 4)``; ``world`` is any gravity-aligned right-handed frame
            (metres) that stays the same over a drive. Frame 0 of the next chunk is 0.1 s after the
            last frame of the one before.
        times_us: time of each pose, microseconds, strictly increasing.
    """

    poses_world_from_ego: Poses
    times_us: Int64[np.ndarray, " T"]

    def __post_init__(self) -> None:
        poses = check_poses(self.poses_world_from_ego, "plan.poses_world_from_ego")
        if len(poses) < 2:
            raise InvalidInputError("plan.poses_world_from_ego", "1 pose", "at least 2")
        times_us = check_times(self.times_us, "plan.times_us", len(poses))
        step_m = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
        speed_mps = step_m / (np.diff(times_us) * 1e-6)
        if speed_mps.max() > MAX_SPEED_MPS:
            raise InvalidInputError(
                "plan.poses_world_from_ego",
                f"{speed_mps.max():.0f} m/s between frames {int(speed_mps.argmax())} and {int(speed_mps.argmax()) + 1}",
                f"at most {MAX_SPEED_MPS:.0f} m/s",
                "Poses are in metres, times in microseconds.",
            )
        object.__setattr__(self, "poses_world_from_ego", poses)
        object.__setattr__(self, "times_us", times_us)

    def __len__(self) -> int:
        return len(self.poses_world_from_ego)

    @property
    def command(self) -> Command:
        """The command this plan amounts to, by the thresholds of this module."""
        planar = planar_from_poses(self.poses_world_from_ego)
        travelled_m = np.linalg.norm(np.diff(planar[:, :2], axis=0), axis=1).sum()
        turned_rad = float(wrap_angle(np.diff(planar[:, 2])).sum())
        if travelled_m < STATIC_DISTANCE_M:
            return Command.STATIC
        if abs(turned_rad) < TURN_ANGLE_RAD:
            return Command.FORWARD
        return Command.LEFT if turned_rad > 0 else Command.RIGHT


@dataclass(frozen=True)
class Continuation:
    """What the next chunk needs to know of those before it; opaque to all but the model that made it.

    Attributes:
        model_id: the model that made it, and the only one that can read it.
        payload: the model's own bytes.
    """

    model_id: str
    payload: bytes


@dataclass(frozen=True)
class Conditions:
    """Everything a chunk is generated from; each part is optional.

    Attributes:
        plan: ego plan of the chunk. Required by models whose planes live in a common frame.
        command: driving command, or None to leave it to the plan or to chance.
        continuation: from the reply before, or from EncodeOccupancy; None starts a new drive.
    """

    plan: EgoPlan | None = None
    command: Command | None = None
    continuation: Continuation | None = None


@dataclass(frozen=True)
class SamplingOptions:
    """How to sample; None leaves the choice to the model's defaults.

    Attributes:
        seed: same seed, conditions, weights and device give the same labels; None lets the server draw.
        steps: network evaluations along the sampling trajectory.
        guidance_scale: classifier-free guidance; 1 is none.
        sampler: name of the sampler, one of those the model lists.
    """

    seed: int | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    sampler: str | None = None

    def __post_init__(self) -> None:
        if self.seed is not None and not 0 <= self.seed < 2**63:
            raise InvalidInputError("options.seed", self.seed, "an integer in [0, 2^63)")
        if self.steps is not None and not 1 <= self.steps <= 1000:
            raise InvalidInputError("options.steps", self.steps, "an integer in [1, 1000]")
        if self.guidance_scale is not None and not 0 <= self.guidance_scale <= 20:
            raise InvalidInputError("options.guidance_scale", self.guidance_scale, "a number in [0, 20]")
