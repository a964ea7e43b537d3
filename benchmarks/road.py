"""How well roads made from drives cover the road that was seen, and how long they take.

Each drive is fused, its OpenDRIVE document is made, and the document is read again and measured
(``dyncity_sim.scene.road.coverage.road_coverage``): columns within 15 m of the ego's path.

  covered   share of the road's columns on a driving lane
  outside   share of the columns on a driving lane that are no road
  path      share of the ego's poses on a driving lane
  both      share of the drives with at least 90 % covered and at most 10 % outside
  branches  roads across, a drive
  ms        of one core, fusing not included

``--generate`` takes the plan of each drive, has the bundled model generate as many chunks as the drive is long, and
measures the road of what was generated.

Run: ``python benchmarks/road.py data/town02 data/grid [--drives 12] [--first 0] [--generate]``
"""

import argparse
import time
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from dyncity_models.backends.load import load
from rich.console import Console
from rich.progress import track
from rich.table import Table

from dyncity_sim.dataset.drive_file import Drive
from dyncity_sim.dataset.store import Recording
from dyncity_sim.domain.conditions import Conditions, EgoPlan, SamplingOptions
from dyncity_sim.domain.grid import FRAMES_PER_CHUNK
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.taxonomy import CARLASC, merged_labels
from dyncity_sim.engine.backend import Backend
from dyncity_sim.scene.road.coverage import road_coverage
from dyncity_sim.scene.road.document import opendrive_document
from dyncity_sim.scene.surfaces.fuse import fuse_static

COVERED, OUTSIDE = 0.9, 0.1


def recorded(drive: Drive, recording: Recording) -> OccupancySequence:
    """The drive as its sensors saw it."""
    labels, counts = drive.arrays()
    return OccupancySequence(
        merged_labels(labels),
        drive.poses_world_from_ego,
        drive.times_us,
        recording.meta.grid,
        CARLASC,
        counts > 0,
    )


@cache
def model() -> Backend:
    return load(None)


def generated(drive: Drive, seed: int) -> OccupancySequence:
    """A drive of the bundled model along the same plan."""
    parts, continuation = [], None
    for start in range(0, len(drive) - FRAMES_PER_CHUNK + 1, FRAMES_PER_CHUNK):
        here = slice(start, start + FRAMES_PER_CHUNK)
        plan = EgoPlan(drive.poses_world_from_ego[here], drive.times_us[here])
        conditions = Conditions(plan, plan.command, continuation)
        chunk = model().generate(conditions, SamplingOptions(seed=seed + start), lambda step: None)
        parts.append(chunk.occupancy)
        continuation = chunk.continuation
    return OccupancySequence(
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.poses_world_from_ego for part in parts]),
        np.concatenate([part.times_us for part in parts]),
        parts[0].grid,
        parts[0].taxonomy,
    )


def measure(occupancy: OccupancySequence) -> tuple[float, float, float, float, float]:
    """Covered, outside, path, branches, milliseconds."""
    static_map = fuse_static(occupancy)
    start = time.process_time()
    document = opendrive_document(static_map, occupancy.poses_world_from_ego)
    spent_ms = (time.process_time() - start) * 1e3
    found = road_coverage(document, static_map, occupancy.poses_world_from_ego)
    root = ElementTree.fromstring(document)
    roads = sum(road.get("junction") == "-1" for road in root.iter("road"))
    driven = sum(1 for junction in root.iter("junction") if len(junction) > 0) + 1
    return found.covered, found.outside, found.path, float(max(roads - driven, 0)), spent_ms


def row(name: str, found: np.ndarray) -> list[str]:
    covered, outside, path, branches, spent_ms = found.T
    both = (covered >= COVERED) & (outside <= OUTSIDE)
    shares = [np.nanmean(covered), np.nanmin(covered), np.nanmean(outside), np.nanmax(outside), path.mean()]
    shares.append(both.mean())
    return [
        name,
        str(len(found)),
        *(f"{100 * share:.1f}" for share in shares),
        f"{branches.mean():.1f}",
        f"{np.median(spent_ms):.0f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", nargs="+", type=Path)
    parser.add_argument("--drives", type=int, default=12, help="of each recording, evenly over it")
    parser.add_argument("--first", type=int, default=0, help="leave out the drives before this one")
    parser.add_argument("--generate", action="store_true", help="measure generated drives instead of recorded ones")
    args = parser.parse_args()
    console = Console(width=130)
    table = Table(title=f"roads of {'generated' if args.generate else 'recorded'} drives, percent")
    headings = ("recording", "drives", "covered", "least", "outside", "most", "path", "both", "branches", "ms")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "recording" else "right")
    for folder in args.recordings:
        recording = Recording.open(folder)
        if not 0 <= args.first < len(recording.drives):
            parser.error(f"--first: {args.first}, where {folder} has {len(recording.drives)} drives")
        numbers = np.unique(np.linspace(args.first, len(recording.drives) - 1, args.drives).round().astype(int))
        found = []
        for number in track(numbers, folder.name, console=Console(stderr=True), transient=True):
            drive = recording.drives[number]
            occupancy = generated(drive, int(number)) if args.generate else recorded(drive, recording)
            found.append(measure(occupancy))
        table.add_row(*row(folder.name, np.array(found)))
    console.print(table)


if __name__ == "__main__":
    main()
