"""``dyncity carla-loopback``: a stand-in for a CARLA server, for tests without Unreal and without a GPU."""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

from dyncity_carla.loopback.faults import FAULTS, parse_fault
from dyncity_carla.loopback.roads import Roads
from dyncity_carla.loopback.server import LoopbackServer, ServerOptions
from dyncity_carla.loopback.settings import Settings
from dyncity_carla.loopback.world import World, WorldOptions
from dyncity_sim.cli.numbers import port
from dyncity_sim.cli.parser import Help
from dyncity_sim.cli.signals import terminate_when_orphaned
from dyncity_sim.errors import InvalidInputError, UnavailableError

WHAT_IT_IS_NOT = (
    "Not CARLA: no Unreal, no rendering, no physics. What works against it has not been shown to work in CARLA."
)

EXIT_VIOLATIONS = 1
SYNCHRONOUS_STEP_S = 0.05


class _HelpFormatter(Help):
    """Says first what the server is not."""

    def add_usage(
        self,
        usage: str | None,
        actions: Iterable[argparse.Action],
        groups: Iterable[argparse._MutuallyExclusiveGroup],
        prefix: str | None = None,
    ) -> None:
        super().add_usage(usage, actions, groups, prefix or f"{WHAT_IT_IS_NOT}\n\nusage: ")


def register_carla_loopback(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``carla-loopback`` to the command line."""
    parser = subparsers.add_parser(
        "carla-loopback",
        help="a stand-in for a CARLA server, for tests without Unreal",
        usage="dyncity carla-loopback --map FILE.xodr [options]",
        description="Speaks CARLA 0.9.16's wire to the real client library, on any OpenDRIVE file.",
        epilog="example: dyncity carla-loopback --map Town01.xodr --port 2000 --traffic 30",
        formatter_class=_HelpFormatter,
    )
    parser.add_argument("--map", type=Path, required=True, metavar="FILE.xodr", help="OpenDRIVE file to load")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=port, default=0, help="port for carla.Client; 0 takes a free one")
    parser.add_argument("--streaming-port", type=port, default=0, help="port of the streams; 0 takes a free one")
    parser.add_argument("--inspect-port", type=port, default=0, help="port of the inspection channel; 0: a free one")
    parser.add_argument("--traffic", type=int, default=0, metavar="N", help="vehicles that the server drives")
    parser.add_argument("--scenery", type=float, default=1.0, help="density of static boxes beside the roads; 0: none")
    parser.add_argument("--seed", type=int, default=0, help="decides traffic and scenery")
    parser.add_argument(
        "--sync", action="store_true", help=f"start in synchronous mode, {SYNCHRONOUS_STEP_S:g} s a tick"
    )
    parser.add_argument(
        "--strict",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="print calls that break the wire's rules, and exit with status 1 after any",
    )
    parser.add_argument(
        "--until-orphaned", action="store_true", help="end when the process that started this one has ended"
    )
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="NAME[:KEY=VALUE,...]",
        help=f"something that goes wrong from the start; may be repeated; names: {', '.join(FAULTS)}",
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    faults = [parse_fault(text) for text in args.fault]
    try:
        opendrive = args.map.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError("--map", f"{args.map} ({error})", "a readable OpenDRIVE file") from error
    try:
        args.map.stem.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError("--map", ascii(str(args.map)), "a file with a name in UTF-8") from error
    world = World(Roads(args.map.stem, opendrive), WorldOptions(args.seed, args.traffic, args.scenery))
    if len(world.traffic) < args.traffic:
        raise InvalidInputError("--traffic", args.traffic, f"at most {len(world.traffic)}, which fit on this map")
    if args.sync:
        world.settings = Settings(synchronous_mode=True, fixed_delta_seconds=SYNCHRONOUS_STEP_S)
    options = ServerOptions(args.host, args.port, args.streaming_port, args.inspect_port, args.strict)
    server = LoopbackServer(world, options)
    for name, parameters in faults:
        server.turn_on(name, parameters)
    return asyncio.run(_serve(server, os.getppid() if args.until_orphaned else None))


async def _serve(server: LoopbackServer, parent: int | None) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        await server.start()
    except OSError as error:
        raise UnavailableError(f"The loopback server cannot listen: {error}. Name free ports, or 0.") from error
    clock = asyncio.create_task(server.run_clock())
    clock.add_done_callback(lambda _: stop.set())
    sys.stdout.write(f"INSPECT {server.options.host}:{server.inspection.port}\n")
    sys.stdout.write(f"SERVING carla-loopback on {server.options.host}:{server.rpc.port}\n")
    sys.stdout.flush()
    watch = asyncio.create_task(terminate_when_orphaned(parent)) if parent is not None else None
    await stop.wait()
    if watch is not None:
        watch.cancel()
    if clock.done():
        clock.result()
    clock.cancel()
    await server.close()
    return EXIT_VIOLATIONS if server.options.strict and server.calls.violations else 0
