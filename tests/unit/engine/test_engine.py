import asyncio
import dataclasses
import threading
import time

import numpy as np
import pytest

from dyncity_sim.domain.conditions import Conditions, SamplingOptions
from dyncity_sim.engine.engine import Engine
from dyncity_sim.engine.null import NullBackend
from dyncity_sim.errors import BusyError, CheckpointError, DeadlineError, UnavailableError

NOTHING = Conditions()
CHUNK = NullBackend().generate(NOTHING, SamplingOptions(seed=0), lambda _: None)


class GatedBackend(NullBackend):
    """Notes the seeds of its chunks; each waits until the gate opens."""

    def __init__(self, warm_up_s):
        self.gate = threading.Event()
        self.seeds = []
        self.threads = set()
        self.warm_up_s = warm_up_s

    def warm_up(self):
        self.threads.add(threading.get_ident())
        time.sleep(self.warm_up_s)

    def generate(self, conditions, options, checkpoint):
        self.threads.add(threading.get_ident())
        while not self.gate.wait(0.002):
            checkpoint(1)
        self.seeds.append(options.seed)
        return dataclasses.replace(CHUNK, seed=options.seed)


class Started:
    def __init__(self, max_queue=4, seed=0, opened=False, warm_up_s=0.0):
        self.backend = GatedBackend(warm_up_s)
        if opened:
            self.backend.gate.set()
        self.engine = Engine(lambda: self.backend, max_queue, np.random.default_rng(seed))

    async def __aenter__(self):
        await self.engine.start()
        return self.engine, self.backend

    async def __aexit__(self, *_):
        await self.engine.close()


async def settle():
    for _ in range(20):
        await asyncio.sleep(0.005)


def submitted(engine, seed, timeout_s=None):
    return asyncio.create_task(engine.generate(NOTHING, SamplingOptions(seed=seed), timeout_s))


async def test_requests_are_served_in_the_order_they_came_by_one_thread():
    async with Started() as (engine, backend):
        tasks = [submitted(engine, seed) for seed in range(5)]
        await settle()
        backend.gate.set()
        chunks = await asyncio.gather(*tasks)
    assert backend.seeds == [chunk.seed for chunk in chunks] == list(range(5))
    assert len(backend.threads) == 1


async def test_the_queue_takes_what_it_says_and_no_more():
    async with Started(max_queue=2) as (engine, backend):
        tasks = [submitted(engine, seed) for seed in range(4)]
        await settle()
        assert [task.done() for task in tasks] == [False, False, False, True]
        with pytest.raises(BusyError, match="full"):
            tasks[3].result()
        backend.gate.set()
        await asyncio.gather(*tasks[:3])
    assert backend.seeds == [0, 1, 2]


async def test_an_idle_engine_without_a_queue_still_takes_one_request():
    async with Started(max_queue=0, opened=True) as (engine, _):
        await engine.generate(NOTHING, SamplingOptions(seed=1))


async def test_a_wait_longer_than_the_deadline_is_refused_at_once():
    async with Started() as (engine, backend):
        first = submitted(engine, 0)
        await asyncio.sleep(0.1)
        backend.gate.set()
        await first
        backend.gate.clear()
        running = submitted(engine, 1)
        await settle()
        with pytest.raises(BusyError, match="deadline"):
            await engine.generate(NOTHING, SamplingOptions(seed=2), timeout_s=0.02)
        backend.gate.set()
        await running
    assert backend.seeds == [0, 1]


async def test_how_long_warming_up_took_says_nothing_of_the_wait():
    async with Started(warm_up_s=0.2) as (engine, backend):
        running = submitted(engine, 0)
        await settle()
        with pytest.raises(DeadlineError):
            await engine.generate(NOTHING, SamplingOptions(seed=1), timeout_s=0.05)
        backend.gate.set()
        await running


async def test_a_request_whose_deadline_passes_in_the_queue_is_never_begun():
    async with Started() as (engine, backend):
        running = submitted(engine, 0)
        await settle()
        with pytest.raises(DeadlineError):
            await engine.generate(NOTHING, SamplingOptions(seed=1), timeout_s=0.05)
        backend.gate.set()
        await running
        await engine.generate(NOTHING, SamplingOptions(seed=2))
    assert backend.seeds == [0, 2]


