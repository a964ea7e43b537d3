"""CARLA's traffic manager, kept in a process of its own, which ticks while it drives.

The manager is part of the client library, and nothing that its thread does can be caught: it ends the whole process
when the server does not answer it in time, and it can hold a tick up for good. From a process of its own, neither
keeps us from giving back what we took.
"""

import json
import logging
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import IO, Any

from dyncity_carla.calls import Calls
from dyncity_sim.errors import SimulatorError

START_S = 120.0
"""The manager reads the whole road network first; a large town takes its time."""

SPARE_S = 10.0
"""A tick that takes longer than the time-out of one call by this is held up for good."""

ARRIVING_S = 0.0005
"""What the server tells every client of a tick is looked for so often."""

END_S = 5.0
"""The manager is given this long to end by itself."""

_log = logging.getLogger(__name__)


class TrafficManager:
    """A traffic manager that drives vehicles of a server's world, synchronous and seeded: it steps with our ticks.

    Args:
        server: host and port of the server's RPC.
        calls: how calls to the server go.
        actor_ids: the vehicles.
        seed: decides which ways they take.
        port: for the manager to listen on.

    Raises:
        RuntimeError: what the client library said against it.
        SimulatorError: it does not start, or ended.
    """

    def __init__(self, server: tuple[str, int], calls: Calls, actor_ids: Sequence[int], seed: int, port: int) -> None:
        self._calls = calls
        self._answers: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        self._last_words: deque[str] = deque(maxlen=2)
        options = {
            "server": server,
            "timeout_s": calls.timeout_s,
            "vehicles": list(actor_ids),
            "seed": seed,
            "port": port,
        }
        # A session of its own keeps Ctrl-C from reaching it before this process has let go of it.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dyncity_carla.traffic_process", json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._complaints = threading.Thread(target=self._hear, args=(self._process.stderr,), daemon=True)
        self._complaints.start()
        threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True).start()
        try:
            self._answer("driving", START_S)
        except BaseException:
            self.end()
            raise

    def tick(self, world: Any) -> Any:
        """Let the world go on by one step, and the manager with it.

        Args:
            world: this process's ``carla.World``; returns its snapshot of the tick.

        Raises:
            RuntimeError: what the client library said against it.
            SimulatorError: the manager ended, or held the tick up for good and was ended.
        """
        assert self._process.stdin is not None
        # What it said before it ended comes with the answer.
        with suppress(BrokenPipeError):
            self._process.stdin.write("tick\n")
            self._process.stdin.flush()
        frame = int(self._answer("ticked", self._calls.timeout_s + SPARE_S))
        deadline = time.monotonic() + self._calls.timeout_s
        while (snapshot := world.get_snapshot()).frame < frame:
            if time.monotonic() > deadline:
                raise RuntimeError(f"time-out of the world's state of tick {frame}")
            time.sleep(ARRIVING_S)
        return snapshot

    def end(self) -> None:
        """Give it up, whatever it does; harmless when done before."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _answer(self, name: str, limit_s: float) -> Any:
        """The value of the next answer of this name."""
        while True:
            try:
                answer = self._answers.get(timeout=limit_s)
            except Empty:
                self._process.kill()
                raise SimulatorError(
                    f"CARLA's traffic manager held the world of {self._calls.address} up for {limit_s:g} s, and was "
                    "ended. Record again: fewer vehicles (--traffic) or less other work for the machine make it rarer."
                ) from None
            if answer is None:
                raise self._ended()
            if "failed" in answer:
                raise RuntimeError(answer["failed"])
            if "woken" in answer:
                _log.warning("CARLA's traffic manager holds tick %d up; it is being woken.", answer["woken"])
            if name in answer:
                return answer[name]

    def _ended(self) -> Exception:
        """What to say of a manager that ended by itself: a time-out of the client library is one of the server."""
        self.end()
        self._complaints.join(END_S)
        words = " ".join(self._last_words)
        if "time-out" in words:
            return RuntimeError(words)
        return SimulatorError(
            f"CARLA's traffic manager in the world of {self._calls.address} ended with status "
            f"{self._process.returncode} ({words or 'without a word'}). Record again."
        )

    def _listen(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                self._answers.put(json.loads(line))
        self._answers.put(None)

    def _hear(self, stream: IO[str]) -> None:
        with stream:
            lines = (line.strip() for line in stream)
            self._last_words.extend(line for line in lines if line and not line.startswith("WARNING"))
