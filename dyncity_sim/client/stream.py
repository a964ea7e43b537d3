"""One StreamChunks call: requests go up ahead of time, chunks come back in their order."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from typing import Any, Self, TypeAlias

import grpc
from dyncity.v1 import generator_pb2

from dyncity_sim.client.outcome import error_of_call
from dyncity_sim.domain.conditions import Conditions, SamplingOptions
from dyncity_sim.domain.generation import GeneratedChunk
from dyncity_sim.errors import DeadlineError, DyncityError, InvalidInputError, RemoteError, UnavailableError
from dyncity_sim.wire import codec
from dyncity_sim.wire.voxels import VoxelEncoding

MAX_AHEAD = 8
"""Requests of one stream that may be unanswered at a time, unless the caller says otherwise."""

# A call that is made and read at once; grpc's types know no such thing.
Call: TypeAlias = Any


class ChunkStream:
    """A conversation with one server, made by ``DyncityClient.stream``; close it, or use it in a ``with``.

    A request whose conditions have no continuation goes on from the chunk before it on this stream. One thread may
    send while another receives; a single thread sends a few requests ahead and receives in between.

    When the server goes away, ``receive`` first gives the chunks that had arrived and then raises what a call of its
    own would raise. Send the requests that are unanswered again, on a stream to this or another server, the first
    with the continuation of the last chunk received: with their seeds they give the same chunks.

    Args:
        converse: starts the call over an iterable of requests.
        read: a reply's chunk as the noun.
        target: whom messages name.
        encoding: how voxels travel.
        timeout_s: patience with each ``send`` and ``receive``; None waits forever.
        ahead: most requests that may be unanswered.
    """

    def __init__(
        self,
        converse: Callable[[Iterable[generator_pb2.StreamChunksRequest]], Call],
        read: Callable[[generator_pb2.GenerateChunkResponse], GeneratedChunk],
        target: str,
        encoding: VoxelEncoding,
        timeout_s: float | None,
        ahead: int = MAX_AHEAD,
    ) -> None:
        if ahead < 1:
            raise InvalidInputError("ahead", ahead, "at least 1")
        self._read, self._target, self._encoding = read, target, encoding
        self._timeout_s, self._ahead = timeout_s, ahead
        self._requests: SimpleQueue[generator_pb2.StreamChunksRequest | None] = SimpleQueue()
        self._changed = threading.Condition()
        self._arrived: deque[GeneratedChunk] = deque()
        self._sent = self._received = 0
        self._finished = False
        self._end: DyncityError | None = None
        self._call = converse(iter(self._requests.get, None))
        self._reader = threading.Thread(target=self._read_all, name=f"dyncity-stream-{target}", daemon=True)
        self._reader.start()

    @property
    def unanswered(self) -> int:
        """Requests whose chunk has not been received."""
        return self._sent - self._received

    def send(self, conditions: Conditions, options: SamplingOptions | None = None) -> int:
        """Ask for the next chunk and return its number on this stream, counted from 0.

        Waits while ``ahead`` requests are unanswered.

        Raises:
            DeadlineError: no room within ``timeout_s``; nothing was sent.
            InvalidInputError: ``finish`` or ``close`` was called before.
            DyncityError: the stream has ended; what ended it.
        """
        request = generator_pb2.StreamChunksRequest(
            conditions=codec.conditions_to_proto(conditions, self._encoding),
            options=codec.options_to_proto(options or SamplingOptions()),
            encoding=codec.encoding_to_proto(self._encoding),
        )
        with self._changed:
            self._wait_for(
                lambda: self._finished or self._end is not None or self.unanswered < self._ahead,
                f"{self.unanswered} requests to {self._target} are unanswered: receive a chunk in between.",
            )
            if self._finished:
                raise InvalidInputError("stream", "a request after its end", "a request before finish() and close()")
            if self._end is not None:
                raise self._end
            number = self._sent
            self._sent += 1
            self._requests.put(request)
        return number

    def receive(self) -> GeneratedChunk:
        """The chunk of the earliest request that is unanswered; waits for it.

        Raises:
            DeadlineError: it did not come within ``timeout_s``.
            DyncityError: what ended the stream; UnavailableError when the server went away.
        """
        with self._changed:
            self._wait_for(
                lambda: bool(self._arrived) or self._end is not None,
                f"{self._target} sent no chunk for {self.unanswered} unanswered requests.",
            )
            if not self._arrived:
                assert self._end is not None
                raise self._end
            self._received += 1
            self._changed.notify_all()
            return self._arrived.popleft()

    def finish(self) -> None:
        """Send no more; chunks that were asked for still come."""
        with self._changed:
            self._finished = True
            self._requests.put(None)
            self._changed.notify_all()

    def close(self) -> None:
        """Hang up: the server drops the work under way. Harmless when done before."""
        with self._changed:
            self._end = self._end or UnavailableError(f"The stream to {self._target} was closed.")
        self.finish()
        self._call.cancel()
        self._reader.join()

    def __iter__(self) -> Iterator[GeneratedChunk]:
        """The chunks of all requests up to ``finish``, which has to be called for the iteration to end."""
        while True:
            with self._changed:
                self._wait_for(
                    lambda: bool(self._arrived) or self._end is not None or self._is_through(),
                    f"{self._target} sent no chunk for {self.unanswered} unanswered requests.",
                )
                if self._is_through():
                    return
            yield self.receive()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _is_through(self) -> bool:
        return self._finished and self.unanswered == 0

    def _wait_for(self, change: Callable[[], bool], otherwise: str) -> None:
        if not self._changed.wait_for(change, self._timeout_s):
            raise DeadlineError(f"Waited {self._timeout_s:.1f} s. {otherwise}")

    def _read_all(self) -> None:
        """Take chunks as they come, so that they are unpacked while the receiver is busy; at most ``ahead`` wait."""
        end: DyncityError = RemoteError(f"The replies of {self._target} could not be read.")
        try:
            for number, reply in enumerate(self._call):
                if reply.index != number:
                    raise RemoteError(f"{self._target} answered request {reply.index} instead of {number}.")
                chunk = self._read(reply.chunk)
                with self._changed:
                    self._arrived.append(chunk)
                    self._changed.notify_all()
            end = UnavailableError(f"{self._target} has ended the stream.")
        except grpc.RpcError as error:
            end = error_of_call(error, self._target)
        except DyncityError as error:
            end = error
        finally:
            self._call.cancel()
            with self._changed:
                self._end = self._end or end
                self._changed.notify_all()
            # grpc's thread that feeds the call waits for requests until it is told that there are none.
            self._requests.put(None)
