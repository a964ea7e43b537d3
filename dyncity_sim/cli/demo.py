"""``dyncity demo``: server, simulator, drive and pictures in one go."""

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from dyncity_sim.cli.cosim import add_drive_arguments, drive_against, write_and_report
from dyncity_sim.cli.plugins import Subparsers
from dyncity_sim.cli.signals import terminated_like_interrupted
from dyncity_sim.cosim.outputs import OUTPUT_NAMES, SERVER_LOG, check_outputs
from dyncity_sim.cosim.server_process import ServerProcess
from dyncity_sim.cosim.write import prepare_folder
from dyncity_sim.errors import RemoteError, UnavailableError

EPILOG = """\
examples:
  dyncity demo                                   four chunks in Berlin with the bundled model
  dyncity demo --chunks 10 --seed 7 --out out/b  a longer drive
  dyncity demo --backend null                    without any model, in seconds

A server is started as a process of its own on a free port, asked for every chunk over gRPC, and
stopped at the end; what it printed is in server.log. Open index.html in a browser to watch the drive.
"""

SEED = 7
"""A drive worth watching: the ego turns at a busy crossing."""


def register(subparsers: Subparsers, words: Sequence[str]) -> None:
    """Add the command; ``words`` is the command line, which names the simulator whose options to add."""
    parser = subparsers.add_parser(
        "demo",
        help="see it all work: start a server, drive, generate, look",
        description="Start a server, drive the embedded simulator against it, and write scenes, ground truth, "
        "pictures and a page to watch.",
        epilog=EPILOG,
    )
    parser.add_argument(
        "--out", type=Path, default=Path("out/demo"), metavar="DIR", help="folder for everything (default: %(default)s)"
    )
    add_drive_arguments(parser, words)
    parser.add_argument("--backend", default="torch", help="backend of the server (default: %(default)s)")
    parser.add_argument("--weights", type=Path, metavar="DIR", help="folder of weights (default: the bundled ones)")
    parser.set_defaults(run=run, seed=SEED)


def run(args: argparse.Namespace) -> int:
    """Serve, drive, write, report."""
    check_outputs(args.outputs)
    console = Console(markup=False)
    prepare_folder(args.out, OUTPUT_NAMES)
    arguments = ["--backend", args.backend, *([] if args.weights is None else ["--weights", str(args.weights)])]
    with terminated_like_interrupted(), ExitStack() as stack:
        with console.status(f"starting a server with the {args.backend} backend"):
            server = stack.enter_context(ServerProcess(arguments, args.out / SERVER_LOG))
        try:
            drive = drive_against([server.target], args, console, [n for n in OUTPUT_NAMES if n != SERVER_LOG])
            stack.close()
            write_and_report(drive, args, console)
        except (UnavailableError, RemoteError) as error:
            raise type(error)(server.explain(str(error))) from error
    return 0
