"""The torch backend behind a real server process: over the wire it gives what it gives in this process."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from dyncity_models.anchored.autoencoder import Autoencoder
from dyncity_models.anchored.checkpoint import load_model, save_model
from dyncity_models.anchored.transformer import DiffusionTransformer
from dyncity_models.backends.anchored.backend import AnchoredBackend
from dyncity_models.backends.anchored.pipeline import AnchoredPipeline
from dyncity_models.config import (
    AnchoredConfig,
    AutoencoderConfig,
    CanvasConfig,
    DiffusionTransformerConfig,
    SamplingConfig,
)
from dyncity_models.normalisation import Normalisation

from dyncity_sim.domain.conditions import Conditions, EgoPlan, SamplingOptions
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import InvalidInputError

PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights of the real classes at tiny widths."""
    planes = AutoencoderConfig(
        embedding_channels=2,
        encoder_channels=8,
        static_channels=8,
        feature_channels=8,
        output_channels=8,
        canvas=CanvasConfig(cells=32),
    )
    config = AnchoredConfig(
        planes, DiffusionTransformerConfig(width=32, depth=2, heads=2, stem_channels=8), SamplingConfig(steps=3)
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        autoencoder, transformer = Autoencoder(planes), DiffusionTransformer(config.transformer, planes)
        with torch.no_grad():
            for parameter in transformer.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
            # A world that is full of random vehicles takes long to track.
            autoencoder.decoder.head.bias.view(-1, planes.classes)[:, CARLASC.index("vehicle")] -= 0.4
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    save_model(folder, config, autoencoder, transformer, Normalisation(planes.latent_channels))
    return folder


@pytest.fixture(scope="module")
def backend(weights):
    """On one thread of the CPU, as the server: sums in another order round to other labels."""
    torch.set_num_threads(1)
    return AnchoredBackend(AnchoredPipeline(load_model(weights), torch.device("cpu")))


@pytest.fixture(scope="module")
def client(served, weights):
    with served("--weights", str(weights), "--threads", "1") as client:
        yield client


def same_chunk(first, second):
    assert first.occupancy.labels.tobytes() == second.occupancy.labels.tobytes()
    assert np.array_equal(first.occupancy.poses_world_from_ego, second.occupancy.poses_world_from_ego)
    assert np.array_equal(first.occupancy.times_us, second.occupancy.times_us)
    assert first.continuation == second.continuation
    assert (first.seed, first.model_id) == (second.seed, second.model_id)


def plan_of(street, start_us=0):
    return EgoPlan(street.poses_world_from_ego, street.times_us + start_us)


def test_the_server_tells_of_the_model_it_loaded(client, backend):
    assert client.model_info() == backend.info


def test_chunks_over_the_wire_are_those_of_this_process_bit_for_bit(client, backend, build_street):
    street = build_street(32, 7.0, curvature_per_m=0.02)
    options = SamplingOptions(seed=2**62 + 1, steps=4, guidance_scale=1.5, sampler="heun")
    continuation = None
    for part in (street[:16], street[16:]):
        plan = plan_of(part)
        conditions = Conditions(plan, plan.command, continuation)
        here = backend.generate(conditions, options, lambda step: None)
        same_chunk(client.generate(conditions, options), here)
        continuation = here.continuation


def streamed(client, requests):
    with client.stream() as stream:
        for conditions, options in requests:
            stream.send(conditions, options)
        return [stream.receive() for _ in requests]


def test_a_stream_gives_what_the_same_calls_give_bit_for_bit(client, build_street):
    street = build_street(48, 7.0, curvature_per_m=0.02)
    plans = [plan_of(street[start : start + 16]) for start in (0, 16, 32)]
    requests = [(Conditions(plan, plan.command), SamplingOptions(seed=seed)) for seed, plan in enumerate(plans)]
    continuation = None
    for chunk, (conditions, options) in zip(streamed(client, requests), requests, strict=True):
        called = client.generate(replace(conditions, continuation=continuation), options)
        same_chunk(chunk, called)
        continuation = called.continuation


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_stream_over_the_bundled_weights_gives_what_calls_give_bit_for_bit(served, build_street):
    street = build_street(48, 7.0)
    plans = [plan_of(street[start : start + 16]) for start in (16, 32)]
    options = [SamplingOptions(seed=seed, steps=2) for seed in (5, 6)]
    with served("--threads", "1") as client:
        start = client.encode(street[:16])
        conditions = [Conditions(plans[0], plans[0].command, start), Conditions(plans[1], plans[1].command)]
        chunks = streamed(client, list(zip(conditions, options, strict=True)))
        first = client.generate(conditions[0], options[0])
        second = client.generate(replace(conditions[1], continuation=first.continuation), options[1])
    same_chunk(chunks[0], first)
    same_chunk(chunks[1], second)
    assert not np.array_equal(first.occupancy.labels, second.occupancy.labels)


def test_observed_occupancy_is_encoded_as_in_this_process(client, backend, build_street):
    street = build_street(16, 7.0)
    observed = np.zeros(street.labels.shape, dtype=np.bool_)
    observed[:, 40:90, 50:80] = True
    seen = replace(street, observed=observed)
    here = backend.encode(seen)
    assert client.encode(seen) == here
    conditions = Conditions(plan_of(street, 1_600_000), continuation=here)
    options = SamplingOptions(seed=7)
    same_chunk(client.generate(conditions, options), backend.generate(conditions, options, lambda step: None))


@pytest.mark.parametrize("damage", ["foreign", "truncated"])
def test_a_continuation_that_does_not_fit_is_refused_over_the_wire_by_name(client, backend, build_street, damage):
    street = build_street(16, 7.0)
    fitting = backend.encode(street)
    broken = {
        "foreign": (replace(fitting, model_id="anchored-0"), r"continuation\.model_id"),
        "truncated": (replace(fitting, payload=fitting.payload[:-9]), r"continuation\.payload"),
    }
    continuation, field = broken[damage]
    with pytest.raises(InvalidInputError, match=field):
        client.generate(Conditions(plan_of(street), continuation=continuation), SamplingOptions(seed=0))


def test_a_request_without_a_plan_is_refused_over_the_wire(client):
    with pytest.raises(InvalidInputError, match="plan"):
        client.generate(Conditions(), SamplingOptions(seed=0))
