"""How actors move by themselves: vehicles as kinematic bicycles, walkers in straight lines, both on the ground.

No engine, no tyres, no inertia in turns: enough that a control loop closes, not a model of CARLA's vehicles.
"""

import numpy as np

from dyncity_carla.loopback.actors import Actor, ActorTable
from dyncity_carla.loopback.geometry import wrapped
from dyncity_carla.loopback.ground import Ground

FULL_THROTTLE_MPS2 = 4.0
FULL_BRAKE_MPS2 = 8.0
ROLLING_MPS2 = 0.3
DRAG_PER_M = 0.0015
"""Deceleration by drag is this times the square of the speed."""

MAX_STEER_DEG = 70.0
STEERING_SPEEDS_KMH = (0.0, 20.0, 60.0, 120.0)
STEERING_LEFT = (1.0, 0.9, 0.8, 0.7)
"""Share of the steering that is left at these speeds."""

WHEELBASE_SHARE = 0.6
"""Of a vehicle's length."""

GRAVITY_MPS2 = 9.81


def move(table: ActorTable, ground: Ground, delta_s: float) -> None:
    """Move every actor that moves by itself on by one tick; the others keep their place and stand still.

    The server's own traffic is not moved here.
    """
    before = table.transforms.copy()
    movers = [actor for actor in table if not actor.own_traffic and not actor.parent]
    for actor in movers:
        if not actor.simulates_physics:
            table.velocities[actor.row] = 0.0
            table.angular_velocities[actor.row] = 0.0
            table.accelerations[actor.row] = 0.0
        elif actor.blueprint.is_vehicle:
            _drive(actor, table, delta_s)
        elif actor.blueprint.is_walker:
            _walk(actor, table, delta_s)
    fallers = [
        actor
        for actor in movers
        if actor.simulates_physics and actor.has_gravity and (actor.blueprint.is_vehicle or actor.blueprint.is_walker)
    ]
    if fallers:
        _fall(fallers, table, ground, delta_s)
    moved = [actor.row for actor in movers if actor.simulates_physics]
    velocities = (table.transforms[moved, :3] - before[moved, :3]) / delta_s
    table.accelerations[moved] = (velocities - table.velocities[moved]) / delta_s
    table.velocities[moved] = velocities
    table.angular_velocities[moved, 2] = wrapped(table.transforms[moved, 4] - before[moved, 4]) / delta_s


def _drive(actor: Actor, table: ActorTable, delta_s: float) -> None:
    throttle, steer, brake, hand_brake, reverse, _, gear = actor.control
    backwards = reverse or gear < 0
    speed = actor.speed_mps
    push = min(max(throttle, 0.0), 1.0) * FULL_THROTTLE_MPS2 * (-1.0 if backwards else 1.0)
    hold = FULL_BRAKE_MPS2 * max(min(max(brake, 0.0), 1.0), 1.0 if hand_brake else 0.0)
    hold += (ROLLING_MPS2 if push == 0 else 0.0) + DRAG_PER_M * speed * speed
    speed += push * delta_s
    speed = np.sign(speed) * max(abs(speed) - hold * delta_s, 0.0)
    if actor.constant_velocity is not None:
        speed = actor.constant_velocity[0]
    actor.speed_mps = float(speed)
    left = np.interp(abs(speed) * 3.6, STEERING_SPEEDS_KMH, STEERING_LEFT)
    angle = np.radians(MAX_STEER_DEG * min(max(steer, -1.0), 1.0) * left)
    wheelbase_m = 2 * actor.blueprint.extent_m[0] * WHEELBASE_SHARE
    slip = np.arctan(0.5 * np.tan(angle))
    state = table.transforms[actor.row]
    heading = np.radians(state[4])
    state[0] += speed * np.cos(heading + slip) * delta_s
    state[1] += speed * np.sin(heading + slip) * delta_s
    state[4] += np.degrees(speed / wheelbase_m * np.cos(slip) * np.tan(angle) * delta_s)
    state[4] = wrapped(state[4])


def _walk(actor: Actor, table: ActorTable, delta_s: float) -> None:
    direction, speed_mps, _ = actor.walk
    towards = np.array(direction, dtype=np.float64)
    length = float(np.linalg.norm(towards))
    if length < 1e-6 or not speed_mps:
        return
    state = table.transforms[actor.row]
    state[:3] += towards / length * float(speed_mps) * delta_s
    state[4] = np.degrees(np.arctan2(towards[1], towards[0]))


def _fall(fallers: list[Actor], table: ActorTable, ground: Ground, delta_s: float) -> None:
    """Let what is above the ground fall, and put what has sunk into it back onto it."""
    rows = [actor.row for actor in fallers]
    feet = np.array([a.blueprint.extent_m[2] - a.blueprint.box_height_m for a in fallers])
    places = table.transforms[rows, :3]
    places[:, 2] -= feet
    floors = ground.height_m(places)
    for actor, place, foot, floor in zip(fallers, places, feet, floors, strict=True):
        actor.fall_mps += GRAVITY_MPS2 * delta_s
        height = place[2] - actor.fall_mps * delta_s
        if height <= floor:
            height, actor.fall_mps = floor, 0.0
        table.transforms[actor.row, 2] = height + foot
