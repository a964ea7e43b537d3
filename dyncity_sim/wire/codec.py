"""Domain nouns to protobuf messages and back: the only file that sees both.

Converters come in pairs, ``x_to_proto`` and ``x_from_proto``. What comes from the wire is checked
by the nouns themselves; a violation names the proto field, seen from the request.
"""

from collections.abc import Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
from dyncity.v1 import conditions_pb2, generator_pb2, geometry_pb2, occupancy_pb2
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from jaxtyping import Int64

from dyncity_sim.domain.conditions import (
    Command,
    Conditions,
    Continuation,
    EgoPlan,
    SamplingOptions,
    VehicleLayout,
)
from dyncity_sim.domain.frames import Poses
from dyncity_sim.domain.generation import GeneratedChunk, ModelInfo, Timings
from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.taxonomy import SemanticClass, Taxonomy
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.wire.limits import MAX_FRAMES
from dyncity_sim.wire.server_info import ServerInfo
from dyncity_sim.wire.voxels import (
    VoxelEncoding,
    pack_labels,
    pack_layout,
    pack_observed,
    unpack_labels,
    unpack_layout,
    unpack_observed,
)

_PROTO_ENCODINGS: Mapping[VoxelEncoding, occupancy_pb2.VoxelEncoding] = {
    VoxelEncoding.RAW: occupancy_pb2.VOXEL_ENCODING_RAW,
    VoxelEncoding.ZSTD: occupancy_pb2.VOXEL_ENCODING_ZSTD,
}
_ENCODINGS: Mapping[int, VoxelEncoding] = {number: encoding for encoding, number in _PROTO_ENCODINGS.items()}

_PROTO_COMMANDS: Mapping[Command, conditions_pb2.Command] = {
    Command.STATIC: conditions_pb2.COMMAND_STATIC,
    Command.FORWARD: conditions_pb2.COMMAND_FORWARD,
    Command.LEFT: conditions_pb2.COMMAND_LEFT,
    Command.RIGHT: conditions_pb2.COMMAND_RIGHT,
}
_COMMANDS: Mapping[int, Command] = {number: command for command, number in _PROTO_COMMANDS.items()}

_CONDITION_FIELDS = frozenset(field.name for field in conditions_pb2.Conditions.DESCRIPTOR.fields)

_MICRO = 1e-6

Noun = TypeVar("Noun")
Number = TypeVar("Number", int, float)


@contextmanager
def request_fields() -> Iterator[None]:
    """Let violations raised inside name fields as the request has them (``plan`` is ``conditions.plan``)."""
    try:
        yield
    except InvalidInputError as error:
        if type(error) is not InvalidInputError or error.field.split(".")[0] not in _CONDITION_FIELDS:
            raise
        raise InvalidInputError(f"conditions.{error.field}", error.got, error.expected, error.mend) from error


def poses_to_proto(poses: Poses) -> list[geometry_pb2.Pose]:
    """One message per pose; the constant fourth row stays behind."""
    return [geometry_pb2.Pose(rows=pose[:3].ravel()) for pose in poses]


def poses_from_proto(messages: Sequence[geometry_pb2.Pose], field: str) -> Poses:
    """Poses ``(T, 4, 4)``, complete in shape; that they are rigid is for the noun to check."""
    _check_frames(messages, field)
    for frame, message in enumerate(messages):
        if len(message.rows) != 12:
            raise InvalidInputError(f"{field}[{frame}].rows", f"{len(message.rows)} numbers", "12, row by row")
    poses = np.zeros((len(messages), 4, 4))
    poses[:, :3] = np.array([message.rows for message in messages], dtype=np.float64).reshape(-1, 3, 4)
    poses[:, 3, 3] = 1.0
    return poses


def times_from_proto(times_us: Sequence[int], field: str) -> Int64[np.ndarray, " T"]:
    """Times, microseconds; that there is one for each pose, and that they increase, is for the noun to check."""
    _check_frames(times_us, field)
    return np.array(times_us, dtype=np.int64)


def grid_to_proto(grid: Grid) -> geometry_pb2.Grid:
    """A grid as a message."""
    return geometry_pb2.Grid(shape=grid.shape, lower_m=grid.lower_m, voxel_size_m=grid.voxel_size_m)


def grid_from_proto(message: geometry_pb2.Grid, field: str) -> Grid:
    """A grid from a message; violations are named under ``field``."""
    shape = _triple(message.shape, f"{field}.shape")
    lower_m = _triple(message.lower_m, f"{field}.lower_m")
    voxel_size_m = _triple(message.voxel_size_m, f"{field}.voxel_size_m")
    try:
        return Grid(shape, lower_m, voxel_size_m)
    except InvalidInputError as error:
        name = error.field.removeprefix("grid.")
        raise InvalidInputError(f"{field}.{name}", error.got, error.expected, error.mend) from error


