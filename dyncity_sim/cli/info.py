"""``dyncity info``: what a server and its model are and can do."""

import argparse
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from dyncity_sim.cli.address import server_address
from dyncity_sim.cli.numbers import positive_seconds
from dyncity_sim.cli.plugins import Subparsers
from dyncity_sim.client import DyncityClient, ServerInfo

EPILOG = """\
examples:
  dyncity info --server localhost:50051
"""


def register(subparsers: Subparsers, words: Sequence[str]) -> None:
    """Add the command, whose options are the same whatever ``words``, the command line, says."""
    parser = subparsers.add_parser(
        "info",
        help="show what a server offers",
        description="Show what a server and its model are and can do.",
        epilog=EPILOG,
    )
    parser.add_argument("--server", required=True, type=server_address, metavar="HOST:PORT", help="server to ask")
    parser.add_argument(
        "--timeout", type=positive_seconds, default=10.0, metavar="S", help="seconds to wait (default: %(default)s)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Ask and print."""
    with DyncityClient(args.server, timeout_s=args.timeout) as client:
        info = client.server_info()
    table = Table("", f"{args.server}", title_justify="left")
    for name, value in facts(info):
        table.add_row(name, value)
    Console(markup=False).print(table)
    return 0


def facts(info: ServerInfo) -> list[tuple[str, str]]:
    """Name and value of everything worth showing."""
    model, grid = info.model, info.model.grid
    extent = " x ".join(f"[{low:g}, {high:g}]" for low, high in zip(grid.lower_m, grid.upper_m, strict=True))
    return [
        ("model", f"{model.model_id} ({model.family})"),
        ("grid", f"{' x '.join(map(str, grid.shape))} cells of {' x '.join(f'{s:g}' for s in grid.voxel_size_m)} m"),
        ("extent", f"{extent} m"),
        ("chunk", f"{model.frames_per_chunk} frames at {model.rate_hz:g} Hz"),
        ("classes", f"{model.taxonomy.id}: {', '.join(model.taxonomy.names)}"),
        ("conditions", ", ".join(model.conditions) or "none"),
        ("samplers", f"{', '.join(model.samplers)}; {model.default_steps} steps, at most {model.max_steps}"),
        ("queue", f"{info.max_queue} requests"),
        ("messages", f"at most {info.max_message_bytes // 2**20} MiB"),
        ("server", f"{info.server_version}, API {info.api_version}"),
    ]
