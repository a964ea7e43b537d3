"""Numbers of the command line, refused where they make no sense."""

import argparse
from math import inf


def positive(text: str) -> int:
    """A whole number of at least 1."""
    return _at_least(1, text)


def not_negative(text: str) -> int:
    """A whole number of at least 0."""
    return _at_least(0, text)


def seconds(text: str) -> float:
    """A finite time of at least 0."""
    time_s = float(text)
    if not 0 <= time_s < inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds of at least 0")
    return time_s


def positive_seconds(text: str) -> float:
    """A finite time above 0."""
    if seconds(text) == 0:
        raise argparse.ArgumentTypeError("0 seconds are no time")
    return seconds(text)


def port(text: str) -> int:
    """A port, or 0."""
    number = int(text)
    if not 0 <= number < 2**16:
        raise argparse.ArgumentTypeError(f"{text} is not in 0 to 65535")
    return number


def positive_port(text: str) -> int:
    """A port that is named."""
    if port(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is not in 1 to 65535")
    return port(text)


def _at_least(least: int, text: str) -> int:
    count = int(text)
    if count < least:
        raise argparse.ArgumentTypeError(f"{text} is less than {least}")
    return count
