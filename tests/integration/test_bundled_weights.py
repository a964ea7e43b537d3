"""The weights that ship with the package, as a user gets them."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from dyncity_models.anchored.checkpoint import BUNDLED
from dyncity_models.backends.anchored.backend import AnchoredBackend
from dyncity_models.backends.load import load
from dyncity_models.drive.road import road_under_path
from scipy.ndimage import binary_dilation

from dyncity_sim.domain.agreement import agreement_between_frames, static_agreement
from dyncity_sim.domain.conditions import Conditions, Continuation, EgoPlan, SamplingOptions
from dyncity_sim.domain.frames import inverse, poses_from_planar
from dyncity_sim.domain.generation import GeneratedChunk
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.taxonomy import CARLASC

MOST_BYTES = 24 * 2**20


@pytest.fixture(scope="module")
def backend() -> AnchoredBackend:
    return load(None)


def straight(chunk: int) -> EgoPlan:
    frames = np.arange(chunk * 16, (chunk + 1) * 16)
    planar = np.stack([0.8 * frames, 0.0 * frames, 0.0 * frames], axis=-1)
    return EgoPlan(poses_from_planar(planar, z_m=1.8), frames * 100_000)


def generate(
    backend: AnchoredBackend, plan: EgoPlan, seed: int, continuation: Continuation | None = None
) -> GeneratedChunk:
    return backend.generate(Conditions(plan, plan.command, continuation), SamplingOptions(seed=seed), lambda step: None)


def test_the_bundled_weights_are_at_most_24_mebibytes():
    assert 0 < sum(file.stat().st_size for file in BUNDLED.iterdir()) <= MOST_BYTES


@pytest.fixture(scope="module")
def chunks(backend: AnchoredBackend) -> list[GeneratedChunk]:
    """First chunks of the seeds from 0, straight on."""
    return [generate(backend, straight(0), seed) for seed in range(4)]


def test_they_generate_a_street_under_the_ego_from_a_plan_alone(chunks: list[GeneratedChunk]):
    assert np.mean([road_under_path(chunk.occupancy) for chunk in chunks]) > 0.95
    assert all(agreement_between_frames(chunk.occupancy, 0, 15) > 0.95 for chunk in chunks)
    shares = np.mean(
        [np.bincount(c.occupancy.labels.ravel(), minlength=11) / c.occupancy.labels.size for c in chunks], 0
    )
    assert 0.6 < shares[0] < 0.95
    for name in ("road", "sidewalk", "ground", "building", "vegetation"):
        assert shares[CARLASC.index(name)] > 0.001, name


def test_the_next_chunk_goes_on_in_the_same_street(backend: AnchoredBackend, chunks: list[GeneratedChunk]):
    first = chunks[1]
    second = generate(backend, straight(1), 2, first.continuation)
    other = generate(backend, straight(1), 2)
    before = first.occupancy

    def agreement(after: GeneratedChunk) -> float:
        pose = inverse(before.poses_world_from_ego[-1]) @ after.occupancy.poses_world_from_ego[0]
        return static_agreement(before.labels[-1], after.occupancy.labels[0], pose, CARLASC_GRID, CARLASC)

    assert agreement(second) > 0.95
    assert agreement(second) > agreement(other) + 0.1


def along(planar: np.ndarray, chunk: int, slope: float = 0.0) -> EgoPlan:
    """A chunk of a way of x, y, yaw in even steps of time, on a plane that rises along x."""
    frames = slice(chunk * 16, (chunk + 1) * 16)
    poses = poses_from_planar(planar[frames], z_m=1.8)
    poses[:, 2, 3] += slope * planar[frames, 0]
    return EgoPlan(poses, np.arange(frames.start, frames.stop) * 100_000)


@pytest.mark.parametrize("slope", [-0.05, -0.012, 0.05])
def test_a_hill_has_its_road_under_the_ego_in_every_chunk_and_goes_on_over_borders(
    backend: AnchoredBackend, slope: float
):
    planar = np.zeros((64, 3))
    planar[:, 0] = 0.8 * np.arange(64)
    chunks: list[GeneratedChunk] = []
    for number in range(4):
        plan = along(planar, number, slope)
        chunks.append(generate(backend, plan, number, chunks[-1].continuation if chunks else None))
        assert np.array_equal(chunks[-1].occupancy.poses_world_from_ego, plan.poses_world_from_ego)
        under = chunks[-1].occupancy.labels[:, 62:66, 62:66, 0]
        assert (under == CARLASC.index("road")).mean() > 0.9
    for one, other in pairwise(chunk.occupancy for chunk in chunks):
        pose = inverse(one.poses_world_from_ego[-1]) @ other.poses_world_from_ego[0]
        assert static_agreement(one.labels[-1], other.labels[0], pose, CARLASC_GRID, CARLASC) > 0.85


def test_a_plan_that_turns_off_the_street_that_was_drawn_gets_a_street(backend: AnchoredBackend):
    turned = np.clip(0.1 * (0.8 * np.arange(48) - 16.0), 0.0, np.pi / 2)
    steps = 0.8 * np.stack([np.cos(turned), -np.sin(turned)], axis=-1)
    planar = np.column_stack([np.cumsum(steps, axis=0), -turned])
    continuation, shares = None, []
    for number in range(3):
        chunk = generate(backend, along(planar, number), 20 + number, continuation)
        continuation = chunk.continuation
        shares.append(road_under_path(chunk.occupancy))
    assert min(shares) > 0.7
    assert np.mean(shares) > 0.9


def known_part(street: OccupancySequence, observed: np.ndarray) -> Conditions:
    plan = EgoPlan(street.poses_world_from_ego, street.times_us)
    return Conditions(plan, plan.command, known_region=replace(street, observed=observed))


def seam_agreement(labels: np.ndarray) -> float:
    """Share of occupied cells either side of the border ahead of the ego that hold the same class."""
    behind, ahead = labels[:, 63], labels[:, 64]
    return float((behind == ahead)[(behind > 0) | (ahead > 0)].mean())


def test_what_is_generated_ahead_fits_what_is_known_behind(
    backend: AnchoredBackend, build_street: Callable[..., OccupancySequence], chunks: list[GeneratedChunk]
):
    street = build_street(16, 8.0)
    observed = np.zeros(street.labels.shape, dtype=np.bool_)
    observed[:, :64] = True
    given = known_part(street, observed)
    fitted, pasted = [], []
    for seed, alone in enumerate(chunks[:3]):
        labels = backend.generate(given, SamplingOptions(seed=seed), lambda step: None).occupancy.labels
        assert np.array_equal(labels[observed], street.labels[observed])
        fitted.append(seam_agreement(labels))
        pasted.append(seam_agreement(np.where(observed, street.labels, alone.occupancy.labels)))
    assert np.mean(fitted) > np.mean(pasted) + 0.2


def test_the_vehicles_of_one_known_frame_are_there_in_the_next_ones(
    backend: AnchoredBackend,
    build_street: Callable[..., OccupancySequence],
    street_actor: Callable[..., object],
):
    vehicle = CARLASC.index("vehicle")
    parked = [street_actor(x_m, y_m) for x_m, y_m in ((9.0, 3.6), (18.0, 3.6), (-9.0, -3.6))]
    street = build_street(16, 0.0, parked)
    observed = np.zeros(street.labels.shape, dtype=np.bool_)
    observed[0] = True
    stood = (street.labels[0] == vehicle).any(axis=-1)
    shares = []
    for seed in range(2):
        chunk = backend.generate(known_part(street, observed), SamplingOptions(seed=seed), lambda step: None)
        found = (chunk.occupancy.labels[1:5] == vehicle).any(axis=-1)
        nearby = binary_dilation(found, np.ones((1, 9, 9)))
        shares.append(nearby[:, stood].mean())
    assert np.mean(shares) > 0.7
