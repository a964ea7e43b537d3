"""How well actors are tracked on recorded drives whose actors are known, beside a plain per-frame baseline.

Truth is every actor of a frame. It counts where its centre lies in the grid and it fills as many cells as the tracker
asks of a blob (6 of a vehicle, 2 of a pedestrian). Others, such as a car whose bumper alone reaches into the grid, are
"don't care" as in KITTI: neither missed when they are not found, nor is it wrong to find them. What is found matches
an actor of its class (vehicles with two-wheelers, or pedestrians) when their centres are at most 2 m apart seen from
above (nuScenes). TrackEval computes the CLEAR and identity measures over all drives together; the errors are
those of matched pairs, yaw with the front, size the largest of the three sides.

The baseline takes each frame's connected footprints as they are, boxes along their principal axes, and the id of the
nearest box of the frame before within 2 m. --observed shows both what simulated LiDARs saw alone, and cells that they
did not see do not count for truth either.

Drives of `dyncity generate` or `dyncity cosim` (a folder of chunks) have no truth; of them only the tracks' own
figures are told: how many, how long, and how many of their steps no vehicle could make."""

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track as progress
from rich.table import Table
from scipy import ndimage
from track_measures import MATCH_M, Compared, Sighting, compare, figures, of_class, plausibility

from dyncity_sim.dataset.drive_file import Drive
from dyncity_sim.dataset.store import Recording
from dyncity_sim.domain.frames import inverse, planar_from_poses, transform_points
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.occupancy import OccupancySequence, concatenate
from dyncity_sim.domain.recording import ActorKind, RecordedFrame
from dyncity_sim.domain.taxonomy import CARLASC, merged_labels
from dyncity_sim.scene.actors.find import find_tracks
from dyncity_sim.scene.actors.instances import MIN_PEDESTRIAN_CELLS, MIN_VEHICLE_CELLS

EXAMPLES = """examples:
  python benchmarks/tracks.py data/town02
  python benchmarks/tracks.py data/town02 --drives 4 --observed
  python benchmarks/tracks.py out/dream out/long    what dyncity generate wrote
"""

Finder = Callable[[OccupancySequence], list[Sighting]]


def tracked(occupancy: OccupancySequence) -> list[Sighting]:
    """What the project finds."""
    frames = {int(time_us): frame for frame, time_us in enumerate(occupancy.times_us)}
    return [
        Sighting(frames[int(time_us)], track.id, track.kind, x_m, y_m, yaw_rad, track.size_m, track.kind_confidence)
        for track in find_tracks(occupancy)
        for (x_m, y_m, yaw_rad), time_us in zip(
            planar_from_poses(track.poses_world_from_actor).tolist(), track.times_us, strict=True
        )
    ]


def per_frame(occupancy: OccupancySequence) -> list[Sighting]:
    """The baseline: each frame's connected footprints, and the id of the nearest one of the frame before."""
    found: list[Sighting] = []
    before: list[Sighting] = []
    ids = count(1)
    for frame, labels in enumerate(occupancy.labels):
        pose, boxes = occupancy.poses_world_from_ego[frame], []
        for name, min_cells in (("vehicle", MIN_VEHICLE_CELLS), ("pedestrian", MIN_PEDESTRIAN_CELLS)):
            mask = labels == CARLASC.index(name)
            numbered, blobs_seen = ndimage.label(mask.any(axis=2))
            blobs = [mask & (numbered == number)[..., None] for number in range(1, blobs_seen + 1)]
            boxes += [_plain_box(frame, blob, pose, occupancy) for blob in blobs if blob.sum() >= min_cells]
        now: list[Sighting] = []
        for box in boxes:
            near = [(np.hypot(box.x_m - old.x_m, box.y_m - old.y_m), old.id) for old in before]
            free = [pair for pair in near if pair[0] <= MATCH_M and pair[1] not in {b.id for b in now}]
            now.append(replace(box, id=min(free)[1] if free else next(ids)))
        found, before = found + now, now
    return found


def _plain_box(frame: int, blob: np.ndarray, pose: np.ndarray, occupancy: OccupancySequence) -> Sighting:
    grid = occupancy.grid
    cells = np.argwhere(blob)
    columns = np.unique(cells[:, :2], axis=0)
    points = np.column_stack([grid.centres(0)[columns[:, 0]], grid.centres(1)[columns[:, 1]], np.zeros(len(columns))])
    world = transform_points(pose, points)[:, :2]
    centre = world.mean(axis=0)
    axes = np.linalg.svd(world - centre, full_matrices=False)[2] if len(world) > 1 else np.eye(2)
    extents = np.ptp(world @ axes.T, axis=0) + grid.voxel_size_m[0]
    axis = axes[0]
    forward = axis if axis @ pose[:2, 0] >= 0 else -axis
    height_m = float((np.ptp(cells[:, 2]) + 1) * grid.voxel_size_m[2])
    length_m, width_m = float(extents[0]), float(extents[-1])
    vehicle = occupancy.labels[frame][tuple(cells[0])] == CARLASC.index("vehicle")
    kind = _plain_kind(length_m, height_m) if vehicle else ActorKind.PEDESTRIAN
    yaw_rad = float(np.arctan2(forward[1], forward[0]))
    return Sighting(frame, 0, kind, float(centre[0]), float(centre[1]), yaw_rad, (length_m, width_m, height_m))


