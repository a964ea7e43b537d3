"""Which server and client library belong together."""

import re

from dyncity_sim.errors import SimulatorError

SUPPORTED_VERSION = "0.9.16"


def check_versions(client: str, server: str, address: str) -> None:
    """Raise SimulatorError, with the command that mends it, when client library and server do not belong together."""
    numbers = [re.match(r"\d+\.\d+\.\d+", version) for version in (client, server)]
    if client == server or (numbers[0] and numbers[1] and numbers[0][0] == numbers[1][0]):
        return
    mend = f"pip install carla=={numbers[1][0]}" if numbers[1] else "use a released server"
    raise SimulatorError(
        f"The server at {address} is CARLA {server}, the client library is {client}: calls would fail in odd ways. "
        f"Mend it with: {mend} (this plugin is made for {SUPPORTED_VERSION}), or go on with --allow-version-mismatch."
    )
