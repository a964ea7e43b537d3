"""The world behind the wire: an episode with its roads, settings, and actors, moved on tick by tick. No I/O."""

import secrets
import time
from dataclasses import dataclass

import numpy as np

from dyncity_carla.loopback.actors import Actor, ActorTable
from dyncity_carla.loopback.blueprints import CAR, Blueprint, BlueprintLibrary
from dyncity_carla.loopback.geometry import Row, attached, overlapping
from dyncity_carla.loopback.ground import Ground
from dyncity_carla.loopback.motion import move
from dyncity_carla.loopback.records import MAP_CHANGED, Moment, world_state
from dyncity_carla.loopback.roads import Roads
from dyncity_carla.loopback.scenery import build_scenery
from dyncity_carla.loopback.settings import Settings
from dyncity_carla.loopback.traffic import Traffic
from dyncity_sim.errors import InvalidInputError

FIRST_ACTOR_ID = 24
EPISODE_BITS = 63
FREE_STEP_S = 0.05
"""Simulated seconds of a tick where no fixed step is set."""

CLEAR_NOON = [5.0, 0.0, 0.0, 10.0, -1.0, 45.0, 2.0, 0.75, 0.1, 0.0, 1.0, 0.03, 0.0331, 0.0]
COLLISION_AT_SPAWN = "Spawn failed because of collision at spawn position"


@dataclass(frozen=True)
class WorldOptions:
    """What a world holds from the start.

    Attributes:
        seed: decides scenery and traffic.
        traffic: vehicles that the server drives; an episode has fewer where they do not fit.
        scenery: density of static boxes; 1 is one for every 12 m of lane, 0 none.
    """

    seed: int = 0
    traffic: int = 0
    scenery: float = 1.0

    def __post_init__(self) -> None:
        for name, value in (("--seed", self.seed), ("--traffic", self.traffic), ("--scenery", self.scenery)):
            if not value >= 0:
                raise InvalidInputError(name, value, "at least 0")


class RefusedError(Exception):
    """The world does not do what a client asked for; the message is what the client is told."""


