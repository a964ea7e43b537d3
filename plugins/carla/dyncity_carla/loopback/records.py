"""What the streams carry, byte for byte: sensor header, episode header, and 119-byte actor records.

Little-endian and packed. The client checks none of it, so a wrong byte here kills the client's process.
"""

import struct
from dataclasses import dataclass

import numpy as np

WORLD_OBSERVER = 17
"""Index of the world state in the client's registry of sensor types."""

DETAILS_SIZE = 54
ACTOR_RECORD = np.dtype(
    [
        ("id", "<u4"),
        ("state", "u1"),
        ("transform", "<f4", (6,)),
        ("velocity", "<f4", (3,)),
        ("angular_velocity", "<f4", (3,)),
        ("acceleration", "<f4", (3,)),
        ("details", "u1", (DETAILS_SIZE,)),
    ]
)
"""One actor in a world state; ``transform`` is x, y, z, pitch, yaw, roll, ``details`` depends on its kind."""

ACTIVE = 1
MAP_CHANGED = 1
"""Bit of the simulation state: the client fetches the map again."""

_SENSOR_HEADER = struct.Struct("<QQd6f")
_EPISODE_HEADER = struct.Struct("<Qdf3iI")
_VEHICLE = struct.Struct("<fff???ifB?IB")
_WALKER = struct.Struct("<3ff?")
_TOKEN = struct.Struct("<IHBB16s")
_TCP, _NO_ADDRESS = 1, 0


@dataclass(frozen=True)
class Moment:
    """When a message was made.

    Attributes:
        frame: number of the tick, increasing over the life of the server.
        elapsed_s: simulated seconds since the episode began.
        delta_s: simulated seconds of the last tick.
        platform_s: wall clock, seconds.
    """

    frame: int
    elapsed_s: float
    delta_s: float
    platform_s: float


def sensor_header(sensor_type: int, moment: Moment, row: np.ndarray) -> bytes:
    """48 bytes that begin every message; ``row`` is where the sensor stands."""
    return _SENSOR_HEADER.pack(sensor_type, moment.frame, moment.elapsed_s, *row.tolist())


def world_state(moment: Moment, episode_id: int, simulation_state: int, records: np.ndarray) -> bytes:
    """A whole world state of ACTOR_RECORD records."""
    header = sensor_header(WORLD_OBSERVER, moment, np.zeros(6))
    episode = _EPISODE_HEADER.pack(episode_id, moment.platform_s, moment.delta_s, 0, 0, 0, simulation_state)
    return header + episode + records.tobytes()


def vehicle_details(control: list[float], speed_limit_kmh: float, light_flags: int) -> bytes:
    """The details of a vehicle: its control, speed limit and lights; it waits at no traffic light."""
    throttle, steer, brake, hand_brake, reverse, manual, gear = control
    lights = light_flags & 0xFF
    packed = _VEHICLE.pack(
        throttle, steer, brake, hand_brake, reverse, manual, int(gear), speed_limit_kmh, lights, False, 0, 0
    )
    return packed.ljust(DETAILS_SIZE, b"\0")


def walker_details(direction: list[float], speed_mps: float, jump: bool) -> bytes:
    """The details of a walker: its control."""
    return _WALKER.pack(*direction, speed_mps, jump).ljust(DETAILS_SIZE, b"\0")


NO_DETAILS = bytes(DETAILS_SIZE)


def stream_token(stream_id: int, port: int) -> bytes:
    """24 bytes that name a stream; the address is left open, which means the host of the RPC connection.

    An address of zeros that is said to be one is taken at its word: the client looks for the stream on its own machine.
    """
    return _TOKEN.pack(stream_id, port, _TCP, _NO_ADDRESS, bytes(16))
