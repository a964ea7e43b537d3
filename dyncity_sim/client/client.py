"""A blocking client that speaks domain nouns and raises the project's errors."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Self, TypeVar

import grpc
from dyncity.v1 import generator_pb2, generator_pb2_grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dyncity_sim.client.outcome import ended_call, error_of_call, server_at_fault
from dyncity_sim.client.stream import MAX_AHEAD, ChunkStream
from dyncity_sim.client.target import checked_target
from dyncity_sim.domain.conditions import Conditions, Continuation, SamplingOptions
from dyncity_sim.domain.generation import GeneratedChunk, ModelInfo
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.taxonomy import TAXONOMIES, Taxonomy
from dyncity_sim.errors import UnavailableError
from dyncity_sim.wire import codec
from dyncity_sim.wire.limits import CHANNEL_OPTIONS
from dyncity_sim.wire.server_info import ServerInfo
from dyncity_sim.wire.voxels import VoxelEncoding

DEFAULT_TIMEOUT_S = 300.0
"""Patience with one call; a chunk on a CPU takes tens of seconds."""

HEALTH_INTERVAL_S = 0.2

Reply = TypeVar("Reply", bound=Message)


class DyncityClient:
    """A connection to one server. Safe to share between threads; close it, or use it in a ``with``.

    Every call may raise InvalidInputError (naming the field of the request),
    UnsupportedConditionError, BusyError, DeadlineError, UnavailableError or RemoteError. A call that
    failed with BusyError or UnavailableError can be repeated, here or on another server: with a seed
    in its options it gives the same chunk.

    Args:
        target: ``host:port`` of the server, or a target in gRPC's own syntax.
        timeout_s: patience with each call; None waits forever.
        encoding: how voxels travel.

    Raises:
        InvalidInputError: ``target`` is no address.
    """

    def __init__(
        self,
        target: str,
        timeout_s: float | None = DEFAULT_TIMEOUT_S,
        encoding: VoxelEncoding = VoxelEncoding.ZSTD,
    ) -> None:
        self.target = checked_target(target)
        self._timeout_s = timeout_s
        self._encoding = encoding
        self._closed = False
        self._channel = grpc.insecure_channel(target, options=CHANNEL_OPTIONS)
        self._stub = generator_pb2_grpc.OccupancyGeneratorStub(self._channel)  # type: ignore[no-untyped-call]
        self._health = health_pb2_grpc.HealthStub(self._channel)

    def wait_until_serving(self, timeout_s: float = 60.0) -> None:
        """Block until the server has loaded its model.

        Raises:
            UnavailableError: it has not within ``timeout_s``, or this client is closed.
        """
        deadline_s = time.monotonic() + timeout_s
        reason = "no answer"
        while (left_s := deadline_s - time.monotonic()) > 0:
            try:
                with self._open():
                    reply = self._health.Check(health_pb2.HealthCheckRequest(), timeout=left_s, wait_for_ready=True)
            except grpc.RpcError as error:
                if ended_call(error).code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                    reason = ended_call(error).details() or ended_call(error).code().name
            else:
                if reply.status == health_pb2.HealthCheckResponse.SERVING:
                    return
                reason = "health says " + health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)
            time.sleep(min(HEALTH_INTERVAL_S, max(0.0, deadline_s - time.monotonic())))
        raise UnavailableError(f"{self.target} is not serving after {timeout_s:.0f} s: {reason}.")

    def server_info(self) -> ServerInfo:
        """What the server and its model are and can do."""
        reply = self._call(self._stub.GetModelInfo, generator_pb2.GetModelInfoRequest())
        with server_at_fault(self.target):
            return codec.server_info_from_proto(reply)

    def model_info(self) -> ModelInfo:
        """What the model can do."""
        return self.server_info().model

    def generate(self, conditions: Conditions, options: SamplingOptions | None = None) -> GeneratedChunk:
        """Generate one chunk; its continuation goes into the conditions of the next."""
        request = generator_pb2.GenerateChunkRequest(
            conditions=codec.conditions_to_proto(conditions, self._encoding),
            options=codec.options_to_proto(options or SamplingOptions()),
            encoding=codec.encoding_to_proto(self._encoding),
        )
        return self._chunk(self._call(self._stub.GenerateChunk, request))

    def stream(self, ahead: int = MAX_AHEAD) -> ChunkStream:
        """Open a stream: plans are sent up to ``ahead`` chunks ahead, and chunks come while the next are sampled.

        ``timeout_s`` counts for each chunk, not for the stream. Opening raises nothing: a server that is away shows
        in ``send`` or ``receive``. Only a client that is closed opens none: UnavailableError.
        """
        converse, encoding, timeout_s = self._stub.StreamChunks, self._encoding, self._timeout_s
        with self._open():
            return ChunkStream(converse, self._chunk, self.target, encoding, timeout_s, ahead)

    def encode(self, occupancy: OccupancySequence) -> Continuation:
        """Turn observed occupancy into a continuation, so that generation goes on from it."""
        request = generator_pb2.EncodeOccupancyRequest(occupancy=codec.occupancy_to_proto(occupancy, self._encoding))
        return codec.continuation_from_proto(self._call(self._stub.EncodeOccupancy, request).continuation)

    def close(self) -> None:
        """Hang up; calls under way, and those that come after, fail with UnavailableError."""
        self._closed = True
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    @contextmanager
    def _open(self) -> Iterator[None]:
        """What grpc says of a channel that is closed, which another thread may close at any time, in our words."""
        try:
            yield
        except ValueError as error:
            if not self._closed:
                raise
            raise UnavailableError(f"The client of {self.target} is closed: make another.") from error

    def _call(self, method: Callable[..., Reply], request: Message) -> Reply:
        try:
            with self._open():
                return method(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise error_of_call(error, self.target) from error

    def _chunk(self, reply: generator_pb2.GenerateChunkResponse) -> GeneratedChunk:
        taxonomies = self._taxonomies(reply.occupancy.taxonomy_id)
        with server_at_fault(self.target):
            return codec.chunk_from_proto(reply, taxonomies)

    def _taxonomies(self, taxonomy_id: str) -> Mapping[str, Taxonomy]:
        """Those known here; of a model with a taxonomy of its own, the server is asked."""
        if taxonomy_id in TAXONOMIES:
            return TAXONOMIES
        taxonomy = self.model_info().taxonomy
        return {taxonomy.id: taxonomy}
