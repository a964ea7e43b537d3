"""CARLA's client library behind our port: the one file of the plugin that calls it.

Importing this module does not import ``carla``; connecting does. Everything that the library raises becomes a
``SimulatorError`` that says what was asked, of which server, and what to try.
"""

import gc
import queue
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from dyncity_carla.client_objects import ClientSnapshot, info_of, sweep_of, transform_of
from dyncity_carla.frames import CarlaTransform
from dyncity_carla.mailbox import Mailbox
from dyncity_carla.ports import (
    ActorInfo,
    Blueprint,
    BoundingBox,
    Command,
    Destroy,
    LidarSpec,
    LidarSweep,
    Outcome,
    Place,
    RoadMap,
    Settings,
    Snapshot,
    Spawn,
)
from dyncity_carla.roads import CarlaRoads
from dyncity_sim.errors import MapError, MissingExtraError, SimulatorError

SUPPORTED_VERSION = "0.9.16"
SEMANTIC_LIDAR = "sensor.lidar.ray_cast_semantic"

SETTING_NAMES = (
    "synchronous_mode",
    "no_rendering_mode",
    "fixed_delta_seconds",
    "substepping",
    "max_substep_delta_time",
    "max_substeps",
    "max_culling_distance",
    "deterministic_ragdolls",
    "tile_stream_distance",
    "actor_active_distance",
    "spectator_as_ego",
)
"""Attributes of ``carla.WorldSettings``."""

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


def connect(host: str, port: int, timeout_s: float, allow_version_mismatch: bool = False) -> "CarlaWorld":
    """The world of a running server.

    Args:
        host, port: of the server's RPC.
        timeout_s: longest wait for any one call.
        allow_version_mismatch: go on with a server of another version than the client library's.

    Raises:
        MissingExtraError: CARLA's client library is not installed.
        SimulatorError: nobody answers, or a server of another version does.
    """
    carla = import_carla()
    address = f"{host}:{port}"
    try:
        client = carla.Client(host, port)
        client.set_timeout(timeout_s)
        versions = str(client.get_client_version()), str(client.get_server_version())
    except RuntimeError as error:
        raise SimulatorError(
            f"No CARLA server answers at {address} within {timeout_s:g} s ({_one_line(error)}). Start one "
            "(./CarlaUE4.sh -RenderOffScreen -nosound, or dyncity carla-loopback without Unreal), or say where it is: "
            "--carla-host, --carla-port."
        ) from error
    if not allow_version_mismatch:
        check_versions(*versions, address)
    return CarlaWorld(carla, client, host, port, timeout_s)


def check_versions(client: str, server: str, address: str) -> None:
    """Raise SimulatorError, with the command that mends it, when client library and server do not belong together."""
    numbers = [re.match(r"\d+\.\d+\.\d+", version) for version in (client, server)]
    if client == server or (numbers[0] and numbers[1] and numbers[0][0] == numbers[1][0]):
        return
    mend = f"pip install carla=={numbers[1][0]}" if numbers[1] else "use a released server"
    raise SimulatorError(
        f"The server at {address} is CARLA {server}, the client library is {client}: calls would fail in odd ways. "
        f"Mend it with: {mend} (this plugin is made for {SUPPORTED_VERSION}), or go on with --allow-version-mismatch."
    )


