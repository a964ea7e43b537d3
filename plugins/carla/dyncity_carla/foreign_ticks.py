"""Ticks that another client makes, one after the other."""

import queue
from typing import Any

from dyncity_carla.calls import Calls
from dyncity_sim.errors import SimulatorError


class ForeignTicks:
    """Hears every tick of a world from the first one that is waited for on.

    Args:
        calls: how calls to the server go.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._heard: tuple[Any, int] | None = None

    def next(self, world: Any) -> Any:
        """The ``carla.WorldSnapshot`` of the next tick; those that came meanwhile have queued up.

        Raises:
            SimulatorError: there was none in time.
        """
        if self._heard is None:
            self._heard = world, world.on_tick(self._queue.put)
        try:
            return self._queue.get(timeout=self._calls.timeout_s)
        except queue.Empty:
            raise SimulatorError(
                f"Nobody ticked {self._calls.address} for {self._calls.timeout_s:g} s: with --tick external another "
                "client has to. Start it, or let this one tick: --tick own."
            ) from None

    def release(self) -> None:
        """Hear no more."""
        if self._heard is not None:
            world, callback = self._heard
            world.remove_on_tick(callback)
            self._heard = None
            self._queue = queue.SimpleQueue()
