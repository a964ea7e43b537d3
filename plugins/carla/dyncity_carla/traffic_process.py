"""The process of CARLA's traffic manager: hands vehicles over to it, and ticks the world when it is told to.

Its one argument is a JSON object of what ``drive`` takes first. It reads ``tick`` line by line and answers with JSON
objects: ``driving`` once, ``ticked`` with the number of each tick, ``woken`` with that of one that was held up, and
``failed`` with what the client library says, after which it ends. It ends too when nobody can tell it anything.
"""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import Any

import msgpack

from dyncity_carla.calls import one_line
from dyncity_carla.wire import manager_on
from dyncity_carla.world import import_carla

ASLEEP_S = 2.0
"""When the server has done a tick for so long, what the tick still waits for is the manager."""

LOOK_S = 0.25

ORPHANED_S = 5.0


class Waker:
    """Looks after ticks, and wakes a manager that sleeps through one.

    The manager's thread and the one that ticks tell each other to go on without holding the lock that the other one
    goes to sleep with (``TrafficManagerLocal::SynchronousTick`` and ``Run`` of CARLA 0.9.16), so that either can miss
    it, and both then sleep for good.

    Args:
        frame: number of the last tick that the server has done.
        wake: makes the manager do the step that it or we missed.
        told: takes the number of a tick that was held up.
        asleep_s: how long a tick may wait for the manager.
        look_s: how often that is looked for.
    """

    def __init__(
        self,
        frame: Callable[[], int],
        wake: Callable[[], None],
        told: Callable[[int], None],
        asleep_s: float = ASLEEP_S,
        look_s: float = LOOK_S,
    ) -> None:
        self._frame, self._wake, self._told = frame, wake, told
        self._asleep_s, self._look_s = asleep_s, look_s
        self._before: int | None = None
        threading.Thread(target=self._look, daemon=True).start()

    @contextmanager
    def ticking(self) -> Iterator[None]:
        """A tick is in progress."""
        self._before = self._frame()
        try:
            yield
        finally:
            self._before = None

    def _look(self) -> None:
        seen: tuple[int, float] | None = None
        woken: int | None = None
        while True:
            time.sleep(self._look_s)
            before = self._before
            if before is None or self._frame() <= before:
                seen = None
            elif seen is None or seen[0] != before:
                seen = before, time.monotonic()
            elif time.monotonic() - seen[1] >= self._asleep_s:
                if woken != before:
                    self._told(self._frame())
                self._wake()
                seen, woken = (before, time.monotonic()), before


def wake(port: int) -> None:
    """Make a manager do one step: it does when it is told over its own RPC to be no longer synchronous.

    The library's own calls cannot tell it: they wait for the lock that the tick holds.
    """
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=ASLEEP_S) as connection:
        for number, synchronous in enumerate((False, True)):
            connection.sendall(msgpack.packb([0, number, "set_synchronous_mode", [synchronous]]))
            connection.recv(4096)


def drive(
    server: tuple[str, int],
    timeout_s: float,
    vehicles: list[int],
    seed: int,
    port: int,
    asked: Iterator[str],
    tell: Callable[[dict[str, Any]], None],
) -> None:
    """Let a traffic manager drive, and tick as often as is asked for.

    Raises:
        RuntimeError: of the client library.
        ValueError: another client's manager listens on this port.
    """
    carla = import_carla()
    other = manager_on(server, port, timeout_s)
    if other is not None:
        # The library would make it ours, and shut it down with ours.
        raise ValueError(f"that of another client is there, at {other}")
    client = carla.Client(*server)
    client.set_timeout(timeout_s)
    world = client.get_world()
    manager = client.get_trafficmanager(port)
    manager.set_synchronous_mode(True)
    manager.set_random_device_seed(seed)
    client.apply_batch_sync([carla.command.SetAutopilot(number, True, port) for number in vehicles], False)
    waker = Waker(lambda: int(world.get_snapshot().frame), lambda: wake(port), lambda frame: tell({"woken": frame}))
    tell({"driving": True})
    for _ in asked:
        with waker.ticking():
            frame = world.tick(timeout_s)
        tell({"ticked": int(frame)})
    manager.set_synchronous_mode(False)
    manager.shut_down()


def requests() -> Iterator[str]:
    """What is asked for, line by line; a tick that is held up does not outlive the one who asked for it."""
    asked: SimpleQueue[str] = SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            asked.put(line)
        asked.put("")
        time.sleep(ORPHANED_S)
        os._exit(1)

    threading.Thread(target=read, daemon=True).start()
    return iter(asked.get, "")


def main() -> None:
    """Do what the first argument says, and end without unwinding: the client library's threads may not be asked."""
    # The client library writes to standard output as well.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lock = threading.Lock()

    def tell(answer: dict[str, Any]) -> None:
        with lock, suppress(BrokenPipeError):
            answers.write(json.dumps(answer) + "\n")
            answers.flush()

    try:
        drive(**json.loads(sys.argv[1]), asked=requests(), tell=tell)
    except (OSError, RuntimeError, ValueError) as error:
        tell({"failed": one_line(error)})
    os._exit(0)


if __name__ == "__main__":
    main()
