"""A server inside another program, for demonstrations and tests."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import numpy as np

from dyncity_sim.engine.backend import Backend
from dyncity_sim.engine.engine import Engine
from dyncity_sim.server.app import Server

DEFAULT_GRACE_S = 5.0


@contextmanager
def serving(
    load: Callable[[], Backend],
    host: str = "127.0.0.1",
    port: int = 0,
    max_queue: int = 8,
    grace_s: float = DEFAULT_GRACE_S,
) -> Iterator[str]:
    """A real gRPC server in a thread of this process; yields its ``host:port`` once it is SERVING.

    Raises:
        DyncityError: the address cannot be bound, or the backend cannot be loaded.
    """
    started: Future[str] = Future()
    stop: Future[None] = Future()

    async def run() -> None:
        server = Server(Engine(load, max_queue, np.random.default_rng()), host, port)
        try:
            await server.start()
        except BaseException as error:
            started.set_exception(error)
        else:
            started.set_result(server.target)
            await asyncio.wrap_future(stop)
        await server.drain(grace_s)

    thread = threading.Thread(target=asyncio.run, args=(run(),), name="dyncity-server")
    thread.start()
    try:
        yield started.result()
    finally:
        stop.set_result(None)
        thread.join()
