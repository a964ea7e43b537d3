"""``occupancy.proto``: classes, encodings and labelled cells."""

from collections.abc import Mapping

from dyncity.v1 import occupancy_pb2

from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.taxonomy import SemanticClass, Taxonomy
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.wire.codec.checks import extremes_reach_the_checks, from_enum
from dyncity_sim.wire.codec.geometry import (
    grid_from_proto,
    grid_to_proto,
    poses_from_proto,
    poses_to_proto,
    times_from_proto,
)
from dyncity_sim.wire.voxels import VoxelEncoding, pack_labels, pack_observed, unpack_labels, unpack_observed

_PROTO_ENCODINGS: Mapping[VoxelEncoding, occupancy_pb2.VoxelEncoding] = {
    VoxelEncoding.RAW: occupancy_pb2.VOXEL_ENCODING_RAW,
    VoxelEncoding.ZSTD: occupancy_pb2.VOXEL_ENCODING_ZSTD,
}
_ENCODINGS: Mapping[int, VoxelEncoding] = {number: encoding for encoding, number in _PROTO_ENCODINGS.items()}


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
    return from_enum(_ENCODINGS, occupancy_pb2.VoxelEncoding, number, field)


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
    with extremes_reach_the_checks():
        return OccupancySequence(
            labels=unpack_labels(message.labels, encoding, shape, f"{field}.labels"),
            poses_world_from_ego=poses,
            times_us=times_from_proto(message.times_us, f"{field}.times_us"),
            grid=grid,
            taxonomy=taxonomies[message.taxonomy_id],
            observed=observed,
        )
