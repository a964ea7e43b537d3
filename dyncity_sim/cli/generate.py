"""``dyncity generate``: chunks along a recorded drive, without a simulator."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from dyncity_sim.cli.address import server_address
from dyncity_sim.cli.kept import telling_what_is_kept
from dyncity_sim.cli.numbers import positive
from dyncity_sim.cli.plugins import Subparsers
from dyncity_sim.cli.signals import terminated_like_interrupted
from dyncity_sim.cli.waiting import PatientClient, told_patience
from dyncity_sim.client import DyncityClient
from dyncity_sim.cosim.server_process import ServerProcess
from dyncity_sim.dataset.labelled import OccupancySource
from dyncity_sim.dataset.open import open_dataset
from dyncity_sim.domain.conditions import CONDITIONS, Command, SamplingOptions
from dyncity_sim.domain.generation import ModelInfo
from dyncity_sim.errors import InvalidInputError, RemoteError, UnavailableError
from dyncity_sim.files import check_free
from dyncity_sim.replay.drive import Generator, Replay, ReplayedChunk, border_agreement, replay_drive
from dyncity_sim.replay.regions import Region
from dyncity_sim.replay.write import ReplayFolder

EPILOG = f"""\
examples:
  dyncity generate data/town --out out/dream                             from the plan of a recorded drive alone
  dyncity generate data/town --past --chunks 8 --out out/long            128 frames on from what sensors saw
  dyncity generate data/town --known first-frame --out out/one           one frame to 4D
  dyncity generate data/town --known around --resamples 4 --out out/hole inpainting
  dyncity generate data/town --layout --guidance layout=2 --out out/cars vehicles where they were
  dyncity generate CarlaSC/Val --sequence 2 --start 320 --server gpu:50051 --out out/sc

