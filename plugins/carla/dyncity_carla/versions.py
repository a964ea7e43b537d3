"""Which server and client library belong together."""

import re

from dyncity_sim.errors import SimulatorError

SUPPORTED_VERSION = "0.9.16"


def check_versions(client: str, server: str, address: str) -> None:
    """Raise SimulatorError, with what mends it, when client library and server do not belong together."""
    numbers = [re.match(r"\d+\.\d+\.\d+", version) for version in (client, server)]
    if client == server or (numbers[0] and numbers[1] and numbers[0][0] == numbers[1][0]):
        return
    if numbers[1] and numbers[1][0] == SUPPORTED_VERSION:
        mend = f"pip install carla=={SUPPORTED_VERSION}"
    else:
        mend = f"start CARLA {SUPPORTED_VERSION} there: its client library is the first for this Python"
    raise SimulatorError(
        f"The server at {address} is CARLA {server}, the client library is {client}: calls would fail in odd ways. "
        f"Mend it with: {mend}. This plugin is made for {SUPPORTED_VERSION}; --allow-version-mismatch goes on as it is."
    )
