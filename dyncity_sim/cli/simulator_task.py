"""Commands that each simulator does in its own way, with options of its own; ``--sim`` says which."""

import argparse
from collections.abc import Sequence
from typing import Protocol

from dyncity_sim.cli.plugins import Subparsers, names_in, value_in
from dyncity_sim.cli.signals import terminated_like_interrupted
from dyncity_sim.extras import load_named


class SimulatorTask(Protocol):
    """What simulators register for such a command."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add all options but ``--sim``."""
        ...

    def run(self, args: argparse.Namespace) -> int:
        """Do it; returns the exit code."""
        ...


def register_task(
    subparsers: Subparsers,
    words: Sequence[str],
    name: str,
    group: str,
    default_simulator: str,
    summary: str,
    description: str,
    examples: str,
) -> None:
    """Add the command with the options of the simulator that the command line names.

    Args:
        subparsers: takes the command.
        words: the command line.
        name: of the command.
        group: entry point group under which simulators register a SimulatorTask.
        default_simulator: without ``--sim``.
        summary: one line for the list of commands.
        description: head of the command's help.
        examples: foot of the command's help.

    Raises:
        InvalidInputError: no simulator of that name does this.
        MissingExtraError: its own package is not installed.
    """
    parser = subparsers.add_parser(
        name,
        help=summary,
        description=description,
        epilog=f"{examples}\nEach simulator has options of its own: name it with --sim before --help.\n",
    )
    parser.add_argument(
        "--sim", default=default_simulator, metavar="NAME", help=f"simulator: {', '.join(names_in(group))}"
    )
    task: SimulatorTask = load_named(group, value_in(words, "--sim", default_simulator), "simulator")
    task.add_arguments(parser)

    def run(args: argparse.Namespace) -> int:
        with terminated_like_interrupted():
            return task.run(args)

    parser.set_defaults(run=run)
