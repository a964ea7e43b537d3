"""Generation from plans: class shares, road under the path, rigidity, motion, commands."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int64

from dyncity_models.data.clips import UNOBSERVED
from dyncity_models.drive.road import road_under_path
from dyncity_sim.domain.agreement import agreement_between_frames, static_agreement
from dyncity_sim.domain.conditions import Command, Conditions, EgoPlan, SamplingOptions
from dyncity_sim.domain.frames import inverse, mirrored_poses
from dyncity_sim.domain.generation import GeneratedChunk
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.engine.backend import Backend


@dataclass(eq=False)
class Generation:
    """Figures of chunks generated from plans alone.

    Attributes:
        cells: generated cells of each class, ``(K,)``, per chunk.
        road_under_path: share of path columns that are road, per chunk.
        road_of_turns: the same of turning plans, under the own path and under its mirror image, per chunk.
        rigidity: static agreement of the first and last frame after the plan's warp, per chunk.
        turns: for each turning plan, whether the plan's warp fits better than its mirror image's.
        seconds: sampling and decoding, per chunk.
    """

    cells: list[Int64[np.ndarray, " K"]] = field(default_factory=list)
    road_under_path: list[float] = field(default_factory=list)
    road_of_turns: list[tuple[float, float]] = field(default_factory=list)
    rigidity: list[float] = field(default_factory=list)
    turns: list[bool] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def generate_from_plans(
    backend: Backend,
    plans: Iterator[EgoPlan],
    seed: int,
    steps: int | None,
    keep: Callable[[GeneratedChunk], None],
) -> Generation:
    """Generate one chunk per plan, from plan and command alone."""
    scores = Generation()
    for number, plan in enumerate(plans):
        chunk = backend.generate(
            Conditions(plan, plan.command), SamplingOptions(seed=seed + number, steps=steps), lambda step: None
        )
        scores.seconds.append(chunk.timings.sampling_s + chunk.timings.decoding_s)
        occupancy = chunk.occupancy
        scores.cells.append(np.bincount(occupancy.labels.ravel(), minlength=len(CARLASC))[:UNOBSERVED])
        scores.road_under_path.append(road_under_path(occupancy))
        scores.rigidity.append(agreement_between_frames(occupancy, 0, len(occupancy) - 1))
        if plan.command in (Command.LEFT, Command.RIGHT):
            scores.turns.append(turns_as_planned(occupancy))
            scores.road_of_turns.append(road_of_turn(occupancy))
        keep(chunk)
    return scores


def road_of_turn(occupancy: OccupancySequence) -> tuple[float, float]:
    """``road_under_path`` of the own path and of its mirror image."""
    return road_under_path(occupancy), road_under_path(occupancy, mirrored=True)


def turns_as_planned(occupancy: OccupancySequence) -> bool:
    """Whether the static world moves as the plan says rather than as its mirror image."""
    first, last = occupancy.poses_world_from_ego[[0, -1]]
    pose = inverse(first) @ last
    planned, mirrored = (
        static_agreement(occupancy.labels[0], occupancy.labels[-1], p, occupancy.grid, CARLASC)
        for p in (pose, mirrored_poses(pose))
    )
    return planned > mirrored
