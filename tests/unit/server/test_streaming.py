import asyncio
import time
from contextlib import aclosing

import numpy as np
import pytest

from dyncity_sim.domain.conditions import Conditions, SamplingOptions
from dyncity_sim.domain.generation import GeneratedChunk
from dyncity_sim.engine.backend import Checkpoint
from dyncity_sim.engine.engine import Engine
from dyncity_sim.engine.null import NullBackend
from dyncity_sim.errors import UnavailableError
from dyncity_sim.server.streaming import pipelined, until_drained

CHUNK = NullBackend().generate(Conditions(), SamplingOptions(seed=0), lambda _: None)


class Requests:
    """Numbers from 0 on; counts how many were read. Ends after ``count``, or by an error."""

    def __init__(self, count: int, error: Exception | None = None) -> None:
        self.count, self.error, self.read = count, error, 0

    def __aiter__(self) -> "Requests":
        return self

    async def __anext__(self) -> int:
        if self.read == self.count:
            raise self.error or StopAsyncIteration
        self.read += 1
        return self.read - 1


class Work:
    """Notes what was begun, done and dropped; waits at the gate when it is shut."""

    def __init__(self, breaks_at: int | None = None) -> None:
        self.breaks_at = breaks_at
        self.gate = asyncio.Event()
        self.gate.set()
        self.began: list[int] = []
        self.dropped: list[int] = []

    async def __call__(self, request: int) -> str:
        self.began.append(request)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.dropped.append(request)
            raise
        if request == self.breaks_at:
            raise ArithmeticError("the work")
        return f"result {request}"


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_results_come_in_the_order_of_their_requests() -> None:
    results = [result async for result in pipelined(Requests(5), Work())]
    assert results == [f"result {number}" for number in range(5)]


@pytest.mark.parametrize("depth", [1, 2, 3])
async def test_no_more_requests_are_read_than_may_be_unconsumed(depth: int) -> None:
    requests, work = Requests(100), Work()
    async with aclosing(pipelined(requests, work, depth)) as results:
        for taken in range(1, 20):
            await anext(results)
            await settle()
            assert requests.read == len(work.began) == taken - 1 + depth


async def test_the_next_request_is_worked_on_while_a_result_is_consumed() -> None:
    work = Work()
    async with aclosing(pipelined(Requests(3), work)) as results:
        assert await anext(results) == "result 0"
        work.gate.clear()
        await settle()
        assert work.began[-1] == 1


async def test_one_request_is_worked_on_at_a_time() -> None:
    requests, work = Requests(9), Work()
    work.gate.clear()
    async with aclosing(pipelined(requests, work, depth=4)) as results:
        first = asyncio.ensure_future(anext(results))
        await settle()
        assert (requests.read, work.began) == (1, [0])
        work.gate.set()
        assert await first == "result 0"


@pytest.mark.parametrize(
    ("requests", "work"), [(Requests(20), Work(breaks_at=13)), (Requests(13, ArithmeticError("the stream")), Work())]
)
async def test_an_error_comes_after_the_results_before_it(requests: Requests, work: Work) -> None:
    async with aclosing(pipelined(requests, work)) as results:
        assert [await anext(results) for _ in range(13)] == [f"result {number}" for number in range(13)]
        with pytest.raises(ArithmeticError):
            await anext(results)


async def test_closing_drops_the_work_under_way() -> None:
    requests, work = Requests(9), Work()
    async with aclosing(pipelined(requests, work)) as results:
        await anext(results)
        work.gate.clear()
        await anext(results)
        await settle()
        assert not work.dropped
    assert work.dropped == [work.began[-1]]
    assert requests.read < 5


async def test_a_cancelled_consumer_drops_the_work_under_way() -> None:
    work = Work()
    work.gate.clear()

    async def consume() -> None:
        async with aclosing(pipelined(Requests(9), work)) as results:
            async for _ in results:
                pass

    consumer = asyncio.create_task(consume())
    await settle()
    consumer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consumer
    assert work.dropped == work.began == [0]


class Silence:
    """A caller who sends nothing; notes that nobody listens to it any more."""

    left = False

    def __aiter__(self) -> "Silence":
        return self

    async def __anext__(self) -> int:
        try:
            return await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.left = True
            raise


async def test_requests_pass_until_their_end() -> None:
    draining = asyncio.Event()
    assert [request async for request in until_drained(Requests(3), draining.wait)] == [0, 1, 2]


async def test_a_silent_caller_does_not_hold_a_draining_server_up() -> None:
    draining, silence = asyncio.Event(), Silence()
    waiting = asyncio.ensure_future(anext(until_drained(silence, draining.wait)))
    await settle()
    assert not waiting.done()
    draining.set()
    with pytest.raises(UnavailableError, match="shutting down"):
        await waiting
    await settle()
    assert silence.left


async def test_nothing_is_read_from_a_caller_while_the_server_drains() -> None:
    draining, requests = asyncio.Event(), Requests(9)
    async with aclosing(until_drained(requests, draining.wait)) as arriving:
        await anext(arriving)
        draining.set()
        await settle()
        with pytest.raises(UnavailableError):
            await anext(arriving)
    assert requests.read == 1


async def test_what_breaks_a_caller_s_stream_comes_through() -> None:
    arriving = until_drained(Requests(1, ArithmeticError("broken")), asyncio.Event().wait)
    assert await anext(arriving) == 0
    with pytest.raises(ArithmeticError):
        await anext(arriving)
    await settle()
    assert asyncio.all_tasks() == {asyncio.current_task()}


class SlowBackend(NullBackend):
    """Notes the seeds that it works on; each takes a moment and is worth nothing."""

    def __init__(self) -> None:
        self.seeds: list[int | None] = []

    def warm_up(self) -> None:
        pass

    def generate(self, conditions: Conditions, options: SamplingOptions, checkpoint: Checkpoint) -> GeneratedChunk:
        self.seeds.append(options.seed)
        time.sleep(0.02)
        return CHUNK


async def test_streams_over_one_engine_take_turns() -> None:
    backend = SlowBackend()
    engine = Engine(lambda: backend, max_queue=3, rng=np.random.default_rng(0))
    await engine.start()

    async def stream(first_seed: int) -> None:
        async def generated(request: int) -> GeneratedChunk:
            return await engine.generate(Conditions(), SamplingOptions(seed=first_seed + request))

        async with aclosing(pipelined(Requests(6), generated)) as chunks:
            async for _ in chunks:
                pass

    await asyncio.gather(*(stream(first) for first in (100, 200, 300)))
    await engine.close()
    assert backend.seeds == [first + number for number in range(6) for first in (100, 200, 300)]