def _plain_kind(length_m: float, height_m: float) -> ActorKind:
    if length_m < 2.6:
        return ActorKind.BICYCLE
    if length_m < 5.5:
        return ActorKind.CAR if height_m < 1.9 else ActorKind.VAN
    return ActorKind.TRUCK if length_m < 9.5 else ActorKind.BUS


def truth_of(frames: Sequence[RecordedFrame], shown: np.ndarray) -> list[Sighting]:
    """Every actor of every frame; ``shown`` are the labels that trackers were given."""
    truth = []
    for number, (frame, labels) in enumerate(zip(frames, shown, strict=True)):
        cells = np.bincount(frame.instances[labels > 0], minlength=1 << 16)
        for actor in frame.actors:
            x_m, y_m, yaw_rad = planar_from_poses(actor.pose_world_from_actor).tolist()
            local = transform_points(inverse(frame.pose_world_from_ego), np.array([[x_m, y_m, 0.0]]))[0, :2]
            inside = ((local > frame.grid.lower_m[:2]) & (local < frame.grid.upper_m[:2])).all()
            least = MIN_PEDESTRIAN_CELLS if actor.kind is ActorKind.PEDESTRIAN else MIN_VEHICLE_CELLS
            counts = bool(inside and cells[actor.id] >= least)
            truth.append(Sighting(number, actor.id, actor.kind, x_m, y_m, yaw_rad, actor.size_m, 1.0, counts))
    return truth


FINDERS: dict[str, Finder] = {"tracks": tracked, "per frame": per_frame}


def recorded(drive: Drive, frames: int | None, observed: bool) -> tuple[OccupancySequence, list[Sighting]]:
    """What trackers are shown of a drive, and the truth."""
    read = drive.frames(0, min(frames or len(drive), len(drive)))
    labels = np.stack([merged_labels(f.labels) for f in read])
    if observed:
        labels[np.stack([f.counts for f in read]) == 0] = 0
    poses, times_us = np.stack([f.pose_world_from_ego for f in read]), np.array([f.time_us for f in read])
    return OccupancySequence(labels, poses, times_us, drive.grid, CARLASC), truth_of(read, labels)


def by_frame(sightings: Iterable[Sighting], frames: int) -> list[list[Sighting]]:
    lists: list[list[Sighting]] = [[] for _ in range(frames)]
    for sighting in sightings:
        lists[sighting.frame].append(sighting)
    return lists


def score(drives: Iterable[Drive], frames: int | None, observed: bool) -> dict[str, dict[str, Any]]:
    """Figures of each finder over the drives."""
    compared: dict[str, list[list[Compared]]] = {name: [] for name in FINDERS}
    found: dict[str, list[tuple[np.ndarray, list[Sighting]]]] = {name: [] for name in FINDERS}
    for drive in drives:
        occupancy, truth = recorded(drive, frames, observed)
        truths = by_frame(truth, len(occupancy))
        for name, find in FINDERS.items():
            sightings = find(occupancy)
            pairs = zip(truths, by_frame(sightings, len(occupancy)), strict=True)
            compared[name].append([compare(there, here) for there, here in pairs])
            found[name].append((occupancy.times_us, sightings))
    return {
        name: {
            "all": asdict(figures(compared[name])),
            "vehicles": asdict(figures([of_class(frames, True) for frames in compared[name]])),
            "pedestrians": asdict(figures([of_class(frames, False) for frames in compared[name]])),
            "motion": asdict(plausibility(found[name])),
        }
        for name in FINDERS
    }


def generated(folder: Path) -> OccupancySequence:
    """The drive whose chunks lie in a folder."""
    chunks = []
    for file in sorted(folder.glob("chunk_*.npz")):
        with np.load(file) as arrays:
            poses, times_us = arrays["poses_world_from_ego"], arrays["times_us"]
            chunks.append(OccupancySequence(arrays["labels"], poses, times_us, CARLASC_GRID, CARLASC))
    return concatenate(chunks)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "paths", type=Path, nargs="+", metavar="RECORDING", help="recordings, or else folders of generated chunks"
    )
    parser.add_argument("--drives", type=int, metavar="N", help="the first N drives of each (default: all)")
    parser.add_argument("--frames", type=int, metavar="N", help="the first N frames of each drive (default: all)")
    parser.add_argument("--observed", action="store_true", help="show only what the simulated LiDARs saw")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    arguments = parser.parse_args()

    console = Console(stderr=True)
    if all((path / "recording.json").is_file() for path in arguments.paths):
        drives = [drive for path in arguments.paths for drive in Recording.open(path).drives[: arguments.drives]]
        steps = progress(drives, "drives", console=console, transient=True)
        result = score(steps, arguments.frames, arguments.observed)
    else:
        found: dict[str, list[tuple[np.ndarray, list[Sighting]]]] = {name: [] for name in FINDERS}
        for path in progress(arguments.paths, "drives", console=console, transient=True):
            drive = generated(path)[: arguments.frames]
            for name, find in FINDERS.items():
                found[name].append((drive.times_us, find(drive)))
        result = {name: {"motion": asdict(plausibility(drives))} for name, drives in found.items()}
    if arguments.json:
        print(json.dumps(result, indent=1))
    else:
        show(result)


def show(result: dict[str, dict[str, Any]]) -> None:
    parts = next(iter(result.values()))
    for part, names in parts.items():
        table = Table("", *result, title=part)
        for name in names:
            table.add_row(name, *(_text(of[part][name]) for of in result.values()))
        Console().print(table)


def _text(value: float) -> str:
    return f"{value}" if isinstance(value, int) else f"{value:.3f}"


if __name__ == "__main__":
    main()
