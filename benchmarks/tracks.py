"""How well actors are tracked on recorded drives whose actors are known, beside a plain per-frame baseline.

Truth is every actor of a frame. It counts where its centre lies in the grid and it fills as many cells as the tracker
asks of a blob (6 of a vehicle, 2 of a pedestrian). Others, such as a car whose bumper alone reaches into the grid, are
"don't care" as in KITTI: neither missed when they are not found, nor is it wrong to find them. What is found matches
an actor of its class (vehicles with two-wheelers, or pedestrians) when their centres are at most 2 m apart seen from
above (nuScenes). TrackEval computes the measures of CLEAR MOT and identity over all drives together; the errors are
those of matched pairs, yaw with the front, size the largest of the three sides.

The baseline takes each frame's connected footprints as they are, boxes along their principal axes, and the id of the
nearest box of the frame before within 2 m. --observed shows both what simulated LiDARs saw alone, and cells that they
did not see do not count for truth either.

Drives of `dyncity generate` or `dyncity cosim` (a folder of chunks) have no truth; of them only the tracks' own
figures are told: how many, how long, and how many of their steps no vehicle could make."""

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64
from rich.console import Console
from rich.progress import track as progress
from rich.table import Table
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from trackeval.metrics import CLEAR, Identity

from dyncity_sim.dataset.store import Drive, Recording
from dyncity_sim.domain.frames import inverse, planar_from_poses, transform_points, wrap_angle
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.occupancy import OccupancySequence, concatenate
from dyncity_sim.domain.recording import ActorKind, RecordedFrame
from dyncity_sim.domain.taxonomy import CARLASC, merged_labels
from dyncity_sim.scene.actors import find_tracks
from dyncity_sim.scene.instances import MIN_PEDESTRIAN_CELLS, MIN_VEHICLE_CELLS

EXAMPLES = """examples:
  python benchmarks/tracks.py data/town02
  python benchmarks/tracks.py data/town02 --drives 4 --observed
  python benchmarks/tracks.py out/dream out/long    what dyncity generate wrote
"""

MATCH_M = 2.0

MOST_SPEED_MPS = 40.0
MOST_ACCELERATION_MPS2 = 10.0
MOST_YAW_RATE_RADPS = 1.5
MOST_SLIP_MPS = 1.5
"""More than tyres on a dry road give a vehicle in a street: friction of 1, and 86 degrees a second."""

Finder = Callable[[OccupancySequence], list["Sighting"]]


@dataclass(frozen=True)
class Sighting:
    """One actor in one frame: its id, its kind and its box, seen from above, with its height."""

    frame: int
    id: int
    kind: ActorKind
    x_m: float
    y_m: float
    yaw_rad: float
    size_m: tuple[float, float, float]
    confidence: float = 1.0
    counts: bool = True

    @property
    def vehicle(self) -> bool:
        return self.kind is not ActorKind.PEDESTRIAN


@dataclass(frozen=True)
class Figures:
    """Figures of one class, or of all."""

    truth: int
    MOTA: float
    IDF1: float
    id_switches: int
    precision: float
    recall: float
    centre_error_m: float
    centre_error_90th_m: float
    size_error_m: float
    size_error_90th_m: float
    yaw_error_deg: float
    yaw_error_90th_deg: float
    kind_accuracy: float
    kind_confidence: float


def tracked(occupancy: OccupancySequence) -> list[Sighting]:
    """What the project finds."""
    frames = {int(time_us): frame for frame, time_us in enumerate(occupancy.times_us)}
    return [
        Sighting(frames[int(time_us)], track.id, track.kind, *planar, track.size_m, track.kind_confidence)
        for track in find_tracks(occupancy)
        for planar, time_us in zip(
            planar_from_poses(track.poses_world_from_actor).tolist(), track.times_us, strict=True
        )
    ]


