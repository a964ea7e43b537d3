"""What ticks wait for: subscriptions that their own client announced."""

import asyncio
import struct
from collections.abc import Coroutine
from typing import Any

import pytest

pytest.importorskip("msgpack")

from dyncity_carla.loopback import streams
from dyncity_carla.loopback.calls import CallLog
from dyncity_carla.loopback.streams import WORLD_STREAM, StreamServer


async def subscribed(server: StreamServer, stream_id: int) -> asyncio.StreamWriter:
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(struct.pack("<I", stream_id))
    return writer


async def is_held(waiting: Coroutine[Any, Any, None]) -> tuple[bool, asyncio.Task[None]]:
    """Whether it still waits once everything that could run has run."""
    task = asyncio.create_task(waiting)
    for _ in range(10):
        await asyncio.sleep(0)
    return not task.done(), task


@pytest.fixture
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SUBSCRIBES_WITHIN_S", 600.0)


@pytest.mark.usefixtures("_patient")
def test_a_client_is_held_until_what_it_announced_has_come_and_others_are_not() -> None:
    async def scenario() -> None:
        server = StreamServer(CallLog(10))
        await server.start("127.0.0.1", 0)
        server.announce(1, WORLD_STREAM)
        held, task = await is_held(server.until_subscribed(1))
        assert held
        assert not (await is_held(server.until_subscribed(2)))[0]
        elsewhere = await subscribed(server, 7)
        held, again = await is_held(server.until_subscribed(1))
        assert held
        here = await subscribed(server, WORLD_STREAM)
        await asyncio.gather(task, again)
        assert WORLD_STREAM in server.subscribers()
        for writer in (elsewhere, here):
            writer.close()
        await server.close()

    asyncio.run(scenario())


@pytest.mark.usefixtures("_patient")
def test_a_subscription_that_is_announced_twice_is_awaited_once() -> None:
    async def scenario() -> None:
        server = StreamServer(CallLog(10))
        await server.start("127.0.0.1", 0)
        server.announce(1, WORLD_STREAM)
        server.announce(1, WORLD_STREAM)
        held, task = await is_held(server.until_subscribed(1))
        assert held
        writer = await subscribed(server, WORLD_STREAM)
        await task
        writer.close()
        await server.close()

    asyncio.run(scenario())


@pytest.mark.usefixtures("_patient")
def test_the_clock_is_held_by_subscriptions_to_the_world_alone() -> None:
    async def scenario() -> None:
        server = StreamServer(CallLog(10))
        await server.start("127.0.0.1", 0)
        server.announce(1, 7)
        assert not (await is_held(server.until_world_subscribed()))[0]
        server.announce(2, WORLD_STREAM)
        held, task = await is_held(server.until_world_subscribed())
        assert held
        writer = await subscribed(server, WORLD_STREAM)
        await task
        writer.close()
        await server.close()

    asyncio.run(scenario())


def test_a_subscription_does_not_pass_for_one_that_took_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        server = StreamServer(CallLog(10))
        await server.start("127.0.0.1", 0)
        monkeypatch.setattr(streams, "SUBSCRIBES_WITHIN_S", 0.0)
        server.announce(1, WORLD_STREAM)
        assert not (await is_held(server.until_subscribed(1)))[0]
        server.announce(1, WORLD_STREAM)
        monkeypatch.setattr(streams, "SUBSCRIBES_WITHIN_S", 600.0)
        server.announce(2, WORLD_STREAM)
        held, task = await is_held(server.until_subscribed(2))
        assert held
        writer = await subscribed(server, WORLD_STREAM)
        await task
        writer.close()
        await server.close()

    asyncio.run(scenario())
