"""What a server says of itself beside its model."""

from dataclasses import dataclass

from dyncity_sim.domain.generation import ModelInfo


@dataclass(frozen=True)
class ServerInfo:
    """A server and the model it serves.

    Attributes:
        api_version: package name of the API it speaks, e.g. ``dyncity.v1``.
        server_version: version of the server.
        model: what the model can do.
        max_queue: requests that may wait while one is worked on.
        max_message_bytes: largest message it takes and sends.
    """

    api_version: str
    server_version: str
    model: ModelInfo
    max_queue: int
    max_message_bytes: int
