"""Measures of tracks beside the truth, and of tracks by themselves."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from trackeval.metrics import CLEAR, Identity

from dyncity_sim.domain.frames import wrap_angle
from dyncity_sim.domain.recording import ActorKind

MATCH_M = 2.0

MOST_SPEED_MPS = 40.0
MOST_ACCELERATION_MPS2 = 10.0
MOST_YAW_RATE_RADPS = 1.5
MOST_SLIP_MPS = 1.5
"""More than tyres on a dry road give a vehicle in a street: friction of 1, and 86 degrees a second."""


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
    clear_sums = clear.combine_sequences({name: clear.eval_sequence(one) for name, one in data.items()})
    ids = identity.combine_sequences({name: identity.eval_sequence(one) for name, one in data.items()})
    pairs = [pair for frames in drives for frame in frames for pair in frame.pairs()]
    centre_m = [np.hypot(t.x_m - f.x_m, t.y_m - f.y_m) for t, f in pairs]
    size_m = [np.abs(np.subtract(t.size_m, f.size_m)).max() for t, f in pairs]
    yaw_deg = [np.rad2deg(np.abs(wrap_angle(np.array(t.yaw_rad - f.yaw_rad)))) for t, f in pairs]
    return Figures(
        truth=sum(one["num_gt_dets"] for one in data.values()),
        MOTA=float(clear_sums["MOTA"]),
        IDF1=float(ids["IDF1"]),
        id_switches=int(clear_sums["IDSW"]),
        precision=float(clear_sums["CLR_Pr"]),
        recall=float(clear_sums["CLR_Re"]),
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


def of_class(frames: Sequence[Compared], vehicle: bool) -> list[Compared]:
    """The same, of one class alone."""
    kept = []
    for frame in frames:
        rows = [n for n, s in enumerate(frame.truth) if s.vehicle == vehicle]
        columns = [n for n, s in enumerate(frame.found) if s.vehicle == vehicle]
        similarity = frame.similarity[np.ix_(rows, columns)]
        kept.append(Compared([frame.truth[n] for n in rows], [frame.found[n] for n in columns], similarity))
    return kept
