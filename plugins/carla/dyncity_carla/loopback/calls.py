"""What clients called: a log with arguments, counts, and everything that was not as the wire asks."""

import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import Any

import msgpack


@dataclass(frozen=True)
class Call:
    """One call.

    Attributes:
        number: from 1, in the order of arrival.
        client: number of the connection it came over.
        method: its name.
        packed: its arguments as they travelled, metadata first.
        frame: the world's frame when it was answered.
        seconds: from arrival to answer, slowness on demand included.
        refused: what the world told the client instead of doing it, or None.
        violation: what was wrong with the call itself, or None.
    """

    number: int
    client: int
    method: str
    packed: bytes
    frame: int
    seconds: float
    refused: str | None
    violation: str | None

    def shown(self) -> dict[str, Any]:
        """The call as a JSON object; binary arguments become hexadecimal text."""
        return {
            "number": self.number,
            "client": self.client,
            "method": self.method,
            "args": msgpack.unpackb(self.packed),
            "frame": self.frame,
            "seconds": self.seconds,
            "refused": self.refused,
            "violation": self.violation,
        }


class CallLog:
    """The last calls in full, and all of them counted.

    Args:
        kept: calls that are kept with their arguments; older ones only stay in the counts.

    Attributes:
        counts: calls by method.
        violations: what was wrong, in words, in order.
    """

    def __init__(self, kept: int) -> None:
        self._calls: deque[Call] = deque(maxlen=kept)
        self.counts: Counter[str] = Counter()
        self.violations: list[str] = []
        self._number = 0

    def begin(self) -> float:
        """A time stamp for ``add``."""
        return time.monotonic()

    def add(
        self,
        began: float,
        client: int,
        method: str,
        arguments: object,
        frame: int,
        refused: str | None = None,
        violation: str | None = None,
    ) -> None:
        """Enter a call that has been answered."""
        self._number += 1
        self.counts[method] += 1
        packed = msgpack.packb(arguments)
        took_s = time.monotonic() - began
        self._calls.append(Call(self._number, client, method, packed, frame, took_s, refused, violation))
        if violation is not None:
            self.violations.append(f"call {self._number} of {method}: {violation}")

    def note(self, violation: str) -> None:
        """Enter something wrong that was no call."""
        self.violations.append(violation)

    def select(self, method: str | None, after: int, most: int) -> list[Call]:
        """The last ``most`` calls of a method (of all: None) with a number above ``after``."""
        chosen = [c for c in self._calls if c.number > after and (method is None or c.method == method)]
        return chosen[-most:] if most else []
