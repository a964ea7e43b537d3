"""A loopback server as a process of its own, for tests: the real client must never share one with its server."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from dyncity_carla.loopback.inspector import Inspector
from dyncity_sim.cosim.server_process import ServerProcess
from dyncity_sim.errors import SimulatorError

INSPECT_LINE = re.compile(r"^INSPECT (\S+):(\d+)$", re.MULTILINE)


class LoopbackProcess(ServerProcess):
    """``dyncity carla-loopback`` on free ports, used as a context manager.

    Leaving the block raises SimulatorError when a client broke the wire's rules, unless the block failed already,
    the server has died, or the test took the violations itself.

    Args:
        map_file: OpenDRIVE file to load.
        log: file that takes everything the process prints.
        arguments: more of ``dyncity carla-loopback``.
        start_limit_s: how long it may take until it serves.

    Attributes:
        host, port: for ``carla.Client(host, port)``.
        inspector: the truth.
    """

    def __init__(self, map_file: Path, log: Path, arguments: Sequence[str] = (), start_limit_s: float = 120.0) -> None:
        command = (sys.executable, "-m", "dyncity_sim.cli.main", "carla-loopback")
        super().__init__(["--map", str(map_file), *arguments], log, start_limit_s, command)
        self._written = log

    def __enter__(self) -> Self:
        """Start the process and wait until it serves.

        Raises:
            UnavailableError: it stopped, or did not serve in time; the message ends with its last lines.
        """
        super().__enter__()
        self.port = int(self.target.rsplit(":", 1)[1])
        found = INSPECT_LINE.search(self._written.read_text(encoding="utf-8"))
        assert found is not None, "the inspection port is printed before the line that says it serves"
        self.host = found[1]
        self.inspector = Inspector(int(found[2]), self.host)
        return self

    @property
    def exit_status(self) -> int | None:
        """Status the process ended with; None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """End the process at once, as a crash would."""
        self._process.kill()
        self._process.wait()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            violations = self.inspector.violations() if kind is None and self.exit_status is None else []
        finally:
            self.inspector.close()
            super().__exit__(kind, error, trace)
        if violations:
            raise SimulatorError("Clients broke the wire's rules:\n" + "\n".join(f"  {line}" for line in violations))
