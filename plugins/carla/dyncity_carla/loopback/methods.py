"""What a method is: its name, the shapes it takes, the form of its answer, and what it does."""

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from dyncity_carla.loopback.faults import Faults
from dyncity_carla.loopback.roads import Roads
from dyncity_carla.loopback.shapes import Shape
from dyncity_carla.loopback.world import World


class Answer(enum.Enum):
    """Form of an answer on the wire."""

    VALUE = "value"
    """``[[1, value]]``, or ``[[0, [message]]]`` when refused."""
    VOID = "nothing"
    """``[[false]]``, or ``[[true, [message]]]`` when refused."""
    BARE = "bare"
    """The value itself."""


class Grade(enum.Enum):
    """How well a method's shape is known."""

    DRIVEN = "driven"
    """The real client called it in the integration tests and took the answer."""
    READ = "read"
    """Its shape was read in the client library; no test of the real client calls it."""


class Host(Protocol):
    """What methods work on: the world, and the server around it."""

    @property
    def world(self) -> World:
        """The world."""
        ...

    @property
    def faults(self) -> Faults:
        """Faults that are on."""
        ...

    def tick(self) -> int:
        """Move the world on by one frame and send what subscribers get; the new frame's number."""
        ...

    def load(self, roads: Roads) -> None:
        """Begin a new episode."""
        ...

    def settings_changed(self) -> None:
        """Take note that the world is ticked by clients from now on, or no longer."""
        ...

    def map_is_ready(self) -> bool:
        """Whether the map shows its lanes yet."""
        ...


@dataclass(frozen=True)
class Method:
    """One method of the control channel.

    Attributes:
        name: as clients call it.
        arguments: shapes after the metadata.
        answer: form of the answer.
        returns: what the answer holds, in words for the method table.
        call: takes the host and the arguments; raises RefusedError.
        grade: how well its shape is known.
    """

    name: str
    arguments: tuple[Shape, ...]
    answer: Answer
    returns: str
    call: Callable[..., Any]
    grade: Grade = Grade.DRIVEN
