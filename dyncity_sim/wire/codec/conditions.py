"""``conditions.proto``: what chunks are asked for with."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from dyncity.v1 import conditions_pb2, occupancy_pb2

from dyncity_sim.domain.conditions import Command, Conditions, Continuation, EgoPlan, SamplingOptions, VehicleLayout
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.taxonomy import Taxonomy
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.wire.codec.checks import extremes_reach_the_checks, from_enum, triple
from dyncity_sim.wire.codec.geometry import poses_from_proto, poses_to_proto, times_from_proto
from dyncity_sim.wire.codec.occupancy import occupancy_from_proto, occupancy_to_proto
from dyncity_sim.wire.voxels import VoxelEncoding, pack_layout, unpack_layout

_PROTO_COMMANDS: Mapping[Command, conditions_pb2.Command] = {
    Command.STATIC: conditions_pb2.COMMAND_STATIC,
    Command.FORWARD: conditions_pb2.COMMAND_FORWARD,
    Command.LEFT: conditions_pb2.COMMAND_LEFT,
    Command.RIGHT: conditions_pb2.COMMAND_RIGHT,
}
_COMMANDS: Mapping[int, Command] = {number: command for command, number in _PROTO_COMMANDS.items()}

_CONDITION_FIELDS = frozenset(field.name for field in conditions_pb2.Conditions.DESCRIPTOR.fields)


@contextmanager
def request_fields() -> Iterator[None]:
    """Let violations raised inside name fields as the request has them (``plan`` is ``conditions.plan``)."""
    try:
        yield
    except InvalidInputError as error:
        if type(error) is not InvalidInputError or error.field.split(".")[0] not in _CONDITION_FIELDS:
            raise
        raise InvalidInputError(f"conditions.{error.field}", error.got, error.expected, error.mend) from error


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
    with request_fields(), extremes_reach_the_checks():
        plan = None
        if message.HasField("plan"):
            poses = poses_from_proto(message.plan.poses_world_from_ego, "plan.poses_world_from_ego")
            plan = EgoPlan(poses, times_from_proto(message.plan.times_us, "plan.times_us"))
        command = None
        if message.command != conditions_pb2.COMMAND_UNSPECIFIED:
            command = from_enum(_COMMANDS, conditions_pb2.Command, message.command, "command")
        return Conditions(
            plan,
            command,
            continuation_from_proto(message.continuation) if message.HasField("continuation") else None,
            _layout_from_proto(message.layout) if message.HasField("layout") else None,
            _region_from_proto(message.known_region, taxonomies) if message.HasField("known_region") else None,
        )


def _layout_from_proto(message: conditions_pb2.VehicleLayout) -> VehicleLayout:
    return VehicleLayout(unpack_layout(message.cells, triple(message.shape, "layout.shape"), "layout.cells"))


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
