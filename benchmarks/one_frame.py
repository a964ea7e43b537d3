"""Whether vehicles of one known frame drive on: one frame to 4D, beside what was recorded.

Chunks of recordings in which some vehicle moves are generated from their first frame and their plan alone. A vehicle of
that frame counts when it is seen in the whole of the first half of the chunk, fills as many cells as trackers ask, and
moves more than 2 m or less than 0.4 m. It is followed when a track begins within 2 m of it and lasts into the
second half; a track that is faster than 0.67 m/s (1 m in 1.5 s) moves.

  static, vehicles   IoU of the decoded first frame with the known one, before known cells are put in: mean over
                     static classes, and vehicles
  agreement          static agreement of the first and the last frame
  moving: move, stand, lost   of the vehicles that moved in truth
  standing: stand, lost       of those that stood
  speed, true speed  medians of the vehicles that moved in truth and move, m/s
  volume             vehicle cells of frames 5, 10 and 15 over recorded ones
  impossible         share of steps that no vehicle could make (``tracks.py``)

What is recorded is measured in the same way. Seconds are of a chunk, tracking not included."""

import argparse
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dyncity_models.anchored.checkpoint import BUNDLED, load_model
from dyncity_models.backends.anchored.backend import AnchoredBackend
from dyncity_models.backends.anchored.pipeline import AnchoredPipeline
from jaxtyping import UInt8
from rich.console import Console
from rich.progress import track as progress
from rich.table import Table
from track_measures import MATCH_M, Sighting, plausibility
from tracks import recorded as recorded_drive
from tracks import tracked

from dyncity_sim.dataset.store import Recording
from dyncity_sim.domain.agreement import agreement_between_frames
from dyncity_sim.domain.conditions import Conditions, EgoPlan, SamplingOptions
from dyncity_sim.domain.grid import FRAME_RATE_HZ, FRAMES_PER_CHUNK
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.taxonomy import CARLASC

MOVED_M, STOOD_M = 2.0, 0.4
MOVING_MPS = 0.67
VEHICLE = CARLASC.index("vehicle")


@dataclass(frozen=True, eq=False)
class Case:
    """A recorded chunk, and its vehicles that move and that stand, each with its sightings."""

    recorded: OccupancySequence
    moving: list[list[Sighting]]
    standing: list[list[Sighting]]


@dataclass(frozen=True, eq=False)
class Result:
    """A generated chunk and its first frame as it was decoded."""

    occupancy: OccupancySequence
    decoded: UInt8[np.ndarray, "X Y Z"]
    seconds: float


class SeenPipeline(AnchoredPipeline):
    """A pipeline that keeps what it last decoded."""

    labels: torch.Tensor

    def decode(self, *arguments: Any) -> torch.Tensor:
        self.labels = super().decode(*arguments)
        return self.labels


def cases_of(recordings: Iterable[Recording], chunks: int) -> list[Case]:
    """Chunks with vehicles that move, evenly spread over those that there are."""
    found = []
    for recording in recordings:
        for drive in recording.drives:
            occupancy, truth = recorded_drive(drive, None, observed=False)
            for start in range(0, len(occupancy) - FRAMES_PER_CHUNK + 1, FRAMES_PER_CHUNK):
                found += _case(occupancy, truth, start)
    return [found[n] for n in np.linspace(0, len(found) - 1, min(chunks, len(found))).astype(int)]


