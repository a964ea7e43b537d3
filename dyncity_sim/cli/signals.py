"""Signals: a command that is told to end unwinds, so that what it holds is given back."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ORPHAN_CHECK_S = 1.0


@contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM, and SIGHUP of a terminal that closes, unwind like Ctrl-C does; the process then ends with 143 or 129.

    A signal that the process ignores, as under ``nohup``, stays ignored.
    """

    def unwind(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, unwind) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def terminate_when_orphaned(parent: int) -> None:
    """Send this process SIGTERM once another than ``parent`` is its parent, as when that was killed."""
    while os.getppid() == parent:
        await asyncio.sleep(ORPHAN_CHECK_S)
    os.kill(os.getpid(), signal.SIGTERM)
