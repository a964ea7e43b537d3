"""Calls of the client library: whatever one raises becomes a message that says what was asked and what to try."""

from collections.abc import Iterator
from contextlib import contextmanager

from dyncity_sim.errors import SimulatorError


class Calls:
    """How the calls to one server go.

    Attributes:
        address: ``host:port``.
        timeout_s: longest wait for any one call.
        is_silent: a call timed out since the last one that was answered.
    """

    def __init__(self, address: str, timeout_s: float) -> None:
        self.address, self.timeout_s = address, timeout_s
        self.is_silent = False

    @contextmanager
    def asking(self, what: str) -> Iterator[None]:
        """Make calls in the block.

        Args:
            what: what they ask for, as it reads after "asked for" and "refused".

        Raises:
            SimulatorError: the server refused, or did not answer in time.
        """
        try:
            yield
        except (RuntimeError, ValueError) as error:
            said = one_line(error)
            if "time-out" in said:
                self.is_silent = True
                raise SimulatorError(
                    f"The CARLA server at {self.address} did not answer within {self.timeout_s:g} s when asked for "
                    f"{what}. Is it still running, or busy? Restart it, or wait longer: --timeout."
                ) from error
            raise SimulatorError(f"The CARLA server at {self.address} refused {what}: {said}") from error
        self.is_silent = False


def one_line(error: Exception) -> str:
    """What an error says, without line breaks."""
    return " ".join(str(error).split())
