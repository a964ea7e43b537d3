"""Which blueprint stands for a thing: the one of its kind that is nearest in size, always the same one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dyncity_carla.ports import Blueprint
from dyncity_carla.sizes import (
    NOMINAL_SIZES_M,
    PEDESTRIAN_SIZE_M,
    PROP_SIZES_M,
    SHORT_PEDESTRIANS_M,
    VEHICLE_SIZES_M,
    Size,
)
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.errors import SimulatorError

STANDS_FOR: Mapping[ActorKind, tuple[str, ...]] = {
    ActorKind.CAR: ("car", "van"),
    ActorKind.VAN: ("van", "car", "truck"),
    ActorKind.TRUCK: ("truck", "bus", "van"),
    ActorKind.BUS: ("bus", "truck", "van"),
    ActorKind.MOTORCYCLE: ("motorcycle", "bicycle"),
    ActorKind.BICYCLE: ("bicycle", "motorcycle"),
    ActorKind.PEDESTRIAN: ("pedestrian",),
}
"""Families of blueprints that may stand for a kind of actor; an earlier one wins over a better size in a later."""

FURNITURE: Mapping[str, tuple[str, ...]] = {
    "barrier": ("static.prop.streetbarrier", "static.prop.chainbarrier"),
    "pole": ("static.prop.streetsign04", "static.prop.streetsign"),
    "vegetation": ("static.prop.plantpot06", "static.prop.plantpot01"),
    "other": ("static.prop.container", "static.prop.box01", "static.prop.bin", "static.prop.vendingmachine"),
}
"""Props that stand for static things of a class."""

STATIC_PROPS: Mapping[str, tuple[str, ...]] = {
    **FURNITURE,
    "building": ("static.prop.kiosk_01", "static.prop.container"),
}
"""Props that stand for static things of a whole scene, where there is nothing else to see of its buildings."""

BOX_PROP = "static.prop.box01"
"""Any prop that is asked for and not in the library becomes this one."""

_BICYCLES = frozenset({"vehicle.bh.crossbike", "vehicle.diamondback.century", "vehicle.gazelle.omafiets"})


@dataclass(frozen=True)
class Model:
    """A blueprint that can stand for actors.

    Attributes:
        id: of the blueprint.
        family: ``car``, ``van``, ``truck``, ``bus``, ``motorcycle``, ``bicycle`` or ``pedestrian``.
        size_m: length, width, height.
        special: police, ambulance, fire engine: chosen when there is nothing else.
    """

    id: str
    family: str
    size_m: Size
    special: bool = False


class Library:
    """The blueprints of one server, by what they can stand for.

    Args:
        blueprints: the server's library.
    """

    def __init__(self, blueprints: Sequence[Blueprint]) -> None:
        models = (_model(blueprint) for blueprint in sorted(blueprints, key=lambda b: b.id))
        self._models = tuple(model for model in models if model is not None)
        self._ids = frozenset(blueprint.id for blueprint in blueprints)

    def nearest(self, kind: ActorKind, size_m: Size) -> Model:
        """The blueprint for an actor; the same arguments give the same one.

        Raises:
            SimulatorError: the library has neither its family nor one that may stand for it.
        """
        for family in STANDS_FOR[kind]:
            candidates = [model for model in self._models if model.family == family]
            if candidates:
                # Generated pedestrians are as wide as the cells they fill: their height says who they are.
                first = 2 if family == "pedestrian" else 0
                return min(
                    candidates,
                    key=lambda m: (m.special, round(unlikeness(m.size_m[first:], size_m[first:]), 9), m.id),
                )
        raise SimulatorError(
            f"The server's blueprint library has none for a {kind.value} "
            f"(families {', '.join(STANDS_FOR[kind])}): use a CARLA package with its default assets."
        )

    def furniture(self, class_name: str, size_m: Size) -> str | None:
        """Id of the prop for a static thing of a class; None where no prop can stand for the class."""
        known = [prop for prop in STATIC_PROPS.get(class_name, ()) if prop in self._ids]
        if not known and class_name in STATIC_PROPS and BOX_PROP in self._ids:
            known = [BOX_PROP]
        if not known:
            return None
        return min(known, key=lambda prop: (round(unlikeness(PROP_SIZES_M[prop], size_m), 9), prop))


def unlikeness(first_m: Sequence[float], second_m: Sequence[float]) -> float:
    """Sum over the edges of how many times longer one is than the other, as logarithms; 0 for equal sizes."""
    return float(np.abs(np.log(np.asarray(first_m) / np.asarray(second_m))).sum())


def family_of(blueprint: Blueprint) -> str | None:
    """What a blueprint is: a family of vehicles, ``pedestrian``, or None for anything else."""
    if blueprint.id.startswith("walker.pedestrian."):
        return "pedestrian"
    if not blueprint.id.startswith("vehicle."):
        return None
    base_type = blueprint.attributes.get("base_type", "").lower()
    if base_type in NOMINAL_SIZES_M:
        return base_type
    if blueprint.attributes.get("number_of_wheels") == "2":
        return "bicycle" if blueprint.id in _BICYCLES else "motorcycle"
    length_m, _, height_m = VEHICLE_SIZES_M.get(blueprint.id, NOMINAL_SIZES_M["car"])
    if length_m > 9.5:
        return "bus"
    if height_m > 2.6 or length_m > 6.8:
        return "truck"
    return "van" if height_m > 1.95 else "car"


def _model(blueprint: Blueprint) -> Model | None:
    family = family_of(blueprint)
    if family is None:
        return None
    if family == "pedestrian":
        size_m = SHORT_PEDESTRIANS_M.get(blueprint.id.rpartition(".")[2], PEDESTRIAN_SIZE_M)
        return Model(blueprint.id, family, size_m)
    size_m = VEHICLE_SIZES_M.get(blueprint.id, NOMINAL_SIZES_M[family])
    special = blueprint.attributes.get("special_type", "") in ("emergency", "taxi") or "police" in blueprint.id
    return Model(blueprint.id, family, size_m, special)
