"""Attributes of blueprints, and the sensors that the loopback has."""

import enum
from dataclasses import dataclass


class AttributeKind(enum.IntEnum):
    """Type of an attribute's value, as 0.9.16 numbers them."""

    BOOL = 1
    INT = 2
    FLOAT = 3
    STRING = 4
    COLOUR = 5


@dataclass(frozen=True)
class Attribute:
    """One attribute of a blueprint, with its default value."""

    id: str
    kind: AttributeKind
    value: str
    recommended: tuple[str, ...] = ()
    is_modifiable: bool = True
    restrict_to_recommended: bool = False

    @property
    def wire(self) -> list[object]:
        """The ActorAttribute that a client gets."""
        recommended = list(self.recommended)
        return [self.id, int(self.kind), self.value, recommended, self.is_modifiable, self.restrict_to_recommended]


COLLISION, GNSS, IMU, OBSTACLE, SEMANTIC_LIDAR, LIDAR = 0, 4, 5, 7, 10, 11
"""Sensor types of the client's registry."""


def _floats(**values: float) -> tuple[Attribute, ...]:
    return tuple(Attribute(name, AttributeKind.FLOAT, str(value)) for name, value in values.items())


def _ints(**values: int) -> tuple[Attribute, ...]:
    return tuple(Attribute(name, AttributeKind.INT, str(value)) for name, value in values.items())


def _common(role: str) -> tuple[Attribute, ...]:
    return (
        Attribute("role_name", AttributeKind.STRING, role),
        Attribute("ros_name", AttributeKind.STRING, role),
        Attribute("sensor_tick", AttributeKind.FLOAT, "0.0"),
    )


_RAYS = _ints(channels=32, points_per_second=56000) + _floats(
    range=10.0, rotation_frequency=10.0, upper_fov=10.0, lower_fov=-30.0, horizontal_fov=360.0
)
_LIDAR_NOISE = _floats(
    atmosphere_attenuation_rate=0.004,
    dropoff_general_rate=0.45,
    dropoff_intensity_limit=0.8,
    dropoff_zero_intensity=0.4,
    noise_stddev=0.0,
) + _ints(noise_seed=0)
_GNSS_NOISE = _ints(noise_seed=0) + _floats(
    noise_alt_bias=0.0,
    noise_alt_stddev=0.0,
    noise_lat_bias=0.0,
    noise_lat_stddev=0.0,
    noise_lon_bias=0.0,
    noise_lon_stddev=0.0,
)
_IMU_NOISE = _ints(noise_seed=0) + _floats(
    noise_accel_stddev_x=0.0,
    noise_accel_stddev_y=0.0,
    noise_accel_stddev_z=0.0,
    noise_gyro_bias_x=0.0,
    noise_gyro_bias_y=0.0,
    noise_gyro_bias_z=0.0,
    noise_gyro_stddev_x=0.0,
    noise_gyro_stddev_y=0.0,
    noise_gyro_stddev_z=0.0,
)

SENSORS: tuple[tuple[str, int, tuple[Attribute, ...]], ...] = (
    ("sensor.lidar.ray_cast_semantic", SEMANTIC_LIDAR, _common("ray_cast_semantic") + _RAYS),
    ("sensor.lidar.ray_cast", LIDAR, _common("ray_cast") + _RAYS + _LIDAR_NOISE),
    ("sensor.other.collision", COLLISION, _common("collision")),
    ("sensor.other.gnss", GNSS, _common("gnss") + _GNSS_NOISE),
    ("sensor.other.imu", IMU, _common("imu") + _IMU_NOISE),
)
"""Id, sensor type, and attributes of each sensor. Noise attributes are there to be set; no noise is added."""
