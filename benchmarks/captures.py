"""Captures by map: frames captured and rendered per second of processor time, and bytes per frame.

Run: ``python benchmarks/captures.py [--minutes 3] [--towns 2] [--drives 20] generated:grid berlin Town01.xodr``
"""

import argparse
import os
import tempfile
from pathlib import Path

from dyncity_sumo.captures import CapturedTown, Captures
from dyncity_sumo.commands import record
from dyncity_sumo.record_options import RecordOptions
from dyncity_sumo.rendering import render, rig_of
from dyncity_sumo.scenery import Scenery, build_scenery
from rich.console import Console
from rich.table import Table

from dyncity_sim.dataset.drive_file import write_drive_file

BURST = 33


def spent_s() -> float:
    """Processor time of this process and of the tools that it waited for."""
    return sum(os.times()[:4])


def capture(map_spec: str, minutes: float, towns: int, out: Path) -> float:
    """Seconds for the captures of some towns, SUMO's tools and the growing of the towns included."""
    start = spent_s()
    options = RecordOptions(map_spec, towns * minutes, 20, 1, BURST, minutes, out, "store", captures=True)
    record(options, Console(stderr=True, quiet=True))
    return spent_s() - start


def render_drives(town: CapturedTown, scenery: Scenery, drives: int, blind: bool, folder: Path) -> float:
    """Seconds for some drives of a town that has grown, writing included."""
    captures = town.captures()[:drives]
    start = spent_s()
    for number, drive in enumerate(captures):
        frames = render(scenery, drive, rig_of(town.seed, number, blind))
        write_drive_file(frames, folder / f"{number}.npz")
    return spent_s() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("maps", nargs="+")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--towns", type=int, default=2)
    parser.add_argument("--drives", type=int, default=20)
    args = parser.parse_args()
    table = Table(title=f"{args.towns} towns of {args.minutes:g} minutes, 20 egos, drives of {BURST} frames")
    for column in ("map", "captured/s", "bytes/frame", "of which network", "town regrown", "blind/s", "with LiDARs/s"):
        table.add_column(column, justify="left" if column == "map" else "right")
    with tempfile.TemporaryDirectory() as workdir:
        for number, map_spec in enumerate(args.maps):
            table.add_row(*measure(map_spec, args.minutes, args.towns, args.drives, Path(workdir) / str(number)))
    Console(width=110).print(table)


def measure(map_spec: str, minutes: float, towns: int, drives: int, folder: Path) -> list[str]:
    folder.mkdir()
    out = folder / "captures"
    captured_s = capture(map_spec, minutes, towns, out)
    captures = Captures.open(out)
    size = sum(file.stat().st_size for file in out.iterdir())
    town = captures.towns[0]
    start = spent_s()
    scenery = build_scenery(town.streets(), town.seed)
    regrown_s = spent_s() - start
    frames = sum(drive.frames for drive in town.drives[:drives])
    render_drives(town, scenery, 1, False, folder)
    blind_s, seen_s = (render_drives(town, scenery, drives, blind, folder) for blind in (True, False))
    return [
        Path(map_spec).name,
        f"{len(captures) / captured_s:.0f}",
        f"{size / len(captures):.0f}",
        f"{sum(file.stat().st_size for file in out.glob('network_*')) / len(captures):.0f}",
        f"{regrown_s:.1f} s",
        f"{frames / blind_s:.0f}",
        f"{frames / seen_s:.0f}",
    ]


if __name__ == "__main__":
    main()
