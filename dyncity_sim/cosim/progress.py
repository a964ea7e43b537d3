"""How far a drive is, in frames of work done."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """Progress of a drive, in frames of work done.

    Attributes:
        doing: ``observing``, ``encoding``, ``generating``, ``driving`` or ``driven``.
        done: steps done over the whole drive.
        total: steps of the whole drive.
    """

    doing: str
    done: int
    total: int


class Progress:
    """Counts the steps of a drive and tells of each.

    Args:
        on_step: told at the beginning of each piece of work, and after each step of it.
        chunks: those of the drive, with the one that is observed first.
        steps: of each chunk.
    """

    def __init__(self, on_step: Callable[[Step], None], chunks: int, steps: int) -> None:
        self._on_step, self._steps = on_step, steps
        self._total, self._done, self._doing = chunks * steps, 0, ""

    def tell(self, doing: str) -> None:
        """Begin a piece of work."""
        self._doing = doing
        self._on_step(Step(doing, self._done, self._total))

    def add_step(self) -> None:
        """Count a step of the work that was begun last."""
        self._done += 1
        self._on_step(Step(self._doing, self._done, self._total))

    def drop(self, chunks: int) -> None:
        """The drive has so many chunks fewer."""
        self._total -= chunks * self._steps
