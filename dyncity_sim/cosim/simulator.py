"""The simulator port: what co-simulation and recording need of a simulator, and how one is found."""

from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, entry_points
from types import TracebackType
from typing import Protocol, Self

from dyncity_sim.domain.conditions import EgoPlan
from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.recording import RecordedFrame
from dyncity_sim.errors import InvalidInputError

SIMULATOR_GROUP = "dyncity_sim.simulators"
"""Entry point group under which simulators register a SimulatorFactory."""


class Simulator(Protocol):
    """A running simulation with one ego, stepped at 10 Hz. Used as a context manager."""

    @property
    def attribution(self) -> str:
        """Credit that the map's licence asks for; empty when none is due. Goes into every output."""
        ...

    @property
    def grid(self) -> Grid:
        """Grid of the frames."""
        ...

    @property
    def opendrive(self) -> str:
        """The road network as an OpenDRIVE document."""
        ...

    def observe(self) -> RecordedFrame:
        """What is around the ego now."""
        ...

    def plan(self, frames: int) -> EgoPlan:
        """Where the ego will be over the next ``frames`` steps; its first pose is one step ahead of now."""
        ...

    def follow(self, plan: EgoPlan) -> Iterator[RecordedFrame]:
        """Drive the ego exactly along ``plan``, one step at a time, and yield each frame after its step."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


SimulatorFactory = Callable[[str, int], Simulator]
"""Builds a simulator from a map specification and a seed; the same two give the same drive."""


def open_simulator(name: str, map_spec: str, seed: int) -> Simulator:
    """Build the simulator registered as ``name`` on a map.

    Raises:
        InvalidInputError: no simulator, or more than one, has that name.
        MapError: the map is not one that the simulator knows, or has no lane to drive on.
        MissingExtraError: the simulator's own package is not installed.
    """
    found: dict[str, list[EntryPoint]] = {}
    for entry_point in entry_points(group=SIMULATOR_GROUP):
        found.setdefault(entry_point.name, []).append(entry_point)
    if len(found.get(name, [])) != 1:
        raise InvalidInputError(
            "simulator",
            repr(name) if name not in found else f"{name!r} registered {len(found[name])} times",
            f"one of {', '.join(sorted(found)) or '(none installed)'}",
        )
    factory: SimulatorFactory = found[name][0].load()
    return factory(map_spec, seed)
