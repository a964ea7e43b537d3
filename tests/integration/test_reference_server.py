"""The family reference behind a real server process: over the wire it gives what it gives in this process."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from dyncity_models.backends.load import load
from dyncity_models.reference.autoencoder import ReferenceAutoencoder
from dyncity_models.reference.checkpoint import save_reference
from dyncity_models.reference.config import (
    ReferenceAutoencoderConfig,
    ReferenceClasses,
    ReferenceConfig,
    ReferenceSampling,
    ReferenceSpace,
    ReferenceTransformerConfig,
)
from dyncity_models.reference.conventions import EgoConvention
from dyncity_models.reference.dit import ReferenceTransformer

from dyncity_sim.cli.main import main
from dyncity_sim.domain.conditions import Command, Conditions, EgoPlan, SamplingOptions, VehicleLayout
from dyncity_sim.domain.frames import poses_from_planar
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.errors import InvalidInputError, UnsupportedConditionError

GOLDEN = Path(__file__).parents[3] / "shared" / "golden"
PATIENCE_S = 120.0
FRAMES = 4


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights at tiny widths, with classes of their own; the transformer was not trained with commands."""
    planes = ReferenceAutoencoderConfig(
        frames=FRAMES, grid=(16, 16, 8), classes=4, plane_channels=8, low_channels=8, high_channels=8, dropout=0.0
    )
    conditions = ("trajectory", "layout", "hexplane")
    config = ReferenceConfig(
        planes,
        ReferenceTransformerConfig(depth=1, width=32, heads=2, conditions=conditions),
        ReferenceClasses(("free", "road", "vehicle", "house")),
        ReferenceSpace.carlasc(planes.grid),
        ReferenceSampling("ddim", 3, 1.5),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        autoencoder, transformer = ReferenceAutoencoder(planes), ReferenceTransformer(config.transformer, planes)
        with torch.no_grad():
            for parameter in transformer.parameters():
                parameter.add_(0.01 * torch.randn_like(parameter))
    folder = tmp_path_factory.mktemp("weights") / "reference"
    save_reference(folder, config, autoencoder, transformer, EgoConvention())
    return folder


@pytest.fixture(scope="module")
def client(served, weights):
    with served("--weights", str(weights), "--threads", "1") as client:
        yield client


@pytest.fixture(scope="module")
def backend(weights):
    torch.set_num_threads(1)
    return load(weights)


def plan_of(chunk):
    steps = np.arange(chunk * FRAMES, (chunk + 1) * FRAMES)
    return EgoPlan(poses_from_planar(np.column_stack([0.5 * steps, 0 * steps, 0.02 * steps])), steps * 100_000)


def same_chunk(first, second):
    assert first.occupancy.labels.tobytes() == second.occupancy.labels.tobytes()
    assert np.array_equal(first.occupancy.poses_world_from_ego, second.occupancy.poses_world_from_ego)
    assert first.occupancy.taxonomy == second.occupancy.taxonomy
    assert first.continuation == second.continuation


def test_the_server_tells_of_the_model_it_loaded(client, backend):
    info = client.model_info()
    assert info == backend.info
    assert info.conditions == ("known_region", "continuation", "plan", "layout")


def test_chunks_over_the_wire_are_those_of_this_process_bit_for_bit(client, backend):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (FRAMES, *backend.grid.shape)).astype(np.uint8)
    plan = plan_of(0)
    seen = OccupancySequence(labels, plan.poses_world_from_ego, plan.times_us, backend.grid, backend.taxonomy)
    start = client.encode(seen)
    assert start == backend.encode(seen)

    onward = plan_of(1)
    observed = np.zeros(labels.shape, np.bool_)
    observed[:, :, 8:] = True
    region = OccupancySequence(
        labels, onward.poses_world_from_ego, onward.times_us, backend.grid, backend.taxonomy, observed
    )
    conditions = Conditions(onward, None, start, VehicleLayout(rng.random((FRAMES, 4, 4)) < 0.3), region)
    options = SamplingOptions(seed=3, guidance_scales={"layout": 2.5}, resamples=2)
    first = client.generate(conditions, options)
    same_chunk(first, backend.generate(conditions, options, lambda done: None))
    assert np.array_equal(first.occupancy.labels[observed], labels[observed])

    without = Conditions(continuation=first.continuation)
    options = SamplingOptions(seed=4, sampler="dpm++2m", steps=4)
    same_chunk(client.generate(without, options), backend.generate(without, options, lambda done: None))


def test_a_stream_gives_what_the_same_calls_give_bit_for_bit(client):
    requests = [(Conditions(plan_of(n)), SamplingOptions(seed=n)) for n in range(3)]
    with client.stream() as stream:
        for conditions, options in requests:
            stream.send(conditions, options)
        chunks = [stream.receive() for _ in requests]
    continuation = None
    for chunk, (conditions, options) in zip(chunks, requests, strict=True):
        called = client.generate(replace(conditions, continuation=continuation), options)
        same_chunk(chunk, called)
        continuation = called.continuation


def test_what_does_not_fit_is_refused_over_the_wire_by_name(client):
    with pytest.raises(UnsupportedConditionError, match="command"):
        client.generate(Conditions(plan_of(0), Command.LEFT), SamplingOptions(seed=0))
    chunk = client.generate(Conditions(plan_of(0)), SamplingOptions(seed=0))
    damaged = replace(chunk.continuation, payload=chunk.continuation.payload[:-3] + b"abc")
    with pytest.raises(InvalidInputError, match=r"continuation\.payload"):
        client.generate(Conditions(plan_of(1), continuation=damaged), SamplingOptions(seed=0))
    with pytest.raises(InvalidInputError, match="options"):
        client.generate(Conditions(plan_of(1)), SamplingOptions(seed=0, guidance_scales={"known_region": 2.0}))


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="no folder shared/golden beside the checkout")
def test_a_published_run_is_imported_by_command_and_served(served, tmp_path):
    run = GOLDEN / "tiny_b" / "ckpts" / "TINY_B_DIT"
    assert main(["import-checkpoint", str(run), "--out", str(tmp_path / "city"), "--heads", "4"]) == 0
    with served("--weights", str(tmp_path / "city"), "--threads", "1") as client:
        info = client.model_info()
        assert (info.family, len(info.taxonomy), info.frames_per_chunk) == ("reference", 23, 8)
        chunk = client.generate(Conditions(command=Command.FORWARD), SamplingOptions(seed=1, steps=4))
        assert chunk.occupancy.labels.shape == (8, 32, 32, 8)
