"""Measurements of one sensor on their way from the client library's threads: none may go missing unnoticed."""

import time
from collections.abc import Callable
from typing import Generic, TypeVar

from dyncity_carla.newest import Newest
from dyncity_sim.errors import SimulatorError

Payload = TypeVar("Payload")

KEPT = 32
"""So many measurements wait to be taken: a third of a second at the fastest ticks that a drive goes along with. Nobody
takes any while a chunk is waited for, and a large sensor's are a megabyte each."""


class Mailbox(Generic[Payload]):
    """Takes what a sensor measured at each tick, and gives out the measurement of the tick that is asked for.

    Of what nobody asks for, the last KEPT stay.

    Args:
        sensor: what the sensor is called in messages.
        clock: seconds, monotonic.
    """

    def __init__(self, sensor: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._sensor, self._clock = sensor, clock
        self._queue: Newest[tuple[int, Payload]] = Newest(KEPT)
        self._ahead: tuple[int, Payload] | None = None

    def put(self, frame: int, payload: Payload) -> None:
        """Called by the sensor's thread."""
        self._queue.put((frame, payload))

    def take(self, frame: int, timeout_s: float) -> Payload:
        """The measurement of tick ``frame``; older ones are dropped.

        Raises:
            SimulatorError: a later measurement came first, or none came in time.
        """
        deadline = self._clock() + timeout_s
        while True:
            measured, payload = self._next(frame, deadline, timeout_s)
            if measured == frame:
                return payload
            if measured > frame:
                self._ahead = (measured, payload)
                raise SimulatorError(
                    f"{self._sensor} lost its measurement of tick {frame}: the next that came is of tick {measured}. "
                    "Nothing is left out silently: record again, with fewer or smaller sensors if it happens often."
                )

    def _next(self, frame: int, deadline: float, timeout_s: float) -> tuple[int, Payload]:
        if self._ahead is not None:
            measured, self._ahead = self._ahead, None
            return measured
        came = self._queue.get(max(deadline - self._clock(), 0.001))
        if came is None:
            raise SimulatorError(
                f"{self._sensor} did not deliver its measurement of tick {frame} within {timeout_s:g} s: "
                "is the server overloaded? Use fewer or smaller sensors (--lidars, --lidar-points), or a longer "
                "--timeout."
            )
        return came
