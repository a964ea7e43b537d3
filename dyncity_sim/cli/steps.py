"""How far a command is with each step of its work."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich.progress import Progress

T = TypeVar("T")


class Steps:
    """Shows how far each step of the work is."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def each(self, step: str, total: int, items: Iterable[T]) -> Iterator[T]:
        """The items, counted as they pass by."""
        task = self._progress.add_task(step, total=total)
        for item in items:
            yield item
            self._progress.advance(task)

    def once(self, step: str, work: Callable[[], T]) -> T:
        """The result of a step whose length is not known."""
        task = self._progress.add_task(step, total=None)
        result = work()
        self._progress.update(task, total=1, completed=1)
        return result