async def test_a_cancelled_request_frees_the_backend_at_its_next_step():
    async with Started() as (engine, backend):
        running = submitted(engine, 0)
        await settle()
        running.cancel()
        after = submitted(engine, 1)
        await settle()
        backend.gate.set()
        assert (await after).seed == 1
    assert backend.seeds == [1]


async def test_a_failing_request_leaves_the_engine_at_work():
    async with Started(opened=True) as (engine, backend):
        broken, backend.generate = backend.generate, lambda *_: 1 / 0
        with pytest.raises(ZeroDivisionError):
            await engine.generate(NOTHING, SamplingOptions(seed=0))
        backend.generate = broken
        await engine.generate(NOTHING, SamplingOptions(seed=1))


@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration, SystemExit, GeneratorExit, asyncio.CancelledError])
async def test_whatever_a_backend_raises_leaves_the_engine_at_work(kind):
    async with Started(opened=True) as (engine, backend):

        def broken(*_):
            raise kind

        works, backend.generate = backend.generate, broken
        with pytest.raises((RuntimeError, StopAsyncIteration)):
            await engine.generate(NOTHING, SamplingOptions(seed=0), timeout_s=2.0)
        backend.generate = works
        await engine.generate(NOTHING, SamplingOptions(seed=1), timeout_s=20.0)
    assert backend.seeds == [1]


@pytest.mark.parametrize("timeout_s", [None, 20.0])
async def test_a_backend_that_waited_in_vain_is_not_taken_for_a_caller_s_deadline(timeout_s):
    async with Started(opened=True) as (engine, backend):

        def waited(*_):
            raise TimeoutError("of a disk")

        backend.generate = waited
        with pytest.raises(TimeoutError, match="of a disk"):
            await engine.generate(NOTHING, SamplingOptions(seed=0), timeout_s)


async def test_a_backend_that_gives_up_while_it_loads_does_not_load_for_ever():
    engine = Engine(lambda: next(iter(())), 1, np.random.default_rng(0))
    with pytest.raises(RuntimeError, match="StopIteration"):
        await asyncio.wait_for(engine.start(), 20.0)
    await engine.close()


async def test_seeds_left_open_are_drawn_from_the_engine_s_generator():
    async def seeds(seed):
        async with Started(seed=seed, opened=True) as (engine, _):
            return [(await engine.generate(NOTHING, SamplingOptions())).seed for _ in range(3)]

    first, again, other = await seeds(1), await seeds(1), await seeds(2)
    assert first == again
    assert len({*first, *other}) == 6


async def test_time_in_the_queue_is_measured():
    async with Started() as (engine, backend):
        tasks = [submitted(engine, seed) for seed in range(2)]
        await asyncio.sleep(0.1)
        backend.gate.set()
        first, second = await asyncio.gather(*tasks)
    assert first.timings.queue_s < 0.1 <= second.timings.queue_s


async def test_before_the_start_and_while_draining_nothing_is_taken():
    started = Started(opened=True)
    with pytest.raises(UnavailableError, match="loading"):
        await started.engine.generate(NOTHING, SamplingOptions())
    async with started as (engine, _):
        engine.drain()
        with pytest.raises(UnavailableError, match="shutting down"):
            await engine.generate(NOTHING, SamplingOptions())


async def test_draining_finishes_what_was_taken():
    async with Started() as (engine, backend):
        tasks = [submitted(engine, seed) for seed in range(3)]
        await settle()
        engine.drain()
        backend.gate.set()
        await asyncio.gather(*tasks)
    assert backend.seeds == [0, 1, 2]


async def test_closing_tells_everyone_who_still_waits():
    async with Started() as (engine, backend):
        tasks = [submitted(engine, seed) for seed in range(3)]
        await settle()
        await engine.close()
        for task in tasks:
            with pytest.raises(UnavailableError, match="stopped"):
                await task
    assert backend.seeds == []


async def test_a_backend_that_cannot_be_loaded_says_so_at_the_start():
    def load():
        raise CheckpointError("weights", "nothing", "a folder of weights")

    engine = Engine(load, 1, np.random.default_rng(0))
    with pytest.raises(CheckpointError):
        await engine.start()
    await engine.close()