PATH is what dyncity inspect reads: a recording, CarlaSC, or Occ3D, on the model's grid. Parts of a chunk that --known
can give: {", ".join(region.value for region in Region)}. The folder takes chunk_NNNN.npz and generation.json, as the
chunks come, then chunks.png (generated over recorded), and index.html to watch. Chunks that came before a failure,
Ctrl-C or a kill are whole and stay.
data/town: long drives, from dyncity record --continuous (without it, drives have 40 frames).
"""


def register(subparsers: Subparsers, words: Sequence[str]) -> None:
    """Add the command, whose options are the same whatever ``words``, the command line, says."""
    parser = subparsers.add_parser(
        "generate",
        help="generate along recorded drives, under every condition",
        description="Generate chunks along a drive of a data set, from its plan and as much else of it as you ask for.",
        epilog=EPILOG,
    )
    parser.add_argument("path", type=Path, metavar="PATH", help="folder of the data set")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder for everything")
    drive = parser.add_argument_group("what is driven")
    drive.add_argument("--sequence", type=int, default=0, metavar="N", help="sequence of the data set (default: 0)")
    drive.add_argument("--start", type=int, metavar="N", help="first frame (default: the first that --past allows)")
    drive.add_argument("--chunks", type=positive, default=1, metavar="N", help="chunks to generate (default: 1)")
    given = parser.add_argument_group("what is given")
    given.add_argument("--past", action="store_true", help="go on from what sensors saw over the chunk before")
    given.add_argument("--known", choices=[r.value for r in Region], help="give this part of the first chunk")
    given.add_argument("--layout", action="store_true", help="put vehicles where they were recorded")
    given.add_argument("--command", choices=[c.value for c in Command], help="instead of what the plan amounts to")
    sampling = parser.add_argument_group("sampling")
    sampling.add_argument("--seed", type=int, default=1, metavar="S", help="of the first chunk (default: 1)")
    sampling.add_argument("--steps", type=positive, metavar="N", help="network evaluations (default: the model's)")
    sampling.add_argument("--sampler", metavar="NAME", help="one that dyncity info lists (default: the model's)")
    sampling.add_argument(
        "--guidance",
        action="append",
        default=[],
        metavar="[CONDITION=]X",
        help=f"guidance scale, of all conditions or of one of {', '.join(CONDITIONS)}; may be repeated",
    )
    sampling.add_argument("--resamples", type=positive, metavar="N", help="walks of each interval at a known part")
    model = parser.add_argument_group("the model")
    model.add_argument(
        "--server", type=server_address, metavar="HOST:PORT", help="a server that runs (default: one is started)"
    )
    model.add_argument("--backend", metavar="NAME", help="backend of the server that is started (default: torch)")
    model.add_argument("--weights", type=Path, metavar="DIR", help="its weights (default: the bundled ones)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Open, generate, write, report."""
    if args.server is not None and (args.backend, args.weights) != (None, None):
        raise InvalidInputError(
            "--server", args.server, "neither --backend nor --weights with it", "They are for a server that is started."
        )
    console = Console(markup=False)
    check_free(args.out)
    options = sampling_options(args)
    dataset = open_dataset(args.path)
    if not dataset.sequences:
        raise InvalidInputError(str(args.path), "a data set without drives", "at least one drive")
    if not 0 <= args.sequence < len(dataset.sequences):
        raise InvalidInputError("--sequence", args.sequence, f"0 to {len(dataset.sequences) - 1}")
    source = dataset.sequences[args.sequence]
    with terminated_like_interrupted(), _client(args, console) as client:
        model = client.model_info()
        replay = _replay(args, model)
        described = {
            "data set": f"{dataset.name} {args.path.name}",
            "sequence": source.name,
            "start": replay.start,
            "known": args.known or ("the past" if args.past else "nothing"),
            "attribution": dataset.attribution,
        }
        folder = ReplayFolder(args.out, model, described)
        columns = TextColumn("generating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with telling_what_is_kept(folder, console):
            with Progress(*columns, console=console, transient=True) as progress:
                task = progress.add_task("chunks", total=args.chunks)
                chunks = replay_drive(
                    client, dataset, source, replay, options, lambda done: progress.update(task, completed=done)
                )
                failure = folder.fill(chunks)
            folder.finish(f"{source.name}, frame {replay.start}", "" if failure is None else str(failure))
        console.print(report(folder.replayed, model, source))
        if failure is not None:
            console.print(f"ended early: {failure}", soft_wrap=True)
        console.print(f"watch {args.out / 'index.html'}\nlook at {args.out / 'chunks.png'}", soft_wrap=True)
        if failure is not None:
            raise failure
    return 0


def _replay(args: argparse.Namespace, model: ModelInfo) -> Replay:
    return Replay(
        start=model.frames_per_chunk * args.past if args.start is None else args.start,
        chunks=args.chunks,
        past=args.past,
        known=None if args.known is None else Region(args.known),
        layout=args.layout,
        command=None if args.command is None else Command(args.command),
    )


def sampling_options(args: argparse.Namespace) -> SamplingOptions:
    """The options of every chunk; a word of ``--guidance`` is a number, or a condition and a number."""
    overall, scales = None, {}
    for word in args.guidance:
        name, equals, number = word.rpartition("=")
        try:
            scale = float(number)
        except ValueError as error:
            raise InvalidInputError("--guidance", repr(word), "a number, or CONDITION=number") from error
        if equals:
            scales[name] = scale
        else:
            overall = scale
    return SamplingOptions(args.seed, args.steps, overall, args.sampler, scales, args.resamples)


def report(chunks: Sequence[ReplayedChunk], model: ModelInfo, source: OccupancySource) -> Table:
    """A row for each chunk: conditions, seconds, and static agreement within it and with the chunk before."""
    table = Table("chunk", "seed", "from", title=f"{model.model_id} along {source.name}", title_justify="left")
    for head in ("s", "rigid within", "over the border"):
        table.add_column(head, justify="right")
    for number, chunk in enumerate(chunks):
        timings = chunk.generated.timings
        border = f"{border_agreement(chunks[number - 1], chunk):.3f}" if number else ""
        table.add_row(
            str(number),
            str(chunk.generated.seed),
            ", ".join(chunk.conditions.given()) or "nothing",
            f"{timings.sampling_s + timings.decoding_s:.2f}",
            f"{chunk.rigidity:.3f}",
            border,
        )
    return table


@contextmanager
def _client(args: argparse.Namespace, console: Console) -> Iterator[Generator]:
    """A client of the server that was named, which may come back, or of one that lives as long as the command."""
    with ExitStack() as stack:
        if args.server is not None:
            yield PatientClient(stack.enter_context(DyncityClient(args.server)), told_patience(console))
            return
        backend = args.backend or "torch"
        arguments = ["--backend", backend, *([] if args.weights is None else ["--weights", str(args.weights)])]
        with console.status(f"starting a server with the {backend} backend"):
            server = stack.enter_context(ServerProcess(arguments, log=None))
        try:
            yield stack.enter_context(DyncityClient(server.target))
        except (UnavailableError, RemoteError) as error:
            raise type(error)(server.explain(str(error))) from error
