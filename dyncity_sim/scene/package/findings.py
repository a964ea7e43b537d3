"""What a check of a scene found."""

import enum
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from dyncity_sim.errors import InvalidInputError

SHOWN = 3
"""Findings of one check that are spelt out; the rest are counted."""

READING_ERRORS = (
    OSError,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    NotImplementedError,
    SyntaxError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    InvalidInputError,
)
"""What readers of JSON, XML (whose errors are SyntaxErrors), NumPy, Parquet and glTF raise on damaged files."""


class Outcome(enum.Enum):
    """How a check ended."""

    PASSED = "passed"
    WARNED = "warned"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Check:
    """One check of a scene.

    Attributes:
        name: what was checked.
        outcome: how it ended.
        detail: what was found, or why nothing was looked at.
    """

    name: str
    outcome: Outcome
    detail: str


@dataclass(frozen=True)
class Findings:
    """What a check has to say.

    Attributes:
        problems: what is wrong.
        warnings: what is unlikely but not wrong.
        summary: what was seen, for the case that nothing is wrong.
        skipped: why nothing was looked at; empty when something was.
    """

    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    summary: str = ""
    skipped: str = ""


def judge(name: str, look: Callable[[], Findings]) -> Check:
    """Look, and say how it ended; a file that cannot be read has failed."""
    try:
        found = look()
    except READING_ERRORS as error:
        return Check(name, Outcome.FAILED, f"{type(error).__name__}: {error}")
    if found.skipped:
        return Check(name, Outcome.SKIPPED, found.skipped)
    if found.problems:
        return Check(name, Outcome.FAILED, _told(found.problems))
    if found.warnings:
        return Check(name, Outcome.WARNED, _told(found.warnings))
    return Check(name, Outcome.PASSED, found.summary)


def _told(findings: tuple[str, ...]) -> str:
    more = f"; and {len(findings) - SHOWN} more" if len(findings) > SHOWN else ""
    return "; ".join(findings[:SHOWN]) + more
