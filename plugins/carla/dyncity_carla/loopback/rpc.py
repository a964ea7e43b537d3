"""The control channel: MessagePack-RPC over TCP, request by request, each one checked and logged."""

import asyncio
import socket
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import msgpack

from dyncity_carla.loopback.calls import CallLog
from dyncity_carla.loopback.faults import Faults
from dyncity_carla.loopback.methods import Answer, Host, Method
from dyncity_carla.loopback.shapes import ShapeError, check_arguments
from dyncity_carla.loopback.streams import WORLD_STREAM, StreamServer
from dyncity_carla.loopback.world import RefusedError

REQUEST, RESPONSE = 0, 1
LARGEST_MESSAGE_BYTES = 256 * 2**20
READ_BYTES = 2**18

MAP_OPENS_S = 0.25
"""Time from a map's loading to the answer.

The library drops its subscription to the world at that answer, and crashes when it holds a frame at that moment. A real
server takes seconds to open a map and sends no frame meanwhile, so that none is left to hold.
"""


class RpcServer:
    """Answers calls of clients, those of one connection in their order.

    Args:
        host: what methods work on.
        methods: by name.
        calls: log of every call.
        faults: slowness on demand.
        streams: what clients subscribe to, which ticks wait for.
        tell: takes each violation as it happens.
    """

    def __init__(
        self,
        host: Host,
        methods: Mapping[str, Method],
        calls: CallLog,
        faults: Faults,
        streams: StreamServer,
        tell: Callable[[str], None],
    ) -> None:
        self._host, self._methods, self._calls, self._faults, self._tell = host, methods, calls, faults, tell
        self._streams = streams
        self._writers: set[asyncio.StreamWriter] = set()
        self._clients = 0
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Listen on ``port``, or a free one where it is 0."""
        self._server = await asyncio.start_server(self._serve, host, port)
        self.port = self._server.sockets[0].getsockname()[1]

    @property
    def clients(self) -> int:
        """Connections that are open."""
        return len(self._writers)

    def drop(self) -> None:
        """Cut every connection."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def close(self) -> None:
        """Stop listening and cut every connection."""
        self._server.close()
        self.drop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        client = self._clients
        self._writers.add(writer)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        unpacker = msgpack.Unpacker(max_buffer_size=LARGEST_MESSAGE_BYTES)
        try:
            while data := await reader.read(READ_BYTES):
                unpacker.feed(data)
                for message in unpacker:
                    writer.write(msgpack.packb(await self._answered(client, message)))
                await writer.drain()
        except ConnectionError:
            pass
        except (ValueError, msgpack.UnpackException) as error:
            self._violated(f"client {client}: bytes that are not MessagePack-RPC ({error!r})")
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answered(self, client: int, message: Any) -> list[object]:
        began = self._calls.begin()
        if type(message) is not list or len(message) != 4 or message[0] != REQUEST or type(message[2]) is not str:
            raise ValueError("a request is [0, id, method, arguments]")
        _, number, name, arguments = message
        await self._faults.hold_up(name)
        if name == "tick_cue":
            await self._streams.until_subscribed(client)
            await self._streams.until_world_subscribed()
        refused = violation = None
        result: object = None
        method = self._methods.get(name)
        try:
            if method is None:
                raise ShapeError("the loopback has no such method")
            check_arguments(arguments, method.arguments)
            try:
                result = _enveloped(method.answer, method.call(self._host, *arguments[1:]))
                await self._expect(client, name, arguments)
            except RefusedError as error:
                refused = str(error)
                result = _refusal(method.answer, refused)
        except ShapeError as error:
            violation = f"{name}: {error}"
        except Exception as error:  # A fault of the loopback's own: the client is told, and so is the test.
            traceback.print_exc()
            violation = f"{name}: the loopback server failed: {error!r}"
        self._calls.add(began, client, name, arguments, self._host.world.moment.frame, refused, violation)
        if violation is not None:
            self._tell(violation)
        return [RESPONSE, number, violation, result]

    async def _expect(self, client: int, method: str, arguments: list[Any]) -> None:
        """Note the subscription that follows a call; the clock stands from a map's loading until it is there."""
        if method == "get_sensor_token":
            self._streams.announce(client, arguments[1])
        elif method == "load_new_episode":
            self._streams.announce(client, WORLD_STREAM)
            await asyncio.sleep(MAP_OPENS_S)

    def _violated(self, violation: str) -> None:
        self._calls.note(violation)
        self._tell(violation)


def _enveloped(answer: Answer, value: object) -> object:
    if answer is Answer.BARE:
        return value
    return [[False]] if answer is Answer.VOID else [[1, value]]


def _refusal(answer: Answer, text: str) -> object:
    return [[True, [text]]] if answer is Answer.VOID else [[0, [text]]]
