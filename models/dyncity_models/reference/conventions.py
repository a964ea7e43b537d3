"""How a model's conditions are made from poses, and which way y grows in its grids."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float64, Int64

from dyncity_models.reference import labels
from dyncity_sim.domain.conditions import Command, EgoPlan
from dyncity_sim.domain.frames import Poses, inverse, mirrored_poses, planar_from_poses
from dyncity_sim.errors import ConfigError


class Convention(Protocol):
    """What stands between this project's right-handed frames and the numbers that weights were trained on."""

    @property
    def name(self) -> str:
        """What it is called in ``model.json``."""
        ...

    def turned(self, cells: np.ndarray, axis: int) -> np.ndarray:
        """Cells of a right-handed grid as the model has them, and back; ``axis`` is that of y."""
        ...

    def trajectory(self, poses_world_from_ego: Poses) -> Float64[np.ndarray, "T 3"]:
        """The condition that poses make: metres and radians."""
        ...

    def command_of(self, poses_world_from_ego: Poses, times_us: Int64[np.ndarray, " T"]) -> int:
        """The number of the command that a recorded chunk counts as."""
        ...

    def number(self, command: Command) -> int:
        """The number of a command that is asked for."""
        ...


class EgoConvention:
    """x, y, yaw in the ego frame of frame 0, y to the left; commands by the thresholds of the domain."""

    name = "ego"

    def turned(self, cells: np.ndarray, axis: int) -> np.ndarray:
        """The cells as they are."""
        return cells

    def trajectory(self, poses_world_from_ego: Poses) -> Float64[np.ndarray, "T 3"]:
        """Metres and radians relative to frame 0; the yaw does not jump at half a turn."""
        planar = planar_from_poses(inverse(poses_world_from_ego[0]) @ poses_world_from_ego)
        planar[:, 2] = np.unwrap(planar[:, 2])
        return planar

    def command_of(self, poses_world_from_ego: Poses, times_us: Int64[np.ndarray, " T"]) -> int:
        """That of the plan along these poses."""
        return self.number(EgoPlan(poses_world_from_ego, times_us).command)

    def number(self, command: Command) -> int:
        """Place among STATIC, FORWARD, LEFT, RIGHT."""
        return tuple(Command).index(command)


@dataclass(frozen=True)
class OfficialConvention:
    """What the published code makes of a data set, in the handedness that its files have.

    Trajectories are in the axes of the world, with absolute yaw; see ``reference.labels``. CarlaSC is left-handed, y
    grows to the right: a turn to the left on the road lowers a left-handed yaw, which that code calls RIGHT. Occ3D is
    right-handed.

    Attributes:
        mirrored: whether the data set is left-handed.
        thresholds: of commands.
    """

    mirrored: bool = True
    thresholds: labels.CommandThresholds = labels.OFFICIAL_THRESHOLDS

    @property
    def name(self) -> str:
        """``official`` of CarlaSC, ``official-right-handed`` of Occ3D."""
        return "official" if self.mirrored else "official-right-handed"

    def turned(self, cells: np.ndarray, axis: int) -> np.ndarray:
        """The mirror image for a left-handed data set."""
        return np.flip(cells, axis) if self.mirrored else cells

    def trajectory(self, poses_world_from_ego: Poses) -> Float64[np.ndarray, "T 3"]:
        """x and y in world axes relative to frame 0, absolute yaw."""
        return labels.trajectory_of(mirrored_poses(poses_world_from_ego) if self.mirrored else poses_world_from_ego)

    def command_of(self, poses_world_from_ego: Poses, times_us: Int64[np.ndarray, " T"]) -> int:
        """By the thresholds."""
        return labels.command_of(self.trajectory(poses_world_from_ego), self.thresholds)

    def number(self, command: Command) -> int:
        """The published code's number, of what is seen in the mirror for a left-handed data set."""
        left, right = (labels.RIGHT, labels.LEFT) if self.mirrored else (labels.LEFT, labels.RIGHT)
        numbers = {
            Command.STATIC: labels.STATIC,
            Command.FORWARD: labels.FORWARD,
            Command.LEFT: left,
            Command.RIGHT: right,
        }
        return numbers[command]


def convention_named(name: str, thresholds: labels.CommandThresholds = labels.OFFICIAL_THRESHOLDS) -> Convention:
    """The convention of that name; commands of the official ones have these thresholds.

    Raises:
        ConfigError: there is none.
    """
    official = OfficialConvention(True, thresholds), OfficialConvention(False, thresholds)
    conventions: dict[str, Convention] = {known.name: known for known in (EgoConvention(), *official)}
    if name not in conventions:
        raise ConfigError("convention", repr(name), f"one of {', '.join(conventions)}")
    return conventions[name]
