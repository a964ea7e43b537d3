"""Addresses of servers on the command line."""

import argparse

from dyncity_sim.client.target import checked_target
from dyncity_sim.errors import InvalidInputError


def server_address(text: str) -> str:
    """One address, for argparse."""
    try:
        return checked_target(text)
    except InvalidInputError as error:
        raise argparse.ArgumentTypeError(f"{error.got} is no address: expected {error.expected}") from None
