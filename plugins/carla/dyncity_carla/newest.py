"""A queue between the client library's threads and ours that cannot grow: of what nobody takes, the newest stay."""

import threading
from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Newest(Generic[Item]):
    """Gives items out in the order in which they came, and lets the oldest go when there are too many.

    Args:
        most: how many are kept.
    """

    def __init__(self, most: int) -> None:
        self._items: deque[Item] = deque(maxlen=most)
        self._came = threading.Condition()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Item) -> None:
        """Add an item; never waits for whoever takes it."""
        with self._came:
            self._items.append(item)
            self._came.notify()

    def get(self, timeout_s: float) -> Item | None:
        """The oldest item that is kept, waited for; None when none came in time."""
        with self._came:
            self._came.wait_for(lambda: self._items, timeout_s)
            return self._items.popleft() if self._items else None

    def clear(self) -> None:
        """Let all of them go."""
        with self._came:
            self._items.clear()
