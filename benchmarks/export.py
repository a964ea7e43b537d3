"""Seconds for the export of a drive in every format, on two processors.

Run: ``python benchmarks/export.py data/town [--frames 64] [--most-seconds 60]``; fails when it takes longer.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

from rich.console import Console

from dyncity_sim.cli.export import report_table
from dyncity_sim.dataset.drives import open_drive
from dyncity_sim.export.plan import ExportPlan
from dyncity_sim.export.run import export_drive
from dyncity_sim.groundtruth.formats.table import FORMATS
from dyncity_sim.groundtruth.sensors.rig import read_rig

PROCESSORS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--sequence", type=int, default=0)
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--sensors", default="kitti", help="a rig with a camera")
    parser.add_argument("--resample", action="store_true")
    parser.add_argument("--most-seconds", type=float, default=60.0)
    args = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:PROCESSORS])
    plan = ExportPlan(tuple(FORMATS), read_rig(args.sensors), args.resample)
    with tempfile.TemporaryDirectory() as folder:
        start, spent = time.perf_counter(), time.process_time()
        loaded = open_drive(args.path, args.sequence, 0, args.frames)
        report = export_drive(loaded, plan, Path(folder) / "out")
        seconds, spent = time.perf_counter() - start, time.process_time() - spent
    Console(width=110).print(report_table(report, f"{loaded.name}, {args.frames} frames, sensors {plan.rig.name}"))
    print(f"{seconds:.1f} s in all, {spent:.1f} s of processor time; compilation included where it is not cached")
    if seconds > args.most_seconds:
        raise SystemExit(f"more than {args.most_seconds:g} s")


if __name__ == "__main__":
    main()
