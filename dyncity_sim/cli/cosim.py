"""``dyncity cosim``: a simulator drives, a server generates, everything is written."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from dyncity_sim.cli.plugins import Subparsers
from dyncity_sim.client import DyncityClient
from dyncity_sim.cosim.drive import Drive, Start
from dyncity_sim.cosim.loop import Patience, Step, run_drive
from dyncity_sim.cosim.outputs import OUTPUT_NAMES, Tell, write_data, write_previews
from dyncity_sim.cosim.report import derived_facts, drive_facts
from dyncity_sim.cosim.simulator import open_simulator
from dyncity_sim.cosim.write import clear_folder
from dyncity_sim.domain.conditions import SamplingOptions

EPILOG = """\
examples:
  dyncity cosim --server localhost:50051 --out out/drive
  dyncity cosim --server gpu-box:50051 --map berlin --chunks 20 --seed 7 --out out/long
  dyncity cosim --server localhost:50051 --start plan --chunks 1 --out out/dream

The ego drives in the simulator; for each chunk its plan and command go to the server, which
continues from the chunk before. The folder takes occupancy/, scene/, ground_truth/, drive.png,
drive.webp and index.html; earlier outputs of the same names are replaced.
"""


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "cosim",
        help="drive a simulator and generate what is around its ego",
        description="Drive a simulator's ego, generate the occupancy around it chunk by chunk, and write scenes, "
        "ground truth and pictures.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--server", required=True, metavar="HOST:PORT", help="server that generates")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder that takes everything")
    add_drive_arguments(parser)
    parser.set_defaults(run=run)


def add_drive_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that say what is driven."""
    parser.add_argument("--sim", default="sumo", metavar="NAME", help="simulator (default: %(default)s)")
    parser.add_argument("--map", default="berlin", metavar="SPEC", help="map of the simulator (default: %(default)s)")
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
    parser.add_argument("--steps", type=positive, metavar="N", help="sampling steps (default: the model's)")
    parser.add_argument("--guidance", type=float, metavar="X", help="guidance scale (default: the model's)")


def positive(text: str) -> int:
    """A whole number of at least 1."""
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return count


def run(args: argparse.Namespace) -> int:
    """Drive, write, report."""
    console = Console()
    clear_folder(args.out, OUTPUT_NAMES)
    drive = drive_against(args.server, args, console)
    write_and_report(drive, args, console)
    return 0


def drive_against(target: str, args: argparse.Namespace, console: Console) -> Drive:
    """Drive the simulator that the arguments name against a server."""
    options = SamplingOptions(steps=args.steps, guidance_scale=args.guidance)
    with DyncityClient(target) as client, _progress(console) as tell, ExitStack() as stack:
        client.wait_until_serving()
        tell(args.map, 0, 1)
        simulator = stack.enter_context(open_simulator(args.sim, args.map, args.seed))
        tell(args.map, 1, 1)

        def on_step(step: Step) -> None:
            tell(step.doing, step.done, step.total)

        return run_drive(simulator, client, args.chunks, args.seed, Start(args.start), options, Patience(), on_step)


def write_and_report(drive: Drive, args: argparse.Namespace, console: Console) -> None:
    """Write all that is made of a drive and print what it amounts to."""
    with _progress(console) as tell:
        derived = write_data(drive, args.out, tell)
        write_previews(drive, derived.scene, f"{args.sim} {args.map}", args.map, args.out, tell)
    table = Table(
        title=f"dyncity drive: {args.sim} {args.map}, seed {args.seed}", title_justify="left", show_header=False
    )
    for name, value in [*drive_facts(drive), *derived_facts(derived)]:
        table.add_row(name, value)
    table.add_section()
    table.add_row("watch", str(args.out / "index.html"))
    table.add_row("look", f"{args.out / 'drive.png'}, {args.out / 'drive.webp'}")
    table.add_row("use", ", ".join(f"{args.out / name}/" for name in ("occupancy", "scene", "ground_truth")))
    if drive.attribution:
        table.add_row("map", drive.attribution)
    console.print(table)


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
