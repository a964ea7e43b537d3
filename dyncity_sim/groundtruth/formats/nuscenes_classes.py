"""nuScenes' categories, attributes and visibility levels, and what of ours they are (Caesar et al., CVPR 2020)."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8, UInt16

from dyncity_sim.domain.ground_truth import Box3D
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.taxonomy import Taxonomy
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.groundtruth.boxes import MOVING_SPEED_MPS, TWO_WHEELERS

CATEGORIES: tuple[tuple[str, tuple[int, int, int]], ...] = (
    ("noise", (0, 0, 0)),
    ("animal", (70, 130, 180)),
    ("human.pedestrian.adult", (0, 0, 230)),
    ("human.pedestrian.child", (135, 206, 235)),
    ("human.pedestrian.construction_worker", (100, 149, 237)),
    ("human.pedestrian.personal_mobility", (219, 112, 147)),
    ("human.pedestrian.police_officer", (0, 0, 128)),
    ("human.pedestrian.stroller", (240, 128, 128)),
    ("human.pedestrian.wheelchair", (138, 43, 226)),
    ("movable_object.barrier", (112, 128, 144)),
    ("movable_object.debris", (210, 105, 30)),
    ("movable_object.pushable_pullable", (105, 105, 105)),
    ("movable_object.trafficcone", (47, 79, 79)),
    ("static_object.bicycle_rack", (188, 143, 143)),
    ("vehicle.bicycle", (220, 20, 60)),
    ("vehicle.bus.bendy", (255, 127, 80)),
    ("vehicle.bus.rigid", (255, 69, 0)),
    ("vehicle.car", (255, 158, 0)),
    ("vehicle.construction", (233, 150, 70)),
    ("vehicle.emergency.ambulance", (255, 83, 0)),
    ("vehicle.emergency.police", (255, 215, 0)),
    ("vehicle.motorcycle", (255, 61, 99)),
    ("vehicle.trailer", (255, 140, 0)),
    ("vehicle.truck", (255, 99, 71)),
    ("flat.driveable_surface", (0, 207, 191)),
    ("flat.other", (175, 0, 75)),
    ("flat.sidewalk", (75, 0, 75)),
    ("flat.terrain", (112, 180, 60)),
    ("static.manmade", (222, 184, 135)),
    ("static.other", (255, 228, 196)),
    ("static.vegetation", (0, 175, 0)),
    ("vehicle.ego", (255, 240, 245)),
)
"""Names in the order of nuScenes-lidarseg's indices, and their colours (nuscenes-devkit, ``color_map.py``)."""

INDEX = {name: index for index, (name, _) in enumerate(CATEGORIES)}

PALETTE: UInt8[np.ndarray, "32 3"] = np.array([colour for _, colour in CATEGORIES], dtype=np.uint8)
PALETTE.flags.writeable = False

CATEGORY_OF_CLASS = {
    "free": "noise",
    "unused": "noise",
    "sky": "noise",
    "pedestrian": "human.pedestrian.adult",
    "vehicle": "vehicle.car",
    "road": "flat.driveable_surface",
    "road_line": "flat.driveable_surface",
    "sidewalk": "flat.sidewalk",
    "ground": "flat.terrain",
    "terrain": "flat.terrain",
    "rail_track": "flat.other",
    "water": "flat.other",
    "vegetation": "static.vegetation",
    "building": "static.manmade",
    "barrier": "static.manmade",
    "fence": "static.manmade",
    "wall": "static.manmade",
    "guard_rail": "static.manmade",
    "bridge": "static.manmade",
    "pole": "static.manmade",
    "traffic_sign": "static.manmade",
    "traffic_light": "static.manmade",
    "other": "static.other",
    "static": "static.other",
    "dynamic": "static.other",
}
"""Category of each of our classes, for points and pixels without a track."""

CATEGORY_OF_KIND = {
    ActorKind.CAR: "vehicle.car",
    ActorKind.VAN: "vehicle.car",
    ActorKind.BUS: "vehicle.bus.rigid",
    ActorKind.TRUCK: "vehicle.truck",
    ActorKind.MOTORCYCLE: "vehicle.motorcycle",
    ActorKind.BICYCLE: "vehicle.bicycle",
    ActorKind.PEDESTRIAN: "human.pedestrian.adult",
}
"""Category of an actor, its rider's points included, as nuScenes' annotators have it; vans are cars there."""

MAPPED_CLASSES = ("road", "road_line", "sidewalk")
"""Classes of the semantic prior: nuScenes' maps hold roads and sidewalks."""

ATTRIBUTES = {
    "vehicle.moving": "The vehicle moves.",
    "vehicle.stopped": "The vehicle stands, and moves at another time of the drive.",
    "vehicle.parked": "The vehicle stands for the whole drive.",
    "cycle.with_rider": "The two-wheeler moves, or cells of a rider belong to it.",
    "cycle.without_rider": "The two-wheeler stands and nobody sits on it.",
    "pedestrian.moving": "The pedestrian moves.",
    "pedestrian.standing": "The pedestrian stands.",
}

VISIBILITY_LEVELS = {"1": ("v0-40", 0.4), "2": ("v40-60", 0.6), "3": ("v60-80", 0.8), "4": ("v80-100", 1.0)}
"""Level and highest visible share of each visibility token."""


def category_table(taxonomy: Taxonomy) -> UInt8[np.ndarray, " K"]:
    """Index of the category of each label.

    Raises:
        InvalidInputError: nuScenes has no category for a class.
    """
    for name in taxonomy.names:
        if name not in CATEGORY_OF_CLASS:
            raise InvalidInputError(
                "taxonomy", f"the class {name!r}", f"classes that nuScenes has: {', '.join(sorted(CATEGORY_OF_CLASS))}"
            )
    return np.array([INDEX[CATEGORY_OF_CLASS[name]] for name in taxonomy.names], dtype=np.uint8)


def category_indices(
    labels: UInt8[np.ndarray, "..."],
    instances: UInt16[np.ndarray, "..."],
    boxes: Sequence[Box3D],
    table: UInt8[np.ndarray, " K"],
) -> UInt8[np.ndarray, "..."]:
    """Category of each point or pixel: its actor's where it has one, else its class's."""
    of_track = np.zeros(2**16, dtype=np.uint8)
    for box in boxes:
        of_track[box.track_id] = INDEX[CATEGORY_OF_KIND[box.kind]]
    own = of_track[instances]
    return np.where(own > 0, own, table[labels])


def attribute(kind: ActorKind, speed_mps: float, moves_ever: bool, ridden: bool) -> str:
    """Name of the attribute of an actor at one time."""
    moving = speed_mps >= MOVING_SPEED_MPS
    if kind is ActorKind.PEDESTRIAN:
        return "pedestrian.moving" if moving else "pedestrian.standing"
    if kind in TWO_WHEELERS:
        return "cycle.with_rider" if moving or ridden else "cycle.without_rider"
    if moving:
        return "vehicle.moving"
    return "vehicle.stopped" if moves_ever else "vehicle.parked"


def visibility_token(visible: float | None) -> str:
    """Token of the level of a visible share; what no ray meets is in the lowest."""
    return next(token for token, (_, highest) in VISIBILITY_LEVELS.items() if (visible or 0.0) <= highest)
