"""The streaming channel: one connection per subscription, messages with their length in front."""

import asyncio
import contextlib
import struct
import time
from collections.abc import Callable

from dyncity_carla.loopback.calls import CallLog

WORLD_STREAM = 1
"""Stream of the world state; a sensor's stream has the sensor's id."""

MOST_UNSENT_BYTES = 64 * 2**20
"""A subscriber that reads so much too slowly is cut off."""

SUBSCRIBES_WITHIN_S = 2.0
"""A client that was given a stream's token and has not subscribed by then is not waited for."""

_STREAM_ID = struct.Struct("<I")
_LENGTH = struct.Struct("<I")


class StreamServer:
    """Sends messages to whoever subscribed.

    A client of the library subscribes in a thread of its own and goes on meanwhile. A real server takes a frame's time
    to answer its first tick, by which the subscription is there; here a tick is over at once, and waits for those that
    its client announced. Without that, a busy machine's client would wait for a frame that was sent before it listened.
    For subscriptions to the world it waits whoever announced them: a real server does not tick while it opens a map.

    A client announces a subscription by asking for the stream's token, as the library does each time, and by loading a
    map: it drops its subscription to the world as soon as that is answered, and takes a new one.

    Attributes:
        port: that tokens name, once started.
    """

    def __init__(self, calls: CallLog) -> None:
        self._calls = calls
        self._subscribers: dict[int, set[asyncio.StreamWriter]] = {}
        self._announced: dict[tuple[int, int], float] = {}
        self._subscribed = asyncio.Event()
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Listen on ``port``, or a free one where it is 0."""
        self._server = await asyncio.start_server(self._serve, host, port)
        self.port = self._server.sockets[0].getsockname()[1]

    def subscribers(self) -> dict[int, int]:
        """Number of subscribers by stream id."""
        return {stream_id: len(writers) for stream_id, writers in self._subscribers.items() if writers}

    def announce(self, client: int, stream_id: int) -> None:
        """Note that a client will subscribe to a stream; once, however often it is noted."""
        self._announced.pop((client, stream_id), None)
        self._announced[client, stream_id] = time.monotonic() + SUBSCRIBES_WITHIN_S

    async def until_subscribed(self, client: int) -> None:
        """Wait until every subscription that a client announced has come, or took too long."""
        await self._until_subscribed(lambda announcer, _: announcer == client)

    async def until_world_subscribed(self) -> None:
        """Wait until every subscription to the world that any client announced has come, or took too long."""
        await self._until_subscribed(lambda _, stream_id: stream_id == WORLD_STREAM)

    async def _until_subscribed(self, awaited: Callable[[int, int], bool]) -> None:
        while limits := [until for key, until in self._still_announced().items() if awaited(*key)]:
            self._subscribed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._subscribed.wait(), max(limits) - time.monotonic())

    def _still_announced(self) -> dict[tuple[int, int], float]:
        """Without those that took too long: another client's subscription must not pass for theirs."""
        now = time.monotonic()
        self._announced = {key: until for key, until in self._announced.items() if until > now}
        return self._announced

    def _subscribe(self, stream_id: int, writer: asyncio.StreamWriter) -> None:
        self._subscribers.setdefault(stream_id, set()).add(writer)
        awaited = next((key for key in self._still_announced() if key[1] == stream_id), None)
        if awaited is not None:
            del self._announced[awaited]
            self._subscribed.set()

    def send(self, stream_id: int, message: bytes) -> None:
        """Send a message to every subscriber of a stream."""
        for writer in list(self._subscribers.get(stream_id, ())):
            if writer.transport.get_write_buffer_size() > MOST_UNSENT_BYTES:
                self._calls.note(f"stream {stream_id}: a subscriber reads too slowly and was cut off")
                writer.transport.abort()
            else:
                writer.write(_LENGTH.pack(len(message)) + message)

    def drop(self) -> None:
        """Cut every connection."""
        for writers in self._subscribers.values():
            for writer in writers:
                writer.transport.abort()

    async def close(self) -> None:
        """Stop listening and cut every connection."""
        self._server.close()
        self.drop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stream_id = None
        try:
            (stream_id,) = _STREAM_ID.unpack(await reader.readexactly(_STREAM_ID.size))
            self._subscribe(stream_id, writer)
            if said := await reader.read(1):
                self._calls.note(f"stream {stream_id}: the subscriber sent {said!r}, and should only read")
        except asyncio.IncompleteReadError as error:
            if error.partial:
                self._calls.note(f"streaming channel: got {len(error.partial)} bytes for a stream id of 4")
        except ConnectionError:
            pass
        finally:
            if stream_id is not None:
                self._subscribers[stream_id].discard(writer)
            writer.close()
