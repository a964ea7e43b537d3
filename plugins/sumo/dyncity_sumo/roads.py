"""The road network as plain geometry, in one world frame: x east, y north, z up, metres.

World coordinates are SUMO's net coordinates as they are. Nothing here needs SUMO: a network can come from any
loader, and every consumer (city, traffic, recorder) reads these nouns alone.
"""

import enum
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from dyncity_sim.errors import InvalidInputError, MapError

DEPARTURE_M = 12.0
"""Nobody sets out from a lane up to this long: a bus must fit on it."""


class LaneKind(enum.Enum):
    """What a lane is for. INTERNAL is a driving lane inside a junction; RESERVED is for buses and the like."""

    DRIVING = "driving"
    RESERVED = "reserved"
    BICYCLE = "bicycle"
    SIDEWALK = "sidewalk"
    PARKING = "parking"
    SHOULDER = "shoulder"
    CROSSING = "crossing"
    WALKING_AREA = "walking_area"
    INTERNAL = "internal"


class SignalKind(enum.Enum):
    """What a signal tells the driver who faces it."""

    TRAFFIC_LIGHT = "traffic_light"
    STOP = "stop"
    YIELD = "yield"
    SPEED = "speed"


@dataclass(frozen=True, eq=False)
class Lane:
    """One lane.

    Attributes:
        id: unique in its network (SUMO's lane id).
        edge_id: the edge it belongs to; lanes of one edge run side by side.
        kind: what it is for.
        centreline_m: ``(N, 3)`` world polyline in driving direction, N of at least 2.
        width_m: constant along the lane.
        speed_mps: speed limit.
    """

    id: str
    edge_id: str
    kind: LaneKind
    centreline_m: Float64[np.ndarray, "N 3"]
    width_m: float
    speed_mps: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "centreline_m", _check_points(self.centreline_m, f"lane {self.id} centreline_m", 2))
        if not 0 < self.width_m < 100:
            raise InvalidInputError(f"lane {self.id} width_m", self.width_m, "metres in (0, 100)")

    @property
    def length_m(self) -> float:
        """Length of the centreline."""
        return float(np.linalg.norm(np.diff(self.centreline_m, axis=0), axis=1).sum())


@dataclass(frozen=True, eq=False)
class Junction:
    """The area where edges meet.

    Attributes:
        id: unique in its network.
        polygon_m: ``(N, 3)`` world outline, not closed, N of at least 3.
        kind: SUMO's right-of-way rule, e.g. ``traffic_light``, ``priority``, ``allway_stop``.
    """

    id: str
    polygon_m: Float64[np.ndarray, "N 3"]
    kind: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "polygon_m", _check_points(self.polygon_m, f"junction {self.id} polygon_m", 3))


@dataclass(frozen=True, eq=False)
class Area:
    """A surface for pedestrians at a junction.

    Attributes:
        id: unique in its network.
        kind: WALKING_AREA.
        polygon_m: ``(N, 3)`` world outline, not closed, N of at least 3. May cover carriageway in imported
            networks: where it does, the carriageway wins.
    """

    id: str
    kind: LaneKind
    polygon_m: Float64[np.ndarray, "N 3"]

    def __post_init__(self) -> None:
        object.__setattr__(self, "polygon_m", _check_points(self.polygon_m, f"area {self.id} polygon_m", 3))


@dataclass(frozen=True, eq=False)
class Signal:
    """A sign or traffic light beside the road.

    Attributes:
        position_m: ``(3,)`` foot of its post, world.
        yaw_rad: driving direction of the traffic it speaks to, counter-clockwise from east.
        kind: what it tells.
    """

    position_m: Float64[np.ndarray, "3"]
    yaw_rad: float
    kind: SignalKind


@dataclass(frozen=True, eq=False)
class StopLine:
    """A line across one lane before which vehicles wait.

    Attributes:
        from_m: ``(3,)`` right end, world.
        to_m: ``(3,)`` left end, world.
    """

    from_m: Float64[np.ndarray, "3"]
    to_m: Float64[np.ndarray, "3"]


@dataclass(frozen=True, eq=False)
class Streets:
    """The geometry of a road network: all that a city is built around.

    Attributes:
        name: what it was made from, e.g. ``berlin`` or ``generated:grid``.
        lanes: sorted by id; at least one is DRIVING.
        junctions: sorted by id.
        areas: walking areas, sorted by id.
        signals: in the order of the lanes they belong to.
        stop_lines: in the order of the lanes they belong to.
    """

    name: str
    lanes: tuple[Lane, ...]
    junctions: tuple[Junction, ...]
    areas: tuple[Area, ...]
    signals: tuple[Signal, ...]
    stop_lines: tuple[StopLine, ...]

    def __post_init__(self) -> None:
        if not any(lane.kind is LaneKind.DRIVING for lane in self.lanes):
            raise MapError(
                "map", self.name, "a network with at least one lane for cars", "Check the lane types of the file."
            )

    def lanes_of(self, *kinds: LaneKind) -> tuple[Lane, ...]:
        """The lanes of these kinds, in order of id."""
        return tuple(lane for lane in self.lanes if lane.kind in kinds)

    def departures(self, kind: LaneKind) -> tuple[Lane, ...]:
        """The lanes of this kind that one can set out from: not inside of junctions, and longer than DEPARTURE_M."""
        return tuple(
            lane for lane in self.lanes_of(kind) if lane.length_m > DEPARTURE_M and not lane.edge_id.startswith(":")
        )


@dataclass(frozen=True, eq=False)
class RoadNetwork(Streets):
    """Streets that SUMO's traffic can run on.

    Attributes:
        attribution: credit that the map's licence asks for; empty when none is due.
        net_file: the SUMO net that traffic runs on.
        opendrive: the same network as an OpenDRIVE document, in the same coordinates.
    """

    attribution: str
    net_file: Path
    opendrive: str


def _check_points(points: object, field: str, fewest: int) -> Float64[np.ndarray, "N 3"]:
    array = np.array(points, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 3 or len(array) < fewest or not np.isfinite(array).all():
        raise InvalidInputError(field, f"shape {array.shape}", f"finite (N, 3) with N of at least {fewest}")
    array.flags.writeable = False
    return array
