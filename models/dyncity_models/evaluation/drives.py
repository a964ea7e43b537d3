"""Drives of 128 frames, each chunk continued from the one before: what is lost on the way."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float64, Int64

from dyncity_models.data.clips import UNOBSERVED
from dyncity_models.drive.road import road_under_path
from dyncity_models.evaluation.intervals import known_mean
from dyncity_sim.domain.agreement import agreement_between_frames, static_agreement
from dyncity_sim.domain.conditions import Conditions, EgoPlan, SamplingOptions
from dyncity_sim.domain.frames import inverse
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.engine.backend import Backend

DRIVE_FRAMES = 128
"""Generated frames of a drive; what was observed before them comes on top."""


@dataclass(frozen=True, eq=False)
class DriveScore:
    """One drive of consecutive chunks; one value a chunk.

    Attributes:
        borders: static agreement across the border before each chunk, the first one with what was
            observed of the recording.
        rigidity: static agreement of first and last frame within each chunk.
        road_under_path: share of path columns that are road.
        cells: generated cells of each class, ``(N, K)``.
        recorded_cells: the same of what was recorded along the way.
    """

    borders: list[float]
    rigidity: list[float]
    road_under_path: list[float]
    cells: Int64[np.ndarray, "N K"]
    recorded_cells: Int64[np.ndarray, "N K"]


def generate_drive(
    backend: Backend, drive: OccupancySequence, seed: int, steps: int | None
) -> tuple[DriveScore, OccupancySequence]:
    """Continue from a recorded chunk in sensor view along the recorded path.

    Args:
        backend: the model.
        drive: the recorded chunk and ``DRIVE_FRAMES`` more.
        seed: the chunks take it and those after it.
        steps: network evaluations per chunk, or None for the model's default.

    Returns:
        (The score, the last chunk.)
    """
    length = backend.info.frames_per_chunk
    recorded = [drive[first : first + length] for first in range(0, DRIVE_FRAMES + 1, length)]
    continuation = backend.encode(recorded[0])
    chunks: list[OccupancySequence] = []
    for number, along in enumerate(recorded[1:], start=1):
        plan = EgoPlan(along.poses_world_from_ego, along.times_us)
        chunk = backend.generate(
            Conditions(plan, plan.command, continuation),
            SamplingOptions(seed=seed + number, steps=steps),
            lambda step: None,
        )
        continuation = chunk.continuation
        chunks.append(chunk.occupancy)
    score = DriveScore(
        [_border(before, after) for before, after in pairwise([recorded[0], *chunks])],
        [agreement_between_frames(chunk, 0, length - 1) for chunk in chunks],
        [road_under_path(chunk) for chunk in chunks],
        _cells(chunks),
        _cells(recorded[1:]),
    )
    return score, chunks[-1]


def drift(drives: Sequence[DriveScore]) -> list[dict[str, float]]:
    """Means over drives, one row for each chunk of them.

    ``class_share_distance`` is the total variation distance between the class shares of occupied cells in these
    generated chunks and those in everything recorded along the drives; ``class_share_distance_recorded`` is that of
    the recorded chunks of the same number: places differ, so it is not zero either.
    """
    everything = sum(drive.recorded_cells.sum(axis=0) for drive in drives)

    def distances(cells: list[Int64[np.ndarray, "N K"]]) -> Float64[np.ndarray, " N"]:
        shares = _shares(np.sum(cells, axis=0))
        return np.abs(shares - _shares(np.asarray(everything))).sum(axis=-1) / 2

    def means(values: list[list[float]]) -> Float64[np.ndarray, " N"]:
        return np.array([known_mean(of_chunk) for of_chunk in zip(*values, strict=True)])

    columns = {
        "chunk": np.arange(1, len(drives[0].borders) + 1),
        "road_under_path": means([d.road_under_path for d in drives]),
        "static_agreement_0_15": means([d.rigidity for d in drives]),
        "border_agreement": means([d.borders for d in drives]),
        "class_share_distance": distances([d.cells for d in drives]),
        "class_share_distance_recorded": distances([d.recorded_cells for d in drives]),
    }
    return [{name: values[row].item() for name, values in columns.items()} for row in range(len(drives[0].borders))]


def _border(before: OccupancySequence, after: OccupancySequence) -> float:
    """Over what was observed before the border; of a generated chunk that is everything."""
    pose = inverse(before.poses_world_from_ego[-1]) @ after.poses_world_from_ego[0]
    observed = None if before.observed is None else before.observed[-1]
    return static_agreement(before.labels[-1], after.labels[0], pose, before.grid, before.taxonomy, first_mask=observed)


def _cells(chunks: Sequence[OccupancySequence]) -> Int64[np.ndarray, "N K"]:
    return np.stack([np.bincount(chunk.labels.ravel(), minlength=len(CARLASC))[:UNOBSERVED] for chunk in chunks])


def _shares(cells: Int64[np.ndarray, "*N K"]) -> Float64[np.ndarray, "*N K1"]:
    """Of each class among occupied cells."""
    occupied = cells[..., 1:]
    return occupied / np.maximum(occupied.sum(axis=-1, keepdims=True), 1)
