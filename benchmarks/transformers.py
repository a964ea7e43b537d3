"""Transformers that were trained at small, equal budgets on the same latents, side by side.

Run: ``python benchmarks/transformers.py RUNS/transformers [--json figures.json]``
with what ``configs/ablation.sh`` makes.

  samples      chunks that the run learnt from
  xy, tx       error of the velocity in validation, of the plane xy and of tx, at the end, where nothing is known but
               the plan; a velocity of zero has 2
  xy at 1,600  the same of xy after 1,600 chunks, the first validation: what a run that was held up can be judged by
  road         share of the columns under the planned path that are road, of chunks from the plan alone
  FID          of frames of those chunks in the features 'voxels', against what was recorded along the plans
"""

import argparse
import csv
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

EARLY_SAMPLES = 1600


@dataclass(frozen=True)
class Row:
    """One run of the table."""

    name: str
    samples: int
    xy: float
    tx: float
    xy_early: float
    road: float
    fid: float


def row_of(run: Path) -> Row:
    """What a run's log and its evaluation say."""
    log = run / "log" / "metrics.csv"
    batch = int(yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["optimiser"]["batch"])
    with log.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["val_xy_start"]]
    samples = [batch * (int(row["step"]) + 1) for row in rows]
    xy, tx = ([float(row[f"val_{plane}_start"]) for row in rows] for plane in ("xy", "tx"))
    figures = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
    fid = figures["sets"]["voxels"]["generated_recorded"]["fid"]
    early = float(np.interp(EARLY_SAMPLES, samples, xy))
    return Row(run.name, samples[-1], xy[-1], tx[-1], early, figures["road_under_path"], fid)


def table_of(rows: list[Row]) -> Table:
    """All runs."""
    table = Table(title="transformers of 'anchored'")
    table.add_column("run", no_wrap=True)
    for name in ("samples", "xy", "tx", f"xy at {EARLY_SAMPLES:,}", "road", "FID"):
        table.add_column(name, justify="right")
    for row in rows:
        errors = (f"{value:.3f}" for value in (row.xy, row.tx, row.xy_early, row.road))
        table.add_row(row.name, f"{row.samples:,}", *errors, f"{row.fid:.1f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="folder of runs")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = [row_of(export.parent) for export in sorted(args.runs.glob("*/export"))]
    if not rows:
        parser.error(f"no run with weights (*/export) in {args.runs}")
    Console().print(table_of(rows))
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
