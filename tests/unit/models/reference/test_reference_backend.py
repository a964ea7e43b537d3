"""The family reference as the engine sees it: what it tells, takes and refuses."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
import torch
from dyncity_models.backends.load import load
from dyncity_models.backends.reference.backend import ReferenceBackend
from dyncity_models.backends.reference.continuation import EndedChunk
from dyncity_models.backends.reference.pipeline import ReferencePipeline
from dyncity_models.diffusion.sampling import make_sampler
from dyncity_models.execution import Execution
from dyncity_models.reference.autoencoder import ReferenceAutoencoder
from dyncity_models.reference.checkpoint import load_reference, save_reference
from dyncity_models.reference.conditions import ReferenceConditions
from dyncity_models.reference.config import (
    AUTOENCODERS,
    TRANSFORMERS,
    ReferenceClasses,
    ReferenceConfig,
    ReferenceSampling,
    ReferenceSpace,
    with_values,
)
from dyncity_models.reference.conventions import EgoConvention, OfficialConvention
from dyncity_models.reference.dit import ReferenceTransformer

from dyncity_sim.domain.conditions import Command, Conditions, SamplingOptions
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import CheckpointError, ConfigError, InvalidInputError, UnsupportedConditionError


def test_the_model_tells_of_itself(backend, build_backend):
    info = backend.info
    assert (info.family, info.frames_per_chunk, info.rate_hz, info.default_steps) == ("reference", 4, 10.0, 3)
    assert info.model_id == backend.pipeline.model.model_id
    assert info.grid.shape == (16, 16, 8)
    assert info.grid.lower_m == (-3.2, -3.2, -2.0)
    assert info.taxonomy.names == ("free", "road", "building", "vehicle", "pedestrian")
    assert info.taxonomy.moving_labels == (3, 4)
    assert info.conditions == ("known_region", "continuation", "plan", "layout", "command")
    assert info.samplers == ("ddim", "ddpm", "dpm++2m", "unipc")
    assert build_backend(conditions=("command",)).info.conditions == ("known_region", "command")


def test_the_same_seed_gives_the_same_chunk_and_another_another(backend, plan, generate):
    conditions = Conditions(plan, plan.command)
    first, again, other = (generate(backend, conditions, seed) for seed in (5, 5, 6))
    assert first.occupancy.labels.tobytes() == again.occupancy.labels.tobytes()
    assert first.continuation == again.continuation
    assert first.occupancy.labels.tobytes() != other.occupancy.labels.tobytes()
    assert np.array_equal(first.occupancy.poses_world_from_ego, plan.poses_world_from_ego)
    assert first.model_id == first.continuation.model_id == backend.info.model_id


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm++2m", "unipc"])
def test_every_sampler_that_is_offered_generates_in_as_many_steps_as_asked_for(backend, plan, sampler):
    done = []
    options = SamplingOptions(seed=0, steps=5, sampler=sampler)
    backend.generate(Conditions(plan), options, done.append)
    assert done == list(range(6))


def test_every_condition_that_is_given_changes_what_comes(
    backend, plan, generate, layout_with, plan_of, random_occupancy
):
    before = generate(backend, Conditions(plan)).continuation
    full = Conditions(plan, Command.LEFT, before, layout_with((1, 2)))
    changed = [
        full,
        replace(full, plan=None),
        replace(full, plan=plan_of(1)),
        replace(full, command=None),
        replace(full, command=Command.RIGHT),
        replace(full, layout=None),
        replace(full, layout=layout_with((2, 1))),
        replace(full, continuation=None),
        replace(full, continuation=backend.encode(random_occupancy(plan))),
    ]
    payloads = [generate(backend, conditions).continuation.payload for conditions in changed]
    assert len(set(payloads)) == len(changed)


def test_guidance_has_a_scale_for_each_condition_that_the_network_is_asked_with(backend, plan, generate):
    conditions = Conditions(plan, Command.LEFT)
    plain = generate(backend, conditions).continuation
    assert generate(backend, conditions, guidance_scale=2.0).continuation == plain
    assert generate(backend, conditions, guidance_scales={"plan": 2.0, "command": 2.0}).continuation == plain
    assert generate(backend, conditions, guidance_scales={"command": 5.0}).continuation != plain
    assert generate(backend, conditions, guidance_scale=1.0).continuation != plain
    with pytest.raises(InvalidInputError, match=r"expected one of plan, command, layout, continuation"):
        generate(backend, conditions, guidance_scales={"known_region": 2.0})


def test_an_ego_trajectory_means_the_same_wherever_it_is_driven(backend, generate, plan_of):
    here, there = (generate(backend, Conditions(plan_of(0, yaw))).continuation for yaw in (0.0, 2.0))
    first, second = (EndedChunk.unpacked(c, backend.info.model_id, (16, 14, 14)).rollout for c in (here, there))
    torch.testing.assert_close(first, second, rtol=0, atol=0.1)


def test_conditions_that_the_weights_lack_are_refused_by_name(build_backend, plan, generate, layout_with):
    backend = build_backend(conditions=("command",))
    reply = generate(backend, Conditions(command=Command.LEFT))
    for name, conditions in {
        "plan": Conditions(plan),
        "layout": Conditions(layout=layout_with((0, 0))),
        "continuation": Conditions(continuation=reply.continuation),
    }.items():
        with pytest.raises(UnsupportedConditionError, match=name):
            generate(backend, conditions)


def test_weights_of_the_official_convention_live_in_the_mirror(
    build_backend, plan, layout_with, plan_of, generate, random_occupancy
):
    """What goes in is mirrored, and what comes out is mirrored back."""
    backend = build_backend(OfficialConvention())
    layout = layout_with((1, 3))
    given = backend._conditions(Conditions(plan, Command.LEFT, layout=layout), None, None)
    expected = OfficialConvention().trajectory(plan.poses_world_from_ego)
    assert np.allclose(given.trajectory[0], expected)
    assert np.allclose(expected[:, 2], -plan_of(0).poses_world_from_ego[:, 1, 0], atol=1e-3)
    assert given.command.tolist() == [3]
    assert given.layout[0, 0].nonzero().tolist() == [[1, 0]]

    chunk = generate(backend, Conditions(plan))
    rollout = EndedChunk.unpacked(chunk.continuation, backend.info.model_id, (16, 14, 14)).rollout
    decoded = backend.pipeline.decode(rollout)[0].numpy()
    same = (decoded[:, :, ::-1] == chunk.occupancy.labels).mean()
    assert same > 0.99
    assert (decoded == chunk.occupancy.labels).mean() < 0.9

    seen = random_occupancy(plan)
    turned = torch.from_numpy(seen.labels[:, :, ::-1].copy())[None]
    ended = EndedChunk.unpacked(backend.encode(seen), backend.info.model_id, (16, 14, 14))
    assert torch.equal(ended.rollout, backend.pipeline.encode(turned).half().float())


def test_a_caller_who_gave_up_stops_the_sampling(backend, plan):
    def leave(done):
        if done == 2:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        backend.generate(Conditions(plan), SamplingOptions(seed=0, steps=3), leave)


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        (ReferenceSampling(steps=0), r"sampling\.steps: got 0"),
        (ReferenceSampling(sampler="heun"), r"sampling\.sampler: got 'heun', expected one of ddpm"),
        (ReferenceSampling(guidance_scale=-1.0), r"sampling\.guidance_scale: got -1"),
        (ReferenceSampling(resamples=51), r"sampling\.resamples: got 51"),
    ],
    ids=str,
)
def test_weights_whose_defaults_no_request_could_ask_for_are_refused(build_backend, sampling, message):
    with pytest.raises(ConfigError, match=message):
        build_backend(sampling=sampling)


def test_weights_of_carlascs_classes_are_served_in_carlascs_taxonomy(tmp_path):
    planes = with_values(AUTOENCODERS["small"], {"frames": 4, "low_channels": 8, "plane_channels": 8}, "model")
    small = with_values(TRANSFORMERS["small"], {"depth": 1, "width": 32, "heads": 2}, "model")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        autoencoder, transformer = ReferenceAutoencoder(planes), ReferenceTransformer(small, planes)
    config = ReferenceConfig(planes, small, ReferenceClasses(CARLASC.names), ReferenceSpace.carlasc(planes.grid))
    save_reference(tmp_path, config, autoencoder, transformer, EgoConvention())
    backend = ReferenceBackend(ReferencePipeline(load_reference(tmp_path), torch.device("cpu")))
    assert backend.info.taxonomy == CARLASC
    assert backend.info.grid.lower_m == (-12.8, -12.8, -2.0)


def test_an_autoencoder_alone_is_not_served(tmp_path, even_planes, build_autoencoder):
    save_reference(tmp_path, ReferenceConfig(even_planes), build_autoencoder(even_planes))
    with pytest.raises(CheckpointError, match="without a transformer"):
        load(tmp_path)


def test_a_pipeline_under_other_switches_gives_what_plain_float32_gives_up_to_rounding(saved, plan, random_occupancy):
    plain, half = (
        ReferencePipeline(load_reference(saved), torch.device("cpu"), execution)
        for execution in (None, Execution(precision="bf16", channels_last=True))
    )
    labels = torch.from_numpy(random_occupancy(plan).labels)[None]
    rollout, rounded = plain.encode(labels), half.encode(labels)
    assert rounded.dtype == torch.float32
    assert 0 < float((rounded - rollout).square().mean().sqrt() / rollout.square().mean().sqrt()) < 3e-2
    assert (plain.decode(rollout) == half.decode(rollout)).float().mean() > 0.95
    sampler, scales = make_sampler("ddim", "gaussian", 2), dict.fromkeys(("trajectory", "command"), 2.0)
    drawn = [
        pipeline.generate(ReferenceConditions(), torch.Generator().manual_seed(0), sampler, scales)
        for pipeline in (plain, half)
    ]
    assert float((drawn[0] - drawn[1]).square().mean().sqrt() / drawn[0].square().mean().sqrt()) < 0.1
