"""Domain nouns to protobuf messages and back: the only folder that sees both, with a module for each proto file.

Converters come in pairs, ``x_to_proto`` and ``x_from_proto``. What comes from the wire is checked
by the nouns themselves; a violation names the proto field, seen from the request.
"""

from dyncity_sim.wire.codec.conditions import (
    conditions_from_proto,
    conditions_to_proto,
    continuation_from_proto,
    continuation_to_proto,
    options_from_proto,
    options_to_proto,
    request_fields,
)
from dyncity_sim.wire.codec.generator import (
    chunk_from_proto,
    chunk_to_proto,
    server_info_from_proto,
    server_info_to_proto,
)
from dyncity_sim.wire.codec.occupancy import (
    encoding_from_proto,
    encoding_to_proto,
    occupancy_from_proto,
    occupancy_to_proto,
)

__all__ = [
    "chunk_from_proto",
    "chunk_to_proto",
    "conditions_from_proto",
    "conditions_to_proto",
    "continuation_from_proto",
    "continuation_to_proto",
    "encoding_from_proto",
    "encoding_to_proto",
    "occupancy_from_proto",
    "occupancy_to_proto",
    "options_from_proto",
    "options_to_proto",
    "request_fields",
    "server_info_from_proto",
    "server_info_to_proto",
]
