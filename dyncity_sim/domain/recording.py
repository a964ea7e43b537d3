"""What a simulator shows in one frame: labels, what sensors saw of them, and the actors behind them."""

import enum
import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8, UInt16

from dyncity_sim.domain.frames import Pose, check_poses, check_size
from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.taxonomy import CARLASC_RAW
from dyncity_sim.errors import InvalidInputError


class ActorKind(enum.Enum):
    """What an actor is. Riders count to their two-wheeler."""

    CAR = "car"
    VAN = "van"
    BUS = "bus"
    TRUCK = "truck"
    MOTORCYCLE = "motorcycle"
    BICYCLE = "bicycle"
    PEDESTRIAN = "pedestrian"


@dataclass(frozen=True, eq=False)
class ActorState:
    """One actor at one time.

    Attributes:
        id: positive, unique and stable over a drive (fits uint16; 0 means no actor).
        kind: what it is.
        pose_world_from_actor: ``(4, 4)``; the actor frame is x forward, y left, z up at the centre
            of the bounding box.
        size_m: length, width, height.
        speed_mps: signed speed along its own x axis.
    """

    id: int
    kind: ActorKind
    pose_world_from_actor: Pose
    size_m: tuple[float, float, float]
    speed_mps: float

    def __post_init__(self) -> None:
        if not 0 < self.id < 2**16:
            raise InvalidInputError("actor.id", self.id, "an integer in [1, 65535]")
        pose = self.pose_world_from_actor
        if pose.shape != (4, 4) or not np.isfinite(pose).all():
            raise InvalidInputError(f"actor {self.id} pose_world_from_actor", pose.tolist(), "(4, 4) finite numbers")
        check_size(self.size_m, f"actor {self.id} size_m")
        if not math.isfinite(self.speed_mps):
            raise InvalidInputError(f"actor {self.id} speed_mps", self.speed_mps, "a finite number")


@dataclass(frozen=True, eq=False)
class RecordedFrame:
    """One frame of a simulator around its ego.

    Attributes:
        labels: the dense truth, CARLASC_RAW classes, ``(X, Y, Z)`` uint8; nothing is hidden.
        counts: how often the emulated LiDARs sampled each cell, ``(X, Y, Z)``; 0 is never observed.
            CarlaSC's form of a frame is ``where(counts > 0, labels, 0)`` with these counts beside it.
        instances: actor id in each cell of a moving class, ``(X, Y, Z)`` uint16, 0 elsewhere.
        actors: every actor whose box reaches into the grid, sorted by id; the ego is not among them.
        pose_world_from_ego: the ego frame: x forward, y left, z up (gravity-aligned), 1.8 m above the road.
        time_us: simulation time, microseconds.
        grid: where the cells lie.
    """

    labels: UInt8[np.ndarray, "X Y Z"]
    counts: Float32[np.ndarray, "X Y Z"]
    instances: UInt16[np.ndarray, "X Y Z"]
    actors: tuple[ActorState, ...]
    pose_world_from_ego: Pose
    time_us: int
    grid: Grid

    def __post_init__(self) -> None:
        for name, dtype in (("labels", np.uint8), ("counts", np.float32), ("instances", np.uint16)):
            array = getattr(self, name)
            if array.dtype != dtype or array.shape != self.grid.shape:
                raise InvalidInputError(
                    f"frame.{name}",
                    f"{array.dtype} {array.shape}",
                    f"{np.dtype(dtype)} {self.grid.shape}",
                    "Grids are never resampled silently.",
                )
        CARLASC_RAW.check(self.labels, "frame.labels")
        if not (self.counts >= 0).all():
            raise InvalidInputError("frame.counts", "a count that is negative or no number", "counts of samples")
        check_poses(self.pose_world_from_ego[None], "frame.pose_world_from_ego")