def taxonomy_to_proto(taxonomy: Taxonomy) -> occupancy_pb2.Taxonomy:
    """A taxonomy as a message."""
    classes = [
        occupancy_pb2.SemanticClass(
            name=c.name, colour_rgb=c.colour[0] << 16 | c.colour[1] << 8 | c.colour[2], moves=c.moves
        )
        for c in taxonomy.classes
    ]
    return occupancy_pb2.Taxonomy(id=taxonomy.id, classes=classes)


def taxonomy_from_proto(message: occupancy_pb2.Taxonomy) -> Taxonomy:
    """A taxonomy from a message."""
    classes = (
        SemanticClass(c.name, (c.colour_rgb >> 16 & 255, c.colour_rgb >> 8 & 255, c.colour_rgb & 255), c.moves)
        for c in message.classes
    )
    return Taxonomy(message.id, tuple(classes))


def encoding_to_proto(encoding: VoxelEncoding) -> occupancy_pb2.VoxelEncoding:
    """An encoding as its enum number."""
    return _PROTO_ENCODINGS[encoding]


def encoding_from_proto(number: int, field: str, absent: VoxelEncoding | None = None) -> VoxelEncoding:
    """An encoding from its enum number; UNSPECIFIED is ``absent``, or an error when that is None."""
    if number == occupancy_pb2.VOXEL_ENCODING_UNSPECIFIED and absent is not None:
        return absent
    return _from_enum(_ENCODINGS, occupancy_pb2.VoxelEncoding, number, field)


def occupancy_to_proto(occupancy: OccupancySequence, encoding: VoxelEncoding) -> occupancy_pb2.Occupancy:
    """An occupancy sequence as a message."""
    observed = occupancy.observed
    return occupancy_pb2.Occupancy(
        labels=pack_labels(occupancy.labels, encoding),
        encoding=_PROTO_ENCODINGS[encoding],
        poses_world_from_ego=poses_to_proto(occupancy.poses_world_from_ego),
        times_us=occupancy.times_us,
        grid=grid_to_proto(occupancy.grid),
        taxonomy_id=occupancy.taxonomy.id,
        observed=None if observed is None else pack_observed(observed, encoding),
    )


def occupancy_from_proto(
    message: occupancy_pb2.Occupancy, taxonomies: Mapping[str, Taxonomy], field: str = "occupancy"
) -> OccupancySequence:
    """An occupancy sequence from a message.

    Args:
        message: from the wire.
        taxonomies: those that its taxonomy_id may name.
        field: name of the message's field.

    Raises:
        InvalidInputError: a field is missing, damaged or does not fit the others.
    """
    if message.taxonomy_id not in taxonomies:
        known = " or ".join(repr(taxonomy_id) for taxonomy_id in taxonomies)
        raise InvalidInputError(f"{field}.taxonomy_id", repr(message.taxonomy_id), known)
    encoding = encoding_from_proto(message.encoding, f"{field}.encoding")
    grid = grid_from_proto(message.grid, f"{field}.grid")
    poses = poses_from_proto(message.poses_world_from_ego, f"{field}.poses_world_from_ego")
    shape = (len(poses), *grid.shape)
    observed = (
        unpack_observed(message.observed, encoding, shape, f"{field}.observed")
        if message.HasField("observed")
        else None
    )
    with _extremes_reach_the_checks():
        return OccupancySequence(
            labels=unpack_labels(message.labels, encoding, shape, f"{field}.labels"),
            poses_world_from_ego=poses,
            times_us=times_from_proto(message.times_us, f"{field}.times_us"),
            grid=grid,
            taxonomy=taxonomies[message.taxonomy_id],
            observed=observed,
        )


def continuation_to_proto(continuation: Continuation) -> conditions_pb2.Continuation:
    """A continuation as a message."""
    return conditions_pb2.Continuation(model_id=continuation.model_id, payload=continuation.payload)


def continuation_from_proto(message: conditions_pb2.Continuation) -> Continuation:
    """A continuation from a message."""
    return Continuation(message.model_id, message.payload)