class CarlaWorld:
    """A running server's world; fulfils ``ports.World``.

    Attributes:
        address: ``host:port``.
        is_silent: a call timed out since the last one that was answered.
    """

    def __init__(self, carla: ModuleType, client: Any, host: str, port: int, timeout_s: float) -> None:
        self._carla, self._client = carla, client
        self._host, self._port, self._timeout_s = host, port, timeout_s
        self.address = f"{host}:{port}"
        self.is_silent = False
        self._blueprints: dict[str, Any] | None = None
        self._sensors: dict[int, tuple[Any, Mailbox[Any]]] = {}
        self._ticks: queue.SimpleQueue[Any] | None = None
        self._tick_callback: int | None = None
        self._manager: Any = None
        with self._asking("the world"):
            self._world = client.get_world()

    def settings(self) -> dict[str, bool | int | float | None]:
        """The world's settings."""
        with self._asking("the world's settings"):
            settings = self._world.get_settings()
        return {name: getattr(settings, name) for name in SETTING_NAMES}

    def apply_settings(self, settings: Settings) -> None:
        """Change all of the world's settings."""
        wanted = self._carla.WorldSettings()
        for name, value in settings.items():
            setattr(wanted, name, value)
        with self._asking("new world settings"):
            self._world.apply_settings(wanted, self._timeout_s)

    def blueprints(self) -> Sequence[Blueprint]:
        """The server's library, sorted by id."""
        return [
            Blueprint(name, {attribute.id: self._value(attribute) for attribute in blueprint})
            for name, blueprint in sorted(self._library().items())
        ]

    def actors(self) -> Sequence[ActorInfo]:
        """All actors of the last tick, sorted by id."""
        with self._asking("the list of actors"):
            return sorted((info_of(actor) for actor in self._world.get_actors()), key=lambda actor: actor.id)

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
        """Hand vehicles to a traffic manager in this process, synchronous and seeded: it steps with our ticks."""
        with self._asking(f"a traffic manager on port {port} (--traffic-port names another)"):
            self._manager = self._client.get_trafficmanager(port)
            self._manager.set_synchronous_mode(True)
            self._manager.set_random_device_seed(seed)
            make = self._carla.command
            self._client.apply_batch_sync([make.SetAutopilot(actor_id, True, port) for actor_id in actor_ids], False)

    def end_traffic(self) -> None:
        """Give the traffic manager up; harmless without one."""
        if self._manager is not None:
            with self._asking("the traffic manager to end"):
                self._manager.set_synchronous_mode(False)
                self._manager.shut_down()
            self._manager = None

    def load_town(self, name: str) -> None:
        """Replace the world by one of the server's towns."""
        with self._asking(f"town {name!r} (those it has: {', '.join(self._towns())})"):
            self._world = self._client.load_world(name)
        self._blueprints = None

    def load_opendrive(self, opendrive: str, parameters: dict[str, float | bool]) -> None:
        """Replace the world by one made of an OpenDRIVE document; returns before its roads can be asked for."""
        wanted = self._carla.OpendriveGenerationParameters(**parameters)
        with self._asking("a world made of an OpenDRIVE document"):
            self._world = self._client.generate_opendrive_world(opendrive, wanted)
        self._blueprints = None

    def spawn(self, blueprint_id: str, role_name: str, at: CarlaTransform) -> int | None:
        """Make an actor; None where there is no room."""
        with self._asking(f"a {blueprint_id}"):
            actor = self._world.try_spawn_actor(self._blueprint(blueprint_id, role_name), self._theirs(at))
        return None if actor is None else int(actor.id)

    def batch(self, commands: Sequence[Command]) -> list[Outcome]:
        """Do many things at once, before the next tick."""
        if not commands:
            return []
        with self._asking(f"a batch of {len(commands)} commands"):
            responses = self._client.apply_batch_sync([self._command(command) for command in commands], False)
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
            self._world.tick(self._timeout_s)
            return ClientSnapshot(self._world.get_snapshot())

    def wait_for_tick(self) -> Snapshot:
        """The next tick that somebody else made; ticks queue up from the first call on."""
        if self._ticks is None:
            self._ticks = queue.SimpleQueue()
            self._tick_callback = self._world.on_tick(self._ticks.put)
        try:
            return ClientSnapshot(self._ticks.get(timeout=self._timeout_s))
        except queue.Empty:
            raise SimulatorError(
                f"Nobody ticked {self.address} for {self._timeout_s:g} s: with --tick external another client has to. "
                "Start it, or let this one tick: --tick own."
            ) from None

    def attach_lidar(self, parent_id: int, spec: LidarSpec, role_name: str, ticks_per_s: float) -> int:
        """Attach a semantic LiDAR that makes one turn per tick, and begin to listen."""
        blueprint = self._blueprint(SEMANTIC_LIDAR, role_name)
        for name, value in (
            ("channels", spec.channels),
            ("range", spec.range_m),
            ("points_per_second", round(spec.points_per_sweep * ticks_per_s)),
            ("rotation_frequency", ticks_per_s),
            ("lower_fov", spec.lower_deg),
            ("upper_fov", spec.upper_deg),
        ):
            blueprint.set_attribute(name, str(value))
        at = self._theirs(CarlaTransform(*spec.position_m))
        with self._asking("a semantic LiDAR"):
            sensor = self._world.spawn_actor(blueprint, at, attach_to=self._actor(parent_id))
            mailbox: Mailbox[Any] = Mailbox(f"LiDAR {role_name}")
            self._sensors[sensor.id] = (sensor, mailbox)
            # The library's memory is not ours to keep: what is needed is copied in its own thread.
            sensor.listen(lambda measured: mailbox.put(measured.frame, sweep_of(measured)))
        return int(sensor.id)

    def sweep(self, sensor_id: int, frame: int) -> LidarSweep:
        """A LiDAR's measurement of one tick."""
        sweep: LidarSweep = self._sensors[sensor_id][1].take(frame, self._timeout_s)
        return sweep

    def stop_lidar(self, sensor_id: int) -> None:
        """Stop listening to a LiDAR and take it out of the world, in this order."""
        sensor, _ = self._sensors.pop(sensor_id)
        with self._asking(f"LiDAR {sensor_id} to stop"):
            sensor.stop()
            sensor.destroy()

    def draw_boxes(self, boxes: Sequence[tuple[CarlaTransform, tuple[float, float, float]]], life_s: float) -> None:
        """Draw boxes, for those who watch."""
        carla = self._carla
        for transform, (length_m, width_m, height_m) in boxes:
            theirs = self._theirs(transform)
            box = carla.BoundingBox(theirs.location, carla.Vector3D(length_m / 2, width_m / 2, height_m / 2))
            self._world.debug.draw_box(box, theirs.rotation, 0.05, carla.Color(*_BOX_COLOUR), life_s)

    def set_timeout(self, timeout_s: float) -> None:
        """Longest wait for any one call from now on."""
        self._timeout_s = timeout_s
        self._client.set_timeout(timeout_s)

    @contextmanager
    def patience(self, timeout_s: float) -> Iterator[None]:
        """Wait this long for calls within the block, where that is longer than usual."""
        before = self._timeout_s
        self.set_timeout(max(timeout_s, before))
        try:
            yield
        finally:
            self.set_timeout(before)

    def is_reachable(self) -> bool:
        """Whether anything listens at the server's address: a server that was killed does not, a busy one does."""
        try:
            with socket.create_connection((self._host, self._port), timeout=2.0):
                return True
        except OSError:
            return False

    def release(self) -> None:
        """Let the client library go, with its threads: those that live on when the interpreter ends abort it."""
        if self._tick_callback is not None:
            self._world.remove_on_tick(self._tick_callback)
            self._tick_callback, self._ticks = None, None
        for sensor, _ in self._sensors.values():
            sensor.stop()
        self._sensors.clear()
        self._blueprints = None
        self._world = self._client = self._manager = None
        gc.collect()

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, ValueError) as error:
            said = _one_line(error)
            if "time-out" in said:
                self.is_silent = True
                raise SimulatorError(
                    f"The CARLA server at {self.address} did not answer within {self._timeout_s:g} s when asked for "
                    f"{what}. Is it still running, or busy? Restart it, or wait longer: --timeout."
                ) from error
            raise SimulatorError(f"The CARLA server at {self.address} refused {what}: {said}") from error
        self.is_silent = False

    def _towns(self) -> list[str]:
        with self._asking("its towns"):
            return sorted(str(name).rpartition("/")[2] for name in self._client.get_available_maps())

    def _library(self) -> dict[str, Any]:
        if self._blueprints is None:
            with self._asking("its blueprint library"):
                self._blueprints = {blueprint.id: blueprint for blueprint in self._world.get_blueprint_library()}
        return self._blueprints

    def _blueprint(self, blueprint_id: str, role_name: str) -> Any:
        blueprint = self._library().get(blueprint_id)
        if blueprint is None:
            raise SimulatorError(f"The CARLA server at {self.address} has no blueprint {blueprint_id!r}.")
        if blueprint.has_attribute("role_name"):
            blueprint.set_attribute("role_name", role_name)
        return blueprint

    def _value(self, attribute: Any) -> str:
        """The value of a blueprint's attribute as text; colours have none that matters here."""
        kinds = self._carla.ActorAttributeType
        match attribute.type:
            case kinds.String:
                return str(attribute.as_str())
            case kinds.Int:
                return str(attribute.as_int())
            case kinds.Float:
                return str(attribute.as_float())
            case kinds.Bool:
                return str(attribute.as_bool()).lower()
            case _:
                return ""

    def _actor(self, actor_id: int) -> Any:
        actor = self._world.get_actor(actor_id)
        if actor is None:
            raise SimulatorError(f"Actor {actor_id} is no longer in the world of {self.address}.")
        return actor

    def _command(self, command: Command) -> Any:
        make = self._carla.command
        match command:
            case Place(actor_id, to):
                return make.ApplyTransform(actor_id, self._theirs(to))
            case Destroy(actor_id):
                return make.DestroyActor(actor_id)
            case Spawn(blueprint_id, role_name, at, settle):
                made = make.FutureActor
                spawn = make.SpawnActor(self._blueprint(blueprint_id, role_name), self._theirs(at))
                spawn.then(make.SetSimulatePhysics(made, False))
                return spawn.then(make.ApplyTransform(made, self._theirs(settle)))

    def _theirs(self, at: CarlaTransform) -> Any:
        carla = self._carla
        return carla.Transform(
            carla.Location(at.x_m, at.y_m, at.z_m),
            carla.Rotation(pitch=at.pitch_deg, yaw=at.yaw_deg, roll=at.roll_deg),
        )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
