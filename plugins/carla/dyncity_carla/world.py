"""CARLA's client library behind our port: the one file of the plugin that calls it.

Importing this module does not import ``carla``; connecting does. Everything that the library raises becomes a
``SimulatorError`` that says what was asked, of which server, and what to try.
"""

import gc
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any

from dyncity_carla.calls import Calls
from dyncity_carla.client_commands import ClientCommands
from dyncity_carla.client_objects import ClientSnapshot, info_of, settings_of, transform_of
from dyncity_carla.foreign_ticks import ForeignTicks
from dyncity_carla.frames import CarlaTransform
from dyncity_carla.lidars import SEMANTIC_LIDAR, Lidars, set_up
from dyncity_carla.ports import (
    ActorInfo,
    Blueprint,
    BoundingBox,
    Command,
    LidarSpec,
    LidarSweep,
    Outcome,
    RoadMap,
    Settings,
    Snapshot,
)
from dyncity_carla.roads import CarlaRoads
from dyncity_carla.traffic_manager import TrafficManager
from dyncity_sim.errors import MapError, MissingExtraError, SimulatorError

_BOX_COLOUR = (40, 160, 255)


def import_carla() -> ModuleType:
    """CARLA's client library.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import carla
    except ImportError as error:
        raise MissingExtraError("carla", "carla", "Talking to a CARLA server") from error
    module: ModuleType = carla
    return module


class CarlaWorld:
    """A running server's world, in plain values.

    Every call raises ``SimulatorError`` when the server does not answer in time or refuses.

    Attributes:
        version: what the server calls itself.
    """

    def __init__(self, carla: ModuleType, client: Any, host: str, port: int, timeout_s: float, version: str) -> None:
        self.version = version
        self._carla, self._client = carla, client
        self._host, self._port = host, port
        self._calls = Calls(f"{host}:{port}", timeout_s)
        self._asking = self._calls.asking
        self._lidars = Lidars(self._calls)
        self._ticks = ForeignTicks(self._calls)
        self._traffic: TrafficManager | None = None
        with self._asking("the world"):
            self._world: Any = client.get_world()
        self._make = ClientCommands(carla, self._calls, self._world)

    @property
    def address(self) -> str:
        """``host:port``."""
        return self._calls.address

    @property
    def episode(self) -> int:
        """The server's number of the world that is loaded; another one after a restart and anybody's load."""
        return int(self._world.get_snapshot().id)

    @property
    def is_silent(self) -> bool:
        """Whether a call timed out since the last one that was answered."""
        return self._calls.is_silent

    def settings(self) -> dict[str, bool | int | float | None]:
        """The world's settings."""
        with self._asking("the world's settings"):
            return settings_of(self._world.get_settings())

    def apply_settings(self, settings: Settings) -> None:
        """Change all of the world's settings; the client library ticks a synchronous world once or twice by itself."""
        wanted = self._carla.WorldSettings()
        for name, value in settings.items():
            setattr(wanted, name, value)
        with self._asking("new world settings"):
            self._world.apply_settings(wanted, self._calls.timeout_s)

    def blueprints(self) -> Sequence[Blueprint]:
        """The server's library, sorted by id."""
        return self._make.blueprints()

    def actors(self) -> Sequence[ActorInfo]:
        """All actors of the last tick, sorted by id."""
        with self._asking("the list of actors"):
            return sorted((info_of(actor) for actor in self._world.get_actors()), key=lambda actor: actor.id)

    def spectator(self) -> int:
        """The actor from whose eyes the server's window shows the world."""
        with self._asking("the spectator"):
            return int(self._world.get_spectator().id)

    def spawn_points(self) -> Sequence[CarlaTransform]:
        """Where the map's author would spawn vehicles."""
        with self._asking("the map's spawn points"):
            return [transform_of(point) for point in self._world.get_map().get_spawn_points()]

    def roads(self) -> RoadMap:
        """The road network of the world that is loaded.

        Raises:
            MapError: it is empty or cannot be read.
        """
        try:
            with self._asking("the map"):
                return CarlaRoads(self._world.get_map(), self._carla.Location)
        except SimulatorError as error:
            if "failed to generate map" not in str(error):
                raise
            raise MapError(
                "map", f"an OpenDRIVE document of {self.address} that cannot be read", "a road network with lanes"
            ) from error

    def map_name(self) -> str:
        """Name of the world that is loaded, e.g. ``Carla/Maps/Town01``."""
        with self._asking("the map's name"):
            return str(self._world.get_map().name)

    def drive_by_itself(self, actor_ids: Sequence[int], seed: int, port: int) -> None:
        """Hand vehicles to a traffic manager, synchronous and seeded: it steps with our ticks."""
        with self._asking(f"a traffic manager on port {port} (--traffic-port names another)"):
            self._traffic = TrafficManager((self._host, self._port), self._calls, actor_ids, seed, port)

    def end_traffic(self) -> None:
        """Give the traffic manager up; harmless without one."""
        if self._traffic is not None:
            self._traffic.end()
        self._traffic = None

    def load_town(self, name: str) -> None:
        """Replace the world by one of the server's towns; its settings stay."""
        with self._asking(f"town {name!r} (those it has: {', '.join(self._towns())})"):
            self._enter(self._client.load_world(name, reset_settings=False))

    def load_opendrive(self, opendrive: str, parameters: dict[str, float | bool]) -> None:
        """Replace the world by one made of an OpenDRIVE document, in its settings; its roads come a little later."""
        wanted = self._carla.OpendriveGenerationParameters(**parameters)
        with self._asking("a world made of an OpenDRIVE document"):
            self._enter(self._client.generate_opendrive_world(opendrive, wanted, reset_settings=False))

    def spawn(self, blueprint_id: str, role_name: str, at: CarlaTransform) -> int | None:
        """Make an actor; None where there is no room."""
        with self._asking(f"a {blueprint_id}"):
            actor = self._world.try_spawn_actor(self._make.blueprint(blueprint_id, role_name), self._make.transform(at))
        return None if actor is None else int(actor.id)

    def batch(self, commands: Sequence[Command]) -> list[Outcome]:
        """Do many things at once, before the next tick."""
        if not commands:
            return []
        with self._asking(f"a batch of {len(commands)} commands"):
            responses = self._client.apply_batch_sync([self._make.command(command) for command in commands], False)
        return [Outcome(int(response.actor_id), str(response.error or "")) for response in responses]

    def set_physics(self, actor_id: int, simulated: bool) -> None:
        """Let the server move an actor, or leave it to us."""
        with self._asking(f"physics of actor {actor_id}"):
            self._actor(actor_id).set_simulate_physics(simulated)

    def bounding_box(self, actor_id: int) -> BoundingBox:
        """The box of an actor."""
        with self._asking(f"the box of actor {actor_id}"):
            box = self._actor(actor_id).bounding_box
        size_m = (2 * box.extent.x, 2 * box.extent.y, 2 * box.extent.z)
        return BoundingBox((box.location.x, box.location.y, box.location.z), size_m)

    def snapshot(self) -> Snapshot:
        """The world at the last tick that reached this client."""
        with self._asking("a snapshot"):
            return ClientSnapshot(self._world.get_snapshot())

    def tick(self) -> Snapshot:
        """Let the world go on by one step."""
        with self._asking("a tick"):
            if self._traffic is not None:
                return ClientSnapshot(self._traffic.tick(self._world))
            self._world.tick(self._calls.timeout_s)
            return ClientSnapshot(self._world.get_snapshot())

    def wait_for_tick(self) -> Snapshot:
        """The next tick that somebody else made; ticks queue up from the first call on."""
        return ClientSnapshot(self._ticks.next(self._world))

    def forget_ticks(self) -> None:
        """Do not wait for ticks that queued up: they show the world as it was."""
        self._ticks.forget()

    def attach_lidar(self, parent_id: int, spec: LidarSpec, role_name: str, ticks_per_s: float) -> int:
        """Attach a semantic LiDAR that makes one turn per tick, and begin to listen."""
        blueprint = self._make.blueprint(SEMANTIC_LIDAR, role_name)
        set_up(blueprint, spec, ticks_per_s)
        at = self._make.transform(CarlaTransform(*spec.position_m))
        with self._asking("a semantic LiDAR"):
            sensor = self._world.spawn_actor(blueprint, at, attach_to=self._actor(parent_id))
            return self._lidars.listen(sensor, role_name)

    def sweep(self, sensor_id: int, frame: int) -> LidarSweep:
        """A LiDAR's measurement of one tick; waited for, and an error when it was lost."""
        return self._lidars.sweep(sensor_id, frame)

    def stop_lidar(self, sensor_id: int) -> None:
        """Stop listening to a LiDAR and take it out of the world, in this order."""
        self._lidars.stop(sensor_id)

    def draw_boxes(self, boxes: Sequence[tuple[CarlaTransform, tuple[float, float, float]]], life_s: float) -> None:
        """Draw boxes of these sizes, for those who watch; they are no bodies."""
        carla = self._carla
        for transform, (length_m, width_m, height_m) in boxes:
            theirs = self._make.transform(transform)
            box = carla.BoundingBox(theirs.location, carla.Vector3D(length_m / 2, width_m / 2, height_m / 2))
            self._world.debug.draw_box(box, theirs.rotation, 0.05, carla.Color(*_BOX_COLOUR), life_s)

    def set_timeout(self, timeout_s: float) -> None:
        """Longest wait for any one call from now on."""
        self._calls.timeout_s = timeout_s
        self._client.set_timeout(timeout_s)

    def reconnect(self, timeout_s: float) -> None:
        """Begin anew, with a longer time-out: the library never connects again by itself after a connection was cut.

        Nothing listens to LiDARs from then on; they stay in the world.
        """
        self._lidars.release()
        self._client = self._carla.Client(self._host, self._port)
        self.set_timeout(timeout_s)
        with self._asking("the world"):
            self._enter(self._client.get_world())

    @contextmanager
    def patience(self, timeout_s: float) -> Iterator[None]:
        """Wait this long for calls within the block, where that is longer than usual."""
        before = self._calls.timeout_s
        self.set_timeout(max(timeout_s, before))
        try:
            yield
        finally:
            self.set_timeout(before)

    def is_reachable(self) -> bool:
        """Whether anything listens at the server's address: a server that was killed does not, a busy one does."""
        with suppress(OSError), socket.create_connection((self._host, self._port), timeout=2.0):
            return True
        return False

    def release(self) -> None:
        """Let the client library go, with its threads: those that live on when the interpreter ends abort it."""
        self._ticks.release()
        self._lidars.release()
        self.end_traffic()
        self._make.release()
        self._world = self._client = None
        gc.collect()

    def _enter(self, world: Any) -> None:
        self._world = world
        self._make = ClientCommands(self._carla, self._calls, world)

    def _towns(self) -> list[str]:
        with self._asking("its towns"):
            return sorted(str(name).rpartition("/")[2] for name in self._client.get_available_maps())

    def _actor(self, actor_id: int) -> Any:
        actor = self._world.get_actor(actor_id)
        if actor is None:
            raise SimulatorError(f"Actor {actor_id} is no longer in the world of {self.address}.")
        return actor
