"""``generator.proto``: replies."""

from collections.abc import Mapping

from dyncity.v1 import generator_pb2

from dyncity_sim.domain.generation import GeneratedChunk, ModelInfo, Timings
from dyncity_sim.domain.taxonomy import Taxonomy
from dyncity_sim.wire.codec.conditions import continuation_from_proto, continuation_to_proto
from dyncity_sim.wire.codec.geometry import grid_from_proto, grid_to_proto
from dyncity_sim.wire.codec.occupancy import (
    occupancy_from_proto,
    occupancy_to_proto,
    taxonomy_from_proto,
    taxonomy_to_proto,
)
from dyncity_sim.wire.server_info import ServerInfo
from dyncity_sim.wire.voxels import VoxelEncoding

_MICRO = 1e-6


def chunk_to_proto(chunk: GeneratedChunk, encoding: VoxelEncoding) -> generator_pb2.GenerateChunkResponse:
    """A generated chunk as a reply."""
    timings = chunk.timings
    return generator_pb2.GenerateChunkResponse(
        occupancy=occupancy_to_proto(chunk.occupancy, encoding),
        continuation=continuation_to_proto(chunk.continuation),
        seed=chunk.seed,
        model_id=chunk.model_id,
        timings=generator_pb2.Timings(
            queue_us=round(timings.queue_s / _MICRO),
            sampling_us=round(timings.sampling_s / _MICRO),
            decoding_us=round(timings.decoding_s / _MICRO),
        ),
    )


def chunk_from_proto(
    message: generator_pb2.GenerateChunkResponse, taxonomies: Mapping[str, Taxonomy]
) -> GeneratedChunk:
    """A generated chunk from a reply.

    Raises:
        InvalidInputError: the reply does not hold together.
    """
    timings = message.timings
    return GeneratedChunk(
        occupancy=occupancy_from_proto(message.occupancy, taxonomies),
        continuation=continuation_from_proto(message.continuation),
        seed=message.seed,
        model_id=message.model_id,
        timings=Timings(timings.queue_us * _MICRO, timings.sampling_us * _MICRO, timings.decoding_us * _MICRO),
    )


def server_info_to_proto(info: ServerInfo) -> generator_pb2.GetModelInfoResponse:
    """A server's self-description as a reply."""
    model = info.model
    return generator_pb2.GetModelInfoResponse(
        api_version=info.api_version,
        server_version=info.server_version,
        model_id=model.model_id,
        family=model.family,
        grid=grid_to_proto(model.grid),
        taxonomy=taxonomy_to_proto(model.taxonomy),
        frames_per_chunk=model.frames_per_chunk,
        rate_hz=model.rate_hz,
        conditions=model.conditions,
        samplers=model.samplers,
        default_steps=model.default_steps,
        max_steps=model.max_steps,
        max_queue=info.max_queue,
        max_message_bytes=info.max_message_bytes,
    )


def server_info_from_proto(message: generator_pb2.GetModelInfoResponse) -> ServerInfo:
    """A server's self-description from a reply."""
    model = ModelInfo(
        model_id=message.model_id,
        family=message.family,
        grid=grid_from_proto(message.grid, "grid"),
        taxonomy=taxonomy_from_proto(message.taxonomy),
        frames_per_chunk=message.frames_per_chunk,
        rate_hz=message.rate_hz,
        conditions=tuple(message.conditions),
        samplers=tuple(message.samplers),
        default_steps=message.default_steps,
        max_steps=message.max_steps,
    )
    return ServerInfo(message.api_version, message.server_version, model, message.max_queue, message.max_message_bytes)