def conditions_to_proto(
    conditions: Conditions, encoding: VoxelEncoding = VoxelEncoding.ZSTD
) -> conditions_pb2.Conditions:
    """Conditions as a message; what is not given is left out. A known region is packed by ``encoding``."""
    message = conditions_pb2.Conditions()
    if conditions.plan is not None:
        message.plan.poses_world_from_ego.extend(poses_to_proto(conditions.plan.poses_world_from_ego))
        message.plan.times_us.extend(conditions.plan.times_us)
    if conditions.command is not None:
        message.command = _PROTO_COMMANDS[conditions.command]
    if conditions.continuation is not None:
        message.continuation.CopyFrom(continuation_to_proto(conditions.continuation))
    if conditions.layout is not None:
        cells = conditions.layout.cells
        message.layout.CopyFrom(conditions_pb2.VehicleLayout(cells=pack_layout(cells), shape=cells.shape))
    if conditions.known_region is not None:
        message.known_region.CopyFrom(occupancy_to_proto(conditions.known_region, encoding))
    return message


def conditions_from_proto(message: conditions_pb2.Conditions, taxonomies: Mapping[str, Taxonomy]) -> Conditions:
    """Conditions from a message.

    Args:
        message: from the wire.
        taxonomies: those that a known region's taxonomy_id may name.

    Raises:
        InvalidInputError: naming the field as the request has it, e.g. ``conditions.plan.times_us``.
    """
    with request_fields(), _extremes_reach_the_checks():
        plan = None
        if message.HasField("plan"):
            poses = poses_from_proto(message.plan.poses_world_from_ego, "plan.poses_world_from_ego")
            plan = EgoPlan(poses, times_from_proto(message.plan.times_us, "plan.times_us"))
        command = None
        if message.command != conditions_pb2.COMMAND_UNSPECIFIED:
            command = _from_enum(_COMMANDS, conditions_pb2.Command, message.command, "command")
        return Conditions(
            plan,
            command,
            continuation_from_proto(message.continuation) if message.HasField("continuation") else None,
            _layout_from_proto(message.layout) if message.HasField("layout") else None,
            _region_from_proto(message.known_region, taxonomies) if message.HasField("known_region") else None,
        )


def _layout_from_proto(message: conditions_pb2.VehicleLayout) -> VehicleLayout:
    return VehicleLayout(unpack_layout(message.cells, _triple(message.shape, "layout.shape"), "layout.cells"))


def _region_from_proto(message: occupancy_pb2.Occupancy, taxonomies: Mapping[str, Taxonomy]) -> OccupancySequence:
    try:
        return occupancy_from_proto(message, taxonomies, "known_region")
    except InvalidInputError as error:
        name = error.field.removeprefix("occupancy.").removeprefix("known_region.")
        raise InvalidInputError(f"known_region.{name}", error.got, error.expected, error.mend) from error


def options_to_proto(options: SamplingOptions) -> conditions_pb2.SamplingOptions:
    """Sampling options as a message; what is not given is left out."""
    return conditions_pb2.SamplingOptions(
        seed=options.seed,
        steps=options.steps,
        guidance_scale=options.guidance_scale,
        sampler=options.sampler,
        guidance_scales=options.guidance_scales,
        resamples=options.resamples,
    )


def options_from_proto(message: conditions_pb2.SamplingOptions) -> SamplingOptions:
    """Sampling options from a message; violations are named under ``options``."""
    return SamplingOptions(
        seed=message.seed if message.HasField("seed") else None,
        steps=message.steps if message.HasField("steps") else None,
        guidance_scale=message.guidance_scale if message.HasField("guidance_scale") else None,
        sampler=message.sampler if message.HasField("sampler") else None,
        guidance_scales=dict(message.guidance_scales),
        resamples=message.resamples if message.HasField("resamples") else None,
    )


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


@contextmanager
def _extremes_reach_the_checks() -> Iterator[None]:
    """Let finite but absurd numbers overflow to infinity quietly; the nouns' checks then refuse them."""
    with np.errstate(over="ignore", invalid="ignore"):
        yield


def _check_frames(values: Sized, field: str) -> None:
    if len(values) > MAX_FRAMES:
        raise InvalidInputError(field, f"{len(values)} frames", f"at most {MAX_FRAMES}")


def _triple(values: Sequence[Number], field: str) -> tuple[Number, Number, Number]:
    if len(values) != 3:
        raise InvalidInputError(field, f"{len(values)} numbers", "3: x, y, z")
    return (values[0], values[1], values[2])


def _from_enum(nouns: Mapping[int, Noun], enum: EnumTypeWrapper, number: int, field: str) -> Noun:
    if number not in nouns:
        got = enum.Name(number) if number in enum.values() else number
        raise InvalidInputError(field, got, f"one of {', '.join(enum.Name(known) for known in nouns)}")
    return nouns[number]
