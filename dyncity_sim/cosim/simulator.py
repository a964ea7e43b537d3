"""The simulator port: what co-simulation and recording need of a simulator, and how one is found."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from types import TracebackType
from typing import Protocol, Self

from dyncity_sim.domain.conditions import EgoPlan
from dyncity_sim.domain.generation import GeneratedChunk
from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.recording import RecordedFrame
from dyncity_sim.domain.scene import Track
from dyncity_sim.extras import load_named

SIMULATOR_GROUP = "dyncity_sim.simulators"
"""Entry point group under which simulators register a SimulatorPlugin."""


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
        """The road network as an OpenDRIVE document, in the world frame."""
        ...

    @property
    def shown_tracks(self) -> tuple[Track, ...] | None:
        """The generated actors as they were shown so far; None of a simulator that shows nothing.

        A drive's scene holds these, so that what is played back later is what was to be seen.
        """
        ...

    def plan(self, frames: int) -> EgoPlan:
        """Where the ego will be over ``frames`` steps, from where the last plan given ends; nothing moves.

        Asked once for each chunk, in order. The first pose is one step after the last pose of the plan before, or one
        step ahead of now when every plan given has been followed. Up to the drive's lookahead of chunks may be planned
        beyond the one that is followed next, so that they can be generated meanwhile.

        Raises:
            RoadEndsError: the last plan given ends where the road does; the drive is over when that is followed.
        """
        ...

    def follow(self, plan: EgoPlan, generated: GeneratedChunk | None = None) -> Iterator[RecordedFrame]:
        """Drive the ego exactly along ``plan``, one step at a time, and yield each frame after its step.

        Plans are followed in the order in which they were given, each to its end.

        Args:
            plan: the earliest plan given that has not been followed.
            generated: what was generated for this plan, one frame for each pose; a simulator that can show things
                shows frame ``i`` in the step that takes the ego to pose ``i``. None while the drive observes.

        Raises:
            SimulatorError: it cannot go on; the chunks that were driven before are kept.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class SimulatorPlugin(Protocol):
    """What registers under SIMULATOR_GROUP: a simulator's own options on the command line, and the way to open it."""

    @property
    def default_map(self) -> str:
        """Map that is driven on when none is named; empty for the one that is loaded already."""
        ...

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options that only this simulator has."""
        ...

    def open(self, map_spec: str, seed: int, options: Namespace) -> Simulator:
        """Build the simulator; the same map, seed and options give the same drive.

        Args:
            map_spec: map specification, in the simulator's own terms.
            seed: at least 0.
            options: holds what ``add_arguments`` added.

        Raises:
            MapError: the map is not one that the simulator knows, or has no lane to drive on.
            MissingExtraError: the simulator's own package is not installed.
        """
        ...


def find_simulator(name: str) -> SimulatorPlugin:
    """The simulator registered as ``name``.

    Raises:
        InvalidInputError: no simulator, or more than one, has that name.
        MissingExtraError: a package that the simulator is made of is not installed.
    """
    plugin: SimulatorPlugin = load_named(SIMULATOR_GROUP, name, "simulator")
    return plugin