class World:
    """One server's world.

    Args:
        roads: the first episode's road network.
        options: what every episode holds from its start.

    Attributes:
        episode_id: drawn anew when a map is loaded, and by each server.
        actors: all of them, the spectator included.
        gone: actors of this episode that were destroyed, by id.
        ground: under the roads.
        scenery: static boxes.
        streaming_port: port that tokens name.
        settings: what clients set.
        moment: when the last tick was.
        managers: hosts of traffic managers, by port.
        maps: road networks that can be loaded, by name.
        refuse_spawns: spawns to refuse from now on, as if every place were taken.
    """

    def __init__(self, roads: Roads, options: WorldOptions) -> None:
        self.library = BlueprintLibrary()
        self.options = options
        self.streaming_port = 0
        self.settings = Settings()
        self.weather: list[float] = list(CLEAR_NOON)
        self.refuse_spawns = 0
        self.managers: dict[int, str] = {}
        self.maps = {roads.name: roads}
        self.moment = Moment(0, 0.0, FREE_STEP_S, time.time())
        self._next_actor_id = FIRST_ACTOR_ID
        self.load(roads)

    def load(self, roads: Roads) -> None:
        """Begin a new episode on a road network: no actors but the spectator, time at zero."""
        self.roads = roads
        samples = roads.samples()
        self.ground = Ground(samples)
        rng = np.random.default_rng([self.options.seed, 0])
        self.scenery = build_scenery(samples, self.ground, self.options.scenery, rng)
        self.spawn_rows = roads.spawn_rows()
        self.actors = ActorTable()
        self.gone: dict[int, Actor] = {}
        # Whatever the seed, as in CARLA: clients tell by it that a server was started anew.
        self.episode_id = secrets.randbits(EPISODE_BITS)
        self.map_changed = True
        self.moment = Moment(self.moment.frame, 0.0, self.moment.delta_s, time.time())
        spectator = self._make(Blueprint(0, "spectator", ()), [0, "spectator", []], {})
        spectator.simulates_physics = False
        self.actors.add(spectator, np.array([0.0, 0.0, 10.0, -20.0, 0.0, 0.0]))
        self.spectator = spectator
        self.traffic = Traffic(roads.walk, np.random.default_rng([self.options.seed, 1]))
        self._fill_roads(np.random.default_rng([self.options.seed, 2]))

    def actor(self, actor_id: int, doing: str) -> Actor:
        """The actor with this id.

        Raises:
            RefusedError: there is none.
        """
        actor = self.actors.get(actor_id)
        if actor is None:
            raise RefusedError(f"{doing}: Actor could not be found in the registry. Actor Id: {actor_id}")
        return actor

    def spawn(self, description: list[object], transform: Row, parent_id: int = 0) -> Actor:
        """Make an actor as a client described it; on a parent, ``transform`` is relative to it.

        Raises:
            RefusedError: unknown blueprint or attribute, unknown parent, or something stands there already.
        """
        blueprint, attributes = self._described(description)
        if parent_id:
            parent = self.actors.get(parent_id)
            if parent is None:
                raise RefusedError(f"unable to attach actor: parent actor not found: {parent_id}")
            place = attached(self.actors.transforms[parent.row], transform)
        else:
            place = transform
            self._check_room(blueprint, place)
        actor = self._make(blueprint, description, attributes)
        actor.parent = parent_id
        actor.relative = transform if parent_id else None
        actor.simulates_physics = blueprint.is_vehicle or blueprint.is_walker
        self.actors.add(actor, place)
        return actor

    def destroy(self, actor_id: int) -> None:
        """Remove an actor; what is attached to it stays where it is.

        Raises:
            RefusedError: there is no such actor, or it is the spectator.
        """
        actor = self.actor(actor_id, "destroy_actor")
        if actor is self.spectator:
            raise RefusedError("unable to destroy actor: the spectator cannot be destroyed")
        self.actors.remove(actor)
        self.gone[actor_id] = actor

    def place(self, actor: Actor, transform: Row) -> None:
        """Put an actor somewhere, at once; its attached actors follow at the next tick."""
        if actor.parent and actor.relative is not None:
            actor.relative = transform
            parent = self.actors.get(actor.parent)
            if parent is not None:
                transform = attached(self.actors.transforms[parent.row], transform)
        self.actors.transforms[actor.row] = transform
        actor.fall_mps = 0.0

    def heading(self, actor: Actor) -> list[float]:
        """Unit vector along an actor's own axis, on the ground."""
        yaw = np.radians(self.actors.transforms[actor.row, 4])
        return [float(np.cos(yaw)), float(np.sin(yaw)), 0.0]

    def along_own_axis(self, actor: Actor, velocity: list[float]) -> float:
        """Share of a velocity along an actor's own axis."""
        return float(np.dot(self.heading(actor), velocity))

    def step_s(self) -> float:
        """Simulated seconds of the next tick."""
        return self.settings.fixed_delta_seconds or FREE_STEP_S

    def tick(self, delta_s: float) -> None:
        """Move the world on by one frame."""
        last = self.moment
        self.moment = Moment(last.frame + 1, last.elapsed_s + delta_s, delta_s, time.time())
        move(self.actors, self.ground, delta_s)
        self.traffic.step(self.actors, delta_s)
        self._carry_attached()

    def state_message(self) -> bytes:
        """The world state of this frame."""
        changed, self.map_changed = self.map_changed, False
        return world_state(self.moment, self.episode_id, MAP_CHANGED if changed else 0, self.actors.records())

    def _make(self, blueprint: Blueprint, description: list[object], attributes: dict[str, str]) -> Actor:
        actor = Actor(self._next_actor_id, blueprint, attributes, description)
        self._next_actor_id += 1
        return actor

    def _described(self, description: list[object]) -> tuple[Blueprint, dict[str, str]]:
        uid, blueprint_id, sent = description
        blueprint = self.library.find(str(blueprint_id))
        if blueprint is None or blueprint.uid != uid:
            raise RefusedError(f"Spawn failed because of invalid actor description: {uid} {blueprint_id}")
        attributes = {attribute.id: attribute.value for attribute in blueprint.attributes}
        for name, _, value in sent:  # type: ignore[attr-defined]
            if name not in attributes:
                raise RefusedError(
                    f"Spawn failed because of invalid actor description: {blueprint_id} has no attribute {name}"
                )
            attributes[name] = value
        return blueprint, attributes

    def _check_room(self, blueprint: Blueprint, place: Row) -> None:
        if self.refuse_spawns and blueprint.is_solid:
            self.refuse_spawns -= 1
            raise RefusedError(COLLISION_AT_SPAWN)
        if not blueprint.is_solid:
            return
        solid = [actor for actor in self.actors if actor.collides and actor.blueprint.is_solid]
        centre = place[:3] + np.array([0.0, 0.0, blueprint.box_height_m])
        on, scenery = self.scenery.enabled, self.scenery
        for boxes in (
            self.actors.boxes(solid),
            (scenery.centres[on], scenery.yaws_deg[on], scenery.extents[on]),
        ):
            if overlapping(centre, place[4], np.array(blueprint.extent_m), *boxes).any():
                raise RefusedError(COLLISION_AT_SPAWN)

    def _fill_roads(self, rng: np.random.Generator) -> None:
        """Put the server's traffic on free spawn points, as far as they go."""
        choice = [b for b in self.library if b.is_vehicle and b.semantic_tag == CAR]
        for place in rng.permutation(len(self.spawn_rows)):
            if len(self.traffic) == self.options.traffic:
                return
            blueprint = choice[int(rng.integers(len(choice)))]
            sent = [[attribute.id, int(attribute.kind), attribute.value] for attribute in blueprint.attributes]
            try:
                actor = self.spawn([blueprint.uid, blueprint.id, sent], self.spawn_rows[place])
            except RefusedError:
                continue  # Where lanes part, spawn points of two lanes lie in one another.
            self.traffic.add(actor, self.actors)

    def _carry_attached(self) -> None:
        """Move attached actors with their parents; ids grow, so a parent is always done before its children."""
        for actor in self.actors:
            parent = self.actors.get(actor.parent) if actor.parent else None
            if parent is not None and actor.relative is not None:
                self.actors.transforms[actor.row] = attached(self.actors.transforms[parent.row], actor.relative)
                self.actors.velocities[actor.row] = self.actors.velocities[parent.row]
