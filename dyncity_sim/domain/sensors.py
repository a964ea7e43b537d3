"""Sensors whose measurements ground truth is made of: LiDARs and cameras, mounted on the ego."""

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import numpy as np
from jaxtyping import Float64

from dyncity_sim.domain.frames import Pose, check_poses
from dyncity_sim.errors import InvalidInputError

REFLECTIVITY: Mapping[str, float] = {
    "building": 0.35,
    "barrier": 0.35,
    "other": 0.3,
    "pedestrian": 0.3,
    "pole": 0.4,
    "road": 0.15,
    "ground": 0.25,
    "sidewalk": 0.3,
    "vegetation": 0.45,
    "vehicle": 0.4,
    "unused": 0.0,
    "fence": 0.35,
    "road_line": 0.6,
    "wall": 0.35,
    "traffic_sign": 0.9,
    "sky": 0.0,
    "bridge": 0.35,
    "rail_track": 0.2,
    "guard_rail": 0.5,
    "traffic_light": 0.4,
    "static": 0.3,
    "dynamic": 0.3,
    "water": 0.05,
    "terrain": 0.25,
}
"""Share of near-infrared light that surfaces of each class of our taxonomies throw back. Chosen by us: the order is
that of materials (asphalt under concrete under leaves under retroreflectors), the numbers are round ones."""

SENSOR_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def _at_ego() -> Pose:
    return np.eye(4)


def _reflectivity() -> Mapping[str, float]:
    return dict(REFLECTIVITY)


class Scan(enum.Enum):
    """When the rays of a turn are cast."""

    INSTANT = "instant"
    """All at the frame's time."""
    ROLLING = "rolling"
    """One firing after another; the last one at the frame's time."""


@dataclass(frozen=True)
class Dropout:
    """How often a hit gives no point. The four causes act independently of each other.

    Attributes:
        always: probability whatever is hit.
        at_max_range: probability at the greatest range; it grows with the square of the range.
        at_grazing: probability where a ray runs along a surface; it falls with the cosine of the angle of incidence.
        at_dark: probability where nothing of the light comes back; it falls with the intensity.
    """

    always: float = 0.0
    at_max_range: float = 0.0
    at_grazing: float = 0.0
    at_dark: float = 0.0

    def __post_init__(self) -> None:
        for part in fields(self):
            value = getattr(self, part.name)
            if not 0 <= value <= 1:
                raise InvalidInputError(f"dropout.{part.name}", value, "a probability in [0, 1]")

    def __bool__(self) -> bool:
        return any(getattr(self, part.name) > 0 for part in fields(self))


MOST_AZIMUTH_STEPS = 100_000
"""Most firings of a turn, far beyond any LiDAR; one of many beams then takes some gigabytes."""

MOST_PIXELS = 8192
"""Most pixels along a side of an image."""


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
        scan: whether a turn is an instant or takes its time.
        period_s: how long a turn takes; of no effect in an instant.
        reflectivity: share of light that each class throws back, by its name, in [0, 1].
        falloff_m: range from which intensity falls with the square of the distance; None for sensors that report
            calibrated reflectivity.
        range_noise_m: standard deviation of measured ranges.
        dropout: how often a hit gives no point.
    """

    elevations_rad: tuple[float, ...]
    azimuth_steps: int
    name: str = "lidar"
    pose_ego_from_sensor: Pose = field(default_factory=_at_ego)
    min_range_m: float = 0.0
    max_range_m: float = 120.0
    scan: Scan = Scan.INSTANT
    period_s: float = 0.1
    reflectivity: Mapping[str, float] = field(default_factory=_reflectivity)
    falloff_m: float | None = None
    range_noise_m: float = 0.0
    dropout: Dropout = Dropout()

    def __post_init__(self) -> None:
        if not self.elevations_rad or not np.all(np.abs(self.elevations_rad) <= np.pi / 2):
            raise InvalidInputError(f"{self.name}.elevations_rad", self.elevations_rad, "angles in [-pi/2, pi/2]")
        if not 1 <= self.azimuth_steps <= MOST_AZIMUTH_STEPS:
            raise InvalidInputError(f"{self.name}.azimuth_steps", self.azimuth_steps, f"1 to {MOST_AZIMUTH_STEPS}")
        if not 0 <= self.min_range_m < self.max_range_m < np.inf:
            raise InvalidInputError(
                f"{self.name} range", f"{self.min_range_m} to {self.max_range_m} m", "0 <= min_range_m < max_range_m"
            )
        if not 0 < self.period_s < np.inf:
            raise InvalidInputError(f"{self.name}.period_s", self.period_s, "positive seconds")
        for class_name, share in self.reflectivity.items():
            if not 0 <= share <= 1:
                raise InvalidInputError(f"{self.name}.reflectivity.{class_name}", share, "a share in [0, 1]")
        if self.falloff_m is not None and not self.falloff_m > 0:
            raise InvalidInputError(f"{self.name}.falloff_m", self.falloff_m, "positive metres, or nothing")
        if not 0 <= self.range_noise_m < np.inf:
            raise InvalidInputError(f"{self.name}.range_noise_m", self.range_noise_m, "metres, not negative")
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
        if not 1 <= min(self.width, self.height) <= max(self.width, self.height) <= MOST_PIXELS:
            raise InvalidInputError(f"{self.name} size", f"{self.width} x {self.height}", f"1 to {MOST_PIXELS} pixels")
        if len(self.focal_px) != 2 or not min(self.focal_px) > 0:
            raise InvalidInputError(f"{self.name}.focal_px", self.focal_px, "two positive numbers of pixels")
        if not 0 < self.max_range_m < np.inf:
            raise InvalidInputError(f"{self.name}.max_range_m", self.max_range_m, "positive metres")
        pose = check_poses(self.pose_ego_from_sensor[None], f"{self.name}.pose_ego_from_sensor")[0]
        object.__setattr__(self, "pose_ego_from_sensor", pose)

    @property
    def position_ego_m(self) -> Float64[np.ndarray, " 3"]:
        """Where it stands in the ego frame."""
        return self.pose_ego_from_sensor[:3, 3]

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
        names = [sensor.name for sensor in self.sensors]
        # Channels of nuScenes are in capitals, WebDataset's readers make small letters of all endings.
        if len({name.lower() for name in names}) != len(names):
            raise InvalidInputError(
                "rig", f"sensors named {', '.join(sorted(names))}", "a name of its own for each, in capitals and small"
            )
        for name in names:
            if not SENSOR_NAME.fullmatch(name):
                raise InvalidInputError("sensor.name", repr(name), "letters, digits, dots, dashes and underscores")

    @property
    def sensors(self) -> tuple[LidarSensor | CameraSensor, ...]:
        """LiDARs, then cameras."""
        return (*self.lidars, *self.cameras)
