"""Who drives and walks: seeded trips over a road network, written as a SUMO route file.

Moderate on purpose: more traffic than VEHICLES_PER_S_KM2 gridlocks small towns, and a dataset of queues teaches
nothing. Accelerations are those of calm drivers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
from jaxtyping import Float64

from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.errors import MapError
from dyncity_sumo.roads import DEPARTURE_M, Lane, LaneKind, Streets
from dyncity_sumo.stays import Stay

VEHICLES_PER_S_KM2 = 0.8
"""Departures per second and square kilometre of town."""

PEDESTRIANS_PER_KM = 11.0
"""People on foot at any time per kilometre of street with a sidewalk."""

MEAN_TRIP_S = 120.0
"""How long a vehicle is under way on average: the town starts with as many as it will have later."""

MEAN_WALK_S = 300.0
"""How long a walk lasts on average."""


@dataclass(frozen=True)
class ActorType:
    """A SUMO vehicle type: what an actor is and how large.

    Attributes:
        id: SUMO's type id.
        kind: what it is.
        size_m: length, width, height of the bounding box, rider included.
        share: relative frequency among vehicles, or among pedestrians.
        fastest_mps: top speed, or walking speed.
    """

    id: str
    kind: ActorKind
    size_m: tuple[float, float, float]
    share: float
    fastest_mps: float


ACTOR_TYPES: tuple[ActorType, ...] = (
    ActorType("car_mini", ActorKind.CAR, (3.6, 1.62, 1.50), 10, 40),
    ActorType("car_hatch", ActorKind.CAR, (4.2, 1.78, 1.50), 20, 50),
    ActorType("car_sedan", ActorKind.CAR, (4.7, 1.84, 1.45), 18, 55),
    ActorType("car_estate", ActorKind.CAR, (4.8, 1.83, 1.52), 10, 55),
    ActorType("car_suv", ActorKind.CAR, (4.7, 1.92, 1.72), 14, 50),
    ActorType("van_small", ActorKind.VAN, (4.6, 1.86, 1.90), 5, 45),
    ActorType("van_large", ActorKind.VAN, (5.6, 2.02, 2.45), 6, 40),
    ActorType("truck_box", ActorKind.TRUCK, (7.8, 2.45, 3.20), 3, 25),
    ActorType("truck_heavy", ActorKind.TRUCK, (9.5, 2.50, 3.60), 1, 25),
    ActorType("bus_city", ActorKind.BUS, (12.0, 2.55, 3.10), 3, 22),
    ActorType("motorcycle_road", ActorKind.MOTORCYCLE, (2.2, 0.80, 1.65), 3, 45),
    ActorType("motorcycle_scooter", ActorKind.MOTORCYCLE, (1.9, 0.75, 1.60), 2, 20),
    ActorType("bicycle_city", ActorKind.BICYCLE, (1.8, 0.65, 1.72), 8, 6.0),
    ActorType("bicycle_sport", ActorKind.BICYCLE, (1.75, 0.60, 1.68), 4, 8.5),
    ActorType("pedestrian_adult", ActorKind.PEDESTRIAN, (0.60, 0.62, 1.76), 10, 1.4),
    ActorType("pedestrian_slim", ActorKind.PEDESTRIAN, (0.55, 0.58, 1.66), 8, 1.3),
    ActorType("pedestrian_bag", ActorKind.PEDESTRIAN, (0.75, 0.80, 1.78), 4, 1.2),
    ActorType("pedestrian_child", ActorKind.PEDESTRIAN, (0.50, 0.50, 1.20), 3, 1.1),
    ActorType("pedestrian_pram", ActorKind.PEDESTRIAN, (1.45, 0.62, 1.70), 1, 1.1),
)
"""Every type that traffic is made of; the prefix of an id is its kind."""

VEHICLE_TYPES = tuple(t for t in ACTOR_TYPES if t.kind is not ActorKind.PEDESTRIAN)
PEDESTRIAN_TYPES = tuple(t for t in ACTOR_TYPES if t.kind is ActorKind.PEDESTRIAN)

_VCLASS = {
    ActorKind.CAR: "passenger",
    ActorKind.VAN: "delivery",
    ActorKind.BUS: "bus",
    ActorKind.TRUCK: "truck",
    ActorKind.MOTORCYCLE: "motorcycle",
    ActorKind.BICYCLE: "bicycle",
}

_CALM = {
    ActorKind.CAR: (2.0, 3.2),
    ActorKind.VAN: (1.7, 3.0),
    ActorKind.BUS: (1.1, 2.5),
    ActorKind.TRUCK: (1.0, 2.5),
    ActorKind.MOTORCYCLE: (2.4, 3.4),
    ActorKind.BICYCLE: (1.1, 2.4),
}
"""Acceleration and comfortable braking of each kind, m/s^2."""


def drawn_types(types: Sequence[ActorType], count: int, rng: np.random.Generator) -> list[ActorType]:
    """Types of so many actors, by their shares."""
    shares = np.array([t.share for t in types])
    return [types[row] for row in rng.choice(len(types), count, p=shares / shares.sum())]


def write_demand(
    network: Streets,
    rng: np.random.Generator,
    duration_s: float,
    file: Path,
    walking_share: float = 1.0,
    stays: Sequence[Stay] = (),
) -> Path:
    """Write types, vehicle trips and walks for ``duration_s`` seconds; returns ``file``.

    Trips may be impossible (no way from here to there): SUMO drops those when told to ignore route errors.

    Args:
        network: where.
        rng: decides everything.
        duration_s: how long.
        file: to be written.
        walking_share: so many of PEDESTRIANS_PER_KM walk.
        stays: who stands before they walk.

    Raises:
        MapError: no lane is long enough for vehicles to set out from.
    """
    roads = _street_ends(network, LaneKind.DRIVING)
    if not roads.ids:
        raise MapError("map", f"{network.name}: only shorter ones", f"a lane for cars longer than {DEPARTURE_M:g} m")
    walks = _street_ends(network, LaneKind.SIDEWALK)
    entries = _vehicles(roads, _vehicle_departures(roads, rng, duration_s), rng)
    if len(walks.ids) > 1:
        entries += _walks(walks, _walk_departures(walks, rng, duration_s, walking_share), rng)
        entries += _standing(walks, stays, rng)
    entries.sort(key=lambda entry: entry[0])
    text = "\n".join(["<routes>", *(_type_xml(t) for t in ACTOR_TYPES), *(xml for _, xml in entries), "</routes>\n"])
    file.write_text(text, encoding="utf-8")
    return file


@dataclass(frozen=True, eq=False)
class _Streets:
    """Edges that one can depart from, by id, with the middle and the length of each."""

    ids: list[str]
    middles_m: Float64[np.ndarray, "N 2"]
    lengths_m: Float64[np.ndarray, " N"]

    @property
    def area_km2(self) -> float:
        """Area of the town, taken as a box that trims outlying roads."""
        low, high = np.percentile(self.middles_m, [2, 98], axis=0)
        return max(float(np.prod(high - low + 100.0)) / 1e6, 0.05)


def _street_ends(network: Streets, kind: LaneKind) -> _Streets:
    longest: dict[str, Lane] = {}
    for lane in network.departures(kind):
        longest.setdefault(lane.edge_id, lane)
    ids = sorted(longest)
    middles = [longest[i].centreline_m[:, :2].mean(axis=0) for i in ids]
    return _Streets(ids, np.array(middles).reshape(-1, 2), np.array([longest[i].length_m for i in ids]))


def _vehicle_departures(roads: _Streets, rng: np.random.Generator, duration_s: float) -> Float64[np.ndarray, " N"]:
    rate_hz = max(VEHICLES_PER_S_KM2 * roads.area_km2, 0.15)
    first = rng.uniform(0, 8, int(rate_hz * MEAN_TRIP_S))
    return np.concatenate([first, rng.uniform(0, duration_s, rng.poisson(rate_hz * duration_s))])


def people_on_foot(network: Streets) -> float:
    """How many people are on foot at any time, whether they walk or stand."""
    walks = _street_ends(network, LaneKind.SIDEWALK)
    return _people(walks) if len(walks.ids) > 1 else 0.0


def _people(walks: _Streets) -> float:
    return PEDESTRIANS_PER_KM * float(walks.lengths_m.sum()) / 1000


def _walk_departures(
    walks: _Streets, rng: np.random.Generator, duration_s: float, share: float
) -> Float64[np.ndarray, " N"]:
    people = share * _people(walks)
    first = rng.uniform(0, 4, int(people))
    return np.concatenate([first, rng.uniform(0, duration_s, rng.poisson(people * duration_s / MEAN_WALK_S))])


def _vehicles(
    roads: _Streets, departs_s: Float64[np.ndarray, " N"], rng: np.random.Generator
) -> list[tuple[float, str]]:
    types = drawn_types(VEHICLE_TYPES, len(departs_s), rng)
    entries = []
    for number, (depart_s, kind) in enumerate(zip(np.sort(departs_s), types, strict=True)):
        origin, target = _pair(roads, rng, nearest_m=250.0, farthest_m=1500.0)
        xml = (
            f'<trip id="v{number}" type="{kind.id}" depart="{depart_s:.2f}" departLane="best" '
            f'departPos="random_free" departSpeed="max" from={quoteattr(origin)} to={quoteattr(target)}/>'
        )
        entries.append((round(float(depart_s), 2), xml))
    return entries


def _walks(walks: _Streets, departs_s: Float64[np.ndarray, " N"], rng: np.random.Generator) -> list[tuple[float, str]]:
    types = drawn_types(PEDESTRIAN_TYPES, len(departs_s), rng)
    entries = []
    for number, (depart_s, kind) in enumerate(zip(np.sort(departs_s), types, strict=True)):
        origin, target = _pair(walks, rng, nearest_m=60.0, farthest_m=600.0)
        xml = (
            f'<person id="p{number}" type="{kind.id}" depart="{depart_s:.2f}" departPos="random">'
            f"<walk from={quoteattr(origin)} to={quoteattr(target)}/></person>"
        )
        entries.append((round(float(depart_s), 2), xml))
    return entries


def _standing(walks: _Streets, stays: Sequence[Stay], rng: np.random.Generator) -> list[tuple[float, str]]:
    """Walks that begin where and when a stay does; whoever stands there is held back until the stay ends."""
    types = drawn_types(PEDESTRIAN_TYPES, len(stays), rng)
    entries = []
    for stay, kind in zip(stays, types, strict=True):
        target = _pair(walks, rng, nearest_m=60.0, farthest_m=600.0, origin=walks.ids.index(stay.place.edge_id))[1]
        xml = (
            f'<person id="{stay.person}" type="{kind.id}" depart="{stay.from_s:.2f}" '
            f'departPos="{stay.place.at_m:.2f}"><walk from={quoteattr(stay.place.edge_id)} '
            f"to={quoteattr(target)}/></person>"
        )
        entries.append((stay.from_s, xml))
    return entries


def _pair(
    streets: _Streets, rng: np.random.Generator, nearest_m: float, farthest_m: float, origin: int | None = None
) -> tuple[str, str]:
    """Two streets a fair distance apart, long ones more often; any two when the town is too small for that."""
    if origin is None:
        origin = int(rng.choice(len(streets.ids), p=streets.lengths_m / streets.lengths_m.sum()))
    apart_m = np.linalg.norm(streets.middles_m - streets.middles_m[origin], axis=1)
    targets = np.flatnonzero((apart_m >= nearest_m) & (apart_m <= farthest_m))
    if len(targets) == 0:
        targets = np.arange(len(streets.ids))
    return streets.ids[origin], streets.ids[int(rng.choice(targets))]


def _type_xml(t: ActorType) -> str:
    if t.kind is ActorKind.PEDESTRIAN:
        # SUMO spaces walkers by their type's length; wide bags and prams would block narrow sidewalks.
        return (
            f'<vType id="{t.id}" vClass="pedestrian" width="0.55" speedFactor="normc(1,0.12,0.7,1.3)" '
            f'maxSpeed="{t.fastest_mps}" desiredMaxSpeed="{t.fastest_mps}"/>'
        )
    length_m, width_m, height_m = t.size_m
    accel, decel = _CALM[t.kind]
    return (
        f'<vType id="{t.id}" vClass="{_VCLASS[t.kind]}" length="{length_m}" width="{width_m}" height="{height_m}" '
        f'maxSpeed="{t.fastest_mps}" accel="{accel}" decel="{decel}" emergencyDecel="7" sigma="0.4" '
        f'tau="1.3" minGap="2.0" speedFactor="normc(0.95,0.10,0.7,1.15)" latAlignment="center" '
        f'maxSpeedLat="0.8" lcSpeedGain="0.4"/>'
    )
