"""``dyncity serve``: a gRPC server around one model."""

import argparse
import asyncio
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from dyncity_sim.cli.numbers import not_negative, port, positive, seconds
from dyncity_sim.cli.plugins import Subparsers
from dyncity_sim.cli.signals import terminate_when_orphaned
from dyncity_sim.engine.backend import load_backend
from dyncity_sim.engine.engine import Engine
from dyncity_sim.server.app import serve

DEFAULT_PORT = 50051
DEFAULT_MAX_QUEUE = 8
MOST_QUEUED = 2**32 - 1
"""What the wire can say of a queue."""

DEFAULT_GRACE_S = 30.0

EPILOG = """\
examples:
  dyncity serve                                    the bundled model on 127.0.0.1:50051
  dyncity serve --weights runs/city --threads 8    weights of your own, eight threads
  dyncity serve --backend null --port 0            no model at all, any free port
  dyncity serve --option precision=bf16 --option compile=true    how networks are run
  dyncity serve --host 0.0.0.0                     reachable from other machines (no encryption)

When the model is loaded and warmed up, health turns to SERVING and one line says so:
  SERVING <model id> on <host>:<port>
SIGTERM or Ctrl-C drains: work under way is finished, new work is refused. A second one stops at once.
"""


def register(subparsers: Subparsers, words: Sequence[str]) -> None:
    """Add the command, whose options are the same whatever ``words``, the command line, says."""
    parser = subparsers.add_parser(
        "serve",
        help="host a model behind gRPC",
        description="Host a model behind gRPC.",
        epilog=EPILOG,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to bind (default: %(default)s)")
    parser.add_argument(
        "--port", type=port, default=DEFAULT_PORT, help="port to bind, 0 for any free one (default: %(default)s)"
    )
    parser.add_argument("--backend", default="torch", help="torch, null, or one that a package adds (default: torch)")
    parser.add_argument("--weights", type=Path, metavar="DIR", help="folder of weights (default: the bundled ones)")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="option of the backend, may be repeated; of torch: precision, channels_last, compile, cuda_graphs,"
        " attention, and sampling.KEY for what model.json says under sampling",
    )
    parser.add_argument(
        "--max-queue",
        type=_queue_length,
        default=DEFAULT_MAX_QUEUE,
        metavar="N",
        help="requests that may wait while one is worked on (default: %(default)s)",
    )
    parser.add_argument("--threads", type=positive, metavar="N", help="CPU threads of the model (default: all cores)")
    parser.add_argument(
        "--grace",
        type=seconds,
        default=DEFAULT_GRACE_S,
        metavar="SECONDS",
        help="time for work under way to finish when stopped (default: %(default)s)",
    )
    parser.add_argument(
        "--until-orphaned", action="store_true", help="stop when the process that started this one has ended"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop."""
    if args.threads is not None:
        # Read by OpenMP when the backend's libraries are first loaded, which is after this.
        os.environ["OMP_NUM_THREADS"] = str(args.threads)
    asyncio.run(_serve(args))
    return 0


async def _serve(args: argparse.Namespace) -> None:
    engine = Engine(
        partial(load_backend, args.backend, args.weights, args.option), args.max_queue, np.random.default_rng()
    )
    orphaned = asyncio.create_task(terminate_when_orphaned(os.getppid())) if args.until_orphaned else None
    try:
        await serve(engine, args.host, args.port, args.grace, announce=partial(print, flush=True))
    finally:
        if orphaned is not None:
            orphaned.cancel()


def _queue_length(text: str) -> int:
    length = not_negative(text)
    if length > MOST_QUEUED:
        raise argparse.ArgumentTypeError(f"{text} is more than {MOST_QUEUED}")
    return length
