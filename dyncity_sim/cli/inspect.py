"""``dyncity inspect``: what is in a data set."""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from dyncity_sim.cli.plugins import Subparsers
from dyncity_sim.cli.signals import terminated_like_interrupted
from dyncity_sim.dataset.labelled import OccupancyDataset
from dyncity_sim.dataset.open import open_dataset
from dyncity_sim.dataset.survey import Gap, Survey, count_commands, find_gaps, locate_frame, take_survey
from dyncity_sim.domain.conditions import Command
from dyncity_sim.domain.grid import FRAMES_PER_CHUNK, Grid
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.preview.film import write_png
from dyncity_sim.preview.sheet import render_sheet

SAMPLED_FRAMES = 200
NAMES_SHOWN = 3

EPILOG = f"""\
examples:
  dyncity inspect data/grid                            a recording
  dyncity inspect CarlaSC --all                        every frame of CarlaSC
  dyncity inspect CarlaSC/Test/Town10_Heavy --png town.png --frame 120
  dyncity inspect Occ3D-nuScenes/trainval              the folder of gts and annotations.json
  dyncity inspect Occ3D-Waymo/validation               the folder of scenes

Known forms: recordings, CarlaSC, Occ3D-nuScenes, Occ3D-Waymo. Cells are counted in {SAMPLED_FRAMES} frames at even
distances, or in every frame with --all. Cells that no sensor saw are counted apart, never as free space.
"""


def register(subparsers: Subparsers, words: Sequence[str]) -> None:
    """Add the command, whose options are the same whatever ``words``, the command line, says."""
    parser = subparsers.add_parser(
        "inspect",
        help="show what is in a data set",
        description="Show what is in a data set: grid, classes, how often each occurs, rate, commands, attribution.",
        epilog=EPILOG,
    )
    parser.add_argument("path", type=Path, metavar="PATH", help="folder of the data set")
    parser.add_argument("--all", action="store_true", help="count the cells of every frame")
    parser.add_argument("--png", type=Path, metavar="FILE", help="draw one frame: from above and obliquely")
    parser.add_argument(
        "--frame", type=int, metavar="N", help="which frame to draw, counted over all sequences (default: the middle)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Open, draw, count, print."""
    if args.frame is not None and args.png is None:
        raise InvalidInputError("--frame", args.frame, "--png FILE with it, the picture to draw")
    with terminated_like_interrupted():
        dataset = open_dataset(args.path)
        if len(dataset) == 0:
            raise InvalidInputError(str(args.path), "a data set without frames", "at least one frame")
        if args.png is not None:
            draw(dataset, len(dataset) // 2 if args.frame is None else args.frame, args.png)
        survey = _counted(dataset, None if args.all else SAMPLED_FRAMES)
        commands, missing = count_commands(dataset), find_gaps(dataset)
    console = Console()
    console.print(facts_table(str(args.path), facts(dataset, survey, commands, missing)))
    console.print(class_table(dataset, survey))
    return 0


def facts_table(title: str, named: Sequence[tuple[str, str]]) -> Table:
    """Name and value of everything worth showing but the classes."""
    table = Table("", escape(title), title_justify="left")
    for name, value in named:
        table.add_row(name, escape(value))
    return table


def facts(
    dataset: OccupancyDataset, survey: Survey, commands: Counter[Command], missing: Sequence[Gap]
) -> list[tuple[str, str]]:
    """Name and value of each fact; pure."""
    grid, sequences = dataset.grid, dataset.sequences
    names = [sequence.name for sequence in sequences]
    shown = names if len(names) <= 2 * NAMES_SHOWN else [*names[:NAMES_SHOWN], "...", *names[-NAMES_SHOWN:]]
    lengths = sorted({len(sequence) for sequence in sequences})
    each = f"{lengths[0]}" if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]}"
    hidden = f"{survey.unobserved_share:.1%} of cells"
    return [
        ("data set", dataset.name),
        ("grid", _grid_text(grid)),
        ("taxonomy", f"{dataset.taxonomy.id}, {len(dataset.taxonomy)} classes; files hold {dataset.label_map.known}"),
        ("sequences", f"{len(sequences)}: {', '.join(shown)}"),
        ("frames", f"{len(dataset)}, {each} to a sequence, {len(dataset) / dataset.rate_hz:.1f} s"),
        ("rate", f"{dataset.rate_hz:g} Hz"),
        ("gaps", _gaps_text(dataset, missing)),
        ("unobserved", f"{hidden}{'; their labels are known all the same' if dataset.dense else ''}"),
        ("commands", _commands_text(dataset, commands)),
        ("counted", f"{'all' if survey.frames == len(dataset) else 'a sample of'} {survey.frames} frames"),
        ("attribution", dataset.attribution or "none asked for"),
    ]


