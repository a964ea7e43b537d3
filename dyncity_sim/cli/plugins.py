"""Commands of other packages, found through entry points."""

import argparse
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, TypeAlias

from dyncity_sim.errors import DyncityError
from dyncity_sim.extras import EXTRAS, load_entry_point

if TYPE_CHECKING:
    Subparsers: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Subparsers = argparse.Action

COMMAND_GROUP = "dyncity_sim.commands"
"""Entry point group under which packages register ``register(subparsers)`` functions."""

SUMMARIES = {
    "carla-loopback": "a stand-in for a CARLA server, for tests without Unreal",
    "encode": "encode recordings into latents for training the transformer",
    "evaluate": "measure reconstruction and generation against recordings",
    "import-checkpoint": "turn a run of the published DynamicCity code into weights",
    "render": "make a recording of captures (dyncity record --captures)",
    "train": "train a model, one that samples in few steps, or encoders for evaluation",
}
"""Lines in ``dyncity --help`` of the commands that come with this distribution."""


def value_in(words: Sequence[str], option: str, default: str) -> str:
    """The value that a command line gives to an option, before it is parsed: it decides which options there are."""
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    finder.add_argument(option, dest="value", default=default)
    try:
        return str(finder.parse_known_args(words)[0].value)
    except argparse.ArgumentError:
        # The option came without its value, which the real parser says in its own words.
        return default


def names_in(group: str) -> list[str]:
    """Names that are registered under an entry point group, sorted."""
    return sorted({entry_point.name for entry_point in entry_points(group=group)})


def register_plugins(subparsers: Subparsers, wanted: str | None) -> None:
    """Register the command called ``wanted`` in full, and the names of all others.

    A package is imported only when its command is asked for: listing commands must cost nothing, and
    a broken package must not break the others.
    """
    for entry_point in sorted(entry_points(group=COMMAND_GROUP), key=lambda e: e.name):
        if entry_point.name == wanted:
            _load_and_register(entry_point, subparsers)
        else:
            package = entry_point.module.split(".")[0]
            summary = SUMMARIES.get(entry_point.name, "") if package in EXTRAS else ""
            subparsers.add_parser(entry_point.name, help=summary or f"from {package}", add_help=False)


def _load_and_register(entry_point: EntryPoint, subparsers: Subparsers) -> None:
    try:
        register = load_entry_point(entry_point, "command")
    except DyncityError as error:
        failure = error
    else:
        register(subparsers)
        return

    def fail(_: argparse.Namespace) -> int:
        raise failure

    parser = subparsers.add_parser(entry_point.name, description=str(failure), prefix_chars="\0", add_help=False)
    parser.add_argument("ignored", nargs="*")
    parser.set_defaults(run=fail)
