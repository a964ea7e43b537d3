"""Request after request over one call: the next is worked on while the reply before is on its way."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import TypeVar

from dyncity_sim.errors import UnavailableError

Request = TypeVar("Request")
Result = TypeVar("Result")

STREAM_DEPTH = 2
"""Requests of one stream that the server holds: one that is worked on or done, one whose reply is being written."""


async def pipelined(
    requests: AsyncIterator[Request], work: Callable[[Request], Awaitable[Result]], depth: int = STREAM_DEPTH
) -> AsyncGenerator[Result, None]:
    """Results in the order of their requests, each worked on while the consumer is busy with the one before.

    A request is read once fewer than ``depth`` results are unconsumed; a result is consumed when the next one is
    asked for. Close it (``contextlib.aclosing``) to drop the work under way.

    Args:
        requests: read one at a time.
        work: from a request to its result; not called before the call before it is done.
        depth: requests that may be read and not yet consumed, at least 1.

    Raises:
        Exception: what ``requests`` or ``work`` raised, once the results before it are consumed.
    """
    room = asyncio.Semaphore(depth)
    results: asyncio.Queue[tuple[Result] | None] = asyncio.Queue()

    async def produce() -> None:
        try:
            await room.acquire()
            async for request in requests:
                results.put_nowait((await work(request),))
                await room.acquire()
        finally:
            results.put_nowait(None)

    producer = asyncio.create_task(produce())
    try:
        while (result := await results.get()) is not None:
            yield result[0]
            room.release()
        await producer
    finally:
        producer.cancel()
        await asyncio.gather(producer, return_exceptions=True)


async def until_drained(
    requests: AsyncIterator[Request], draining: Callable[[], Awaitable[None]]
) -> AsyncGenerator[Request, None]:
    """The requests that arrive before the server drains: a caller who sends nothing must not hold it up.

    Args:
        requests: from the caller.
        draining: returns when the server begins to drain.

    Raises:
        UnavailableError: the server drains.
    """
    drained = asyncio.ensure_future(draining())
    arriving: asyncio.Future[Request] | None = None
    try:
        while not drained.done():
            arriving = asyncio.ensure_future(anext(requests))
            await asyncio.wait((arriving, drained), return_when=asyncio.FIRST_COMPLETED)
            if arriving.done():
                try:
                    request = arriving.result()
                except StopAsyncIteration:
                    return
                yield request
        raise UnavailableError("The server is shutting down: go on elsewhere, from the last reply's continuation.")
    finally:
        drained.cancel()
        if arriving is not None:
            arriving.cancel()