def class_table(dataset: OccupancyDataset, survey: Survey) -> Table:
    """Each class in order of its label: its number in files, the merged class it is nearest to, per cent of cells.

    Of observed cells, of observed cells that are not free, and, in dense data, of all cells, seen or not.
    """
    table = Table("in files", "class", "merged")
    for head in ("% observed", "% occupied", *(["% dense"] if dataset.dense else [])):
        table.add_column(head, justify="right")
    observed, everywhere = survey.observed, survey.observed + survey.unobserved
    occupied = max(int(observed[1:].sum()), 1)
    for label, name in enumerate(dataset.taxonomy.names):
        cells = int(observed[label])
        row = [_share(cells, int(observed.sum())), _share(cells, occupied) if label else ""]
        if dataset.dense:
            row.append(_share(int(everywhere[label]), int(everywhere.sum())))
        stored = ", ".join(map(str, dataset.label_map.numbers[label]))
        table.add_row(stored, name, CARLASC.names[dataset.label_map.merged[label]], *row)
    return table


def draw(dataset: OccupancyDataset, frame: int, file: Path) -> None:
    """Draw one frame, counted over all sequences, in the colours of CarlaSC's merged classes, into a PNG file.

    Raises:
        InvalidInputError: no such frame, a file that exists or does not end in .png, or a frame that is damaged.
        StorageError: the picture could not be written.
    """
    if file.suffix != ".png":
        raise InvalidInputError("--png", str(file), "a name ending in .png")
    if file.exists():
        raise InvalidInputError("--png", f"{file}, which exists", "a name that is free", "Remove it or name another.")
    sequence, number = locate_frame(dataset, frame)
    frames = sequence.frames(number, number + 1)
    caption = f"{dataset.name}   {sequence.name}   frame {number}   (left: what was observed; grey: nothing was)"
    picture = render_sheet(
        dataset.label_map.to_carlasc(frames.labels[0]),
        frames.observed[0],
        dataset.grid,
        CARLASC,
        dataset.dense,
        caption,
        dataset.attribution,
    )
    write_png(picture, file)


def _counted(dataset: OccupancyDataset, most: int | None) -> Survey:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    total = len(dataset) if most is None else min(most, len(dataset))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("frames", total=total)
        return take_survey(dataset, most, lambda frames: progress.advance(task, frames))


def _grid_text(grid: Grid) -> str:
    cells = f"{' x '.join(map(str, grid.shape))} cells of {' x '.join(f'{s:g}' for s in grid.voxel_size_m)} m"
    extent = " x ".join(f"[{low:g}, {high:g}]" for low, high in zip(grid.lower_m, grid.upper_m, strict=True))
    return f"{cells}; {extent} m"


def _commands_text(dataset: OccupancyDataset, commands: Counter[Command]) -> str:
    chunks = sum(commands.values())
    if not chunks:
        return f"none: no sequence of {FRAMES_PER_CHUNK} frames whose poses and times are known"
    counts = ", ".join(f"{command.name} {commands[command]}" for command in Command)
    return f"{counts}; chunks of {FRAMES_PER_CHUNK} frames ({FRAMES_PER_CHUNK / dataset.rate_hz:g} s)"


def _gaps_text(dataset: OccupancyDataset, missing: Sequence[Gap]) -> str:
    if any(sequence.times_us is None for sequence in dataset.sequences):
        return "unknown: files do not say in which order frames are"
    shown = [f"{gap.seconds:.3g} s after frame {gap.frame} of {gap.sequence}" for gap in missing[:NAMES_SHOWN]]
    more = ["..."] if len(missing) > NAMES_SHOWN else []
    return f"{len(missing)}: {', '.join(shown + more)}" if missing else "none"


def _share(cells: int, total: int) -> str:
    return f"{100 * cells / total:.3f}" if cells else "-"