def _case(occupancy: OccupancySequence, truth: list[Sighting], start: int) -> list[Case]:
    vehicles: dict[int, list[Sighting]] = {}
    for sighting in truth:
        frame = sighting.frame - start
        # Only the sightings without a gap since the first frame.
        if sighting.vehicle and sighting.counts and len(vehicles.get(sighting.id, [])) == frame < FRAMES_PER_CHUNK:
            vehicles.setdefault(sighting.id, []).append(replace(sighting, frame=frame))
    seen = [one for one in vehicles.values() if len(one) > FRAMES_PER_CHUNK // 2]
    moving = [one for one in seen if _way_m(one) > MOVED_M]
    standing = [one for one in seen if _way_m(one) < STOOD_M]
    return [Case(occupancy[start : start + FRAMES_PER_CHUNK], moving, standing)] if moving else []


def _way_m(seen: list[Sighting]) -> float:
    return float(np.hypot(seen[-1].x_m - seen[0].x_m, seen[-1].y_m - seen[0].y_m))


def _speed_mps(seen: list[Sighting]) -> float:
    return _way_m(seen) / (seen[-1].frame - seen[0].frame) * FRAME_RATE_HZ


def generated(backend: AnchoredBackend, case: Case, seed: int) -> Result:
    """The chunk from the case's first frame."""
    observed = np.zeros(case.recorded.labels.shape, dtype=np.bool_)
    observed[0] = True
    plan = EgoPlan(case.recorded.poses_world_from_ego, case.recorded.times_us)
    conditions = Conditions(plan, plan.command, known_region=replace(case.recorded, observed=observed))
    started = time.perf_counter()
    chunk = backend.generate(conditions, SamplingOptions(seed=seed), lambda done: None)
    pipeline = backend.pipeline
    assert isinstance(pipeline, SeenPipeline)
    return Result(chunk.occupancy, pipeline.labels[0, 0].cpu().numpy(), time.perf_counter() - started)


def followed(actor: list[Sighting], found: list[Sighting]) -> float | None:
    """Speed of the track that begins at an actor, until the actor is last seen; None where none does or it is lost."""
    there = actor[0]
    near = [(np.hypot(s.x_m - there.x_m, s.y_m - there.y_m), s.id) for s in found if s.frame <= 1 and s.vehicle]
    if not near or min(near)[0] > MATCH_M:
        return None
    track = [s for s in found if s.id == min(near)[1] and s.frame <= actor[-1].frame]
    return _speed_mps(track) if track[-1].frame >= FRAMES_PER_CHUNK // 2 else None


def figures(cases: list[Case], results: list[Result]) -> dict[str, float]:
    """The figures of the module's docstring."""
    tracks = [tracked(result.occupancy) for result in results]
    pairs = list(zip(cases, results, strict=True))
    moving = [(followed(one, f), _speed_mps(one)) for c, f in zip(cases, tracks, strict=True) for one in c.moving]
    standing = [followed(one, f) for c, f in zip(cases, tracks, strict=True) for one in c.standing]
    moved = [(speed, true) for speed, true in moving if speed is not None and speed > MOVING_MPS]
    volumes = [
        [np.count_nonzero(labels[5::5] == VEHICLE) for labels in (r.occupancy.labels, c.recorded.labels)]
        for c, r in pairs
    ]
    generated_cells, recorded_cells = np.sum(volumes, axis=0)
    plausible = plausibility([(r.occupancy.times_us, f) for r, f in zip(results, tracks, strict=True)])
    vehicle_ious = [_iou(r.decoded, c.recorded.labels[0], VEHICLE) for c, r in pairs]
    return {
        "static": float(np.mean([_static_iou(r.decoded, c.recorded.labels[0]) for c, r in pairs])),
        "vehicles": float(np.nanmean(vehicle_ious)),
        "agreement": float(np.mean([agreement_between_frames(r.occupancy, 0, -1 + FRAMES_PER_CHUNK) for r in results])),
        "moving": len(moving),
        "moving: move": len(moved) / len(moving),
        "moving: stand": _share([s is not None and s <= MOVING_MPS for s, _ in moving]),
        "moving: lost": _share([s is None for s, _ in moving]),
        "standing": len(standing),
        "standing: stand": _share([s is not None and s <= MOVING_MPS for s in standing]),
        "standing: lost": _share([s is None for s in standing]),
        "speed": float(np.median([speed for speed, _ in moved])) if moved else float("nan"),
        "true speed": float(np.median([true for _, true in moved])) if moved else float("nan"),
        "volume": float(generated_cells / recorded_cells),
        "impossible": plausible.impossible_share,
        "seconds": float(np.median([result.seconds for result in results])),
    }


def _share(those: list[bool]) -> float:
    """Of them that are so; NaN of none."""
    return sum(those) / len(those) if those else float("nan")


def _iou(first: np.ndarray, second: np.ndarray, label: int) -> float:
    union = np.count_nonzero((first == label) | (second == label))
    return np.count_nonzero((first == label) & (second == label)) / union if union else float("nan")


def _static_iou(decoded: np.ndarray, known: np.ndarray) -> float:
    static = [n for n in np.unique(known) if n and n not in CARLASC.moving_labels]
    return float(np.mean([_iou(decoded, known, int(label)) for label in static]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", nargs="+", type=Path)
    parser.add_argument("--chunks", type=int, default=20)
    parser.add_argument("--weights", type=Path, default=BUNDLED)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    cases = cases_of([Recording.open(folder) for folder in arguments.recordings], arguments.chunks)
    if not cases:
        parser.error(f"no chunk of these recordings has a vehicle that moves more than {MOVED_M:g} m")

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    backend = AnchoredBackend(SeenPipeline(load_model(arguments.weights), device))
    steps = progress(cases, "chunks", console=Console(stderr=True), transient=True)
    results = [generated(backend, case, seed) for seed, case in enumerate(steps)]
    recorded = [Result(case.recorded, case.recorded.labels[0], 0.0) for case in cases]
    columns = {"generated": figures(cases, results), "recorded": figures(cases, recorded)}
    if arguments.json:
        print(json.dumps(columns, indent=1))
        return
    table = Table("", *columns, title=f"{len(cases)} chunks from their first frame")
    for name in columns["generated"]:
        table.add_row(name, *(f"{column[name]:.3f}".removesuffix(".000") for column in columns.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