def per_frame(occupancy: OccupancySequence) -> list[Sighting]:
    """The baseline: each frame's connected footprints, and the id of the nearest one of the frame before."""
    found: list[Sighting] = []
    before: list[Sighting] = []
    ids = iter(range(1, 1 << 30))
    for frame, labels in enumerate(occupancy.labels):
        pose, boxes = occupancy.poses_world_from_ego[frame], []
        for name, min_cells in (("vehicle", MIN_VEHICLE_CELLS), ("pedestrian", MIN_PEDESTRIAN_CELLS)):
            mask = labels == CARLASC.index(name)
            numbered, count = ndimage.label(mask.any(axis=2))
            blobs = [mask & (numbered == number)[..., None] for number in range(1, count + 1)]
            boxes += [_plain_box(frame, blob, pose, occupancy) for blob in blobs if blob.sum() >= min_cells]
        now = []
        for box in boxes:
            near = [(np.hypot(box.x_m - old.x_m, box.y_m - old.y_m), old.id) for old in before]
            free = [pair for pair in near if pair[0] <= MATCH_M and pair[1] not in {b.id for b in now}]
            now.append(Sighting(**{**asdict(box), "id": min(free)[1] if free else next(ids)}))
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


@dataclass(frozen=True, eq=False)
class Compared:
    """Truth and found of one frame, don't care taken out, with their similarity: 1 in one place, 0.5 at MATCH_M."""

    truth: list[Sighting]
    found: list[Sighting]
    similarity: Float64[np.ndarray, "T F"]

    def pairs(self) -> list[tuple[Sighting, Sighting]]:
        rows, columns = linear_sum_assignment(np.where(self.similarity >= 0.5, self.similarity, 0.0), maximize=True)
        both = zip(rows, columns, strict=True)
        return [(self.truth[r], self.found[c]) for r, c in both if self.similarity[r, c] >= 0.5]


def compare(truth: Sequence[Sighting], found: Sequence[Sighting]) -> Compared:
    """One frame's truth beside what was found; what belongs to an actor that does not count is dropped."""
    everything = Compared(list(truth), list(found), _similarity(truth, found))
    dropped = {id(f) for t, f in everything.pairs() if not t.counts}
    kept_truth = [t for t in truth if t.counts]
    kept_found = [f for f in found if id(f) not in dropped]
    return Compared(kept_truth, kept_found, _similarity(kept_truth, kept_found))


def _similarity(truth: Sequence[Sighting], found: Sequence[Sighting]) -> np.ndarray:
    there, here = (np.array([(s.x_m, s.y_m) for s in sightings]).reshape(-1, 2) for sightings in (truth, found))
    same = np.array([t.vehicle for t in truth])[:, None] == np.array([f.vehicle for f in found])[None, :]
    return np.where(same, np.clip(1 - cdist(there, here) / (2 * MATCH_M), 0, 1), 0.0)


def figures(drives: Sequence[Sequence[Compared]]) -> Figures:
    """Figures over all drives."""
    clear, identity = CLEAR({"PRINT_CONFIG": False}), Identity({"PRINT_CONFIG": False})
    data = {str(number): _trackeval_data(frames) for number, frames in enumerate(drives)}
    mot = clear.combine_sequences({name: clear.eval_sequence(one) for name, one in data.items()})
    ids = identity.combine_sequences({name: identity.eval_sequence(one) for name, one in data.items()})
    pairs = [pair for frames in drives for frame in frames for pair in frame.pairs()]
    centre_m = [np.hypot(t.x_m - f.x_m, t.y_m - f.y_m) for t, f in pairs]
    size_m = [np.abs(np.subtract(t.size_m, f.size_m)).max() for t, f in pairs]
    yaw_deg = [np.rad2deg(np.abs(wrap_angle(np.array(t.yaw_rad - f.yaw_rad)))) for t, f in pairs]
    return Figures(
        truth=sum(one["num_gt_dets"] for one in data.values()),
        MOTA=float(mot["MOTA"]),
        IDF1=float(ids["IDF1"]),
        id_switches=int(mot["IDSW"]),
        precision=float(mot["CLR_Pr"]),
        recall=float(mot["CLR_Re"]),
        centre_error_m=_percentile(centre_m, 50),
        centre_error_90th_m=_percentile(centre_m, 90),
        size_error_m=_percentile(size_m, 50),
        size_error_90th_m=_percentile(size_m, 90),
        yaw_error_deg=_percentile(yaw_deg, 50),
        yaw_error_90th_deg=_percentile(yaw_deg, 90),
        kind_accuracy=float(np.mean([t.kind is f.kind for t, f in pairs])) if pairs else float("nan"),
        kind_confidence=float(np.mean([f.confidence for _, f in pairs])) if pairs else float("nan"),
    )


