"""Frames per second of recording, by stage, on one core.

Run: ``python benchmarks/record.py [--map generated:grid] [--frames 400]``
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from dyncity_sumo.bodies import boxes_of
from dyncity_sumo.recording import Crew
from dyncity_sumo.rendering import render
from dyncity_sumo.shots import Capture
from dyncity_sumo.town import Town, open_town
from dyncity_sumo.visibility import count_samples, draw_rig
from dyncity_sumo.voxelise import voxelise
from rich.console import Console
from rich.table import Table

from dyncity_sim.dataset.store import Recording, RecordingMeta, RecordingWriter
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.recording import RecordedFrame

BURST = 40


class Clock:
    """Processor time of named stages."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        start = time.process_time()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.process_time() - start


def capture(town: Town, clock: Clock, frames: int, egos: int) -> list[Capture]:
    bursts = Crew(town, egos, np.random.default_rng(0), until_us=10**12).bursts(BURST)
    with clock.time("traffic and egos, unkept bursts included"):
        return [next(bursts) for _ in range(frames // BURST)]


def measure(map_spec: str, frames: int, egos: int, workdir: Path) -> tuple[Clock, Clock]:
    once, clock = Clock(), Clock()
    with open_town(map_spec, 1, workdir, duration_s=1200.0) as town:
        captures = capture(town, clock, frames, egos)
        rendered: list[list[RecordedFrame]] = [render(town.scenery, captures[0], draw_rig(np.random.default_rng(0)))]
        with clock.time("frames in all (voxels, rays, actors)"):
            rendered = [render(town.scenery, one, draw_rig(np.random.default_rng(i))) for i, one in enumerate(captures)]
        shots = [shot for one in captures for shot in one.shots]
        boxes = [boxes_of(shot.actors.near(shot.pose_world_from_ego[:2, 3], 40.0)) for shot in shots]
        with clock.time("  of these: voxels"):
            for shot, its in zip(shots, boxes, strict=True):
                voxelise(town.scenery.columns, its, shot.pose_world_from_ego, CARLASC_GRID)
        rigs = [draw_rig(np.random.default_rng(i)) for i in range(len(captures))]
        with clock.time("  of these: rays"):
            for rig, drive in zip(rigs, rendered, strict=True):
                for frame in drive:
                    count_samples(frame.labels, rig, CARLASC_GRID)
    with clock.time("writing"), RecordingWriter(workdir / "out", meta(map_spec)) as writer:
        for drive in rendered:
            writer.write_drive(drive)
    drives = Recording.open(workdir / "out").drives
    drives[0].arrays(8, 24)
    with once.time("reading 16 frames of another drive"):
        drives[1].arrays(8, 24)
    with once.time("reading 16 frames of the same drive"):
        drives[1].arrays(8, 24)
    return clock, once


def meta(map_spec: str) -> RecordingMeta:
    return RecordingMeta(map_spec, 1, CARLASC_GRID, attribution="", simulator="benchmark")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--map", default="generated:grid")
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--egos", type=int, default=16)
    args = parser.parse_args()
    if args.frames < 2 * BURST:
        parser.error(f"--frames: {args.frames}, where at least {2 * BURST} make two drives")
    with tempfile.TemporaryDirectory() as workdir:
        clock, once = measure(args.map, args.frames, args.egos, Path(workdir))
    frames = args.frames // BURST * BURST
    table = Table(title=f"recording {frames} frames of {args.map}, {args.egos} egos, processor time of one core")
    for column in ("stage", "ms/frame", "frames/s"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    total_s = sum(seconds for stage, seconds in clock.seconds.items() if not stage.startswith(" "))
    for stage, seconds in [*clock.seconds.items(), ("all", total_s)]:
        table.add_row(stage, f"{seconds / frames * 1e3:.2f}", f"{frames / seconds:.0f}")
    for stage, seconds in once.seconds.items():
        table.add_row(stage, f"{seconds * 1e3:.1f} in all", "")
    Console().print(table)


if __name__ == "__main__":
    main()
