"""``dyncity cosim``: a simulator drives, a server generates, everything is written."""

import argparse
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from dyncity_sim.cli.address import server_address
from dyncity_sim.cli.kept import telling_what_is_kept
from dyncity_sim.cli.numbers import positive
from dyncity_sim.cli.plugins import Subparsers, names_in, value_in
from dyncity_sim.cli.signals import terminated_like_interrupted
from dyncity_sim.cli.waiting import told_patience
from dyncity_sim.client import DyncityClient
from dyncity_sim.cosim.drive import Drive, Start
from dyncity_sim.cosim.loop import LOOKAHEAD, MAX_LOOKAHEAD, run_drive
from dyncity_sim.cosim.outputs import (
    FILM,
    GROUND_TRUTH,
    OCCUPANCY,
    OUTPUT_NAMES,
    PAGE,
    PICTURE,
    SCENE,
    Output,
    Tell,
    check_outputs,
    write_credit,
    write_derived,
    write_previews,
)
from dyncity_sim.cosim.progress import Step
from dyncity_sim.cosim.replicas import Replicas
from dyncity_sim.cosim.report import derived_facts, drive_facts
from dyncity_sim.cosim.simulator import SIMULATOR_GROUP, find_simulator
from dyncity_sim.cosim.write import DriveFolder, clear_folder, prepare_folder
from dyncity_sim.domain.conditions import SamplingOptions

DEFAULT_SIMULATOR = "sumo"
NO_OUTPUTS = "none"

EPILOG = """\
examples:
  dyncity cosim --server localhost:50051 --out out/drive
  dyncity cosim --server gpu-box:50051 --map berlin --chunks 20 --seed 7 --out out/long
  dyncity cosim --server gpu-1:50051,gpu-2:50051 --chunks 20 --out out/safe
  dyncity cosim --server localhost:50051 --start plan --chunks 1 --out out/dream
  dyncity cosim --server localhost:50051 --sim carla --carla-port 2000 --out out/carla
  dyncity cosim --server localhost:50051 --chunks 200 --outputs scene --out out/five-minutes

The ego drives in the simulator; for each chunk its plan and command go to the server, which
continues from the chunk before. When a server dies, the next one of the same weights goes on from
the last chunk. The folder takes occupancy/, chunk by chunk, then scene/, ground_truth/, drive.png,
drive.webp and index.html; earlier outputs of the same names go when the first chunk comes. What
--outputs leaves out, `dyncity scene`, `export` and `view` make of occupancy/ later, also of a
drive that was stopped.
"""


