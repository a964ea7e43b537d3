"""Ticks that another client makes, one after the other."""

from typing import Any

from dyncity_carla.calls import Calls
from dyncity_carla.newest import Newest
from dyncity_sim.errors import SimulatorError

KEPT = 32
"""So many ticks wait to be taken; of those that nobody takes, older ones are let go."""


class ForeignTicks:
    """Hears every tick of a world from the first one that is waited for on.

    Args:
        calls: how calls to the server go.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._queue: Newest[Any] = Newest(KEPT)
        self._heard: tuple[Any, int] | None = None

    def next(self, world: Any) -> Any:
        """The ``carla.WorldSnapshot`` of the next tick; the last of those that came meanwhile have queued up.

        Raises:
            SimulatorError: there was none in time.
        """
        if self._heard is None:
            self._heard = world, world.on_tick(self._queue.put)
        snapshot = self._queue.get(self._calls.timeout_s)
        if snapshot is None:
            raise SimulatorError(
                f"Nobody ticked {self._calls.address} for {self._calls.timeout_s:g} s: with --tick external another "
                "client has to. Start it, or let this one tick: --tick own."
            )
        return snapshot

    def forget(self) -> None:
        """Take those that queued up for past: the next one is of now."""
        self._queue.clear()

    def release(self) -> None:
        """Hear no more."""
        if self._heard is not None:
            world, callback = self._heard
            world.remove_on_tick(callback)
            self._heard = None
            self._queue.clear()
