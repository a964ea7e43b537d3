"""Where a server is, as users write it."""

import re

from dyncity_sim.errors import InvalidInputError

OWN_SCHEMES = ("dns:", "ipv4:", "ipv6:", "unix:", "unix-abstract:", "vsock:", "xds:")
"""Targets in gRPC's own syntax (grpc/doc/naming.md), which are left to it."""

HOST_AND_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+(%\w+)?\]|[^\s:/,\[\]@?#]+):(?P<port>\d{1,5})")


def checked_target(text: str) -> str:
    """``text``, which is ``host:port``, ``[IPv6]:port``, or begins with a scheme of gRPC's own.

    gRPC itself takes a host without a port for port 443, and tells of what is no address only once a call fails.

    Raises:
        InvalidInputError: it is none of these.
    """
    if text.startswith(OWN_SCHEMES):
        return text
    parts = HOST_AND_PORT.fullmatch(text)
    if parts is None or not 0 < int(parts["port"]) <= 65535:
        raise InvalidInputError(
            "server", repr(text), "host:port with a port of 1 to 65535", "An address: localhost:50051 or [::1]:50051."
        )
    return text
