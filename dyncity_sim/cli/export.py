"""``dyncity export``: labels of a drive in the formats that training code reads."""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from dyncity_sim.cli.numbers import positive
from dyncity_sim.cli.plugins import Subparsers
from dyncity_sim.cli.signals import terminated_like_interrupted
from dyncity_sim.dataset.drives import open_drive
from dyncity_sim.export.run import ExportPlan, Report, export_drive
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
  dyncity export data/town --to occ3d --resample nearest --out out/occ3d   in the grid that Occ3D is published with
  dyncity export data/town --to {",".join(FORMATS)} --sensors kitti --out out/all

PATH is a generated drive, or what dyncity inspect reads. Each format takes a subfolder of DIR, whole or not at all.
{METADATA} (mcap: its metadata; webdataset: dataset.json) says grid, classes, sensors, and where the drive comes from.
Actors are the true ones of a recording, or those found in the cells. docs/groundtruth.md describes the files.
data/town: long drives, from dyncity record --continuous (without it, drives have 40 frames).
"""


def register(subparsers: Subparsers, words: Sequence[str]) -> None:
    """Add the command, whose options are the same whatever ``words``, the command line, says."""
    parser = subparsers.add_parser(
        "export",
        help="export labels of a drive for training code",
        description="Label a drive as sensors would see it, and write the labels in the formats that you name.",
        epilog=EPILOG,
    )
    parser.add_argument("path", type=Path, metavar="PATH", help="folder of the drive")
    parser.add_argument("--to", required=True, metavar="FORMAT[,FORMAT]", help="formats, see below")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for all formats")
    drive = parser.add_argument_group("what is exported")
    drive.add_argument("--sequence", type=int, default=0, metavar="N", help="sequence of a data set (default: 0)")
    drive.add_argument("--start", type=int, default=0, metavar="N", help="first frame (default: 0)")
    drive.add_argument("--frames", type=positive, metavar="N", help="how many (default: all from there on)")
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
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Open, label, write, report."""
    console = Console()
    plan = ExportPlan(
        tuple(name.strip() for name in args.to.split(",") if name.strip()),
        read_rig(args.sensors),
        args.resample is not None,
        args.seed,
    )
    with terminated_like_interrupted():
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("reading the drive", total=None)
            loaded = open_drive(args.path, args.sequence, args.start, args.frames)
            progress.update(task, description="finding actors", total=len(loaded.occupancy))
            tell = partial(progress.update, task, description="exporting")
            report = export_drive(loaded, plan, args.out, lambda done: tell(completed=done))
    console.print(report_table(report, f"{loaded.name}, {len(loaded.occupancy)} frames, sensors {plan.rig.name}"))
    console.print(f"{report.points:,} LiDAR points, {report.boxes:,} boxes in {args.out}", soft_wrap=True)
    return 0


def report_table(report: Report, title: str) -> Table:
    """Files, size and seconds of each format, and the seconds that labelling took."""
    table = Table("format", title=title, title_justify="left")
    for head in ("files", "MB", "s"):
        table.add_column(head, justify="right")
    for form in report.formats:
        table.add_row(form.name, f"{form.files:,}", f"{form.size_bytes / 1e6:.1f}", f"{form.seconds:.2f}")
    table.add_section()
    for name, seconds in report.seconds.items():
        table.add_row(name, "", "", f"{seconds:.2f}")
    return table
