"""Generation: class shares, road under the path, rigidity, commands, and drives of many chunks."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from jaxtyping import Float64, Int64

from dyncity_models.backend import TorchBackend
from dyncity_models.data.clips import UNOBSERVED, Clip, ClipSource
from dyncity_sim.domain.agreement import agreement_between_frames, static_agreement
from dyncity_sim.domain.conditions import Command, Conditions, EgoPlan, SamplingOptions
from dyncity_sim.domain.frames import inverse, poses_from_planar
from dyncity_sim.domain.generation import GeneratedChunk
from dyncity_sim.domain.grid import CARLASC_GRID, FRAMES_PER_CHUNK
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.taxonomy import CARLASC

PATH_HALF_WIDTH_M = 0.8
"""Columns this far to either side of the ego path must be road too."""

DRIVE_CHUNKS = 8


@dataclass(eq=False)
class Generation:
    """Figures of chunks generated from plans alone.

    Attributes:
        cells: generated cells of each class, ``(K,)``.
        road_under_path: share of path columns that are road, per chunk.
        rigidity: static agreement of the first and last frame after the plan's warp, per chunk.
        turns: for each turning plan, whether the plan's warp fits better than its mirror image's.
        seconds: wall time per chunk, decoding included.
    """

    cells: Int64[np.ndarray, " K"] = field(default_factory=lambda: np.zeros(UNOBSERVED, dtype=np.int64))
    road_under_path: list[float] = field(default_factory=list)
    rigidity: list[float] = field(default_factory=list)
    turns: list[bool] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class DriveScore:
    """One drive of consecutive chunks.

    Attributes:
        borders: static agreement across each chunk border.
        rigidity: static agreement of first and last frame within each chunk.
        road_under_path: share of path columns that are road, per chunk.
    """

    borders: list[float]
    rigidity: list[float]
    road_under_path: list[float]


def plan_of(planar: Float64[np.ndarray, "T 3"], start_us: int = 0) -> EgoPlan:
    """The plan that follows recorded planar poses at 10 Hz."""
    times_us = start_us + np.arange(len(planar), dtype=np.int64) * 100_000
    return EgoPlan(poses_from_planar(planar), times_us)


def generate_from_plans(
    backend: TorchBackend,
    plans: Iterator[EgoPlan],
    seed: int,
    steps: int | None,
    keep: Callable[[GeneratedChunk], None],
) -> Generation:
    """Generate one chunk per plan, from plan and command alone."""
    scores = Generation()
    for number, plan in enumerate(plans):
        started = time.perf_counter()
        chunk = backend.generate(
            Conditions(plan, plan.command), SamplingOptions(seed=seed + number, steps=steps), lambda step: None
        )
        scores.seconds.append(time.perf_counter() - started)
        occupancy = chunk.occupancy
        scores.cells += np.bincount(occupancy.labels.ravel(), minlength=UNOBSERVED)
        scores.road_under_path.append(road_under_path(occupancy))
        scores.rigidity.append(agreement_between_frames(occupancy, 0, len(occupancy) - 1))
        if plan.command in (Command.LEFT, Command.RIGHT):
            scores.turns.append(turns_as_planned(occupancy))
        keep(chunk)
    return scores


def road_under_path(occupancy: OccupancySequence) -> float:
    """Share of the columns under the ego path, seen from the middle frame, that hold road."""
    middle = len(occupancy) // 2
    poses = inverse(occupancy.poses_world_from_ego[middle])[None] @ occupancy.poses_world_from_ego
    sideways = np.array([-PATH_HALF_WIDTH_M, 0.0, PATH_HALF_WIDTH_M])
    offsets = np.stack([0 * sideways, sideways, 0 * sideways, 1 + 0 * sideways], axis=-1)
    points = (poses @ offsets.T).transpose(0, 2, 1).reshape(-1, 4)[:, :3]
    points[:, 2] = occupancy.grid.lower_m[2]
    index = occupancy.grid.indices(points)
    index = index[occupancy.grid.contains(index)]
    columns = occupancy.labels[middle][index[:, 0], index[:, 1]]
    return float((columns == CARLASC.index("road")).any(axis=-1).mean())


def turns_as_planned(occupancy: OccupancySequence) -> bool:
    """Whether the static world moves as the plan says rather than as its mirror image."""
    first, last = occupancy.poses_world_from_ego[[0, -1]]
    pose = inverse(first) @ last
    mirror = np.diag([1.0, -1.0, 1.0, 1.0])
    planned, mirrored = (
        static_agreement(occupancy.labels[0], occupancy.labels[-1], p, occupancy.grid, CARLASC)
        for p in (pose, mirror @ pose @ mirror)
    )
    return planned > mirrored


def generate_drive(
    backend: TorchBackend, clip: Clip, seed: int, steps: int | None
) -> tuple[DriveScore, OccupancySequence]:
    """Continue from a recorded chunk in sensor view along the recorded path, eight chunks on.

    Args:
        clip: at least nine chunks of frames.
    """
    frames = FRAMES_PER_CHUNK
    times_us = np.arange(frames, dtype=np.int64) * 100_000
    seen = OccupancySequence(
        clip.labels[:frames],
        poses_from_planar(clip.planar[:frames]),
        times_us,
        CARLASC_GRID,
        CARLASC,
        clip.observed[:frames],
    )
    continuation = backend.encode(seen)
    chunks: list[OccupancySequence] = []
    for number in range(1, DRIVE_CHUNKS + 1):
        plan = plan_of(clip.planar[number * frames : (number + 1) * frames], number * frames * 100_000)
        chunk = backend.generate(
            Conditions(plan, plan.command, continuation),
            SamplingOptions(seed=seed + number, steps=steps),
            lambda step: None,
        )
        continuation = chunk.continuation
        chunks.append(chunk.occupancy)
    borders = [
        static_agreement(
            before.labels[-1],
            after.labels[0],
            inverse(before.poses_world_from_ego[-1]) @ after.poses_world_from_ego[0],
            CARLASC_GRID,
            CARLASC,
        )
        for before, after in pairwise(chunks)
    ]
    rigidity = [agreement_between_frames(chunk, 0, frames - 1) for chunk in chunks]
    return DriveScore(borders, rigidity, [road_under_path(c) for c in chunks]), chunks[-1]


@dataclass(frozen=True, eq=False)
class RecordedPlan:
    """The plan of a recorded chunk.

    Attributes:
        drive: number of the drive in its source.
        start: first frame of the chunk.
        plan: where the ego went.
    """

    drive: int
    start: int
    plan: EgoPlan

    @property
    def turns(self) -> bool:
        """Whether its command is LEFT or RIGHT."""
        return self.plan.command in (Command.LEFT, Command.RIGHT)


def recorded_plans(source: ClipSource, count: int, turns: int) -> tuple[list[RecordedPlan], list[RecordedPlan]]:
    """Plans from the middle of evenly spread recorded drives.

    Returns:
        ``count`` plans, half of them turning as far as the recording has turns, and further turning plans,
        so that both together hold ``turns`` of them or all there are.
    """
    turning: list[RecordedPlan] = []
    other: list[RecordedPlan] = []
    for drive in range(len(source)):
        start = (source.length(drive) - FRAMES_PER_CHUNK) // 2
        recorded = RecordedPlan(drive, start, plan_of(source.planar(drive)[start : start + FRAMES_PER_CHUNK]))
        (turning if recorded.turns else other).append(recorded)
    mixed, further = _split(turning, min(len(turning), max(count // 2, count - len(other))))
    return mixed + _split(other, count - len(mixed))[0], _split(further, max(0, turns - len(mixed)))[0]


def _split(plans: list[RecordedPlan], count: int) -> tuple[list[RecordedPlan], list[RecordedPlan]]:
    """(``count`` of the plans, evenly spread, or all of them; the rest)."""
    chosen = set(np.linspace(0, len(plans) - 1, min(count, len(plans))).astype(int).tolist())
    return [p for i, p in enumerate(plans) if i in chosen], [p for i, p in enumerate(plans) if i not in chosen]
