from copy import deepcopy
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from dyncity_models.anchored.checkpoint import load_model
from dyncity_models.backends.anchored.pipeline import AnchoredPipeline
from dyncity_models.diffusion.flow import noise_like
from dyncity_models.diffusion.sampling import make_sampler
from dyncity_models.execution import Execution
from dyncity_models.hexplane import Planes

from dyncity_sim.domain.taxonomy import CARLASC

CPU = torch.device("cpu")


@pytest.fixture
def pipeline(backend):
    return backend.pipeline


@pytest.fixture
def build_conditions(build_conditions):
    """Conditions of weights that take no layout."""
    return lambda batch: build_conditions(batch).without("layout")


def velocity_of(pipeline, planes, time, conditions):
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        return pipeline.transformer(planes, torch.full((len(planes),), time), conditions).flat()


def generated(pipeline, conditions, sampler, scales, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return pipeline.generate(conditions, generator, sampler, scales).flat()


def rows_of(pipeline, conditions, scales):
    """Rows of every call of the network while two evaluations are spent."""
    rows = []
    handle = pipeline.transformer.patch_xy.register_forward_hook(lambda module, inputs, out: rows.append(len(out)))
    generated(pipeline, conditions, make_sampler("euler", "flow", 2), scales)
    handle.remove()
    return rows


def test_heun_is_the_formula_that_the_bundled_weights_were_chosen_with(pipeline, build_conditions):
    conditions = build_conditions(1)
    planes = noise_like(pipeline._shapes(1), torch.Generator().manual_seed(0))
    latents = planes.flat()
    for start, end in pairwise(torch.linspace(1.0, 0.0, 6).tolist()):
        slope = velocity_of(pipeline, planes.shaped(latents), start, conditions)
        if end > 0:
            after = velocity_of(pipeline, planes.shaped(latents + (end - start) * slope), end, conditions)
            slope = 0.5 * (slope + after)
        latents = latents + (end - start) * slope
    found = generated(pipeline, conditions, make_sampler("heun", "flow", 10), {})
    torch.testing.assert_close(found, latents, rtol=0, atol=2e-3)


@pytest.mark.parametrize(
    ("scales", "rows"),
    [
        ({}, 1),
        ({"plan": 1.0, "layout": 1.0, "command": 1.0}, 1),
        ({"plan": 3.0, "layout": 3.0, "command": 3.0}, 2),
        ({"plan": 3.0, "command": 2.0}, 3),
        ({"continuation": 2.0, "plan": 3.0, "command": 2.0}, 4),
    ],
)
def test_guidance_costs_one_call_of_as_many_rows_as_it_needs(pipeline, build_conditions, scales, rows):
    assert rows_of(pipeline, build_conditions(1), scales) == [rows, rows]


def test_a_condition_that_is_not_given_costs_nothing(pipeline, build_conditions):
    conditions = build_conditions(1).without("continuation", "command")
    assert rows_of(pipeline, conditions, {"continuation": 2.0, "plan": 1.0, "command": 5.0}) == [1, 1]


def test_one_step_of_guidance_is_the_chain_of_pushes(pipeline, build_conditions):
    conditions = build_conditions(1)
    noise = noise_like(pipeline._shapes(1), torch.Generator().manual_seed(0))
    full, known_only, nothing = (
        velocity_of(pipeline, noise, 1.0, conditions.without(*names))
        for names in ((), ("plan", "command"), ("continuation", "plan", "command"))
    )
    pushed = 2.0 * (known_only - nothing) + 3.0 * (full - known_only) + nothing - full
    scales = {"continuation": 2.0, "plan": 3.0, "command": 3.0}
    found = generated(pipeline, conditions, make_sampler("euler", "flow", 1), scales)
    off = found - (noise.flat() - full - pushed)
    # Half precision rounds differently in a batch of another size.
    assert float(off.square().mean().sqrt()) < 0.05 * float(pushed.square().mean().sqrt())


def one_step(folder, conditions):
    pipeline = AnchoredPipeline(load_model(folder), CPU, Execution())
    found = generated(pipeline, conditions, make_sampler("euler", "flow", 1), {})
    return pipeline, pipeline._shapes(1).shaped(found)


@pytest.mark.parametrize(("hidden", "scales"), [((), (2.5, 1.0, 1.0)), (("continuation",), (2.5, 0.5, 0.5))])
def test_autoguidance_leads_away_from_a_guide_that_knows_the_known_world_alone_over_time_where_a_drive_begins(
    build_guided_weights, build_conditions, hidden, scales
):
    conditions = build_conditions(1).without(*hidden)
    pipeline, found = one_step(build_guided_weights(autoguidance=2.5, autoguidance_time=0.5), conditions)
    noise = noise_like(pipeline._shapes(1), torch.Generator().manual_seed(0))
    with torch.inference_mode():
        good = pipeline.transformer(noise, torch.ones(1), conditions)
        weak = pipeline.model.guide(noise, torch.ones(1), conditions.without("plan", "layout", "command"))
    for plane, start, g, w, scale in zip(found, noise, good, weak, scales, strict=True):
        assert not torch.allclose(g, w, atol=1e-2)
        torch.testing.assert_close(plane, start - (w + scale * (g - w)), rtol=0, atol=1e-5)


def test_autoguidance_of_one_asks_no_guide(weights, build_guided_weights, build_conditions):
    conditions = build_conditions(1)
    (guided, found), (_, plain) = one_step(build_guided_weights(), conditions), one_step(weights, conditions)
    guided.model.guide.forward = None
    assert torch.equal(found.flat(), plain.flat())
    generated(guided, conditions, make_sampler("euler", "flow", 1), {})


def test_of_several_candidates_the_one_with_most_road_under_the_path_is_kept(weights, build_conditions, monkeypatch):
    model = load_model(weights)
    config = replace(model.config, sampling=replace(model.config.sampling, candidates=3))
    pipeline = AnchoredPipeline(replace(model, config=config), CPU)
    scored = []

    def shares(planes, canvas_from_ego):
        scored.append(planes)
        return torch.tensor([0.1, 0.2, 0.9])

    monkeypatch.setattr(pipeline, "_road_under_path", shares)
    kept = pipeline.generate(
        build_conditions(1), torch.Generator().manual_seed(0), make_sampler("euler", "flow", 2), {}
    )
    (candidates,) = scored
    assert len(candidates) == 3
    assert torch.equal(kept.xy[0], candidates.xy[2])
    assert not torch.equal(kept.xy[0], candidates.xy[0])


def test_the_road_under_a_path_is_that_of_the_columns_within_a_metre_of_its_poses(weights, build_planes, monkeypatch):
    """The left half of one world is road and the front half of another; the ego stands a bit back and to the left."""
    pipeline = AnchoredPipeline(load_model(weights), CPU)
    logits = torch.zeros(2, 1, 128, 128, 8, 11)
    logits[0, :, :, 64:, 0, CARLASC.index("road")] = 1.0
    logits[1, :, 64:, :, 3, CARLASC.index("road")] = 1.0
    monkeypatch.setattr(pipeline.autoencoder, "decode", lambda *_: logits)
    path = torch.tensor([-0.5, 0.5, 0.0]).expand(2, 16, 3)
    assert pipeline._road_under_path(build_planes(2), path).tolist() == [3 / 4, 1 / 4]


def test_planes_of_a_sample_have_the_shapes_of_the_family(pipeline, build_conditions, build_planes):
    planes = pipeline.generate(
        build_conditions(1), torch.Generator().manual_seed(0), make_sampler("unipc", "flow", 3), {}
    )
    assert isinstance(planes, Planes)
    assert [plane.shape for plane in planes] == [plane.shape for plane in build_planes(1)]


def test_weights_rounded_once_give_the_bits_of_those_that_autocast_rounds_and_stay_whole_themselves(
    pipeline, build_conditions, build_planes
):
    model, planes, conditions = pipeline.model, build_planes(1), build_conditions(1)
    frames, time = torch.arange(4)[None], torch.full((1,), 0.5)

    def computed(autoencoder, transformer):
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            logits = autoencoder.decode(planes, conditions.canvas_from_ego, frames)
            return logits, transformer(planes, time, conditions).flat()

    laid_out = Execution(channels_last=True)
    by_autocast = [laid_out.prepare(deepcopy(n), pipeline.device) for n in (model.autoencoder, model.transformer)]
    found, expected = computed(pipeline.autoencoder, pipeline.transformer), computed(*by_autocast)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    given, ready = (own.transformer.patch_xy.weight.dtype for own in (model, pipeline))
    assert (given, ready) == (torch.float32, torch.bfloat16)


def test_a_chunk_is_decoded_as_its_frames_are_one_by_one(pipeline, build_conditions, build_planes):
    planes, poses = build_planes(1), build_conditions(1).canvas_from_ego
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        together = torch.cat(list(pipeline.autoencoder.decode_labels(planes, poses)), dim=1)
        for frame in range(together.shape[1]):
            logits = pipeline.autoencoder.decode(planes, poses, torch.full((1, 1), frame))
            assert torch.equal(logits.argmax(dim=-1)[:, 0], together[:, frame])
