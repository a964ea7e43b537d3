"""``dyncity render``: from captures to a recording."""

import argparse
import os
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from dyncity_sim.cli.signals import terminated_like_interrupted
from dyncity_sim.dataset.store import RecordingMeta, RecordingWriter
from dyncity_sim.errors import InvalidInputError
from dyncity_sumo.captures import CapturedTown, Captures
from dyncity_sumo.rendering import Part, drive_notes, render_in_processes
from dyncity_sumo.telling import Tally, progress_bar

EXAMPLES = """\
examples:
  dyncity record --captures --map generated:grid --minutes 60 --seed 1 --out data/grid-captures
  dyncity render data/grid-captures --out data/grid
  dyncity render data/grid-captures --first 4 --blind --out data/look

The recording is the one that record would have made without --captures.
"""


@dataclass(frozen=True)
class RenderOptions:
    """What ``dyncity render`` was asked for.

    Attributes:
        captures: folder of captures.
        out: folder of the recording.
        workers: processes.
        first: render only so many drives, or None for all.
        blind: leave the emulated sensors out.
    """

    captures: Path
    out: Path
    workers: int
    first: int | None
    blind: bool

    def __post_init__(self) -> None:
        for name, value in (("--workers", self.workers), ("--first", self.first)):
            if value is not None and value < 1:
                raise InvalidInputError(name, value, "at least 1")
        if self.out.exists():
            raise InvalidInputError("--out", f"{self.out}, which exists", "a new folder", "Choose another name.")


def register_render(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``render`` to the command line."""
    parser = subparsers.add_parser(
        "render",
        help="make a recording of captures",
        description="Regrow the towns of captures (dyncity record --captures) and render their drives: voxels, what "
        "sensors see of them, actors, poses. Needs no simulator.",
        epilog=EXAMPLES,
    )
    parser.add_argument("captures", type=Path, metavar="CAPTURES", help="folder of captures")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument(
        "--workers", type=int, default=len(os.sched_getaffinity(0)), metavar="N", help="processes, one core each"
    )
    parser.add_argument("--first", type=int, metavar="N", help="render the first N drives only")
    parser.add_argument("--blind", action="store_true", help="leave the emulated sensors out: several times faster")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Render what was asked for."""
    with terminated_like_interrupted():
        options = RenderOptions(args.captures, args.out, args.workers, args.first, args.blind)
        render_captures(options, Console(stderr=True))
    return 0


def render_captures(options: RenderOptions, console: Console) -> None:
    """Make the recording that ``options`` asks for, and say on ``console`` how it goes and what came of it.

    Raises:
        InvalidInputError: the output exists, or the captures are none, damaged, or of another version.
        StorageError: the disk is full or may not be written to.
        DyncityError: a rendering process died.
    """
    captures = Captures.open(options.captures)
    drives = [(town, number) for town in captures.towns for number in range(len(town.drives))][: options.first]
    for town in dict.fromkeys(town for town, _ in drives):
        town.check()
    tally = Tally()
    strange = 0
    with progress_bar(console) as progress, RecordingWriter(options.out, _meta(captures, options)) as writer:
        parts = _parts(drives, writer, options)
        total = sum(town.drives[number].frames for town, number in drives)
        task = progress.add_task("rendering", total=total)
        for rendered in render_in_processes(parts, options.workers):
            tally.count(rendered.classes)
            strange += not rendered.as_captured
            progress.update(task, advance=rendered.frames)
        for town, number in drives:
            drive = town.drives[number]
            writer.list_drive(drive.frames, drive_notes(town.seed, drive.ego, drive.manoeuvre))
            tally.add(drive.frames, drive.ego, drive.manoeuvre)
    console.print(tally.table())
    if strange:
        console.print(
            f"{strange} drives lead through towns that grew differently here than where they were captured: "
            "other versions of NumPy, SciPy or Shapely, or another kind of processor."
        )


def _parts(drives: list[tuple[CapturedTown, int]], writer: RecordingWriter, options: RenderOptions) -> list[Part]:
    """One part for each town; several where there are fewer towns than workers, each of which regrows the town."""
    files: dict[CapturedTown, list[tuple[int, Path]]] = {}
    for place, (town, number) in enumerate(drives):
        files.setdefault(town, []).append((number, writer.drive_file(place)))
    shares = -(-options.workers // len(files))
    parts = [
        Part(town, dict(its[share::shares]), options.blind) for town, its in files.items() for share in range(shares)
    ]
    return [part for part in parts if part.files]


def _meta(captures: Captures, options: RenderOptions) -> RecordingMeta:
    return replace(captures.meta, options={**captures.meta.options, "blind": options.blind})
