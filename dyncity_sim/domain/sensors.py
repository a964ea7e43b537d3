"""Sensors whose measurements ground truth is made of: LiDARs and cameras, mounted on the ego."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64

from dyncity_sim.domain.frames import Pose, check_poses
from dyncity_sim.errors import InvalidInputError


def _at_ego() -> Pose:
    return np.eye(4)


@dataclass(frozen=True, eq=False)
class LidarSensor:
    """A spinning LiDAR.

    Attributes:
        elevations_rad: elevation of each beam in the sensor's frame, up is positive.
        azimuth_steps: firings per turn, evenly spread; the first looks along the sensor's x, azimuth grows to its left.
        name: unique in its rig, e.g. ``lidar_top``.
        pose_ego_from_sensor: ``(4, 4)`` mount; the sensor's frame is x forward, y left, z up.
        min_range_m: nearer hits are dropped.
        max_range_m: farther hits are dropped.
    """

    elevations_rad: tuple[float, ...]
    azimuth_steps: int
    name: str = "lidar"
    pose_ego_from_sensor: Pose = field(default_factory=_at_ego)
    min_range_m: float = 0.0
    max_range_m: float = 120.0

    def __post_init__(self) -> None:
        if not self.elevations_rad or not np.all(np.abs(self.elevations_rad) <= np.pi / 2):
            raise InvalidInputError("sensor.elevations_rad", self.elevations_rad, "angles in [-pi/2, pi/2]")
        if self.azimuth_steps < 1:
            raise InvalidInputError("sensor.azimuth_steps", self.azimuth_steps, "a positive count")
        if not 0 <= self.min_range_m < self.max_range_m:
            raise InvalidInputError(
                "sensor range", f"{self.min_range_m} to {self.max_range_m} m", "0 <= min_range_m < max_range_m"
            )
        pose = check_poses(self.pose_ego_from_sensor[None], f"{self.name}.pose_ego_from_sensor")[0]
        object.__setattr__(self, "pose_ego_from_sensor", pose)

    @property
    def position_ego_m(self) -> Float64[np.ndarray, " 3"]:
        """Where it stands in the ego frame."""
        return self.pose_ego_from_sensor[:3, 3]


@dataclass(frozen=True, eq=False)
class CameraSensor:
    """A pinhole camera without distortion.

    Attributes:
        width: pixels in a row.
        height: rows.
        focal_px: focal lengths (fx, fy), pixels.
        centre_px: principal point (cx, cy); the middle of the upper left pixel is (0.5, 0.5).
        name: unique in its rig, e.g. ``cam_front``.
        pose_ego_from_sensor: ``(4, 4)`` mount; the camera's frame is x right, y down, z along its view.
        max_range_m: nothing is seen at a greater depth.
    """

    width: int
    height: int
    focal_px: tuple[float, float]
    centre_px: tuple[float, float]
    name: str = "camera"
    pose_ego_from_sensor: Pose = field(default_factory=_at_ego)
    max_range_m: float = 120.0

    def __post_init__(self) -> None:
        if min(self.width, self.height) < 1:
            raise InvalidInputError(f"{self.name} size", f"{self.width} x {self.height}", "positive pixel counts")
        if len(self.focal_px) != 2 or not min(self.focal_px) > 0:
            raise InvalidInputError(f"{self.name}.focal_px", self.focal_px, "two positive numbers of pixels")
        if not self.max_range_m > 0:
            raise InvalidInputError(f"{self.name}.max_range_m", self.max_range_m, "positive metres")
        pose = check_poses(self.pose_ego_from_sensor[None], f"{self.name}.pose_ego_from_sensor")[0]
        object.__setattr__(self, "pose_ego_from_sensor", pose)

    @property
    def intrinsics(self) -> Float64[np.ndarray, "3 3"]:
        """The matrix K of ``u = K @ p``, pixels (Hartley and Zisserman, Multiple View Geometry, eq. 6.4)."""
        (fx, fy), (cx, cy) = self.focal_px, self.centre_px
        return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


@dataclass(frozen=True, eq=False)
class SensorRig:
    """The sensors of one ego.

    Attributes:
        name: of the arrangement, e.g. ``hdl64``.
        lidars: at least one; the first is the one that formats with a single LiDAR take.
        cameras: may be none.
    """

    name: str
    lidars: tuple[LidarSensor, ...]
    cameras: tuple[CameraSensor, ...] = ()

    def __post_init__(self) -> None:
        if not self.lidars:
            raise InvalidInputError("rig.lidars", "none", "at least one LiDAR")
        names = [lidar.name for lidar in self.lidars] + [camera.name for camera in self.cameras]
        if len(set(names)) != len(names):
            raise InvalidInputError("rig", f"sensors named {', '.join(sorted(names))}", "a name of its own for each")
