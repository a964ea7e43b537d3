"""``dyncity record``: record drives through a simulated town; which simulator's recorder does it is up to ``--sim``."""

import argparse
from collections.abc import Sequence
from typing import Protocol

from dyncity_sim.cli.plugins import HelpWithExamples, Subparsers, names_in, value_in
from dyncity_sim.cli.signals import terminated_like_interrupted
from dyncity_sim.cosim.simulator import load_named

GROUP = "dyncity_sim.recorders"
"""Entry point group under which simulators register a Recorder."""

DEFAULT_SIMULATOR = "sumo"

EPILOG = """\
examples:
  dyncity record --map generated:grid --minutes 10 --seed 1 --out data/grid
  dyncity record --sim carla --minutes 2 --format carlasc --out data/town
  dyncity record --sim carla --help

Each simulator has options of its own: name it with --sim before --help.
"""


class Recorder(Protocol):
    """What registers under GROUP."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add all options but ``--sim``."""
        ...

    def run(self, args: argparse.Namespace) -> int:
        """Do it; returns the exit code."""
        ...


def register(subparsers: Subparsers, words: Sequence[str]) -> None:
    """Add the command; ``words`` is the command line, which names the simulator whose options to add."""
    parser = subparsers.add_parser(
        "record",
        help="record drives through a simulated town",
        description="Record what is around cars in a simulated town: labels, what sensors see of them, actors, poses.",
        epilog=EPILOG,
        formatter_class=HelpWithExamples,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--sim", default=DEFAULT_SIMULATOR, metavar="NAME", help=f"simulator: {', '.join(names_in(GROUP))}"
    )
    recorder: Recorder = load_named(GROUP, value_in(words, "--sim", DEFAULT_SIMULATOR), "simulator")
    recorder.add_arguments(parser)

    def run(args: argparse.Namespace) -> int:
        with terminated_like_interrupted():
            return recorder.run(args)

    parser.set_defaults(run=run)
