"""Loading a map: no frame on its way when the client drops its subscription, since the library crashes on one."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("carla")
pytest.importorskip("msgpack")

import msgpack
from dyncity_carla.loopback import streams

if TYPE_CHECKING:
    from dyncity_carla.loopback.server import LoopbackServer
    from dyncity_carla.loopback.world import World

SOME_FRAMES_S = 0.3


@asynccontextmanager
async def serving(world: "World") -> AsyncIterator["LoopbackServer"]:
    from dyncity_carla.loopback.server import LoopbackServer, ServerOptions

    server = LoopbackServer(world, ServerOptions())
    await server.start()
    clock = asyncio.create_task(server.run_clock())
    yield server
    clock.cancel()
    await server.close()


async def called(port: int, method: str, *arguments: Any) -> Any:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(msgpack.packb([0, 1, method, [[False], *arguments]]))
    _, _, error, result = msgpack.unpackb(await reader.read(2**16))
    writer.close()
    assert error is None
    return result


async def subscribed(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(struct.pack("<I", streams.WORLD_STREAM))
    return reader, writer


def test_time_stands_from_a_maps_loading_until_its_client_listens_again(
    build_world: Callable[..., "World"], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "SUBSCRIBES_WITHIN_S", 600.0)

    async def scenario() -> None:
        async with serving(build_world()) as server:
            before, drops = await subscribed(server.streams.port)
            await before.readexactly(1)
            episode = server.world.episode_id
            loading = asyncio.create_task(called(server.rpc.port, "load_new_episode", "", True, 0))
            while server.world.episode_id == episode:
                await asyncio.sleep(0)
            frame = server.world.moment.frame
            assert await loading == [[False]]
            drops.close()
            await asyncio.sleep(SOME_FRAMES_S)
            assert server.world.moment.frame == frame
            anew, leaves = await subscribed(server.streams.port)
            await anew.readexactly(1)
            assert server.world.moment.frame > frame
            leaves.close()

    asyncio.run(scenario())


def test_ticks_of_another_client_wait_until_the_client_that_loads_a_map_listens_again(
    build_world: Callable[..., "World"], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "SUBSCRIBES_WITHIN_S", 600.0)

    async def scenario() -> None:
        world = build_world()
        world.settings = replace(world.settings, synchronous_mode=True)
        async with serving(world) as server:
            episode = world.episode_id
            loading = asyncio.create_task(called(server.rpc.port, "load_new_episode", "", False, 0))
            while world.episode_id == episode:
                await asyncio.sleep(0)
            frame = world.moment.frame
            ticking = asyncio.create_task(called(server.rpc.port, "tick_cue"))
            await loading
            await asyncio.sleep(SOME_FRAMES_S)
            assert (ticking.done(), world.moment.frame) == (False, frame)
            _, leaves = await subscribed(server.streams.port)
            await ticking
            assert world.moment.frame == frame + 1
            leaves.close()

    asyncio.run(scenario())


def test_time_goes_on_after_a_refused_loading(
    build_world: Callable[..., "World"], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "SUBSCRIBES_WITHIN_S", 600.0)

    async def scenario() -> None:
        async with serving(build_world()) as server:
            assert await called(server.rpc.port, "load_new_episode", "Atlantis", True, 0) == [[True, ["map not found"]]]
            hears, leaves = await subscribed(server.streams.port)
            await hears.readexactly(1)
            leaves.close()

    asyncio.run(scenario())
