"""``dyncity export``: labels of drives in the formats that training code reads."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from dyncity_sim.cli.numbers import positive, sequence_words, sequences
from dyncity_sim.cli.plugins import Subparsers
from dyncity_sim.cli.signals import terminated_like_interrupted
from dyncity_sim.dataset.drives import ListedDrive, list_drives
from dyncity_sim.export.plan import ExportPlan, Report
from dyncity_sim.export.run import export_drives
from dyncity_sim.groundtruth.formats.metadata import METADATA
from dyncity_sim.groundtruth.formats.table import FORMATS
from dyncity_sim.groundtruth.sensors.rig import DEFAULT_RIG, read_rig, rig_names

_FORMAT_LINES = "\n".join(
    f"  {form.name:<14} {form.holds}" + (f"; --resample: {form.own_grid}" if form.own_grid else "")
    for form in FORMATS.values()
)

EPILOG = f"""\
formats:
{_FORMAT_LINES}

examples:
  dyncity export out/demo --to semantickitti --out out/labels              what demo, cosim or generate wrote
  dyncity export data/town --sequence 3 --frames 64 --to occ3d,carlasc --out out/labels
  dyncity export data/town --sequence all --to nuscenes,kitti --sensors kitti --out out/train   a scene for each drive
  dyncity export out/dreams/* --to semantickitti --out out/train           a sequence for each generated drive
  dyncity export data/town --to occ3d --resample nearest --out out/occ3d   in the grid that Occ3D is published with
  dyncity export data/town --to {",".join(FORMATS)} --sensors kitti --out out/all

PATH is a generated drive, or what dyncity inspect reads; there may be several. Each format takes a subfolder of DIR
when it is whole: nothing of a drive that fails is there. Of several drives, an error, Ctrl-C or SIGTERM keeps those
that are whole by then as a data set of these alone; the exit code says that it failed, and the command which are left
for another --out. With --keep, they stay in a folder of their own, after a kill too, and the same command goes on.
Several drives are one data set: carlasc, occ3d, nuscenes a scene each, semantickitti sequences/00, 01, ..., kitti 0000,
0001, ..., webdataset shards numbered in a row, mcap a file each.
{METADATA} (mcap: its metadata; webdataset: dataset.json) says grid, classes, sensors, and where each drive comes from.
Actors are the true ones of a recording, or those found in the cells. docs/groundtruth.md describes the files.
data/town: long drives, from dyncity record --continuous (without it, drives have 40 frames).
"""


def register(subparsers: Subparsers, words: Sequence[str]) -> None:
    """Add the command, whose options are the same whatever ``words``, the command line, says."""
    parser = subparsers.add_parser(
        "export",
        help="export labels of drives for training code",
        description="Label drives as sensors would see them, and write the labels in the formats that you name.",
        epilog=EPILOG,
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="folder of a drive, or of many")
    parser.add_argument("--to", required=True, metavar="FORMAT[,FORMAT]", help="formats, see below")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for all formats")
    drive = parser.add_argument_group("what is exported")
    drive.add_argument(
        "--sequence",
        type=sequences,
        default=(0,),
        metavar="N",
        help="sequences of a data set: 3, a list 0,3,5, a range 0-9, or all (default: 0)",
    )
    drive.add_argument("--start", type=int, default=0, metavar="N", help="first frame of each (default: 0)")
    drive.add_argument("--frames", type=positive, metavar="N", help="how many of each (default: all from there on)")
    labels = parser.add_argument_group("how")
    labels.add_argument(
        "--sensors",
        default=DEFAULT_RIG,
        metavar="RIG",
        help=f"a YAML file, or one of {', '.join(rig_names())} (default: {DEFAULT_RIG})",
    )
    labels.add_argument(
        "--resample",
        choices=["nearest"],
        help="take cells over into the grid that a format is published with (default: keep the drive's grid)",
    )
    labels.add_argument("--seed", type=int, default=0, metavar="S", help="of what sensors measure (default: 0)")
    labels.add_argument("--keep", type=Path, metavar="DIR", help="keep whole drives here, to go on from when stopped")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """List, read, label, write, report."""
    console = Console(markup=False)
    plan = ExportPlan(
        tuple(name.strip() for name in args.to.split(",") if name.strip()),
        read_rig(args.sensors),
        args.resample is not None,
        args.seed,
    )
    with terminated_like_interrupted():
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("reading and finding actors", total=None)
            drives = listed_drives(args)
            before = [0, *accumulate(drive.frames for drive in drives)]
            progress.update(task, total=before[-1])

            def tell(number: int, frames: int) -> None:
                title = f"exporting {number + 1} of {len(drives)} drives" if len(drives) > 1 else "exporting"
                progress.update(task, description=title, completed=before[number] + frames)

            report = export_drives(drives, plan, args.out, tell, args.keep)
    if args.keep is not None and report.failure is not None:
        kept = f"{len(report.drives)} of {len(drives)} drives are whole and kept in {args.keep}"
        console.print(f"{kept}; the same command goes on from there", soft_wrap=True)
        raise report.failure
    named = report.drives[0].name if len(drives) == 1 else f"{len(report.drives)} drives"
    console.print(report_table(report, f"{named}, {report.frames} frames, sensors {plan.rig.name}"))
    if len(drives) > 1:
        console.print(drives_table(report))
    console.print(f"{report.points:,} LiDAR points, {report.boxes:,} boxes in {args.out}", soft_wrap=True)
    if report.failure is not None:
        whole, numbers = len(report.drives), range(len(drives)) if args.sequence is None else args.sequence
        numbered = f"with --sequence {sequence_words(numbers[whole:])}"
        left = numbered if len(args.paths) == 1 else f"from {drives[whole].name} on"
        kept = f"{whole} of {len(drives)} drives are whole and kept"
        console.print(f"{kept}; export the others to another --out {left}", soft_wrap=True)
        raise report.failure
    return 0


def listed_drives(args: argparse.Namespace) -> list[ListedDrive]:
    """The drives of each PATH. Data sets call theirs alike: of several PATHs, drives have its folder's name, too."""
    drives = [drive for path in args.paths for drive in list_drives(path, args.sequence, args.start, args.frames)]
    if len(args.paths) == 1:
        return drives
    return [replace(drive, name="_".join(word for word in (drive.data_set, drive.name) if word)) for drive in drives]


def report_table(report: Report, title: str) -> Table:
    """Files, size and seconds of each format, the seconds that labelling took, and all together."""
    table = Table("format", title=title, title_justify="left")
    for head in ("files", "MB", "s"):
        table.add_column(head, justify="right")
    for form in report.formats:
        table.add_row(form.name, f"{form.files:,}", f"{form.size_bytes / 1e6:.1f}", f"{form.seconds:.2f}")
    table.add_section()
    for name, spent in report.seconds.items():
        table.add_row(name, "", "", f"{spent:.2f}")
    table.add_section()
    files = sum(form.files for form in report.formats)
    size_bytes = sum(form.size_bytes for form in report.formats)
    seconds = sum(report.seconds.values()) + sum(form.seconds for form in report.formats)
    table.add_row("in all", f"{files:,}", f"{size_bytes / 1e6:.1f}", f"{seconds:.2f}")
    return table


def drives_table(report: Report) -> Table:
    """Frames, points and boxes of each drive."""
    table = Table("drive")
    for head in ("frames", "LiDAR points", "boxes"):
        table.add_column(head, justify="right")
    for drive in report.drives:
        table.add_row(drive.name, f"{drive.frames:,}", f"{drive.points:,}", f"{drive.boxes:,}")
    table.add_section()
    table.add_row("in all", f"{report.frames:,}", f"{report.points:,}", f"{report.boxes:,}")
    return table
