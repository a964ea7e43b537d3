"""What the plugin has of CARLA, in plain values; ``world`` gets them from the real client library.

Everything here is in CARLA's own left-handed frame (``frames.CarlaTransform``), but for waypoints, whose poses are
already ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np
from jaxtyping import Float32, Float64, UInt32

from dyncity_carla.frames import CarlaTransform
from dyncity_sim.domain.frames import Pose

Settings: TypeAlias = Mapping[str, bool | int | float | None]
"""All of a world's settings by the names of ``carla.WorldSettings``."""


@dataclass(frozen=True)
class Blueprint:
    """One entry of the server's library.

    Attributes:
        id: e.g. ``vehicle.tesla.model3``.
        attributes: name and default value of each attribute.
    """

    id: str
    attributes: Mapping[str, str]


@dataclass(frozen=True)
class ActorInfo:
    """An actor as the server lists it.

    Attributes:
        id: the server's number of it.
        type_id: its blueprint.
        role_name: who spawned it says what it is; empty for what belongs to the map.
    """

    id: int
    type_id: str
    role_name: str


@dataclass(frozen=True)
class BoundingBox:
    """A box around an actor, in the actor's own left-handed frame.

    Attributes:
        centre_m: its middle, seen from the actor's origin.
        size_m: length, width, height.
    """

    centre_m: tuple[float, float, float]
    size_m: tuple[float, float, float]

    @property
    def bottom_m(self) -> float:
        """Height of its underside above the actor's origin."""
        return self.centre_m[2] - self.size_m[2] / 2


@dataclass(frozen=True)
class Spawn:
    """Make an actor without physics at ``at``, then put it to ``settle``, where another body may overlap it."""

    blueprint_id: str
    role_name: str
    at: CarlaTransform
    settle: CarlaTransform


@dataclass(frozen=True)
class Place:
    """Put an actor somewhere; seen from the next tick on."""

    actor_id: int
    to: CarlaTransform


@dataclass(frozen=True)
class Destroy:
    """Take an actor out of the world."""

    actor_id: int


Command: TypeAlias = Spawn | Place | Destroy


@dataclass(frozen=True)
class Outcome:
    """What came of one command: the actor's id, or why it was refused."""

    actor_id: int
    refusal: str = ""


@dataclass(frozen=True)
class ActorSnapshot:
    """An actor at one tick: where it is and how fast, in metres per second along the world's axes."""

    transform: CarlaTransform
    velocity_mps: tuple[float, float, float]


class Snapshot(Protocol):
    """The world at one tick."""

    @property
    def frame(self) -> int:
        """Number of the tick."""
        ...

    @property
    def elapsed_s(self) -> float:
        """Simulated time since the server loaded the world."""
        ...

    @property
    def delta_s(self) -> float:
        """Simulated time since the tick before."""
        ...

    @property
    def ids(self) -> Sequence[int]:
        """All actors that the world holds."""
        ...

    def actor(self, actor_id: int) -> ActorSnapshot | None:
        """One actor, or None where the world does not hold it."""
        ...


@dataclass(frozen=True, eq=False)
class LidarSweep:
    """What a semantic LiDAR measured in one tick.

    Attributes:
        frame: number of the tick.
        sensor: where the sensor stood.
        points_m: ``(N, 3)`` hits in the sensor's left-handed frame.
        actor_ids: ``(N,)`` the actor that was hit, 0 for what belongs to the map.
        tags: ``(N,)`` CARLA's semantic tag of what was hit.
    """

    frame: int
    sensor: CarlaTransform
    points_m: Float32[np.ndarray, "N 3"]
    actor_ids: UInt32[np.ndarray, " N"]
    tags: UInt32[np.ndarray, " N"]


@dataclass(frozen=True)
class LidarSpec:
    """A semantic LiDAR to attach.

    Attributes:
        position_m: in the left-handed frame of the actor that carries it.
        channels, points_per_sweep, range_m: as their names say.
        lower_deg, upper_deg: elevation of the lowest and highest channel.
    """

    position_m: tuple[float, float, float]
    channels: int = 32
    points_per_sweep: int = 16_000
    range_m: float = 45.0
    lower_deg: float = -35.0
    upper_deg: float = 10.0


@dataclass(frozen=True)
class LaneKey:
    """Road, lane section and lane of an OpenDRIVE document; ``s_m`` is the distance along the road."""

    road: int
    section: int
    lane: int
    s_m: float = field(compare=False)


class Waypoint(Protocol):
    """A place on a driving lane."""

    @property
    def pose_world_from_lane(self) -> Pose:
        """Right-handed: x along the lane, y to its left."""
        ...

    @property
    def lane(self) -> LaneKey:
        """Which lane it lies on."""
        ...

    @property
    def is_junction(self) -> bool:
        """Whether it lies inside of a junction."""
        ...

    @property
    def width_m(self) -> float:
        """Width of the lane here."""
        ...

    def next(self, distance_m: float) -> Sequence["Waypoint"]:
        """The places so far on along the lane, one for each way that it takes; none where the road ends."""
        ...


class RoadMap(Protocol):
    """The road network."""

    @property
    def opendrive(self) -> str:
        """The network as an OpenDRIVE document."""
        ...

    def nearest(self, location: Float64[np.ndarray, " 3"]) -> Waypoint | None:
        """The driving lane nearest to a right-handed place; None on a map without any."""
        ...

    def waypoints(self, spacing_m: float) -> Sequence[Waypoint]:
        """Waypoints along every driving lane."""
        ...
