"""The other end of the inspection channel, for tests: what the world is, what was called, and faults on demand."""

import json
import socket
from types import TracebackType
from typing import Any, Self

from dyncity_sim.errors import SimulatorError

ANSWER_LIMIT_S = 60.0


class Inspector:
    """Asks a running loopback server. Needs neither ``carla`` nor numpy.

    Args:
        port: of the inspection channel, from the line ``INSPECT HOST:PORT``.
        host: where the server runs.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._socket = socket.create_connection((host, port), ANSWER_LIMIT_S)
        self._lines = self._socket.makefile("rb")

    def ask(self, question: str, **parameters: Any) -> Any:
        """The answer to any question of the channel.

        Raises:
            SimulatorError: the server is gone, or does not know the question.
        """
        try:
            self._socket.sendall(json.dumps({"ask": question, **parameters}).encode() + b"\n")
            line = self._lines.readline()
        except OSError as error:
            raise SimulatorError(f"The loopback server does not answer {question!r}: {error}.") from error
        if not line:
            raise SimulatorError(f"The loopback server closed the inspection channel at {question!r}: it has ended.")
        answer = json.loads(line)
        if "error" in answer:
            raise SimulatorError(f"The loopback server refuses {question!r}: {answer['error']}")
        return answer["ok"]

    def world(self) -> dict[str, Any]:
        """Episode, frame, settings, connections, and every actor with its attributes, place, and box."""
        return self.ask("world")

    def actors(self, type_prefix: str = "", role_prefix: str = "") -> list[dict[str, Any]]:
        """Actors whose blueprint and role name begin so; the spectator is left out."""
        world = self.world()
        return [
            actor
            for actor in world["actors"]
            if actor["id"] != world["spectator"]
            and actor["type"].startswith(type_prefix)
            and actor["attributes"].get("role_name", "").startswith(role_prefix)
        ]

    def calls(self, method: str | None = None, after: int = 0, most: int = 1000) -> list[dict[str, Any]]:
        """The last calls of a method, or of all, with their arguments."""
        return self.ask("calls", method=method, after=after, most=most)

    def counts(self) -> dict[str, int]:
        """Calls by method since the server started."""
        return self.ask("counts")

    def violations(self) -> list[str]:
        """Everything that was not as the wire asks."""
        return self.ask("violations")

    def take_violations(self) -> list[str]:
        """The violations so far, which are forgotten with this: for tests that provoke them."""
        return self.ask("take_violations")

    def frames(self, first: int, last: int) -> list[dict[str, Any]]:
        """Where every actor was: ``{"frame", "elapsed_s", "transforms": {"id": [x, y, z, pitch, yaw, roll]}}``."""
        return self.ask("frames", first=first, last=last)

    def ground(self, places: list[list[float]]) -> dict[str, list[float]]:
        """Height and semantic tag of the ground below places ``[x, y, z]``."""
        return self.ask("ground", places=places)

    def environment(self) -> list[dict[str, Any]]:
        """Every static box: id, tag, transform, and extent."""
        return self.ask("environment")

    def fault(self, name: str, **parameters: float | str) -> None:
        """Turn a fault on, see ``docs/carla-loopback.md``."""
        self.ask("fault", name=name, **parameters)

    def clear_faults(self) -> None:
        """Turn all faults off."""
        self.ask("clear_faults")

    def close(self) -> None:
        """Hang up."""
        self._lines.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
