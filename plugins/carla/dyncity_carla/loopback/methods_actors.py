"""Methods about actors: blueprints, spawning, moving, and batches of it."""

from typing import Any

from dyncity_carla.loopback import batch
from dyncity_carla.loopback.argument_shapes import (
    ACKERMANN_CONTROL,
    ACTOR_DESCRIPTION,
    ATTACHMENT,
    COMMAND,
    LIGHT_STATE,
    LOCATION,
    PHYSICS_CONTROL,
    TRANSFORM,
    VECTOR,
    VEHICLE_CONTROL,
    WALKER_CONTROL,
)
from dyncity_carla.loopback.geometry import row_from_wire
from dyncity_carla.loopback.methods import Answer, Grade, Host, Method
from dyncity_carla.loopback.physics import physics_of
from dyncity_carla.loopback.shapes import BOOL, TEXT, U32, list_of


def _spawn(host: Host, description: list[object], transform: list[list[float]]) -> list[object]:
    return host.world.spawn(description, row_from_wire(transform)).wire(host.world.streaming_port)


def _spawn_attached(
    host: Host, description: list[object], transform: list[list[float]], parent: int, _attachment: int, _socket: str
) -> list[object]:
    return host.world.spawn(description, row_from_wire(transform), parent).wire(host.world.streaming_port)


def _destroy(host: Host, actor_id: int) -> bool:
    host.world.destroy(actor_id)
    return True


def _actors_by_id(host: Host, ids: list[int]) -> list[object]:
    found = (host.world.actors.get(actor_id) for actor_id in ids)
    return [actor.wire(host.world.streaming_port) for actor in found if actor is not None]


def _apply_batch(host: Host, commands: list[Any], do_tick: bool) -> list[object]:
    responses: list[object] = [batch.apply(host.world, command[0]) for command in commands]
    if do_tick and host.world.settings.synchronous_mode:
        host.tick()
    return responses


def _set_location(host: Host, actor_id: int, location: list[float]) -> None:
    batch.set_location(host.world, actor_id, location)


def _set_collisions(host: Host, actor_id: int, enabled: bool) -> None:
    host.world.actor(actor_id, "set_actor_collisions").collides = enabled


def _constant_velocity(host: Host, actor_id: int, velocity: list[float]) -> None:
    host.world.actor(actor_id, "enable_actor_constant_velocity").constant_velocity = velocity


def _no_constant_velocity(host: Host, actor_id: int) -> None:
    host.world.actor(actor_id, "disable_actor_constant_velocity").constant_velocity = None


def _physics_control(host: Host, actor_id: int) -> list[object]:
    return physics_of(host.world.actor(actor_id, "get_physics_control"))


def _box(host: Host, actor_id: int) -> list[object]:
    """The client's traffic manager asks for boxes of actors that were just destroyed, and dies of a refusal."""
    if (gone := host.world.gone.get(actor_id)) is not None:
        return gone.box
    return host.world.actor(actor_id, "get_actor_bounding_box").box


def _light_state(host: Host, actor_id: int) -> list[int]:
    return [host.world.actor(actor_id, "get_vehicle_light_state").lights]


def _all_light_states(host: Host) -> list[list[int]]:
    return [[actor.id, actor.lights] for actor in host.world.actors if actor.blueprint.is_vehicle]


METHODS = (
    Method(
        "get_actor_definitions",
        (),
        Answer.VALUE,
        "[ActorDefinition]",
        lambda host: [blueprint.wire for blueprint in host.world.library],
    ),
    Method("get_actors_by_id", (list_of(U32),), Answer.VALUE, "[Actor], unknown ids left out", _actors_by_id),
    Method(
        "get_spectator",
        (),
        Answer.VALUE,
        "Actor",
        lambda host: host.world.spectator.wire(host.world.streaming_port),
    ),
    Method("spawn_actor", (ACTOR_DESCRIPTION, TRANSFORM), Answer.VALUE, "Actor", _spawn),
    Method(
        "spawn_actor_with_parent",
        (ACTOR_DESCRIPTION, TRANSFORM, U32, ATTACHMENT, TEXT),
        Answer.VALUE,
        "Actor",
        _spawn_attached,
    ),
    Method("destroy_actor", (U32,), Answer.VALUE, "bool", _destroy),
    Method("apply_batch", (list_of(COMMAND), BOOL), Answer.BARE, "[CommandResponse]", _apply_batch),
    Method("set_actor_transform", (U32, TRANSFORM), Answer.VOID, "", lambda h, *a: batch.set_transform(h.world, *a)),
    Method("set_actor_location", (U32, LOCATION), Answer.VOID, "", _set_location),
    Method(
        "set_actor_simulate_physics",
        (U32, BOOL),
        Answer.VOID,
        "",
        lambda h, *a: batch.set_simulate_physics(h.world, *a),
    ),
    Method("set_actor_collisions", (U32, BOOL), Answer.VOID, "", _set_collisions),
    Method("set_actor_enable_gravity", (U32, BOOL), Answer.VOID, "", lambda h, *a: batch.set_gravity(h.world, *a)),
    Method("set_actor_target_velocity", (U32, VECTOR), Answer.VOID, "", lambda h, *a: batch.set_velocity(h.world, *a)),
    Method(
        "set_actor_target_angular_velocity",
        (U32, VECTOR),
        Answer.VOID,
        "nothing happens",
        lambda h, *a: batch.no_effect(h.world, *a),
    ),
    Method("enable_actor_constant_velocity", (U32, VECTOR), Answer.VOID, "", _constant_velocity),
    Method("disable_actor_constant_velocity", (U32,), Answer.VOID, "", _no_constant_velocity),
    *(
        Method(name, (U32, shape), Answer.VOID, "always refused", lambda h, *a: batch.no_forces(h.world, *a), grade)
        for name, shape, grade in (
            ("add_actor_impulse", VECTOR, Grade.DRIVEN),
            ("add_actor_force", VECTOR, Grade.DRIVEN),
            ("add_actor_angular_impulse", VECTOR, Grade.DRIVEN),
            # The library's add_torque calls add_actor_angular_impulse.
            ("add_actor_torque", VECTOR, Grade.READ),
            ("apply_ackermann_control_to_vehicle", ACKERMANN_CONTROL, Grade.DRIVEN),
        )
    ),
    Method("apply_control_to_vehicle", (U32, VEHICLE_CONTROL), Answer.VOID, "", lambda h, *a: batch.drive(h.world, *a)),
    Method("apply_control_to_walker", (U32, WALKER_CONTROL), Answer.VOID, "", lambda h, *a: batch.walk(h.world, *a)),
    Method(
        "set_actor_autopilot", (U32, BOOL), Answer.VOID, "", lambda h, *a: batch.set_autopilot(h.world, *a), Grade.READ
    ),
    Method(
        "set_vehicle_light_state",
        (U32, LIGHT_STATE),
        Answer.VOID,
        "",
        lambda h, actor_id, state: batch.set_lights(h.world, actor_id, state[0]),
    ),
    Method("get_vehicle_light_state", (U32,), Answer.VALUE, "[flags]", _light_state),
    Method("get_vehicle_light_states", (), Answer.VALUE, "[[id, flags]]", _all_light_states),
    Method("get_physics_control", (U32,), Answer.VALUE, "VehiclePhysicsControl", _physics_control),
    Method(
        "apply_physics_control",
        (U32, PHYSICS_CONTROL),
        Answer.VOID,
        "kept, changes no motion",
        lambda h, *a: batch.set_physics(h.world, *a),
    ),
    Method("get_actor_bounding_box", (U32,), Answer.VALUE, "BoundingBox", _box),
)
