"""``dyncity play``: show a generated scene in a simulator; which simulator's player does it is up to ``--sim``."""

import argparse
from collections.abc import Sequence
from typing import Protocol

from dyncity_sim.cli.plugins import HelpWithExamples, Subparsers, names_in, value_in
from dyncity_sim.cli.signals import terminated_like_interrupted
from dyncity_sim.cosim.simulator import load_named

GROUP = "dyncity_sim.players"
"""Entry point group under which simulators register a Player."""

DEFAULT_SIMULATOR = "carla"

EPILOG = """\
examples:
  dyncity play out/demo/scene --sim carla
  dyncity play out/demo/scene --sim carla --tick external --loops 3
  dyncity play --sim carla --help

Each simulator has options of its own: name it with --sim before --help.
"""


class Player(Protocol):
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
        "play",
        help="show a generated scene in a simulator",
        description="Show a scene that was generated earlier in a simulator: its road, its actors at their times, "
        "its static geometry as boxes.",
        epilog=EPILOG,
        formatter_class=HelpWithExamples,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--sim", default=DEFAULT_SIMULATOR, metavar="NAME", help=f"simulator: {', '.join(names_in(GROUP))}"
    )
    player: Player = load_named(GROUP, value_in(words, "--sim", DEFAULT_SIMULATOR), "simulator")
    player.add_arguments(parser)

    def run(args: argparse.Namespace) -> int:
        with terminated_like_interrupted():
            return player.run(args)

    parser.set_defaults(run=run)
