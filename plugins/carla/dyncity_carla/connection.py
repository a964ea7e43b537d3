"""Connecting to a CARLA server, or saying what keeps us from it."""

import time

from dyncity_carla.versions import check_versions
from dyncity_carla.wire import Endpoint, ask, reach_streams
from dyncity_carla.world import CarlaWorld, import_carla
from dyncity_sim.errors import SimulatorError

LOOK_S = 0.25
"""A server that is being started is looked for so often."""


def connect(host: str, port: int, timeout_s: float, allow_version_mismatch: bool = False) -> CarlaWorld:
    """The world of a running server.

    Args:
        host, port: of the server's RPC.
        timeout_s: longest wait for any one call, and for a server that is being started.
        allow_version_mismatch: go on with a server of another version than the client library's.

    Raises:
        MissingExtraError: CARLA's client library is not installed.
        SimulatorError: nobody answers, or something else, or a server of another version does.
    """
    carla = import_carla()
    server = host, port
    version = _version_of(server, timeout_s)
    client = carla.Client(host, port)
    client.set_timeout(timeout_s)
    if not allow_version_mismatch:
        check_versions(str(client.get_client_version()), version, f"{host}:{port}")
    _check_streams(server, timeout_s)
    return CarlaWorld(carla, client, host, port, timeout_s, version)


def _version_of(server: Endpoint, timeout_s: float) -> str:
    """What a server calls itself, once it answers: one that is being started refuses at first."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return str(ask(server, "version", limit_s=timeout_s))
        except ValueError as error:
            raise SimulatorError(
                f"What answers at {server[0]}:{server[1]} is no CARLA server: {error}. Name the port of its RPC, 2000 "
                "unless it was started with another one: --carla-port."
            ) from error
        except OSError as error:
            if not isinstance(error, ConnectionError) or time.monotonic() > deadline:
                raise SimulatorError(
                    f"No CARLA server answers at {server[0]}:{server[1]} within {timeout_s:g} s ({error}). Start one "
                    "(./CarlaUE4.sh -RenderOffScreen -nosound, or dyncity carla-loopback without Unreal), or say where "
                    "it is: --carla-host, --carla-port."
                ) from error
        time.sleep(LOOK_S)


def _check_streams(server: Endpoint, timeout_s: float) -> None:
    """Raise SimulatorError where a server answers calls, and what it streams does not come through."""
    try:
        reach_streams(server, timeout_s)
    except (OSError, ValueError) as error:
        raise SimulatorError(
            f"The CARLA server at {server[0]}:{server[1]} answers, but its streams cannot be reached: {error}. They "
            "use the two ports after that of its RPC: open them, too (of a container: -p 2000-2002:2000-2002)."
        ) from error
