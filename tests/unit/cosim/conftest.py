"""A scripted street behind the simulator port, and the null backend behind the loop's generator port."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Self

import numpy as np
import pytest

from dyncity_sim.domain.conditions import Conditions, Continuation, EgoPlan, SamplingOptions
from dyncity_sim.domain.frames import inverse, poses_from_planar, transform_points
from dyncity_sim.domain.generation import GeneratedChunk, ModelInfo
from dyncity_sim.domain.grid import CARLASC_GRID, LIDAR_HEIGHT_M, Grid
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.recording import ActorKind, ActorState, RecordedFrame
from dyncity_sim.domain.scene import Track
from dyncity_sim.domain.taxonomy import CARLASC_RAW
from dyncity_sim.engine.null import NullBackend
from dyncity_sim.errors import RoadEndsError

STEP_US = 100_000
CAR_SIZE_M = (4.4, 1.8, 1.5)


class ScriptedStreet:
    """A straight street along x; the ego drives at constant speed and yaw rate, one car stands at x = 20 m."""

    def __init__(self, speed_mps: float = 6.0, yaw_rate_radps: float = 0.0, drift_m: float = 0.0) -> None:
        self.speed_mps, self.yaw_rate_radps, self.drift_m = speed_mps, yaw_rate_radps, drift_m
        self.steps = self.planned = 0

    attribution = "Map by the test's author"
    grid: Grid = CARLASC_GRID
    opendrive = "<OpenDRIVE/>"
    shown_tracks: tuple[Track, ...] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        pass

    def _pose(self, step: int) -> np.ndarray:
        yaw = self.yaw_rate_radps * 0.1 * np.arange(step + 1)
        x, y = (self.speed_mps * 0.1 * f(yaw[1:]).sum() for f in (np.cos, np.sin))
        return poses_from_planar(np.array([x, y, yaw[-1]]), LIDAR_HEIGHT_M)

    def plan(self, frames: int) -> EgoPlan:
        after = max(self.planned, self.steps)
        self.planned = after + frames
        ahead = range(after + 1, self.planned + 1)
        return EgoPlan(np.stack([self._pose(s) for s in ahead]), np.array([s * STEP_US for s in ahead]))

    def follow(self, plan: EgoPlan, generated: GeneratedChunk | None = None) -> Iterator[RecordedFrame]:
        for pose in plan.poses_world_from_ego:
            self.steps += 1
            driven = pose.copy()
            driven[1, 3] += self.drift_m
            yield self._frame(driven)

    def observe(self) -> RecordedFrame:
        return self._frame(self._pose(self.steps))

    def _frame(self, pose: np.ndarray) -> RecordedFrame:
        x, y = np.meshgrid(CARLASC_GRID.centres(0), CARLASC_GRID.centres(1), indexing="ij")
        world = transform_points(pose, np.stack([x, y, np.zeros_like(x)], -1).reshape(-1, 3)).reshape(*x.shape, 3)
        side = np.abs(world[..., 1])
        labels = np.zeros(CARLASC_GRID.shape, dtype=np.uint8)
        labels[..., 0] = CARLASC_RAW.index("terrain")
        labels[side < 8, 0] = CARLASC_RAW.index("sidewalk")
        labels[side < 5, 0] = CARLASC_RAW.index("road")
        labels[(side > 12) & (world[..., 0] % 10 < 8)] = CARLASC_RAW.index("building")
        car = (np.abs(world[..., 0] - 20) < CAR_SIZE_M[0] / 2) & (np.abs(world[..., 1] - 3) < CAR_SIZE_M[1] / 2)
        labels[car, 1:4] = CARLASC_RAW.index("vehicle")
        instances = np.where(labels == CARLASC_RAW.index("vehicle"), 1, 0).astype(np.uint16)
        reach = np.linalg.norm(np.stack([x, y], -1), axis=-1) < 20
        counts = np.where(reach[..., None], 3, 0).astype(np.float32) * np.ones(CARLASC_GRID.shape, np.float32)
        centre = poses_from_planar(np.array([20.0, 3.0, 0.0]), CAR_SIZE_M[2] / 2)
        inside = CARLASC_GRID.contains(CARLASC_GRID.indices((inverse(pose) @ centre)[:3, 3]))
        actors = (ActorState(1, ActorKind.CAR, centre, CAR_SIZE_M, 0.0),) if inside else ()
        return RecordedFrame(labels, counts, instances, actors, pose, self.steps * STEP_US, CARLASC_GRID)


class InProcessGenerator:
    """The null backend without a wire; keeps what it was asked, and fails first where it is told to."""

    def __init__(self, failures: list[Exception] | None = None) -> None:
        self.backend = NullBackend()
        self.failures = failures or []
        self.encoded: list[OccupancySequence] = []
        self.asked: list[tuple[Conditions, SamplingOptions]] = []

    def model_info(self) -> ModelInfo:
        return self.backend.info

    def generate(self, conditions: Conditions, options: SamplingOptions) -> GeneratedChunk:
        self.asked.append((conditions, options))
        if self.failures:
            raise self.failures.pop(0)
        return self.backend.generate(conditions, options, lambda _: None)

    def stream(self) -> "InProcessStream":
        return InProcessStream(self.generate)

    def encode(self, occupancy: OccupancySequence) -> Continuation:
        self.encoded.append(occupancy)
        return self.backend.encode(occupancy)


class InProcessStream:
    """Generates what was asked for when it is received."""

    def __init__(self, generate: Callable[[Conditions, SamplingOptions], GeneratedChunk]) -> None:
        self._generate = generate
        self._asked: deque[tuple[Conditions, SamplingOptions]] = deque()
        self._continuation: Continuation | None = None

    def send(self, conditions: Conditions, options: SamplingOptions) -> None:
        self._asked.append((conditions, options))

    def receive(self) -> GeneratedChunk:
        conditions, options = self._asked.popleft()
        before = conditions.continuation or self._continuation
        chunk = self._generate(replace(conditions, continuation=before), options)
        self._continuation = chunk.continuation
        return chunk

    def close(self) -> None:
        self._asked.clear()


class DeadEndStreet(ScriptedStreet):
    """One that ends after so many plans."""

    def __init__(self, plans: int) -> None:
        super().__init__()
        self.plans = plans

    def plan(self, frames: int) -> EgoPlan:
        if self.planned == self.plans * frames:
            raise RoadEndsError("the road ends here")
        return super().plan(frames)


@pytest.fixture
def dead_end_street() -> Callable[..., DeadEndStreet]:
    return DeadEndStreet


@pytest.fixture
def scripted_street() -> Callable[..., ScriptedStreet]:
    return ScriptedStreet


@pytest.fixture
def in_process_generator() -> Callable[..., InProcessGenerator]:
    return InProcessGenerator
