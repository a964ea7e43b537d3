"""Entities of an OpenSCENARIO document: vehicles and pedestrians with their sizes."""

from types import ModuleType
from typing import Any

from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.scene.package.motions import EGO_NAME, Motion

WHEEL_M = 0.65

_CATEGORY = {
    ActorKind.CAR: "car",
    ActorKind.VAN: "van",
    ActorKind.BUS: "bus",
    ActorKind.TRUCK: "truck",
    ActorKind.MOTORCYCLE: "motorbike",
    ActorKind.BICYCLE: "bicycle",
}

_CARLA_MODEL = {
    ActorKind.CAR: "vehicle.tesla.model3",
    ActorKind.VAN: "vehicle.mercedes.sprinter",
    ActorKind.BUS: "vehicle.mitsubishi.fusorosa",
    ActorKind.TRUCK: "vehicle.carlamotors.carlacola",
    ActorKind.MOTORCYCLE: "vehicle.kawasaki.ninja",
    ActorKind.BICYCLE: "vehicle.bh.crossbike",
    ActorKind.PEDESTRIAN: "walker.pedestrian.0001",
}
"""CARLA 0.9.16's blueprint of each kind; other players treat it as a plain name."""


def entity(xosc: ModuleType, motion: Motion) -> Any:
    """The entity that moves so, under CARLA's name for its kind. Its reference point lies on the ground."""
    if motion.kind is not ActorKind.PEDESTRIAN:
        return _vehicle(xosc, motion)
    model = _CARLA_MODEL[motion.kind]
    category = xosc.PedestrianCategory.pedestrian
    return xosc.Pedestrian(model, 80.0, category, _bounding_box(xosc, motion.size_m), model)


def _vehicle(xosc: ModuleType, motion: Motion) -> Any:
    length_m, width_m, _ = motion.size_m
    axles = [
        xosc.Axle(steering, WHEEL_M, round(0.85 * width_m, 3), round(share * length_m, 3), WHEEL_M / 2)
        for steering, share in ((0.6, 0.3), (0.0, -0.3))
    ]
    category = getattr(xosc.VehicleCategory, _CATEGORY[motion.kind])
    box = _bounding_box(xosc, motion.size_m)
    vehicle = xosc.Vehicle(_CARLA_MODEL[motion.kind], category, box, *axles, 70, 10, 10)
    vehicle.add_property("type", "ego_vehicle" if motion.name == EGO_NAME else "simulation")
    return vehicle


def _bounding_box(xosc: ModuleType, size_m: tuple[float, float, float]) -> Any:
    length_m, width_m, height_m = (round(edge, 3) for edge in size_m)
    return xosc.BoundingBox(width_m, length_m, height_m, 0.0, 0.0, round(height_m / 2, 4))
