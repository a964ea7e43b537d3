"""Numbers of the command line, refused where they make no sense."""

import argparse
import re
from collections.abc import Sequence
from math import inf

MOST_SEQUENCES = 100_000
"""In one range of the command line."""


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


def sequences(text: str) -> tuple[int, ...] | None:
    """Numbers of sequences, ``3``, ``0,3,5`` or ``0-9,12``, in their order; None is ``all``."""
    if text.strip() == "all":
        return None
    numbers: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?", part)
        if found is None:
            raise argparse.ArgumentTypeError(f"{part!r} is no number, no range as 0-9, and not all")
        first, last = int(found[1]), int(found[2] or found[1])
        if not 0 <= last - first < MOST_SEQUENCES:
            raise argparse.ArgumentTypeError(f"{part} is no range of 1 to {MOST_SEQUENCES} sequences")
        numbers += range(first, last + 1)
    if len(set(numbers)) < len(numbers):
        raise argparse.ArgumentTypeError(f"{text} names a sequence twice")
    return tuple(numbers)


def sequence_words(numbers: Sequence[int]) -> str:
    """The words that ``sequences`` reads as these numbers, with ranges where they go on by one."""
    ranges: list[tuple[int, int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] + 1 == number:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return ",".join(f"{first}-{last}" if first < last else f"{first}" for first, last in ranges)


def _at_least(least: int, text: str) -> int:
    count = int(text)
    if count < least:
        raise argparse.ArgumentTypeError(f"{text} is less than {least}")
    return count
