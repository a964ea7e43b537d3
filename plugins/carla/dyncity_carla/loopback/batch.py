"""Commands of a batch, one function each; single calls use the same functions."""

from collections.abc import Callable
from typing import Any

from dyncity_carla.loopback.geometry import row_from_wire
from dyncity_carla.loopback.world import RefusedError, World

SPAWN_ACTOR = 0
FUTURE_ACTOR = 0
"""Id that stands for the actor being spawned, in commands to do after it."""


def apply(world: World, command: list[Any]) -> list[object]:
    """Do one command, ``[index, fields]``; the CommandResponse: the actor's id, or why not."""
    index, fields = command
    try:
        made = COMMANDS_DONE[index](world, *fields)
    except RefusedError as error:
        return [[0, [str(error)]]]
    return [[1, made if index == SPAWN_ACTOR else fields[0]]]


def set_transform(world: World, actor_id: int, transform: list[list[float]]) -> None:
    """Put an actor somewhere."""
    world.place(world.actor(actor_id, "set_actor_transform"), row_from_wire(transform))


def set_location(world: World, actor_id: int, location: list[float]) -> None:
    """Put an actor somewhere, turned as it is."""
    actor = world.actor(actor_id, "set_actor_location")
    turn = (actor.relative if actor.relative is not None else world.actors.transforms[actor.row])[3:].tolist()
    world.place(actor, row_from_wire([location, turn]))


def set_simulate_physics(world: World, actor_id: int, enabled: bool) -> None:
    """Let an actor move by itself, or not."""
    actor = world.actor(actor_id, "set_actor_simulate_physics")
    actor.simulates_physics = enabled
    if not enabled:
        actor.speed_mps = actor.fall_mps = 0.0


def set_gravity(world: World, actor_id: int, enabled: bool) -> None:
    """Let an actor fall, or not."""
    world.actor(actor_id, "set_actor_enable_gravity").has_gravity = enabled


def set_velocity(world: World, actor_id: int, velocity: list[float]) -> None:
    """Give a vehicle with physics a speed: the share of the velocity that lies along its own axis."""
    actor = world.actor(actor_id, "set_actor_target_velocity")
    if actor.simulates_physics:
        actor.speed_mps = world.along_own_axis(actor, velocity)


def drive(world: World, actor_id: int, control: list[float]) -> None:
    """Set a vehicle's control."""
    actor = world.actor(actor_id, "apply_control_to_vehicle")
    if not actor.blueprint.is_vehicle:
        raise RefusedError(f"apply_control_to_vehicle: This actor is not a vehicle. Actor Id: {actor_id}")
    actor.control = control
    world.actors.update_details(actor)


def walk(world: World, actor_id: int, control: list[Any]) -> None:
    """Set a walker's control."""
    actor = world.actor(actor_id, "apply_control_to_walker")
    if not actor.blueprint.is_walker:
        raise RefusedError(f"apply_control_to_walker: This actor is not a walker. Actor Id: {actor_id}")
    actor.walk = control
    world.actors.update_details(actor)


def set_walker_state(world: World, actor_id: int, transform: list[list[float]], speed_mps: float) -> None:
    """Put a walker somewhere; it walks on in the direction it faces."""
    set_transform(world, actor_id, transform)
    actor = world.actor(actor_id, "apply_walker_state")
    walk(world, actor_id, [world.heading(actor), speed_mps, False])


def set_lights(world: World, actor_id: int, flags: int) -> None:
    """Set a vehicle's lights."""
    actor = world.actor(actor_id, "set_vehicle_light_state")
    actor.lights = flags
    world.actors.update_details(actor)


def set_autopilot(world: World, actor_id: int, enabled: bool) -> None:
    """Take note that a client's traffic manager drives this vehicle."""
    world.actor(actor_id, "set_actor_autopilot").autopilot = enabled


def set_physics(world: World, actor_id: int, physics: list[object]) -> None:
    """Keep a vehicle's physics."""
    world.actor(actor_id, "apply_physics_control").physics = physics


def no_effect(world: World, actor_id: int, *_: object) -> None:
    """Check that the actor is there; angular velocity and telemetry change nothing."""
    world.actor(actor_id, "command")


def spawn(
    world: World,
    description: list[object],
    transform: list[list[float]],
    parent: list[Any],
    _attachment: int,
    _socket: str,
    do_after: list[Any],
) -> int:
    """Make an actor and do what is to be done to it; its id."""
    actor = world.spawn(description, row_from_wire(transform), parent[1] if parent[0] else 0)
    for (command,) in do_after:
        index, after = command
        mine = [actor.id, *after[1:]] if index != SPAWN_ACTOR and after[0] == FUTURE_ACTOR else after
        apply(world, [index, mine])
    return actor.id


def no_forces(world: World, actor_id: int, *_: object) -> None:
    """Refuse what would need dynamics."""
    raise RefusedError(
        f"Actor Id: {actor_id}: the loopback server has no forces, impulses, torques, or Ackermann control"
    )


def _no_console(world: World, *_: object) -> None:
    raise RefusedError("the loopback server has no console")


def no_traffic_light(world: World, actor_id: int, _state: int) -> None:
    """Refuse: there are none."""
    raise RefusedError(f"set_traffic_light_state: This actor is not a traffic light. Actor Id: {actor_id}")


COMMANDS_DONE: dict[int, Callable[..., object]] = {
    SPAWN_ACTOR: spawn,
    1: World.destroy,
    2: drive,
    3: no_forces,
    4: walk,
    5: set_physics,
    6: set_transform,
    7: set_walker_state,
    8: set_velocity,
    9: no_effect,
    10: no_forces,
    11: no_forces,
    12: no_forces,
    13: no_forces,
    14: set_simulate_physics,
    15: set_gravity,
    16: set_autopilot,
    17: no_effect,
    18: set_lights,
    19: set_location,
    20: _no_console,
    21: no_traffic_light,
}
"""By the index of ``dyncity_carla.loopback.argument_shapes.COMMANDS``."""
