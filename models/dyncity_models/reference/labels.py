"""Conditions of recorded chunks in the ``official`` convention, which imported weights were trained with.

Its oddities are part of the convention: the trajectory stands in the axes of the world, not of the ego, with an
absolute yaw; the command's thresholds are so small that a drift of 0.15 degrees is a turn.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from dyncity_models.config import check_between

STATIC, FORWARD, LEFT, RIGHT = range(4)

VEHICLE = 10
"""The label of vehicles among the twelve merged classes, the only one in a layout."""


@dataclass(frozen=True)
class CommandThresholds:
    """From where on a chunk is a turn, or moves; those of the published configuration."""

    angle_rad: float = 0.0025
    distance_m: float = 0.03

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            check_between(name, value, 0)

    def over(self, frames: int) -> "CommandThresholds":
        """Thresholds that grow with the length of a chunk."""
        return CommandThresholds(self.angle_rad * frames, self.distance_m * frames)


OFFICIAL_THRESHOLDS = CommandThresholds()


def trajectory_of(poses: Float[np.ndarray, "T P"]) -> Float[np.ndarray, "T 3"]:
    """x and y in world axes relative to frame 0 (metres), and absolute yaw in [-pi, pi] (radians).

    Args:
        poses: rows of ``world_from_ego``, 12 numbers (3 x 4, row by row) or 16 for each frame.
    """
    matrices = np.asarray(poses, dtype=np.float64).reshape(len(poses), -1, 4)
    position = matrices[:, :2, 3] - matrices[:1, :2, 3]
    yaw = np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0])
    return np.concatenate([position, yaw[:, None]], axis=1)


def command_of(trajectory: Float[np.ndarray, "T 3"], thresholds: CommandThresholds = OFFICIAL_THRESHOLDS) -> int:
    """STATIC, FORWARD, LEFT or RIGHT.

    One frame that turned left of frame 0 makes a chunk LEFT, whatever else happens; then the same for RIGHT. Driving
    backwards is FORWARD.
    """
    turned = np.angle(np.exp(1j * (trajectory[:, 2] - trajectory[0, 2])))
    if (turned > thresholds.angle_rad).any():
        return LEFT
    if (turned < -thresholds.angle_rad).any():
        return RIGHT
    moved = np.linalg.norm(trajectory[:, :2], axis=1) > thresholds.distance_m
    return FORWARD if moved.any() else STATIC


def turns(trajectory: Float[np.ndarray, "T 3"], thresholds: CommandThresholds = OFFICIAL_THRESHOLDS) -> bool:
    """Whether first and last yaw differ by more than the angle over the chunk; yaws are not unwrapped."""
    change = abs(trajectory[-1, 2] - trajectory[0, 2])
    return bool(change > thresholds.over(len(trajectory)).angle_rad)


def layout_of(
    labels: UInt8[np.ndarray, "... X Y Z"], down: int = 1, vehicle: int = VEHICLE
) -> UInt8[np.ndarray, "... X2 Y2"]:
    """1 where a vehicle stands at any height, in blocks of ``down`` x ``down`` cells; incomplete blocks are dropped."""
    seen = (labels == vehicle).any(axis=-1)
    *leading, x, y = seen.shape
    whole = seen[..., : x // down * down, : y // down * down]
    blocks = whole.reshape(*leading, x // down, down, y // down, down)
    return blocks.any(axis=(-3, -1)).astype(np.uint8)
