"""A server of our own as a process: started on a free loopback port, always stopped again."""

import os
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import IO, Self

from dyncity_sim.errors import StorageError, UnavailableError

SERVING_LINE = re.compile(r"^SERVING \S+ on \S+:(\d+)$")
"""The one line that ``dyncity serve`` prints once it takes requests, with the address it is bound to."""

STOP_GRACE_S = 10.0
SHOWN_LINES = 15


class ServerProcess:
    """``dyncity serve`` on a free port of the loopback interface, used as a context manager.

    The process ends with the one that started it, also when that is killed.

    Args:
        arguments: of ``dyncity serve``, without host and port.
        log: file that takes everything the process prints; with None, only its last lines are kept.
        start_limit_s: how long it may take until it serves (loading and warming up a model included).
        command: what runs ``dyncity serve``; this interpreter's own by default.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        log: Path | None,
        start_limit_s: float = 180.0,
        command: Sequence[str] = (sys.executable, "-m", "dyncity_sim.cli.main", "serve"),
    ) -> None:
        self._command = [*command, "--host", "127.0.0.1", "--port", "0", "--until-orphaned", *arguments]
        self._log = log
        self._start_limit_s = start_limit_s
        self._last_lines: deque[str] = deque(maxlen=SHOWN_LINES)
        self._ports: SimpleQueue[int | None] = SimpleQueue()
        self.target = ""

    def __enter__(self) -> Self:
        """Start the process and wait until it serves; ``target`` is its address from then on.

        Raises:
            StorageError: the log cannot be written; nothing is started then.
            UnavailableError: it stopped, or did not serve in time; the message ends with its last lines.
        """
        log = self._opened_log()
        # A session of its own keeps Ctrl-C from reaching it before the drive has let go of it.
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout, log), daemon=True)
        self._reader.start()
        try:
            port = self._ports.get(timeout=self._start_limit_s)
        except Empty:
            self._stop()
            raise UnavailableError(
                self.explain(f"The server did not serve within {self._start_limit_s:.0f} s.")
            ) from None
        except BaseException:
            self._stop()
            raise
        if port is None:
            self._stop()
            raise UnavailableError(self.explain(f"The server stopped with status {self._process.returncode}."))
        self.target = f"127.0.0.1:{port}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def explain(self, what: str) -> str:
        """``what``, with the log's place, if there is one, and the process's last lines."""
        lines = "\n".join(f"  {line}" for line in self._last_lines)
        if self._log is None:
            return f"{what} It printed" + (f":\n{lines}" if lines else " nothing.")
        return f"{what} Its log is {self._log}" + (f"; it ends with:\n{lines}" if lines else "; it is empty.")

    def _opened_log(self) -> IO[str]:
        if self._log is None:
            return Path(os.devnull).open("w", encoding="utf-8")
        try:
            self._log.parent.mkdir(parents=True, exist_ok=True)
            return self._log.open("w", encoding="utf-8")
        except OSError as error:
            raise StorageError(f"{self._log} cannot be written: {error.strerror or error}") from error

    def _read(self, stream: IO[str], log: IO[str]) -> None:
        with stream:
            for line in stream:
                # The server serves on where a disk is full, and what the drive writes there fails by its own name.
                with suppress(OSError):
                    log.write(line)
                    log.flush()
                self._last_lines.append(line.rstrip())
                if match := SERVING_LINE.match(line):
                    self._ports.put(int(match[1]))
        with suppress(OSError):
            log.close()
        self._ports.put(None)

    def _stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_GRACE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._reader.join(STOP_GRACE_S)
