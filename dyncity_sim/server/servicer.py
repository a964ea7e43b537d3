"""RPC to engine and back: conversions, deadlines, nothing else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any, TypeAlias

import grpc
from dyncity.v1 import generator_pb2, generator_pb2_grpc

import dyncity_sim
from dyncity_sim.domain.conditions import Continuation
from dyncity_sim.domain.generation import GeneratedChunk
from dyncity_sim.engine.engine import Engine
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.server.streaming import pipelined, until_drained
from dyncity_sim.wire import codec
from dyncity_sim.wire.limits import MAX_MESSAGE_BYTES
from dyncity_sim.wire.server_info import ServerInfo
from dyncity_sim.wire.voxels import VoxelEncoding

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

API_VERSION = "dyncity.v1"

SERVICE_NAME = generator_pb2.DESCRIPTOR.services_by_name["OccupancyGenerator"].full_name


class OccupancyGeneratorServicer(generator_pb2_grpc.OccupancyGeneratorServicer):
    """``dyncity.v1.OccupancyGenerator`` over an engine.

    Methods raise the project's errors; ``ErrorInterceptor`` turns them into status codes:

    ====================================================================  ===================
    Cause                                                                 Code
    ====================================================================  ===================
    a field out of range, of the wrong shape, damaged, of another model   INVALID_ARGUMENT
    a condition the weights were not trained with                         FAILED_PRECONDITION
    queue full or too long for the deadline; message over the limit       RESOURCE_EXHAUSTED
    deadline passed (the work is dropped between denoising steps)         DEADLINE_EXCEEDED
    caller went away (likewise)                                           CANCELLED
    still loading, or draining                                            UNAVAILABLE
    anything else                                                         INTERNAL
    ====================================================================  ===================
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def GetModelInfo(  # noqa: N802
        self, request: generator_pb2.GetModelInfoRequest, context: Context
    ) -> generator_pb2.GetModelInfoResponse:
        """What the server and its model are and can do."""
        info = ServerInfo(
            api_version=API_VERSION,
            server_version=dyncity_sim.__version__,
            model=self._engine.info,
            max_queue=self._engine.max_queue,
            max_message_bytes=MAX_MESSAGE_BYTES,
        )
        return codec.server_info_to_proto(info)

    async def GenerateChunk(  # noqa: N802
        self, request: generator_pb2.GenerateChunkRequest, context: Context
    ) -> generator_pb2.GenerateChunkResponse:
        """Generate one chunk."""
        chunk, encoding = await self._generated(request, None, context)
        return await asyncio.to_thread(codec.chunk_to_proto, chunk, encoding)

    async def StreamChunks(  # noqa: N802
        self, request_iterator: AsyncIterator[generator_pb2.StreamChunksRequest], context: Context
    ) -> AsyncIterator[generator_pb2.StreamChunksResponse]:
        """Generate chunk after chunk; each continues the one before unless its request says otherwise."""
        continuation: Continuation | None = None

        async def generated(request: generator_pb2.StreamChunksRequest) -> tuple[GeneratedChunk, VoxelEncoding]:
            nonlocal continuation
            chunk, encoding = await self._generated(request, continuation, context)
            continuation = chunk.continuation
            return chunk, encoding

        index = 0
        async with (
            aclosing(until_drained(request_iterator, self._engine.draining)) as requests,
            aclosing(pipelined(requests, generated)) as chunks,
        ):
            async for chunk, encoding in chunks:
                message = await asyncio.to_thread(codec.chunk_to_proto, chunk, encoding)
                yield generator_pb2.StreamChunksResponse(index=index, chunk=message)
                index += 1

    async def EncodeOccupancy(  # noqa: N802
        self, request: generator_pb2.EncodeOccupancyRequest, context: Context
    ) -> generator_pb2.EncodeOccupancyResponse:
        """Turn observed occupancy into a continuation."""
        if not request.HasField("occupancy"):
            raise InvalidInputError("occupancy", "nothing", "an occupancy sequence")
        taxonomy = self._engine.info.taxonomy
        occupancy = await asyncio.to_thread(codec.occupancy_from_proto, request.occupancy, {taxonomy.id: taxonomy})
        continuation = await self._engine.encode(occupancy, context.time_remaining())
        return generator_pb2.EncodeOccupancyResponse(continuation=codec.continuation_to_proto(continuation))

    async def _generated(
        self,
        request: generator_pb2.GenerateChunkRequest | generator_pb2.StreamChunksRequest,
        before: Continuation | None,
        context: Context,
    ) -> tuple[GeneratedChunk, VoxelEncoding]:
        """The chunk asked for, and how to pack it.

        A request without a continuation goes on from ``before``, if the weights can.
        """
        model = self._engine.info
        taxonomies = {model.taxonomy.id: model.taxonomy}
        conditions = await asyncio.to_thread(codec.conditions_from_proto, request.conditions, taxonomies)
        options = codec.options_from_proto(request.options)
        encoding = codec.encoding_from_proto(request.encoding, "encoding", absent=VoxelEncoding.ZSTD)
        if conditions.continuation is None and "continuation" in model.conditions:
            conditions = replace(conditions, continuation=before)
        with codec.request_fields():
            chunk = await self._engine.generate(conditions, options, context.time_remaining())
        return chunk, encoding
