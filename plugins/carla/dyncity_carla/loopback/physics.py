"""The VehiclePhysicsControl that vehicles answer with: numbers of a plain car, wheels where its box has them."""

from dyncity_carla.loopback.actors import Actor
from dyncity_carla.loopback.motion import MAX_STEER_DEG, STEERING_LEFT, STEERING_SPEEDS_KMH, WHEELBASE_SHARE

_GEARS = [[4.25, 0.5, 0.65], [2.52, 0.5, 0.65], [1.66, 0.5, 0.65], [1.22, 0.5, 0.65], [1.0, 0.5, 0.65]]
_TORQUE = [[0.0, 500.0], [1890.0, 500.0], [5730.0, 400.0]]
KG_PER_M3 = 95.0
"""Mass of a vehicle per volume of its box."""

CM_PER_M = 100.0


def physics_of(actor: Actor) -> list[object]:
    """What a client set, or the default for this vehicle."""
    if actor.physics is not None:
        return actor.physics
    length, width, height = (2 * half for half in actor.blueprint.extent_m)
    mass_kg = max(length * width * height * KG_PER_M3, 60.0)
    steering = [list(pair) for pair in zip(STEERING_SPEEDS_KMH, STEERING_LEFT, strict=True)]
    damping = [0.15, 2.0, 0.35]
    centre = [0.0, 0.0, 0.0]
    wheels = [_wheel(actor, ahead, right) for ahead in (1, -1) for right in (-1, 1)]
    return [_TORQUE, 5800.0, 1.0, *damping, True, 0.5, 10.0, 4.0, _GEARS, mass_kg, 0.3, centre, steering, wheels, True]


def _wheel(actor: Actor, ahead: int, right: int) -> list[object]:
    """One wheel; its place is in the vehicle's frame, in centimetres as Unreal has it."""
    half_length, half_width, _ = actor.blueprint.extent_m
    place = [ahead * half_length * WHEELBASE_SHARE * CM_PER_M, right * 0.85 * half_width * CM_PER_M, 35.0]
    steer = MAX_STEER_DEG if ahead > 0 else 0.0
    return [3.5, 0.25, steer, 35.0, 1500.0, 3000.0 if ahead < 0 else 0.0, 3.0, 17.0, 1000.0, place]
