"""The command line: ``dyncity [--version] COMMAND``.

A command is a function ``register(subparsers)`` that adds a parser with
``set_defaults(run=function(args) -> exit code)``. The core's are listed here; other packages bring
theirs through the entry point group ``dyncity_sim.commands``, loaded only when they are asked for.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence

import dyncity_sim
from dyncity_sim.cli.plugins import Subparsers, register_plugins
from dyncity_sim.errors import DyncityError, InvalidInputError

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

EPILOG = """\
examples:
  dyncity demo                          see it all work
  dyncity serve --port 50051            serve the bundled model
  dyncity info --server localhost:50051 show what a server offers
  dyncity COMMAND --help                options and examples of a command

exit codes: 0 done, 1 failed, 2 wrong input, 130 interrupted
"""


def build_parser(wanted: str | None) -> argparse.ArgumentParser:
    """The whole command line; of plugins, only the command called ``wanted`` is loaded."""
    parser = argparse.ArgumentParser(
        prog="dyncity",
        description=dyncity_sim.__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"dyncity {dyncity_sim.__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _register_core(subparsers)
    register_plugins(subparsers, wanted)
    return parser


def _register_core(subparsers: Subparsers) -> None:
    # Read once, when grpc is first imported: its log would say in its own words what our errors say.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")

    from dyncity_sim.cli import cosim, demo, info, serve

    for command in (demo, serve, info, cosim):
        command.register(subparsers)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; errors meant for the user become one line on stderr and an exit code."""
    argv = sys.argv[1:] if argv is None else argv
    wanted = next((word for word in argv if not word.startswith("-")), None)
    args = build_parser(wanted).parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        return int(args.run(args))
    except DyncityError as error:
        sys.stderr.write(f"dyncity: error: {error}\n")
        return EXIT_USAGE if isinstance(error, InvalidInputError) else EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
