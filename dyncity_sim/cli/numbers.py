"""Numbers of the command line, refused where they make no sense."""

import argparse


def positive(text: str) -> int:
    """A whole number of at least 1."""
    return _at_least(1, text)


def not_negative(text: str) -> int:
    """A whole number of at least 0."""
    return _at_least(0, text)


def _at_least(least: int, text: str) -> int:
    count = int(text)
    if count < least:
        raise argparse.ArgumentTypeError(f"{text} is less than {least}")
    return count
