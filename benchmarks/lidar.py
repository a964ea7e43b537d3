"""Rays per second through a frame of a drive, and seconds per labelled frame of a rig.

Run: ``python benchmarks/lidar.py DRIVE [--rig nuscenes] [--threads 1 2]`` with a folder that ``dyncity export`` takes.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from dyncity_sim.dataset.drives import LoadedDrive, open_drive
from dyncity_sim.domain.ground_truth import LabelledDrive
from dyncity_sim.domain.scene import Track
from dyncity_sim.domain.sensors import LidarSensor
from dyncity_sim.groundtruth.boxes import boxes_in_frame, instance_cells
from dyncity_sim.groundtruth.build import labelled_drive, labelled_frames
from dyncity_sim.groundtruth.sensors.camera import camera_rays
from dyncity_sim.groundtruth.sensors.lidar import ray_directions
from dyncity_sim.groundtruth.sensors.rays import Rays
from dyncity_sim.groundtruth.sensors.rig import read_rig
from dyncity_sim.groundtruth.sensors.traversal import trace
from dyncity_sim.scene.actors.find import find_tracks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("drive", type=Path)
    parser.add_argument("--rig", default="nuscenes")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    drive = open_drive(args.drive, frames=args.frames)
    tracks = find_tracks(drive.occupancy) if drive.tracks is None else drive.tracks
    console = Console(width=110)
    console.print(rays_table(drive, tracks, args))
    console.print(frames_table(drive, tracks, args))


def rays_table(drive: LoadedDrive, tracks: tuple[Track, ...], args: argparse.Namespace) -> Table:
    occupancy, middle = drive.occupancy, len(drive.occupancy) // 2
    pose, time_us = occupancy.poses_world_from_ego[middle], int(occupancy.times_us[middle])
    labels = occupancy.labels[middle]
    instances = instance_cells(
        labels, boxes_in_frame(tracks, pose, time_us, occupancy.grid), occupancy.grid, occupancy.taxonomy
    )
    rig, lidar = read_rig(args.rig), read_rig("hdl64").lidars[0]
    sets = {"HDL-64E": lidar_rays(lidar)}
    if rig.cameras:
        sets[f"{rig.name}, cameras"] = joined([camera_rays(camera) for camera in rig.cameras])
    size = np.asarray(occupancy.grid.voxel_size_m)
    title = f"Million rays per second of one core's time, {args.drive.name}"
    table = Table("rays", "first hit", "with masks", "and visibility", "NumPy", title=title)
    for name, rays in sets.items():
        cells = (rays.origins_m - np.asarray(occupancy.grid.lower_m)) / size, rays.directions / size, rays.reach
        seen, crossed = np.zeros(labels.shape, dtype=np.bool_), np.zeros(int(instances.max()) + 1, dtype=np.int64)
        assert np.array_equal(trace(labels, *cells)[0], stepped(labels, *cells[:2]))
        works = {
            "hit": partial(trace, labels, *cells),
            "masks": partial(trace, labels, *cells, seen),
            "visibility": partial(trace, labels, *cells, seen, instances, crossed),
        }
        rates = [len(rays) / least(work, args.repeats, time.process_time) / 1e6 for work in works.values()]
        plain = len(rays) / least(partial(stepped, labels, *cells[:2]), 1, time.process_time) / 1e6
        row = [f"{rate:.1f}" for rate in rates]
        table.add_row(f"{name}, {len(rays):,}", *row, f"{plain:.2f} (1/{rates[0] / plain:.0f})")
    return table


def stepped(labels: np.ndarray, origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """The same traversal with NumPy: all rays go one cell on at a time."""
    cell = np.floor(origins).astype(np.int64)
    step = np.where(directions > 0, 1, -1)
    with np.errstate(divide="ignore"):
        slope = 1 / directions
    found = np.full(len(origins), -1, dtype=np.int64)
    on_way = np.arange(len(origins))
    while len(on_way):
        here = cell[on_way]
        inside = ((here >= 0) & (here < labels.shape)).all(axis=1)
        on_way, here = on_way[inside], here[inside]
        hit = labels[tuple(here.T)] > 0
        found[on_way[hit]] = np.ravel_multi_index(tuple(here[hit].T), labels.shape)
        on_way = on_way[~hit]
        border = cell[on_way] + (step[on_way] > 0)
        with np.errstate(invalid="ignore"):
            distance = (border - origins[on_way]) * slope[on_way]
        axis = np.where(np.isfinite(distance), distance, np.inf).argmin(axis=1)
        cell[on_way, axis] += step[on_way, axis]
    return found


def frames_table(drive: LoadedDrive, tracks: tuple[Track, ...], args: argparse.Namespace) -> Table:
    rig = read_rig(args.rig)
    labelled = labelled_drive(drive.occupancy, tracks, drive.provenance, rig, drive.name)
    title = f"All labels of a frame of {args.drive.name}: boxes, sweeps, images, masks, visibility"
    table = Table("rig", "threads", "s of processor time", "s", title=title)
    for threads in args.threads:
        work = partial(exhaust, drive, labelled, threads)
        spent = [least(work, 2, clock) / len(drive.occupancy) for clock in (time.process_time, time.perf_counter)]
        table.add_row(rig.name, str(threads), *(f"{seconds:.2f}" for seconds in spent))
    return table


def exhaust(drive: LoadedDrive, labelled: LabelledDrive, threads: int) -> None:
    for _ in labelled_frames(drive.occupancy, labelled, threads=threads):
        pass


def lidar_rays(lidar: LidarSensor) -> Rays:
    directions = ray_directions(lidar)
    origins = np.tile(lidar.position_ego_m, (len(directions), 1))
    return Rays(origins, directions, np.full(len(directions), lidar.max_range_m))


def joined(parts: list[Rays]) -> Rays:
    return Rays(*(np.concatenate([getattr(p, n) for p in parts]) for n in ("origins_m", "directions", "reach")))


def least(work: Callable[[], object], repeats: int, clock: Callable[[], float]) -> float:
    """Seconds of the fastest of some runs after one to warm up."""
    work()
    spent = []
    for _ in range(repeats):
        start = clock()
        work()
        spent.append(clock() - start)
    return min(spent)


if __name__ == "__main__":
    main()
