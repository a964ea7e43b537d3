"""The generator port of co-simulation, and a stream over it that outlives servers."""

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol, Self, TypeVar

from dyncity_sim.domain.conditions import Conditions, Continuation, SamplingOptions
from dyncity_sim.domain.generation import GeneratedChunk, ModelInfo
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.errors import BusyError, DyncityError, UnavailableError

Reply = TypeVar("Reply")


class Conversation(Protocol):
    """An open stream to one server; ``dyncity_sim.client.ChunkStream`` is one."""

    def send(self, conditions: Conditions, options: SamplingOptions) -> object:
        """Ask for the next chunk; without a continuation it goes on from the chunk before on this stream.

        Raises:
            UnavailableError, BusyError: the stream has ended.
        """
        ...

    def receive(self) -> GeneratedChunk:
        """The chunk of the earliest request that is unanswered; the same request gives the same chunk anywhere.

        Raises:
            UnavailableError, BusyError: the stream has ended, and all chunks that had arrived were received.
        """
        ...

    def close(self) -> None:
        """Hang up."""
        ...


class Generator(Protocol):
    """What co-simulation needs of a server; ``dyncity_sim.client.DyncityClient`` is one."""

    def model_info(self) -> ModelInfo:
        """What the server's model can do."""
        ...

    def encode(self, occupancy: OccupancySequence) -> Continuation:
        """Turn observed occupancy into what the next chunk continues from."""
        ...

    def stream(self) -> Conversation:
        """Open a stream of chunks."""
        ...


@dataclass(frozen=True)
class Patience:
    """How long a server that is away or busy is asked again.

    Attributes:
        limit_s: from the first failure on; then the failure is raised.
        wait_s: between two attempts, unless a busy server names a time.
        sleep: waits that many seconds.
        clock: seconds, monotonic.
        tell: told of the first failure of a call, before it is made again.
    """

    limit_s: float = 60.0
    wait_s: float = 0.5
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    tell: Callable[[DyncityError], None] = lambda error: None

    def call(self, request: Callable[[], Reply]) -> Reply:
        """The request's reply, asked for again while the server is unavailable or busy and time is left."""
        failed_at: float | None = None
        while True:
            try:
                return request()
            except (UnavailableError, BusyError) as error:
                now, first = self.clock(), failed_at is None
                failed_at = now if failed_at is None else failed_at
                wait_s = error.retry_after_s if isinstance(error, BusyError) else self.wait_s
                if now + wait_s - failed_at > self.limit_s:
                    raise
                if first:
                    self.tell(error)
                self.sleep(wait_s)


class ResumedStream:
    """Chunks of one drive in the order asked for, whatever becomes of the streams that carry them.

    When a stream breaks, the next one goes on from the last chunk that was taken: whatever is unanswered is sent
    again, seeds included, and gives the chunks that it would have given. Use it in a ``with``.

    Args:
        generator: opens streams.
        continuation: what the first chunk goes on from; None starts a new drive.
        patience: how long a server that is away is asked again.
    """

    def __init__(self, generator: Generator, continuation: Continuation | None, patience: Patience) -> None:
        self._generator = generator
        self._continuation = continuation
        self._patience = patience
        self._unanswered: deque[tuple[Conditions, SamplingOptions]] = deque()
        self._stream: Conversation | None = None

    def ask(self, conditions: Conditions, options: SamplingOptions) -> None:
        """Ask for the next chunk; its continuation follows from the order and is left out."""
        self._unanswered.append((conditions, options))
        if self._stream is not None:
            # A stream that is over still holds what had arrived. take() gets that first, then opens another stream
            # and sends all the rest again.
            with suppress(UnavailableError, BusyError):
                self._stream.send(conditions, options)

    def take(self) -> GeneratedChunk:
        """The chunk that was asked for first; waits for it.

        Raises:
            UnavailableError, BusyError: servers stayed away or busy for longer than the patience.
        """
        chunk = self._patience.call(self._received)
        self._unanswered.popleft()
        self._continuation = chunk.continuation
        return chunk

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._hang_up()

    def _received(self) -> GeneratedChunk:
        try:
            if self._stream is None:
                self._stream = self._generator.stream()
                self._send_unanswered(self._stream)
            return self._stream.receive()
        except (UnavailableError, BusyError):
            self._hang_up()
            raise

    def _send_unanswered(self, stream: Conversation) -> None:
        continuation = self._continuation
        for conditions, options in self._unanswered:
            stream.send(replace(conditions, continuation=continuation), options)
            continuation = None

    def _hang_up(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()