def _percentile(values: Sequence[float], share: float) -> float:
    return float(np.percentile(values, share)) if len(values) else float("nan")


def _trackeval_data(frames: Sequence[Compared]) -> dict[str, Any]:
    """One drive as TrackEval takes it; ids are numbered from 0."""
    truth_ids = {number: row for row, number in enumerate(sorted({t.id for f in frames for t in f.truth}))}
    found_ids = {number: row for row, number in enumerate(sorted({s.id for f in frames for s in f.found}))}
    return {
        "num_timesteps": len(frames),
        "gt_ids": [np.array([truth_ids[t.id] for t in f.truth], dtype=np.int64) for f in frames],
        "tracker_ids": [np.array([found_ids[s.id] for s in f.found], dtype=np.int64) for f in frames],
        "similarity_scores": [f.similarity for f in frames],
        "num_gt_dets": sum(len(f.truth) for f in frames),
        "num_tracker_dets": sum(len(f.found) for f in frames),
        "num_gt_ids": len(truth_ids),
        "num_tracker_ids": len(found_ids),
    }


@dataclass(frozen=True)
class Plausibility:
    """What the tracks of vehicles and pedestrians are like by themselves.

    Attributes:
        tracks: how many.
        median_length_s: from first to last sight.
        steps: of vehicles, from one sighting to the next.
        impossible_share: of them, over MOST_SPEED_MPS, MOST_ACCELERATION_MPS2, or MOST_YAW_RATE_RADPS, or sliding
            sideways by over MOST_SLIP_MPS.
    """

    tracks: int
    median_length_s: float
    steps: int
    impossible_share: float


def plausibility(drives: Sequence[tuple[np.ndarray, Sequence[Sighting]]]) -> Plausibility:
    """Of drives, each the times of its frames in microseconds and what was found."""
    lengths, impossible = [], []
    for times_us, found in drives:
        by_id: dict[int, list[Sighting]] = {}
        for sighting in found:
            by_id.setdefault(sighting.id, []).append(sighting)
        for seen in by_id.values():
            times_s = times_us[[s.frame for s in seen]] * 1e-6
            lengths.append(times_s[-1] - times_s[0])
            if seen[0].vehicle and len(seen) > 1:
                impossible += _impossible(np.array([(s.x_m, s.y_m, s.yaw_rad) for s in seen]), times_s).tolist()
    share = float(np.mean(impossible)) if impossible else float("nan")
    return Plausibility(len(lengths), _percentile(lengths, 50), len(impossible), share)


def _impossible(planar: Float64[np.ndarray, "N 3"], times_s: Float64[np.ndarray, " N"]) -> np.ndarray:
    """Which steps no vehicle could make; acceleration is that from the step before, where there is one."""
    steps_s = np.diff(times_s)
    velocity = np.diff(planar[:, :2], axis=0) / steps_s[:, None]
    middle_s = (steps_s[1:] + steps_s[:-1]) / 2
    acceleration = np.zeros(len(steps_s))
    acceleration[1:] = np.linalg.norm(np.diff(velocity, axis=0), axis=1) / middle_s
    turned_rad = np.abs(wrap_angle(np.diff(planar[:, 2])))
    yaw_rad = planar[:-1, 2] + wrap_angle(np.diff(planar[:, 2])) / 2
    sideways = np.abs(velocity[:, 1] * np.cos(yaw_rad) - velocity[:, 0] * np.sin(yaw_rad))
    return (
        (np.linalg.norm(velocity, axis=1) > MOST_SPEED_MPS)
        | (acceleration > MOST_ACCELERATION_MPS2)
        | (turned_rad / steps_s > MOST_YAW_RATE_RADPS)
        | (sideways > MOST_SLIP_MPS)
    )


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


def of_class(frames: Sequence[Compared], vehicle: bool) -> list[Compared]:
    """The same, of one class alone."""
    kept = []
    for frame in frames:
        rows = [n for n, s in enumerate(frame.truth) if s.vehicle == vehicle]
        columns = [n for n, s in enumerate(frame.found) if s.vehicle == vehicle]
        similarity = frame.similarity[np.ix_(rows, columns)]
        kept.append(Compared([frame.truth[n] for n in rows], [frame.found[n] for n in columns], similarity))
    return kept


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
