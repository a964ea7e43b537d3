"""Several servers of one model as one generator: the next takes over where one is away."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from dyncity_sim.cosim.stream import Conversation, Generator
from dyncity_sim.domain.conditions import Continuation
from dyncity_sim.domain.generation import ModelInfo
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.errors import InvalidInputError, UnavailableError

Reply = TypeVar("Reply")


class Replicas:
    """Servers of the same weights, used one at a time; fulfils ``dyncity_sim.cosim.stream.Generator``.

    A call goes to the server in use. When that one is away, the call raises UnavailableError as it does with a single
    server, and the next call goes to the next server in turn, the first after the last. A stream that is opened after
    another goes to the next server, too: the one in use broke it off or was busy. All must serve the model that the
    first one to answer serves: another model's chunks would not continue the drive.

    Args:
        servers: by their addresses, at least one, in the order in which they are tried.
    """

    def __init__(self, servers: Sequence[tuple[str, Generator]]) -> None:
        if not servers:
            raise InvalidInputError("servers", "none", "at least one")
        self._servers = tuple(servers)
        self._current = 0
        self._has_streamed = False
        self._model_id: str | None = None

    def model_info(self) -> ModelInfo:
        """What the servers' model can do.

        Raises:
            UnavailableError: the server in use is away; asked again, the next one is.
            InvalidInputError: it serves another model than the servers before it.
        """
        return self._ask(lambda server: None)[0]

    def encode(self, occupancy: OccupancySequence) -> Continuation:
        """Turn observed occupancy into what the next chunk continues from. Raises as ``model_info`` does."""
        return self._ask(lambda server: server.encode(occupancy))[1]

    def stream(self) -> Conversation:
        """Open a stream of chunks, a second one to the next server. Raises as ``model_info`` does."""
        if self._has_streamed:
            self._turn()
        self._has_streamed = False
        stream = self._ask(lambda server: server.stream())[1]
        self._has_streamed = True
        return stream

    def _ask(self, question: Callable[[Generator], Reply]) -> tuple[ModelInfo, Reply]:
        """Ask the server in use after a look at its model: it may be another process than the last time."""
        target, server = self._servers[self._current]
        try:
            model = server.model_info()
            self._check_model(target, model.model_id)
            return model, question(server)
        except UnavailableError:
            self._turn()
            raise

    def _turn(self) -> None:
        self._current = (self._current + 1) % len(self._servers)

    def _check_model(self, target: str, model_id: str) -> None:
        self._model_id = self._model_id or model_id
        if model_id != self._model_id:
            raise InvalidInputError(
                f"server {target}",
                f"model {model_id}",
                f"model {self._model_id}, which the drive began with",
                "All servers of a drive have to serve the same weights.",
            )
