"""The actors of an episode: one object each, their states as columns of one table."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float64

from dyncity_carla.loopback.blueprints import Blueprint
from dyncity_carla.loopback.geometry import Row
from dyncity_carla.loopback.records import (
    ACTIVE,
    ACTOR_RECORD,
    NO_DETAILS,
    stream_token,
    vehicle_details,
    walker_details,
)

FIRST_CAPACITY = 64
DEFAULT_SPEED_LIMIT_KMH = 30.0
STANDING = [0.0, 0.0, 0.0, False, False, False, 0]
"""A VehicleControl that asks for nothing."""


@dataclass(eq=False)
class Actor:
    """One actor.

    Attributes:
        id: unique over the life of the server.
        blueprint: what it was made from.
        attributes: values by name.
        description: as its client sent it.
        parent: id of the actor it is attached to, or 0.
        relative: where it stands on its parent.
        row: its place in the table of states.
        simulates_physics: whether it moves by itself.
        has_gravity: whether it falls.
        collides: whether others bump into it.
        autopilot: whether a client asked for it.
        control: VehicleControl as it travels.
        walk: WalkerControl as it travels.
        lights: VehicleLightState.
        speed_mps: along its own axis, for vehicles with physics.
        own_traffic: whether the server drives it.
        constant_velocity: velocity in its own frame that a client fixed, or None.
        physics: VehiclePhysicsControl that a client set, or None.
    """

    id: int
    blueprint: Blueprint
    attributes: dict[str, str]
    description: list[object]
    parent: int = 0
    relative: Row | None = None
    row: int = 0
    simulates_physics: bool = True
    has_gravity: bool = True
    collides: bool = True
    autopilot: bool = False
    control: list[float] = field(default_factory=lambda: list(STANDING))
    walk: list[Any] = field(default_factory=lambda: [[1.0, 0.0, 0.0], 0.0, False])
    lights: int = 0
    speed_mps: float = 0.0
    fall_mps: float = 0.0
    own_traffic: bool = False
    constant_velocity: list[float] | None = None
    physics: list[object] | None = None

    @property
    def box(self) -> list[object]:
        """Its bounding box as it travels, in its own frame."""
        height = self.blueprint.box_height_m
        return [[0.0, 0.0, height], list(self.blueprint.extent_m), [0.0, 0.0, 0.0], self.id]

    def wire(self, streaming_port: int) -> list[object]:
        """The Actor that a client gets; a sensor's stream has the sensor's id."""
        tags = bytes([self.blueprint.semantic_tag]) if self.blueprint.semantic_tag else b""
        token = stream_token(self.id, streaming_port) if self.blueprint.stream_type is not None else b""
        return [self.id, self.parent, self.description, self.box, tags, token]

    def details(self) -> bytes:
        """What its record in the world state says beyond place and speed."""
        if self.blueprint.is_vehicle:
            return vehicle_details(self.control, DEFAULT_SPEED_LIMIT_KMH, self.lights)
        if self.blueprint.is_walker:
            direction, speed, jump = self.walk
            return walker_details(direction, speed, jump)
        return NO_DETAILS


class ActorTable:
    """Actors in the order of their ids, with states that are encoded all at once.

    Attributes:
        transforms: ``(N, 6)`` rows.
        velocities: ``(N, 3)`` m/s.
        angular_velocities: ``(N, 3)`` degrees per second.
        accelerations: ``(N, 3)`` m/s2.
    """

    def __init__(self) -> None:
        self._actors: dict[int, Actor] = {}
        self._order: list[Actor] = []
        self._records = np.zeros(FIRST_CAPACITY, dtype=ACTOR_RECORD)
        self._states = np.zeros((FIRST_CAPACITY, 15))

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Actor]:
        return iter(list(self._order))

    @property
    def transforms(self) -> Float64[np.ndarray, "N 6"]:
        """Places of all actors, to be written in place."""
        return self._states[: len(self._order), :6]

    @property
    def velocities(self) -> Float64[np.ndarray, "N 3"]:
        """Velocities of all actors, to be written in place."""
        return self._states[: len(self._order), 6:9]

    @property
    def angular_velocities(self) -> Float64[np.ndarray, "N 3"]:
        """Angular velocities of all actors, to be written in place."""
        return self._states[: len(self._order), 9:12]

    @property
    def accelerations(self) -> Float64[np.ndarray, "N 3"]:
        """Accelerations of all actors, to be written in place."""
        return self._states[: len(self._order), 12:15]

    def get(self, actor_id: int) -> Actor | None:
        """The actor with this id, or None."""
        return self._actors.get(actor_id)

    def add(self, actor: Actor, transform: Row) -> None:
        """Take in an actor with an id higher than any before."""
        actor.row = len(self._order)
        if actor.row == len(self._records):
            self._records = np.concatenate([self._records, np.zeros_like(self._records)])
            self._states = np.concatenate([self._states, np.zeros_like(self._states)])
        self._actors[actor.id] = actor
        self._order.append(actor)
        self._states[actor.row] = 0
        self._states[actor.row, :6] = transform
        self._records[actor.row]["id"] = actor.id
        self._records[actor.row]["state"] = ACTIVE
        self.update_details(actor)

    def remove(self, actor: Actor) -> None:
        """Let an actor go."""
        end = len(self._order)
        self._records[actor.row : end - 1] = self._records[actor.row + 1 : end].copy()
        self._states[actor.row : end - 1] = self._states[actor.row + 1 : end].copy()
        del self._actors[actor.id]
        del self._order[actor.row]
        for later in self._order[actor.row :]:
            later.row -= 1

    def update_details(self, actor: Actor) -> None:
        """Write an actor's control, lights or walk into its record."""
        self._records[actor.row]["details"] = np.frombuffer(actor.details(), dtype=np.uint8)

    def records(self) -> np.ndarray:
        """ACTOR_RECORD of every actor, as they are now."""
        records = self._records[: len(self._order)]
        records["transform"] = self.transforms
        records["velocity"] = self.velocities
        records["angular_velocity"] = self.angular_velocities
        records["acceleration"] = self.accelerations
        return records

    def boxes(self, of: list[Actor]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Centres ``(M, 3)``, yaws in degrees ``(M,)`` and extents ``(M, 3)`` of upright boxes."""
        rows = [actor.row for actor in of]
        centres = self.transforms[rows, :3]
        centres[:, 2] += [actor.blueprint.box_height_m for actor in of]
        extents = np.array([actor.blueprint.extent_m for actor in of]).reshape(-1, 3)
        return centres, self.transforms[rows, 4], extents
