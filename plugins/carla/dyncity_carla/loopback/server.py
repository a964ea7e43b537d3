"""The server: its world, its channels, and the clock that ticks while no client does."""

import asyncio
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dyncity_carla.loopback import methods_actors, methods_environment, methods_episode
from dyncity_carla.loopback.calls import CallLog
from dyncity_carla.loopback.faults import Faults
from dyncity_carla.loopback.inspection import History, InspectionServer
from dyncity_carla.loopback.methods import Method
from dyncity_carla.loopback.roads import Roads
from dyncity_carla.loopback.rpc import RpcServer
from dyncity_carla.loopback.sensors import SensorSuite
from dyncity_carla.loopback.streams import WORLD_STREAM, StreamServer
from dyncity_carla.loopback.world import World


@dataclass(frozen=True)
class ServerOptions:
    """How a server is set up.

    Attributes:
        host: address to listen on.
        port: of the control channel; 0 takes a free one.
        streaming_port: of the streaming channel; 0 takes a free one.
        inspect_port: of the inspection channel; 0 takes a free one.
        strict: whether violations are told on stderr and end in a failing exit status.
        kept_calls: calls that are kept with their arguments.
        kept_frames: frames for which places of actors are kept.
    """

    host: str = "127.0.0.1"
    port: int = 0
    streaming_port: int = 0
    inspect_port: int = 0
    strict: bool = True
    kept_calls: int = 20_000
    kept_frames: int = 2_000


class LoopbackServer:
    """Serves one world to any number of clients."""

    def __init__(self, world: World, options: ServerOptions) -> None:
        self.options = options
        self.faults = Faults()
        self.world = world
        self.calls = CallLog(options.kept_calls)
        self.streams = StreamServer(self.calls)
        self.history = History(options.kept_frames)
        self.inspection = InspectionServer(self)
        self.rpc = RpcServer(self, all_methods(), self.calls, self.faults, self.streams, self._tell)
        self._sensors = SensorSuite()
        self._ready_at = time.monotonic()
        self._hides_map = False
        self._asynchronous = asyncio.Event()

    async def start(self) -> None:
        """Listen on all channels."""
        await self.streams.start(self.options.host, self.options.streaming_port)
        self.world.streaming_port = self.streams.port
        await self.inspection.start(self.options.host, self.options.inspect_port)
        await self.rpc.start(self.options.host, self.options.port)

    async def run_clock(self) -> None:
        """Tick in real time for as long as no client does; ends never."""
        self.settings_changed()
        while True:
            await self._asynchronous.wait()
            await self.streams.until_world_subscribed()
            began = time.monotonic()
            await self.faults.pass_stall()
            if not self.world.settings.synchronous_mode:
                self.tick()
            await asyncio.sleep(max(self.world.step_s() - (time.monotonic() - began), 0.0))

    async def close(self) -> None:
        """Stop listening and cut every connection."""
        await self.rpc.close()
        await self.streams.close()
        await self.inspection.close()

    def tick(self) -> int:
        """Move the world on by one frame and send what subscribers get; the new frame's number."""
        self.world.tick(self.world.step_s())
        self.history.add(self.world)
        self.faults.die_in_tick()
        if self._map_appears():
            self.world.map_changed = True
        self.streams.send(WORLD_STREAM, self.world.state_message())
        self._send_sensors()
        for channel in self.faults.channels_to_drop():
            self.drop(channel)
        return self.world.moment.frame

    def _send_sensors(self) -> None:
        for stream_id in list(self.streams.subscribers()):
            sensor = self.world.actors.get(stream_id)
            if sensor is None or sensor.blueprint.stream_type is None:
                continue
            for message in self._sensors.messages(self.world, sensor):
                if not self.faults.loses_frame_of(sensor.id):
                    self.streams.send(stream_id, message)
        self._sensors.forget(self.world)

    def _map_appears(self) -> bool:
        """Whether lanes that were delayed show from this tick on."""
        appears = self._hides_map and self.map_is_ready()
        self._hides_map = self._hides_map and not appears
        return appears

    def turn_on(self, name: str, parameters: Mapping[str, Any]) -> None:
        """Turn on a fault whose parameters are checked already."""
        if name == "drop" and parameters["in_ticks"] == 0:
            self.drop(parameters["channel"])
        elif name == "refuse-spawns":
            self.world.refuse_spawns = parameters["count"]
        elif name == "delay-waypoints":
            self.faults.delay_waypoints_s = parameters["seconds"]
            self._hide_map()
        else:
            self.faults.turn_on(name, parameters)

    def clear_faults(self) -> None:
        """Turn all faults off."""
        self.faults.clear()
        self.world.refuse_spawns = 0
        self._ready_at = time.monotonic()

    def _hide_map(self) -> None:
        self._ready_at = time.monotonic() + self.faults.delay_waypoints_s
        self._hides_map = not self.map_is_ready()
        self.world.map_changed = True

    def connections(self) -> dict[str, Any]:
        """Clients, and subscribers by stream."""
        return {"clients": self.rpc.clients, "subscribers": self.streams.subscribers()}

    def drop(self, channel: str) -> None:
        """Cut the connections of ``rpc``, ``stream``, or ``all``."""
        if channel in ("rpc", "all"):
            self.rpc.drop()
        if channel in ("stream", "all"):
            self.streams.drop()

    def load(self, roads: Roads) -> None:
        """Begin a new episode."""
        self.world.load(roads)
        self._hide_map()

    def settings_changed(self) -> None:
        """Start or stop the clock."""
        if self.world.settings.synchronous_mode:
            self._asynchronous.clear()
        else:
            self._asynchronous.set()

    def map_is_ready(self) -> bool:
        """Whether the map shows its lanes yet."""
        return time.monotonic() >= self._ready_at

    def _tell(self, violation: str) -> None:
        if self.options.strict:
            sys.stderr.write(f"violation: {violation}\n")
            sys.stderr.flush()


def all_methods() -> dict[str, Method]:
    """Every method that the loopback answers, by name."""
    groups: Iterable[Iterable[Method]] = (methods_episode.METHODS, methods_actors.METHODS, methods_environment.METHODS)
    return {method.name: method for group in groups for method in group}
