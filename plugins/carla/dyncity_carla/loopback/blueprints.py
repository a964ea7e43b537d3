"""The blueprint library: ids and attributes as in CARLA 0.9.16, with box sizes from a table of our own.

Ids, attributes, and kinds of vehicle are the simulator's; extents are close to what its meshes give, not measured
in it. Cameras, radars, and other sensors that need rendering or physics are left out on purpose.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from dyncity_carla.loopback.sensor_attributes import SENSORS, Attribute, AttributeKind

CAR, TRUCK, BUS, MOTORCYCLE, BICYCLE, PEDESTRIAN, STATIC = 14, 15, 16, 18, 19, 12, 20
"""Semantic tags (``carla.CityObjectLabel``)."""

_TAGS = {"car": CAR, "van": CAR, "truck": TRUCK, "bus": BUS, "motorcycle": MOTORCYCLE, "bicycle": BICYCLE}

# id, base type, generation, special type, half length, half width, half height in metres
_VEHICLES = """
audi.a2 car 1 - 1.853 0.895 0.774
audi.etron car 1 electric 2.428 1.016 0.825
audi.tt car 1 - 2.091 0.997 0.693
bh.crossbike bicycle 1 - 0.744 0.430 0.900
bmw.grandtourer car 1 - 2.305 1.120 0.834
carlamotors.carlacola truck 1 - 2.602 1.307 1.238
carlamotors.european_hgv truck 2 - 3.967 1.447 1.737
carlamotors.firetruck truck 2 emergency 4.234 1.447 1.910
chevrolet.impala car 1 - 2.679 1.017 0.706
citroen.c3 car 1 - 1.994 0.925 0.812
diamondback.century bicycle 1 - 0.821 0.200 0.900
dodge.charger_2020 car 2 - 2.503 1.044 0.768
dodge.charger_police car 1 emergency 2.487 1.019 0.771
dodge.charger_police_2020 car 2 emergency 2.618 1.072 0.819
ford.ambulance van 2 emergency 3.183 1.175 1.215
ford.crown car 2 taxi 2.683 0.901 0.782
ford.mustang car 1 - 2.359 0.947 0.651
gazelle.omafiets bicycle 1 - 0.918 0.300 0.900
harley-davidson.low_rider motorcycle 1 - 1.177 0.382 0.820
jeep.wrangler_rubicon car 1 - 1.933 0.953 0.939
kawasaki.ninja motorcycle 1 - 1.017 0.400 0.780
lincoln.mkz_2017 car 1 - 2.451 1.064 0.750
lincoln.mkz_2020 car 2 - 2.446 0.919 0.745
mercedes.coupe car 1 - 2.513 1.076 0.825
mercedes.coupe_2020 car 2 - 2.337 1.001 0.721
mercedes.sprinter van 2 - 2.958 0.994 1.280
micro.microlino car 1 electric 1.104 0.740 0.690
mini.cooper_s car 1 - 1.903 0.985 0.738
mini.cooper_s_2021 car 2 - 2.276 1.049 0.883
mitsubishi.fusorosa bus 2 - 5.136 1.420 2.126
nissan.micra car 1 - 1.817 0.923 0.751
nissan.patrol car 1 - 2.302 0.966 0.928
nissan.patrol_2021 car 2 - 2.783 1.075 1.022
seat.leon car 1 - 2.096 0.908 0.737
tesla.cybertruck truck 1 electric 3.137 1.195 1.049
tesla.model3 car 2 electric 2.396 1.082 0.744
toyota.prius car 1 electric 2.257 1.003 0.762
vespa.zx125 motorcycle 1 - 0.902 0.430 0.780
volkswagen.t2 van 1 - 2.240 1.035 1.019
volkswagen.t2_2021 van 2 - 2.221 0.889 0.994
yamaha.yzf motorcycle 1 - 1.105 0.438 0.780
"""

# id, size class, half length, half width, half height in metres
_PROPS = """
advertisement medium 0.49 0.98 1.26
atm medium 0.41 0.44 0.90
barbeque small 0.45 0.30 0.55
barrel small 0.29 0.29 0.44
bench01 medium 0.28 0.76 0.50
bench02 medium 0.39 0.78 0.44
bench03 medium 0.32 0.95 0.46
bikeparking medium 0.90 0.35 0.42
bin medium 0.24 0.24 0.50
box01 small 0.29 0.29 0.29
box02 small 0.35 0.35 0.22
box03 small 0.34 0.26 0.20
briefcase tiny 0.21 0.06 0.17
busstop big 1.91 0.84 1.38
calibrator medium 0.75 0.03 0.75
chainbarrier medium 0.77 0.05 0.49
chainbarrierend small 0.10 0.10 0.49
clothcontainer medium 0.62 0.60 0.94
colacan tiny 0.03 0.03 0.06
constructioncone small 0.17 0.17 0.29
container big 1.03 1.96 0.87
creasedbox01 small 0.33 0.26 0.13
creasedbox02 small 0.33 0.26 0.13
creasedbox03 small 0.33 0.26 0.13
dirtdebris01 medium 0.73 0.93 0.13
dirtdebris02 medium 0.95 0.81 0.12
dirtdebris03 small 0.45 0.46 0.10
doghouse medium 0.64 0.48 0.55
fountain big 2.99 2.99 1.83
garbage01 tiny 0.09 0.09 0.03
garbage02 tiny 0.09 0.09 0.03
gardenlamp small 0.15 0.15 0.36
glasscontainer medium 0.97 0.83 0.94
gnome small 0.17 0.16 0.43
guitarcase small 0.63 0.19 0.08
haybale big 0.62 0.62 0.62
haybalelb medium 0.54 0.33 0.28
ironplank medium 0.75 0.60 0.01
kiosk_01 big 1.43 1.06 1.56
mailbox medium 0.25 0.22 0.57
maptable medium 0.80 0.15 0.75
mobile tiny 0.08 0.04 0.01
motorhelmet tiny 0.13 0.17 0.14
pergola big 1.95 1.42 1.30
plantpot01 small 0.54 0.27 0.27
plantpot02 small 0.30 0.30 0.37
plantpot03 small 0.36 0.36 0.48
plantpot04 medium 0.87 0.87 0.75
plasticbag tiny 0.20 0.14 0.24
plasticchair small 0.32 0.31 0.45
plastictable medium 0.62 0.62 0.37
platformgarbage01 medium 0.92 1.10 0.30
purse tiny 0.16 0.08 0.14
shoppingbag tiny 0.16 0.10 0.26
shoppingcart medium 0.36 0.57 0.56
shoppingtrolley small 0.19 0.16 0.53
slide big 0.35 1.66 1.18
streetbarrier medium 0.61 0.19 0.53
streetfountain medium 0.25 0.25 0.60
streetsign medium 0.07 0.36 1.15
streetsign01 medium 0.06 0.70 1.21
streetsign04 medium 0.06 0.42 1.21
swing big 1.42 1.07 1.10
swingcouch medium 1.06 0.71 0.96
table medium 1.08 0.91 0.41
trafficcone01 small 0.22 0.22 0.37
trafficcone02 small 0.17 0.17 0.34
trafficwarning big 1.16 1.42 1.74
trampoline big 2.06 2.06 1.32
trashbag tiny 0.27 0.27 0.32
trashcan01 small 0.30 0.30 0.50
trashcan02 small 0.28 0.34 0.54
trashcan03 medium 0.31 0.36 0.57
trashcan04 medium 0.36 0.31 0.64
trashcan05 medium 0.36 0.31 0.64
travelcase small 0.24 0.14 0.36
vendingmachine medium 0.46 0.43 0.94
warningaccident medium 0.53 0.10 0.60
warningconstruction medium 0.53 0.10 0.60
wateringcan tiny 0.17 0.09 0.16
"""

_COLOURS = ("0,0,0", "47,210,231", "180,44,44", "65,63,60", "255,255,255")
_CHILDREN = frozenset({9, 10, 11, 12, 13, 14, 48, 49})
WALKER_COUNT = 51
ADULT_EXTENT_M = (0.188, 0.188, 0.93)
CHILD_EXTENT_M = (0.188, 0.188, 0.60)


@dataclass(frozen=True)
class Blueprint:
    """What can be spawned.

    Attributes:
        uid: number by which a description names it.
        id: e.g. ``vehicle.tesla.model3``.
        attributes: with their default values.
        extent_m: half length, width, and height of the bounding box; zeros when it has none.
        box_height_m: height of the box's centre above the actor's origin.
        semantic_tag: what a semantic LiDAR sees of it; 0 when it sees nothing.
        stream_type: sensor type of its messages, or None when it sends none.
    """

    uid: int
    id: str
    attributes: tuple[Attribute, ...]
    extent_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    box_height_m: float = 0.0
    semantic_tag: int = 0
    stream_type: int | None = None

    @property
    def is_vehicle(self) -> bool:
        """Whether it drives under a VehicleControl."""
        return self.id.startswith("vehicle.")

    @property
    def is_walker(self) -> bool:
        """Whether it walks under a WalkerControl."""
        return self.id.startswith("walker.")

    @property
    def is_solid(self) -> bool:
        """Whether it takes up space."""
        return self.extent_m[0] > 0

    @cached_property
    def wire(self) -> list[object]:
        """The ActorDefinition that a client gets."""
        tags = ",".join(dict.fromkeys(self.id.split(".")))
        return [self.uid, self.id, tags, [attribute.wire for attribute in self.attributes]]


class BlueprintLibrary:
    """All blueprints, by uid and by id."""

    def __init__(self) -> None:
        drafts = [*_vehicles(), *_walkers(), *_props(), *_sensors(), *_others()]
        self._all = tuple(Blueprint(uid, *draft) for uid, draft in enumerate(drafts, start=1))
        self._by_id = {blueprint.id: blueprint for blueprint in self._all}

    def __iter__(self) -> Iterator[Blueprint]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def find(self, blueprint_id: str) -> Blueprint | None:
        """The blueprint with this id, or None."""
        return self._by_id.get(blueprint_id)


_Draft = tuple[str, tuple[Attribute, ...], tuple[float, float, float], float, int, int | None]


def _vehicles() -> list[_Draft]:
    drafts: list[_Draft] = []
    for line in _VEHICLES.strip().splitlines():
        name, base_type, generation, special, *half = line.split()
        extent = (float(half[0]), float(half[1]), float(half[2]))
        wheels = 2 if base_type in ("bicycle", "motorcycle") else 4
        attributes = [
            _fixed("object_type", ""),
            _fixed("base_type", base_type),
            _fixed("special_type", "" if special == "-" else special),
            _fixed("generation", generation, AttributeKind.INT),
            _fixed("number_of_wheels", str(wheels), AttributeKind.INT),
            _fixed("has_dynamic_doors", "false", AttributeKind.BOOL),
            _fixed("has_lights", str(generation == "2").lower(), AttributeKind.BOOL),
            Attribute("sticky_control", AttributeKind.BOOL, "true"),
            Attribute("terramechanics", AttributeKind.BOOL, "false"),
            Attribute("ros_name", AttributeKind.STRING, f"vehicle.{name}"),
            Attribute("role_name", AttributeKind.STRING, "autopilot", ("autopilot", "scenario", "ego_vehicle")),
        ]
        if base_type != "bus" and special != "emergency":
            attributes.append(Attribute("color", AttributeKind.COLOUR, _COLOURS[0], _COLOURS))
        if wheels == 2:
            attributes.append(Attribute("driver_id", AttributeKind.INT, "0", ("0", "1", "2")))
        drafts.append((f"vehicle.{name}", tuple(attributes), extent, extent[2], _TAGS[base_type], None))
    return drafts


def _walkers() -> list[_Draft]:
    drafts: list[_Draft] = []
    for number in range(1, WALKER_COUNT + 1):
        child = number in _CHILDREN
        name = f"walker.pedestrian.{number:04d}"
        attributes = (
            _fixed("gender", "female" if number % 2 else "male"),
            _fixed("age", "child" if child else "adult"),
            _fixed("generation", "1" if number < 15 else "2", AttributeKind.INT),
            Attribute("speed", AttributeKind.FLOAT, "1.43", ("0.0", "1.43", "2.01")),
            Attribute("is_invincible", AttributeKind.BOOL, "true"),
            _fixed("can_use_wheelchair", "false", AttributeKind.BOOL),
            Attribute("use_wheelchair", AttributeKind.BOOL, "false"),
            Attribute("ros_name", AttributeKind.STRING, name),
            Attribute("role_name", AttributeKind.STRING, "pedestrian"),
        )
        drafts.append((name, attributes, CHILD_EXTENT_M if child else ADULT_EXTENT_M, 0.0, PEDESTRIAN, None))
    return drafts


def _props() -> list[_Draft]:
    drafts: list[_Draft] = []
    for line in _PROPS.strip().splitlines():
        name, size, *half = line.split()
        extent = (float(half[0]), float(half[1]), float(half[2]))
        attributes = (
            _fixed("size", size),
            Attribute("ros_name", AttributeKind.STRING, f"static.prop.{name}"),
            Attribute("role_name", AttributeKind.STRING, "prop"),
        )
        drafts.append((f"static.prop.{name}", attributes, extent, extent[2], STATIC, None))
    return drafts


def _sensors() -> list[_Draft]:
    return [(name, attributes, (0.0, 0.0, 0.0), 0.0, 0, stream) for name, stream, attributes in SENSORS]


def _others() -> list[_Draft]:
    role = Attribute("role_name", AttributeKind.STRING, "default")
    return [("controller.ai.walker", (role,), (0.0, 0.0, 0.0), 0.0, 0, None)]


def _fixed(name: str, value: str, kind: AttributeKind = AttributeKind.STRING) -> Attribute:
    return Attribute(name, kind, value, (value,), is_modifiable=False)
