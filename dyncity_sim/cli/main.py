"""The command line: ``dyncity [--version] COMMAND``.

A command is a function ``register(subparsers)`` that adds a parser with
``set_defaults(run=function(args) -> exit code)``. The core's lie in modules beside this one and are
given the command line too, since ``--sim`` decides which further options there are; other packages
bring theirs through the entry point group ``dyncity_sim.commands``. Only the command that is asked
for is imported: a second of imports is nothing to a drive, but much to a ``--help``.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module

import dyncity_sim
from dyncity_sim.cli.parser import CommandParser
from dyncity_sim.cli.plugins import register_plugins
from dyncity_sim.errors import DyncityError, InvalidInputError

CORE_COMMANDS = {
    "demo": "see it all work: a server, a drive through a city, scenes and ground truth",
    "serve": "host a model behind gRPC",
    "info": "show what a server offers",
    "cosim": "drive a simulator and generate what is around its ego",
    "record": "record drives through a simulated town",
    "generate": "generate along recorded drives, under every condition",
    "inspect": "show what is in a data set: recordings, CarlaSC, Occ3D",
    "export": "export labels of drives for training code",
    "view": "look at a drive or a scene: a page, pictures, a film, Rerun",
    "scene": "make a scene package of a drive, check one, or show what is in it",
    "play": "show a generated scene in a simulator, for a driving stack to drive in",
}
"""Commands of this package, by the name of their module, with their line in ``dyncity --help``."""

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

EPILOG = """\
examples:
  dyncity demo                          see it all work
  dyncity serve --port 50051            serve the bundled model
  dyncity info --server localhost:50051 show what a server offers
  dyncity COMMAND --help                options and examples of a command

exit codes: 0 done, 1 failed, 2 wrong input, 130 interrupted, 143 terminated
"""


def build_parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """The whole command line; only the command that ``words`` ask for is loaded."""
    wanted = next((word for word in words if not word.startswith("-")), None)
    parser: argparse.ArgumentParser = CommandParser(prog="dyncity", description=dyncity_sim.__doc__, epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"dyncity {dyncity_sim.__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, summary in CORE_COMMANDS.items():
        if name == wanted:
            import_module(f"dyncity_sim.cli.{name}").register(subparsers, words)
        else:
            subparsers.add_parser(name, help=summary, add_help=False)
    register_plugins(subparsers, wanted)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; errors meant for the user become one line on stderr and an exit code."""
    argv = sys.argv[1:] if argv is None else argv
    # Read once, when grpc is first imported: its log would say in its own words what our errors say.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Read once, when OpenMP is first used: how long its threads spin while they wait for each other. By default it is
    # so long that, where a simulator wants the cores, too, they spin away the time of the one that they wait for.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        args = build_parser(argv).parse_args(argv)
        return int(args.run(args))
    except DyncityError as error:
        sys.stderr.write(f"dyncity: error: {error}\n")
        return EXIT_USAGE if isinstance(error, InvalidInputError) else EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
