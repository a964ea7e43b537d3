"""A synthetic street that tests look at: exact geometry, painted cell by cell, no randomness."""

import resource
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from dyncity_sim.dataset.store import RecordingMeta, RecordingWriter
from dyncity_sim.domain.frames import inverse, poses_from_planar, transform_points
from dyncity_sim.domain.grid import CARLASC_GRID, LIDAR_HEIGHT_M
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.recording import RecordedFrame
from dyncity_sim.domain.taxonomy import CARLASC

ROAD_HALF_WIDTH_M = 5.25
SIDEWALK_END_M = 8.0
FACADE_M = 14.0
FRAME_US = 100_000

# What takes long on a busy machine is not wrong for that. The same commit passes or fails the same way everywhere; new
# examples are looked for with --hypothesis-profile=exploring.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("exploring", PATIENT)
settings.register_profile("repeatable", PATIENT, derandomize=True)
settings.load_profile("repeatable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: of several processes, none is left with one of them at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@dataclass(frozen=True)
class StreetActor:
    """A box that moves at constant speed along its heading, from where it is at frame 0.

    ``rider_label`` paints the upper half as another class; ``absent`` are frames in which nothing is painted.
    """

    x_m: float
    y_m: float
    yaw_rad: float = 0.0
    speed_mps: float = 0.0
    size_m: tuple[float, float, float] = (4.5, 1.8, 1.5)
    label: int = CARLASC.index("vehicle")
    rider_label: int | None = None
    absent: frozenset[int] = field(default_factory=frozenset)

    def centre_m(self, frame: int) -> tuple[float, float]:
        travelled_m = self.speed_mps * frame * FRAME_US * 1e-6
        return self.x_m + travelled_m * np.cos(self.yaw_rad), self.y_m + travelled_m * np.sin(self.yaw_rad)


def ego_poses(frames: int, speed_mps: float, curvature_per_m: float, yaw_rad: float = 0.0) -> np.ndarray:
    """Poses along a circle (or a line) from the origin, 1.8 m above the road at z = 0."""
    travelled_m = speed_mps * np.arange(frames) * FRAME_US * 1e-6
    turned_rad = travelled_m * curvature_per_m
    if curvature_per_m:
        x, y = np.sin(turned_rad) / curvature_per_m, (1 - np.cos(turned_rad)) / curvature_per_m
    else:
        x, y = travelled_m, np.zeros(frames)
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    planar = np.stack([cos * x - sin * y, sin * x + cos * y, turned_rad + yaw_rad], axis=-1)
    return poses_from_planar(planar, z_m=LIDAR_HEIGHT_M)


def paint_street(labels: np.ndarray, pose_world_from_ego: np.ndarray, curvature_per_m: float) -> None:
    """Road, sidewalks and facades by distance from the ego's line (which starts east from the origin)."""
    x, y = np.meshgrid(CARLASC_GRID.centres(0), CARLASC_GRID.centres(1), indexing="ij")
    world = transform_points(pose_world_from_ego, np.stack([x, y, np.zeros_like(x)], -1).reshape(-1, 3))
    if curvature_per_m:
        radius_m = 1 / curvature_per_m
        distance = np.hypot(world[:, 0], world[:, 1] - radius_m) - abs(radius_m)
    else:
        distance = world[:, 1]
    side = np.abs(distance).reshape(x.shape)
    labels[..., 0] = CARLASC.index("ground")
    labels[side < SIDEWALK_END_M, 0] = CARLASC.index("sidewalk")
    labels[side < ROAD_HALF_WIDTH_M, 0] = CARLASC.index("road")
    labels[side >= FACADE_M] = CARLASC.index("building")


def paint_actor(labels: np.ndarray, pose_world_from_ego: np.ndarray, actor: StreetActor, frame: int) -> None:
    """Cells above the ground layer whose centre lies in the actor's outline, up to its top, take its class."""
    pose_world_from_actor = poses_from_planar(np.array([*actor.centre_m(frame), actor.yaw_rad]))
    pose_actor_from_ego = inverse(pose_world_from_actor) @ pose_world_from_ego
    x, y = np.meshgrid(CARLASC_GRID.centres(0), CARLASC_GRID.centres(1), indexing="ij")
    local = transform_points(pose_actor_from_ego, np.stack([x, y, np.zeros_like(x)], -1).reshape(-1, 3))
    hit = (np.abs(local[:, :2]) <= np.maximum(np.array(actor.size_m[:2]) / 2, 0.29)).all(axis=1).reshape(x.shape)
    layers = np.nonzero((CARLASC_GRID.centres(2) + LIDAR_HEIGHT_M < actor.size_m[2]) & (np.arange(8) > 0))[0]
    for layer in layers:
        upper = actor.rider_label is not None and layer > layers[0] + 1
        labels[hit, layer] = actor.rider_label if upper else actor.label


@pytest.fixture(scope="session")
def build_street() -> Callable[..., OccupancySequence]:
    """A function that builds a drive through the synthetic street."""

    def build(
        frames: int = 16,
        ego_speed_mps: float = 8.0,
        actors: Sequence[StreetActor] = (),
        curvature_per_m: float = 0.0,
        empty: bool = False,
    ) -> OccupancySequence:
        poses = ego_poses(frames, ego_speed_mps, curvature_per_m)
        labels = np.zeros((frames, *CARLASC_GRID.shape), dtype=np.uint8)
        for frame in range(frames):
            if not empty:
                paint_street(labels[frame], poses[frame], curvature_per_m)
            for actor in actors:
                if frame not in actor.absent:
                    paint_actor(labels[frame], poses[frame], actor, frame)
        return OccupancySequence(labels, poses, np.arange(frames) * FRAME_US, CARLASC_GRID, CARLASC)

    return build


@pytest.fixture(scope="session")
def street_actor() -> type[StreetActor]:
    """The class of the street's actors."""
    return StreetActor


@pytest.fixture
def fill_disk() -> Iterator[Callable[..., None]]:
    """A function after which the kernel refuses to write more than so many bytes to a file, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(most_bytes: int = 100_000) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, before[1]))

    yield fill
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="session")
def write_recording() -> Callable[..., Path]:
    """A function that writes recordings of a drive over one unchanging grid around the ego."""

    def write(
        folder: Path,
        labels: np.ndarray,
        counts: np.ndarray,
        frames: int,
        speed_mps: float = 5.0,
        yaw_rate_radps: float = 0.0,
        lengths: Sequence[int] = (),
    ) -> Path:
        """Raw labels and counts of every frame; ``lengths`` are those of further drives, cut from the first."""
        drive = [
            RecordedFrame(
                labels,
                counts,
                np.zeros(CARLASC_GRID.shape, np.uint16),
                (),
                poses_from_planar(np.array([speed_mps, 0.0, yaw_rate_radps]) * 0.1 * frame, LIDAR_HEIGHT_M),
                FRAME_US * frame,
                CARLASC_GRID,
            )
            for frame in range(frames)
        ]
        with RecordingWriter(folder, RecordingMeta("m", 0, CARLASC_GRID, "(c) map [makers]", "s")) as writer:
            for length in (frames, *lengths):
                writer.write_drive(drive[:length])
        return folder

    return write
