"""Questions to a server over its bare wire, where the client library's own way of asking does harm.

The library ends the whole process when something that is no CARLA server answers it, says of streams that do not come
through only that time ran out, and takes over a traffic manager of another client that it finds on its port.
"""

import socket
import struct
from typing import Any

from dyncity_sim.extras import import_extra

Endpoint = tuple[str, int]
"""Host and port."""

WORLD_STREAM = 1
"""Number of the stream of the world's states."""

_TOKEN = struct.Struct("<IHBB16s")
"""Number of the stream, port, protocol, kind of address, address."""

_STREAM_ID = struct.Struct("<I")
_IPV4 = 1


def ask(server: Endpoint, method: str, *arguments: object, limit_s: float) -> Any:
    """What a server answers to one call.

    Raises:
        MissingExtraError: the package that speaks the wire is not installed.
        OSError: nobody answers in time; a ConnectionError where nobody listens yet, as in a container that starts.
        ValueError: what answers is no CARLA server, or refuses.
    """
    msgpack = import_extra("msgpack", "msgpack", "carla", "Talking to a CARLA server")
    unpacker = msgpack.Unpacker()
    with socket.create_connection(server, timeout=limit_s) as connection:
        connection.sendall(msgpack.packb([0, 0, method, [[False], *arguments]]))
        while said := connection.recv(4096):
            unpacker.feed(said)
            try:
                for answer in unpacker:
                    return _value_of(answer)
            except msgpack.UnpackException as error:
                raise ValueError(f"it says {said[:16]!r}") from error
    raise ConnectionAbortedError("it hangs up without a word")


def reach_streams(server: Endpoint, limit_s: float) -> None:
    """Connect to a server's streams once, as a client does that is told of the world.

    Raises:
        OSError: they do not come through.
        ValueError: what answers is no CARLA server, or refuses.
    """
    (token,) = ask(server, "get_sensor_token", WORLD_STREAM, limit_s=limit_s)
    number, port, _, kind, address = _TOKEN.unpack(token)
    # A server that listens on all of its addresses names none.
    named = socket.inet_ntoa(address[:4]) if kind == _IPV4 else server[0]
    try:
        with socket.create_connection((named, port), timeout=limit_s) as connection:
            connection.sendall(_STREAM_ID.pack(number))
    except OSError as error:
        raise OSError(f"{named}:{port}: {error}") from error


def manager_on(server: Endpoint, port: int, limit_s: float) -> str | None:
    """Where a traffic manager that clients know by this port listens, as ``host:port``; None where none does.

    A server remembers those whose clients were killed, too.

    Raises:
        OSError: nobody answers in time.
        ValueError: what answers is no CARLA server, or refuses.
    """
    if not ask(server, "is_traffic_manager_running", port, limit_s=limit_s):
        return None
    host, its_port = ask(server, "get_traffic_manager_running", port, limit_s=limit_s)
    try:
        socket.create_connection((host, its_port), timeout=limit_s).close()
    except OSError:
        return None
    return f"{host}:{its_port}"


def _value_of(answer: object) -> Any:
    match answer:
        case [1, 0, None, [[1, value]]]:
            return value
    raise ValueError(f"it says {str(answer)[:80]}")
