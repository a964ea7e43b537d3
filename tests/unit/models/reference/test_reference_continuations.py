"""What a chunk of the family reference hands on to the next, and drives of many chunks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from dyncity_models.backends.reference.continuation import EndedChunk
from dyncity_models.reference.config import ReferenceSampling

from dyncity_sim.domain.conditions import Conditions, Continuation, SamplingOptions
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.engine.engine import Engine
from dyncity_sim.errors import CheckpointError, ConfigError, InvalidInputError


def test_without_a_plan_the_ego_stands_where_the_chunk_before_ended(backend, plan, generate):
    start = generate(backend, Conditions())
    assert np.array_equal(start.occupancy.poses_world_from_ego, np.tile(np.eye(4), (4, 1, 1)))
    assert start.occupancy.times_us.tolist() == [0, 100_000, 200_000, 300_000]
    ended = generate(backend, Conditions(plan))
    standing = generate(backend, Conditions(continuation=ended.continuation)).occupancy
    assert np.array_equal(standing.poses_world_from_ego, np.tile(plan.poses_world_from_ego[-1], (4, 1, 1)))
    assert standing.times_us.tolist() == [400_000, 500_000, 600_000, 700_000]


def test_a_continuation_holds_the_rollout_to_half_precision_and_where_the_chunk_ended(backend, plan, random_occupancy):
    occupancy = random_occupancy(plan)
    ended = EndedChunk.unpacked(backend.encode(occupancy), backend.info.model_id, (16, 14, 14))
    expected = backend.pipeline.encode(torch.from_numpy(occupancy.labels)[None])
    assert torch.equal(ended.rollout, expected.half().float())
    assert np.array_equal(ended.pose_world_from_ego, plan.poses_world_from_ego[-1])
    assert ended.time_us == 300_000


def test_unobserved_cells_are_encoded_as_free(backend, plan, random_occupancy):
    seen = random_occupancy(plan, np.s_[:, 4:12])
    emptied = replace(seen, labels=np.where(seen.observed, seen.labels, 0).astype(np.uint8), observed=None)
    assert backend.encode(seen) == backend.encode(emptied)


def test_occupancy_that_does_not_fit_is_refused_by_field(backend, plan, build_street, random_occupancy):
    street = build_street(4)
    with pytest.raises(InvalidInputError, match=r"occupancy\.grid"):
        backend.encode(street)
    fitting = random_occupancy(plan)
    with pytest.raises(InvalidInputError, match=r"occupancy\.taxonomy_id"):
        backend.encode(replace(fitting, taxonomy=CARLASC))
    with pytest.raises(InvalidInputError, match=r"occupancy\.labels"):
        replace(fitting, labels=np.full_like(fitting.labels, 9))
    with pytest.raises(InvalidInputError, match="frames"):
        backend.encode(fitting[:2])


def damaged(payload, place):
    flipped = bytearray(payload)
    flipped[place] ^= 1
    return bytes(flipped)


@pytest.mark.parametrize("place", [0, 5, 9, 20, 200, -1])
def test_a_damaged_continuation_is_refused_with_both_ids(backend, plan, place, random_occupancy, generate):
    whole = backend.encode(random_occupancy(plan))
    for payload in (damaged(whole.payload, place), whole.payload[:-1], whole.payload + b"\0", b""):
        with pytest.raises(InvalidInputError, match=r"continuation\.payload") as caught:
            generate(backend, Conditions(plan, continuation=replace(whole, payload=payload)))
        assert str(caught.value).count(backend.info.model_id) == 2


def test_a_continuation_of_another_model_is_refused_with_both_ids(backend, plan, generate):
    foreign = Continuation("anchored-0123", b"payload")
    with pytest.raises(InvalidInputError, match=r"continuation\.model_id.*anchored-0123.*" + backend.info.model_id):
        generate(backend, Conditions(plan, continuation=foreign))


def test_latents_that_half_precision_cannot_hold_are_no_continuation():
    with pytest.raises(CheckpointError, match="half precision"):
        EndedChunk(torch.full((1, 16, 14, 14), 1e6), np.eye(4), 0).packed("reference-0")


async def test_a_drive_of_128_frames_is_the_same_by_seed_and_from_any_of_its_continuations(build_backend, plan_of):
    """As many chunks as 128 frames of the published size take, through the engine."""
    engine = Engine(build_backend, 4, np.random.default_rng(0))
    await engine.start()

    async def drive(first, continuation):
        chunks = []
        for number in range(first, 8):
            plan = plan_of(number)
            conditions = Conditions(plan, plan.command, continuation)
            chunk = await engine.generate(conditions, SamplingOptions(seed=100 + number), None)
            continuation = chunk.continuation
            chunks.append(chunk)
        return chunks

    try:
        whole, again = await drive(0, None), await drive(0, None)
        replayed = await drive(5, whole[4].continuation)
    finally:
        await engine.close()
    assert len(whole) == 8
    for chunks, same in ((whole, again), (whole[5:], replayed)):
        for chunk, other in zip(chunks, same, strict=True):
            assert chunk.occupancy.labels.tobytes() == other.occupancy.labels.tobytes()
            assert chunk.continuation == other.continuation
    assert len({chunk.continuation.payload for chunk in whole}) == 8


def test_latents_of_a_drive_that_would_run_away_stay_within_their_limit(build_backend, plan_of, generate):
    """Noise that is predicted too large makes latents grow from step to step, and from chunk to chunk."""

    def largest_of_a_drive(limit):
        backend = build_backend(sampling=ReferenceSampling("ddim", 3, 2.0, latent_limit=limit), spread=0.2)
        config = backend.config.autoencoder
        shape = (config.latent_channels, *config.rollout_shape)
        continuation, largest = None, []
        for chunk in range(4):
            given = Conditions(plan_of(chunk), continuation=continuation)
            continuation = generate(backend, given, seed=chunk).continuation
            rollout = EndedChunk.unpacked(continuation, backend.info.model_id, shape).rollout
            largest.append(float(rollout.abs().max()))
        return largest

    with pytest.raises(CheckpointError, match="ran away"):
        largest_of_a_drive(None)
    assert max(largest_of_a_drive(2.0)) == pytest.approx(2.0, rel=1e-3)


def test_a_limit_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="latent_limit"):
        ReferenceSampling(latent_limit=0.0)
