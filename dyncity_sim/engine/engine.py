"""The engine: one blocking backend behind a bounded queue, for many concurrent callers."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

import numpy as np

from dyncity_sim.domain.conditions import Conditions, Continuation, SamplingOptions
from dyncity_sim.domain.generation import GeneratedChunk, ModelInfo
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.engine.admission import check_occupancy, check_request
from dyncity_sim.engine.backend import Backend, Checkpoint
from dyncity_sim.errors import BusyError, DeadlineError, UnavailableError

Result = TypeVar("Result")

SHORTEST_RETRY_S = 0.1
"""Least that a refused caller is told to wait, whatever the estimate: nobody should retry in a tight loop."""

MEMORY = 0.7
"""Weight of the past in the running mean of job lengths."""


class _DroppedError(Exception):
    """Unwinds the backend when nobody waits for its result any more."""


@dataclass(eq=False)
class _Job:
    """One blocking call, on its way through the queue.

    Attributes:
        call: what to run in the worker thread; gets the job's checkpoint.
        result: what the caller awaits.
        deadline_s: time on the monotonic clock after which nobody wants the result; may be infinite.
        dropped: set when the caller is gone.
    """

    call: Callable[[Checkpoint], Any]
    result: asyncio.Future[Any]
    deadline_s: float
    dropped: threading.Event = field(default_factory=threading.Event)

    def checkpoint(self, steps_done: int) -> None:
        if self.dropped.is_set():
            raise _DroppedError
        if time.monotonic() >= self.deadline_s:
            raise DeadlineError(f"The deadline passed after {steps_done} steps.")

    def run(self) -> Any:
        self.checkpoint(0)
        return self.call(self.checkpoint)


class Engine:
    """Runs a backend in one worker thread; jobs wait in a bounded queue, first come first served.

    All methods belong to one event loop. A caller that goes away (its task is cancelled) or whose
    deadline passes leaves the queue at once, or drops the running work at its next denoising step.

    Args:
        load: builds the backend; called in the worker thread by ``start``.
        max_queue: jobs that may wait while one runs.
        rng: source of the seeds that requests leave open.
    """

    def __init__(self, load: Callable[[], Backend], max_queue: int, rng: np.random.Generator) -> None:
        self.max_queue = max_queue
        self._load = load
        self._rng = rng
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="backend")
        self._waiting: deque[_Job] = deque()
        self._running: _Job | None = None
        self._arrived = asyncio.Event()
        self._mean_job_s: float | None = None
        self._backend: Backend | None = None
        self._draining = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None

    @property
    def info(self) -> ModelInfo:
        """What the model can do. Raises UnavailableError before ``start`` is through."""
        return self._ready().info

    async def start(self) -> None:
        """Load the backend and warm it up; whatever they raise comes out here."""
        loop = asyncio.get_running_loop()
        backend = await loop.run_in_executor(self._executor, _carried, self._load)
        await loop.run_in_executor(self._executor, _carried, backend.warm_up)
        self._backend = backend
        self._worker = asyncio.create_task(self._work())

    async def generate(
        self, conditions: Conditions, options: SamplingOptions, timeout_s: float | None = None
    ) -> GeneratedChunk:
        """Generate one chunk; draws a seed when ``options`` has none.

        Raises:
            InvalidInputError, UnsupportedConditionError: the model cannot serve the request.
            BusyError: the queue is full, or its wait is longer than ``timeout_s``.
            DeadlineError: ``timeout_s`` passed; the work was dropped.
            UnavailableError: not started yet, or draining.
        """
        backend = self._ready()
        check_request(backend.info, conditions, options)
        if options.seed is None:
            options = replace(options, seed=int(self._rng.integers(2**63)))
        queued_s = time.monotonic()

        def call(checkpoint: Checkpoint) -> GeneratedChunk:
            waited_s = time.monotonic() - queued_s
            chunk = backend.generate(conditions, options, checkpoint)
            return replace(chunk, timings=replace(chunk.timings, queue_s=waited_s))

        return await self._submit(call, timeout_s)

    async def encode(self, occupancy: OccupancySequence, timeout_s: float | None = None) -> Continuation:
        """Turn observed occupancy into a continuation. Raises as ``generate`` does."""
        backend = self._ready()
        check_occupancy(backend.info, occupancy)
        return await self._submit(lambda _: backend.encode(occupancy), timeout_s)

    def drain(self) -> None:
        """Refuse new work from now on; what is queued or running goes on."""
        self._draining.set()

    async def draining(self) -> None:
        """Return once ``drain`` has been called."""
        await self._draining.wait()

    async def close(self) -> None:
        """Drop all work and stop. Callers still waiting get UnavailableError."""
        self._draining.set()
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        for job in [*self._waiting, *([self._running] if self._running else [])]:
            job.dropped.set()
            if not job.result.done():
                job.result.set_exception(UnavailableError("The server stopped before this request was done."))
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _ready(self) -> Backend:
        if self._draining.is_set():
            raise UnavailableError("The server is shutting down and takes no new work.")
        if self._backend is None:
            raise UnavailableError("The server is still loading its model.")
        return self._backend

    async def _submit(self, call: Callable[[Checkpoint], Result], timeout_s: float | None) -> Result:
        self._check_room(timeout_s)
        deadline_s = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        job = _Job(call, asyncio.get_running_loop().create_future(), deadline_s)
        self._waiting.append(job)
        self._arrived.set()
        try:
            await asyncio.wait((job.result,), timeout=timeout_s)
            if not job.result.done():
                raise DeadlineError(f"The deadline passed after {timeout_s:.1f} s; the work is dropped.")
            return cast(Result, job.result.result())
        finally:
            job.dropped.set()
            job.result.cancel()
            if job in self._waiting:
                self._waiting.remove(job)

    def _check_room(self, timeout_s: float | None) -> None:
        ahead = len(self._waiting) + (self._running is not None)
        # What a job takes shows in the first one: warming up may compile for minutes.
        wait_s = ahead * (self._mean_job_s or 0.0)
        if ahead > self.max_queue:
            raise BusyError(f"The queue is full ({ahead} requests are ahead).", max(wait_s, SHORTEST_RETRY_S))
        if timeout_s is not None and ahead and wait_s > timeout_s:
            raise BusyError(
                f"{ahead} requests are ahead, about {wait_s:.1f} s; the deadline is in {timeout_s:.1f} s.", wait_s
            )

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            job = self._running = self._waiting.popleft()
            began_s = time.monotonic()
            try:
                value = await loop.run_in_executor(self._executor, _carried, job.run)
            except Exception as error:
                if not job.result.done():
                    job.result.set_exception(error)
            else:
                if not job.result.done():
                    job.result.set_result(value)
                took_s = time.monotonic() - began_s
                past_s = took_s if self._mean_job_s is None else self._mean_job_s
                self._mean_job_s = MEMORY * past_s + (1 - MEMORY) * took_s
            self._running = None


def _carried(call: Callable[[], Result]) -> Result:
    """What a call returns or raises; as an error what no future can carry, for which the worker would wait for ever."""
    try:
        return call()
    except BaseException as error:
        if isinstance(error, StopIteration) or not isinstance(error, Exception):
            raise RuntimeError(f"The backend raised {type(error).__name__}.") from error
        raise