def register(subparsers: Subparsers, words: Sequence[str]) -> None:
    """Add the command; ``words`` is the command line, which names the simulator whose options to add."""
    parser = subparsers.add_parser(
        "cosim",
        help="drive a simulator and generate what is around its ego",
        description="Drive a simulator's ego, generate the occupancy around it chunk by chunk, and write scenes, "
        "ground truth and pictures.",
        epilog=EPILOG,
    )
    parser.add_argument(
        "--server",
        required=True,
        action="extend",
        type=server_list,
        metavar="HOST:PORT[,...]",
        help="server that generates; of several, also by repeating the option, the next goes on where one fails",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder that takes everything")
    add_drive_arguments(parser, words)
    parser.set_defaults(run=run)


def add_drive_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Arguments that say what is driven, those of the simulator that ``words`` names among them."""
    parser.add_argument(
        "--sim",
        default=DEFAULT_SIMULATOR,
        metavar="NAME",
        help=f"simulator: {', '.join(names_in(SIMULATOR_GROUP))}; each has options of its own, see --sim NAME --help "
        "(default: %(default)s)",
    )
    plugin = find_simulator(value_in(words, "--sim", DEFAULT_SIMULATOR))
    parser.add_argument(
        "--map",
        default=plugin.default_map,
        metavar="SPEC",
        help=f"map of the simulator (default: {plugin.default_map or 'the one that is loaded'})",
    )
    parser.add_argument(
        "--chunks", type=positive, default=4, metavar="N", help="chunks of 1.6 s to generate (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=1, metavar="S", help="of traffic and sampling (default: %(default)s)"
    )
    parser.add_argument(
        "--start",
        choices=[s.value for s in Start],
        default=Start.OBSERVED.value,
        help="first chunk continues what the simulator sees, or comes from the plan alone (default: %(default)s)",
    )
    parser.add_argument(
        "--lookahead",
        type=int,
        choices=range(MAX_LOOKAHEAD + 1),
        default=LOOKAHEAD,
        metavar="N",
        help="chunks planned and sampled ahead of the one that is driven; with 0 simulator and server take turns "
        "(default: %(default)s)",
    )
    parser.add_argument("--steps", type=positive, metavar="N", help="sampling steps (default: the model's)")
    parser.add_argument("--guidance", type=float, metavar="X", help="guidance scale (default: the model's)")
    parser.add_argument(
        "--outputs",
        type=output_set,
        default=frozenset(Output),
        metavar="NAME[,...]",
        help=f"what to make of the occupancy: {', '.join(Output)}, or none (default: all)",
    )
    plugin.add_arguments(parser)


def server_list(text: str) -> list[str]:
    """Addresses separated by commas."""
    return [server_address(target.strip()) for target in text.split(",")]


def output_set(text: str) -> frozenset[Output]:
    """Names of outputs separated by commas, or ``none``."""
    names = [] if text == NO_OUTPUTS else text.split(",")
    unknown = [name for name in names if name not in set(Output)]
    if unknown:
        if unknown[0] == NO_OUTPUTS:
            raise argparse.ArgumentTypeError(f"{text!r} asks for outputs and for {NO_OUTPUTS}")
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(Output)}, {NO_OUTPUTS}")
    return frozenset(Output(name) for name in names)


def run(args: argparse.Namespace) -> int:
    """Drive, write, report."""
    check_outputs(args.outputs)
    console = Console(markup=False)
    prepare_folder(args.out, OUTPUT_NAMES)
    with terminated_like_interrupted():
        drive = drive_against(args.server, args, console, OUTPUT_NAMES)
        write_and_report(drive, args, console)
    return 0


def drive_against(
    targets: Sequence[str], args: argparse.Namespace, console: Console, replaced: Collection[str]
) -> Drive:
    """Drive the simulator that the arguments name against servers of one model, and write each chunk when it is driven.

    Earlier outputs of the names in ``replaced`` go when there is a first chunk to take their place.
    """
    options = SamplingOptions(steps=args.steps, guidance_scale=args.guidance)
    patience = told_patience(console)
    with _progress(console) as tell, ExitStack() as stack:
        servers = Replicas([(target, stack.enter_context(DyncityClient(target))) for target in targets])
        tell("server", 0, 1)
        patience.call(servers.model_info)
        tell("server", 1, 1)
        where = args.map or args.sim
        tell(where, 0, 1)
        simulator = stack.enter_context(find_simulator(args.sim).open(args.map, args.seed, args))
        tell(where, 1, 1)

        def on_step(step: Step) -> None:
            tell(step.doing, step.done, step.total)

        start = Start(args.start)
        folder = DriveFolder(args.out / OCCUPANCY, partial(clear_folder, args.out, replaced))
        with telling_what_is_kept(folder, console):
            drive = run_drive(
                simulator,
                servers,
                args.chunks,
                args.seed,
                start,
                options,
                patience,
                on_step,
                args.lookahead,
                folder.keep,
            )
            return folder.keep(drive)


def write_and_report(drive: Drive, args: argparse.Namespace, console: Console) -> None:
    """Write all that is made of a drive and print what it amounts to; what broke it off is raised after that."""
    write_credit(drive, args.out)
    facts = drive_facts(drive)
    if args.outputs:
        with _progress(console) as tell:
            derived = write_derived(drive, args.out, tell, args.outputs)
            if Output.PICTURES in args.outputs:
                write_previews(drive, derived.scene, _world_of(args), args.map or args.sim, args.out, tell)
        facts += derived_facts(derived)
    table = Table(title=f"dyncity drive: {_world_of(args)}, seed {args.seed}", title_justify="left", show_header=False)
    for name, value in facts:
        table.add_row(name, value)
    table.add_section()
    if Output.PICTURES in args.outputs:
        table.add_row("watch", str(args.out / PAGE))
        table.add_row("look", f"{args.out / PICTURE}, {args.out / FILM}")
    written = [OCCUPANCY, *(name for name in (SCENE, GROUND_TRUTH) if name in args.outputs)]
    table.add_row("use", ", ".join(f"{args.out / name}/" for name in written))
    if drive.attribution:
        table.add_row("map", drive.attribution)
    console.print(table)
    if drive.failure is not None:
        raise drive.failure


def _world_of(args: argparse.Namespace) -> str:
    return f"{args.sim} {args.map}".strip()


@contextmanager
def _progress(console: Console) -> Iterator[Tell]:
    """One bar for each kind of work named the first time it is told of; ``driving`` names share theirs."""
    columns = (TextColumn("{task.description:<14}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        yield _teller(progress)


DRIVE_WORK = frozenset({"observing", "encoding", "generating", "driving", "driven"})
"""Names of the steps of one drive, which share one bar."""


def _teller(progress: Progress) -> Callable[[str, int, int], None]:
    tasks: dict[str, TaskID] = {}

    def tell(doing: str, done: int, total: int) -> None:
        key = "drive" if doing in DRIVE_WORK else doing
        if key not in tasks:
            tasks[key] = progress.add_task(doing, total=total)
        progress.update(tasks[key], description=doing, completed=done, total=total)

    return tell
