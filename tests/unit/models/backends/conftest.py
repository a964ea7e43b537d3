"""Requests to the backend of the family anchored, and a street that they go on from."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from dyncity_models.anchored.checkpoint import load_model
from dyncity_models.backends.anchored.backend import AnchoredBackend
from dyncity_models.backends.anchored.pipeline import AnchoredPipeline
from dyncity_models.drive.memory import DriveMemory
from dyncity_models.drive.packing import pack

from dyncity_sim.domain.agreement import static_agreement
from dyncity_sim.domain.conditions import Conditions, Continuation, EgoPlan, SamplingOptions
from dyncity_sim.domain.frames import inverse, planar_from_poses
from dyncity_sim.domain.generation import GeneratedChunk
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.taxonomy import CARLASC


@pytest.fixture(scope="session")
def generate_with() -> Callable[..., GeneratedChunk]:
    """A function that generates a chunk with some backend."""

    def run(
        backend: AnchoredBackend,
        conditions: Conditions,
        seed: int = 0,
        checkpoint: Callable[[int], None] = lambda step: None,
        **options: object,
    ) -> GeneratedChunk:
        return backend.generate(conditions, SamplingOptions(seed=seed, **options), checkpoint)

    return run


@pytest.fixture(scope="session")
def generate(backend, generate_with) -> Callable[..., GeneratedChunk]:
    """The same with weights that take no layout."""
    return partial(generate_with, backend)


@pytest.fixture(scope="session")
def with_layout(layout_weights) -> AnchoredBackend:
    """The backend with random weights that take a layout."""
    return AnchoredBackend(AnchoredPipeline(load_model(layout_weights), torch.device("cpu")))


@pytest.fixture(scope="session")
def known_street(backend, build_street) -> tuple[Continuation, OccupancySequence]:
    """A continuation of a drive that has seen a whole street, and the street."""
    street = build_street(16, 6.0, curvature_per_m=0.02)
    planar = planar_from_poses(street.poses_world_from_ego)
    heights_m = street.poses_world_from_ego[:, 2, 3]
    memory = DriveMemory.empty(planar[0], float(heights_m[0]), CARLASC_GRID)
    return Continuation(
        backend.info.model_id, pack(memory.learn(street.labels, planar, heights_m, CARLASC_GRID))
    ), street


@pytest.fixture(scope="session")
def onward(plan_along) -> Callable[[OccupancySequence, float], EgoPlan]:
    """A function that builds a plan which goes on from the last frame of a street at another speed."""

    def build(street: OccupancySequence, speed_mps: float) -> EgoPlan:
        x, y, yaw = planar_from_poses(street.poses_world_from_ego)[-1]
        plan = plan_along(speed_mps, 0.1, (x, y, yaw))
        poses = plan.poses_world_from_ego.copy()
        poses[:, 2, 3] = street.poses_world_from_ego[-1, 2, 3]
        return EgoPlan(poses, plan.times_us)

    return build


@pytest.fixture(scope="session")
def agreement() -> Callable[..., float]:
    """A function that says how well a frame of one chunk agrees with the static world in a frame of another."""

    def found(first: OccupancySequence, first_frame: int, second: OccupancySequence, second_frame: int) -> float:
        poses = first.poses_world_from_ego[first_frame], second.poses_world_from_ego[second_frame]
        labels = first.labels[first_frame], second.labels[second_frame]
        return static_agreement(*labels, inverse(poses[0]) @ poses[1], CARLASC_GRID, CARLASC)

    return found
