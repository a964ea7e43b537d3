"""Checkpoints of the reference, imported and served: the numbers stay those of the reference."""

import numpy as np
import pytest
import torch
from dyncity_models.backends.load import load
from dyncity_models.backends.reference.backend import ReferenceBackend
from dyncity_models.backends.reference.continuation import EndedChunk
from dyncity_models.backends.reference.pipeline import ReferencePipeline
from dyncity_models.diffusion.sampling import make_sampler
from dyncity_models.reference.checkpoint import save_reference
from dyncity_models.reference.conditions import ReferenceConditions
from dyncity_models.reference.config import CONDITIONS

from dyncity_sim.domain.conditions import Conditions, EgoPlan, SamplingOptions, VehicleLayout
from dyncity_sim.domain.frames import poses_from_planar
from dyncity_sim.domain.taxonomy import CARLASC, MERGED_FROM_RAW


@pytest.fixture
def backend(dit, tmp_path) -> ReferenceBackend:
    """By way of the disk, as a server loads it."""
    model = dit.model
    save_reference(tmp_path, model.config, model.autoencoder, model.transformer, model.convention)
    served = load(tmp_path)
    assert served.info.model_id == model.model_id
    return served


def sampled(pipeline: ReferencePipeline, dit, conditions, prefix):
    recorded = iter(dit.tensor(f"{prefix}_step_noise")[:, :1])
    return pipeline.sample(
        conditions,
        dit.tensor(f"{prefix}_noise_T"),
        lambda: next(recorded),
        make_sampler("ddpm", "gaussian", dit.meta["steps"]),
        dict.fromkeys(CONDITIONS, dit.meta["cfg_scale"]),
    )


def check(pipeline, dit, deviation, conditions, prefix):
    rollout = sampled(pipeline, dit, conditions, prefix)
    assert not rollout[..., ~pipeline.mask].any()
    expected = dit.tensor(f"{prefix}_sample") * pipeline.mask
    deviation(f"served_{prefix}", rollout, expected, 2e-3)
    differ = pipeline.decode(rollout) != dit.tensor(f"{prefix}_argmax")
    assert not (differ & (dit.tensor(f"{prefix}_margin").float() >= 1e-3)).any()
    return rollout


def test_a_served_chunk_and_the_one_that_goes_on_from_it_are_those_of_the_reference(dit, backend, deviation):
    given, pipeline = dit.first_conditions, backend.pipeline
    check(pipeline, dit, deviation, given.without("hexplane"), "loop")
    if "chain1_sample" in dit.arrays:
        # The reference's chunk before has junk in its corners; what a continuation holds has none, and half precision.
        before = EndedChunk(dit.tensor("in_hex_chain1") * pipeline.mask, np.eye(4), 0).packed(backend.info.model_id)
        config = dit.autoencoder.config
        shape = (config.latent_channels, *config.rollout_shape)
        rollout = EndedChunk.unpacked(before, backend.info.model_id, shape).rollout
        assert torch.allclose(rollout, dit.tensor("in_hex_chain1") * pipeline.mask, rtol=1e-3, atol=1e-3)
        exact = ReferenceConditions(given.trajectory, given.command, given.layout, dit.tensor("in_hex_chain1"))
        check(pipeline, dit, deviation, exact, "chain1")


def test_an_imported_checkpoint_is_served_in_its_own_grid_and_classes(dit, backend):
    info, config = backend.info, dit.autoencoder.config
    assert info.grid.shape == config.grid
    assert info.grid.voxel_size_m == (0.4, 0.4, 0.375)
    assert (info.frames_per_chunk, info.default_steps, info.samplers[0]) == (config.frames, 1000, "ddpm")
    assert len(info.taxonomy) == config.classes
    merged_as_carlasc = dit.model.config.classes.merged_from_raw == tuple(MERGED_FROM_RAW)
    assert (info.taxonomy == CARLASC) == merged_as_carlasc
    assert "known_region" in info.conditions


def conditions_for(info, chunk, continuation):
    frames = info.frames_per_chunk
    steps = np.arange(chunk * frames, (chunk + 1) * frames)
    poses = poses_from_planar(np.column_stack([0.4 * steps, 0 * steps, 0.01 * steps]))
    plan = EgoPlan(poses, steps * 100_000)
    cells = np.zeros((frames, info.grid.shape[0] // 4, info.grid.shape[1] // 4), np.bool_)
    cells[:, 1, 2] = True
    everything = {
        "plan": plan,
        "command": plan.command,
        "layout": VehicleLayout(cells),
        "continuation": continuation,
    }
    return Conditions(**{name: value for name, value in everything.items() if name in info.conditions})


def test_two_chunks_are_served_by_seed_one_from_the_other(backend):
    info = backend.info

    def drive():
        chunks, continuation = [], None
        for number in range(2):
            conditions = conditions_for(info, number, continuation)
            # Toy networks leave the range of half precision with guidance, or with the variances that they learned.
            options = SamplingOptions(seed=number, steps=10, guidance_scale=1.0, sampler="ddim")
            chunks.append(backend.generate(conditions, options, lambda done: None))
            continuation = chunks[-1].continuation
        return chunks

    for chunk, again in zip(drive(), drive(), strict=True):
        assert chunk.occupancy.labels.shape == (info.frames_per_chunk, *info.grid.shape)
        assert chunk.occupancy.labels.tobytes() == again.occupancy.labels.tobytes()
        assert chunk.continuation == again.continuation
        assert chunk.occupancy.taxonomy == info.taxonomy
