"""Ground truth for perception: what a sensor would measure in a frame, and the boxes behind it."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8, UInt16

from dyncity_sim.domain.frames import Pose, check_poses
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.errors import InvalidInputError


@dataclass(frozen=True)
class LidarSensor:
    """A spinning LiDAR.

    Attributes:
        elevations_rad: elevation of each beam, up is positive.
        azimuth_steps: firings per turn, evenly spread.
        position_ego_m: where it stands in the ego frame.
        max_range_m: farther hits are dropped.
    """

    elevations_rad: tuple[float, ...]
    azimuth_steps: int
    position_ego_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    max_range_m: float = 120.0

    def __post_init__(self) -> None:
        if not self.elevations_rad or not np.all(np.abs(self.elevations_rad) <= np.pi / 2):
            raise InvalidInputError("sensor.elevations_rad", self.elevations_rad, "angles in [-pi/2, pi/2]")
        if self.azimuth_steps < 1:
            raise InvalidInputError("sensor.azimuth_steps", self.azimuth_steps, "a positive count")
        if not np.isfinite(self.position_ego_m).all() or len(self.position_ego_m) != 3:
            raise InvalidInputError("sensor.position_ego_m", self.position_ego_m, "three finite metres")
        if not self.max_range_m > 0:
            raise InvalidInputError("sensor.max_range_m", self.max_range_m, "positive metres")


@dataclass(frozen=True, eq=False)
class LidarSweep:
    """One turn of a LiDAR, taken as an instant: nothing moves within a sweep.

    Attributes:
        points_ego_m: first hit of each ray that hits anything, ``(N, 3)`` in the ego frame.
        labels: class of each point, ``(N,)`` in the taxonomy of the occupancy.
        instances: track id of each point, ``(N,)``; 0 for static things and for moving cells without a track.
        incidence: cosine of the angle between ray and surface normal, ``(N,)`` in [0, 1].
        rays: index of each point's ray, beam-major: ``beam * azimuth_steps + firing``.
    """

    points_ego_m: Float32[np.ndarray, "N 3"]
    labels: UInt8[np.ndarray, " N"]
    instances: UInt16[np.ndarray, " N"]
    incidence: Float32[np.ndarray, " N"]
    rays: np.ndarray

    def __post_init__(self) -> None:
        lengths = {len(getattr(self, name)) for name in ("points_ego_m", "labels", "instances", "incidence", "rays")}
        if len(lengths) != 1:
            raise InvalidInputError("sweep", f"arrays of {sorted(lengths)} points", "as many of each")

    def __len__(self) -> int:
        return len(self.points_ego_m)


@dataclass(frozen=True, eq=False)
class Box3D:
    """One actor's box in one frame.

    Attributes:
        track_id: the track it belongs to.
        kind: what it is.
        pose_ego_from_actor: ``(4, 4)`` pose of the box's centre in the ego frame.
        size_m: length, width, height.
        velocity_ego_mps: velocity over ground, along the axes of the ego frame.
        lidar_points: number of the sweep's points that carry this track's id.
    """

    track_id: int
    kind: ActorKind
    pose_ego_from_actor: Pose
    size_m: tuple[float, float, float]
    velocity_ego_mps: tuple[float, float, float]
    lidar_points: int = 0

    def __post_init__(self) -> None:
        check_poses(self.pose_ego_from_actor[None], "box.pose_ego_from_actor")
        if min(self.size_m) <= 0:
            raise InvalidInputError("box.size_m", self.size_m, "positive metres")


@dataclass(frozen=True, eq=False)
class LabelledFrame:
    """All ground truth of one frame.

    Attributes:
        sweep: what the LiDAR measures.
        boxes: actors with a pose at this time whose centre lies in the grid, sorted by track id.
        pose_world_from_ego: ``(4, 4)`` where the ego frame stands.
        time_us: time of the frame, microseconds.
    """

    sweep: LidarSweep
    boxes: tuple[Box3D, ...]
    pose_world_from_ego: Pose
    time_us: int
