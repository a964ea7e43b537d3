"""The family anchored behind the engine's port: what it offers, what it takes, and what it refuses."""

from shutil import copytree

import numpy as np
import pytest
import torch
from dyncity_models.anchored.checkpoint import load_model
from dyncity_models.backends.anchored.pipeline import BF16
from dyncity_models.data.clips import UNOBSERVED
from dyncity_models.execution import Execution

from dyncity_sim.domain.agreement import static_agreement
from dyncity_sim.domain.conditions import Command, Conditions, EgoPlan, SamplingOptions
from dyncity_sim.domain.frames import inverse
from dyncity_sim.domain.grid import CARLASC_GRID, EGO_UPPER_M
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.engine.backend import load_backend
from dyncity_sim.errors import CheckpointError, ConfigError, InvalidInputError


def test_it_is_found_by_its_name_and_says_what_it_can_do(weights, backend):
    info = load_backend("torch", weights).info
    assert info == backend.info
    assert info.model_id == load_model(weights).model_id
    assert info.conditions == ("known_region", "continuation", "plan", "command")
    assert info.samplers == ("euler", "heun", "dpm++2m", "unipc")
    assert (info.frames_per_chunk, info.rate_hz, info.default_steps) == (16, 10.0, 2)
    assert info.taxonomy == CARLASC
    assert isinstance(hash(info.conditions), int)


def test_weights_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(CheckpointError):
        load_backend("torch", tmp_path)


def test_options_say_how_networks_run_and_change_rounding_alone(weights, build_street):
    plain, single = load_backend("torch", weights), load_backend("torch", weights, ["precision=fp32", "attention=sdpa"])
    assert plain.pipeline.execution == BF16
    assert single.pipeline.execution == Execution("fp32", channels_last=True, attention="sdpa")
    street = build_street(16, 6.0)
    tokens, poses = torch.from_numpy(street.labels)[None], torch.zeros(1, 16, 3)
    half, whole = (backend.pipeline.posterior(tokens, poses)[0].xy.float() for backend in (plain, single))
    assert 0 < (half - whole).abs().max() < 0.05 * whole.abs().max()


@pytest.mark.parametrize(
    ("was", "changed", "named"),
    [
        ('"grid_cells": 128', '"grid_cells": 4096', "grid_cells: 4096, expected 128"),
        ('"grid_half_extent_m": 25.6', '"grid_half_extent_m": 2560.0', r"half_extent_m: 2560\.0, expected 25\.6"),
        ('"common": true', '"common": false', r"canvas\.common: False, expected True"),
    ],
)
def test_weights_of_another_grid_than_the_one_that_is_served_are_refused(weights, tmp_path, was, changed, named):
    folder = copytree(weights, tmp_path / "weights")
    described = (folder / "model.json").read_text()
    assert was in described
    (folder / "model.json").write_text(described.replace(was, changed))
    with pytest.raises(CheckpointError, match=named):
        load_backend("torch", folder)


def test_options_of_sampling_stand_in_for_those_of_the_weights_under_another_model_id(weights, plan_along):
    shipped, same, other = (
        load_backend("torch", weights, options)
        for options in ([], ["sampling.steps=2"], ["sampling.steps=3", "sampling.sampler=unipc"])
    )
    assert same.info == shipped.info
    assert (other.info.default_steps, other.info.samplers[0]) == (3, "unipc")
    assert other.info.model_id != shipped.info.model_id
    asked = []
    other.generate(Conditions(plan_along()), SamplingOptions(seed=0), asked.append)
    assert asked == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("speed=9", "speed"),
        ("precision=fp8", "fp32, bf16, fp16"),
        ("cuda_graphs=true", "execution.cuda_graphs"),
        ("sampling.speed=9", r"sampling\.speed"),
        ("sampling.steps=many", "steps"),
        ("sampling.autoguidance=2", "without a guide"),
        ("sampling.steps=0", r"sampling\.steps: got 0, expected an integer in \[1, 1000\]"),
        ("sampling.sampler=ddpm", r"sampling\.sampler: got 'ddpm', expected one of euler"),
        ("sampling.guidance_scale=nan", r"sampling\.guidance_scale: got nan"),
        ("sampling.resamples=0", r"sampling\.resamples: got 0"),
        ("sampling.shift=inf", r"sampling\.shift: got inf, expected a number above 0"),
        ("sampling.shift=-1", r"sampling\.shift: got -1"),
        ("sampling.candidates=0", r"sampling\.candidates: got 0, expected a number of at least 1"),
        ("sampling.candidates=-2", r"sampling\.candidates: got -2"),
        ("sampling.redraws=-1", r"sampling\.redraws: got -1, expected a number of at least 0"),
        ("sampling.autoguidance=nan", r"sampling\.autoguidance: got nan, expected from 0 to 20"),
        ("sampling.autoguidance_time=-inf", r"sampling\.autoguidance_time: got -inf"),
        ("sampling.setting_off=1.5", r"sampling\.setting_off: got 1\.5, expected from 0 to 1"),
    ],
)
def test_an_option_that_is_unknown_or_cannot_be_run_is_refused(weights, option, message):
    with pytest.raises(ConfigError, match=message):
        load_backend("torch", weights, [option])


@pytest.mark.parametrize(
    ("shares", "kept"), [([0.9], 0), ([0.5, 0.8], 1), ([0.1, 0.5, 0.3], 1), ([0.4, 0.4, 0.2], 0), ([0.0, 0.1, 0.9], 2)]
)
def test_a_chunk_without_road_under_its_path_is_drawn_again(weights, plan_along, monkeypatch, shares, kept):
    backend = load_backend("torch", weights, ["sampling.redraws=2"])
    drawn, asked, left = [], [], iter(shares)

    def share(chunk):
        drawn.append(chunk.labels)
        return next(left)

    monkeypatch.setattr("dyncity_models.backends.anchored.backend.road_under_path", share)
    seen = []
    monkeypatch.setattr(backend, "_as_one_world", _seeing(backend._as_one_world, seen))
    backend.generate(Conditions(plan_along()), SamplingOptions(seed=0), asked.append)
    assert asked == [0, 1, 2] * len(shares)
    assert np.array_equal(seen[0], drawn[kept])
    assert not any(np.array_equal(drawn[kept], other) for n, other in enumerate(drawn) if n != kept)


def _seeing(work, seen):
    def watched(decoded, *others):
        seen.append(decoded)
        return work(decoded, *others)

    return watched


def test_a_chunk_is_known_everywhere_and_lies_on_its_plan(generate, plan_along):
    plan = plan_along(7.0, 0.1, (100.0, -40.0, 2.0))
    chunk = generate(Conditions(plan, Command.LEFT), seed=5)
    assert chunk.occupancy.labels.shape == (16, *CARLASC_GRID.shape)
    assert chunk.occupancy.labels.max() < UNOBSERVED
    assert chunk.occupancy.observed is None
    assert np.array_equal(chunk.occupancy.poses_world_from_ego, plan.poses_world_from_ego)
    assert np.array_equal(chunk.occupancy.times_us, plan.times_us)
    assert chunk.seed == 5
    assert chunk.timings.sampling_s > 0
    assert chunk.timings.decoding_s > 0


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(generate, plan_along):
    conditions = Conditions(plan_along())
    first, again, other = (generate(conditions, seed) for seed in (1, 1, 2))
    assert first.occupancy.labels.tobytes() == again.occupancy.labels.tobytes()
    assert first.continuation == again.continuation
    assert not np.array_equal(first.occupancy.labels, other.occupancy.labels)


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 3},
        {"sampler": "heun", "steps": 3},
        {"sampler": "dpm++2m", "steps": 3},
        {"sampler": "unipc", "steps": 3},
        {"guidance_scale": 4.0},
        {"guidance_scales": {"command": 4.0}},
    ],
    ids=str,
)
def test_options_have_an_effect(generate, plan_along, change):
    conditions = Conditions(plan_along(), Command.FORWARD)
    default, euler3 = generate(conditions), generate(conditions, steps=3)
    against = euler3 if "sampler" in change else default
    assert not np.array_equal(generate(conditions, **change).occupancy.labels, against.occupancy.labels)


def test_the_command_has_an_effect(generate, plan_along):
    first, other = (generate(Conditions(plan_along(), command)).occupancy.labels for command in (None, Command.LEFT))
    assert not np.array_equal(first, other)


def test_where_in_the_world_a_drive_begins_makes_no_difference(generate, plan_along):
    """Up to rounding: almost all cells are the same."""
    here = generate(Conditions(plan_along(6.0, 0.2))).occupancy.labels
    there = generate(Conditions(plan_along(6.0, 0.2, (5e4, -3e4, 2.5)))).occupancy.labels
    assert (here == there).mean() > 0.99


def test_crossing_west_is_like_any_other_heading(generate, plan_along):
    """Headings are known up to a full turn; none of them may be seen as a whole turn within a chunk."""
    east = generate(Conditions(plan_along(6.0, 0.2, (0.0, 0.0, -0.15)))).occupancy.labels
    west = generate(Conditions(plan_along(6.0, 0.2, (0.0, 0.0, np.pi - 0.15)))).occupancy.labels
    assert (east == west).mean() > 0.99


def test_without_a_plan_or_with_another_length_it_is_refused(generate, plan_along):
    with pytest.raises(InvalidInputError, match=r"^conditions\.plan: "):
        generate(Conditions())
    with pytest.raises(InvalidInputError, match=r"^plan\.poses_world_from_ego: "):
        generate(Conditions(plan_along(frames=15)))
    with pytest.raises(InvalidInputError, match=r"^plan\.poses_world_from_ego: "):
        generate(Conditions(plan_along(frames=17)))


def test_a_plan_at_another_rate_is_refused(generate, plan_along):
    plan = plan_along()
    with pytest.raises(InvalidInputError, match=r"^plan\.times_us: "):
        generate(Conditions(EgoPlan(plan.poses_world_from_ego, plan.times_us * 2)))


def test_an_unknown_sampler_is_refused(generate, plan_along):
    with pytest.raises(InvalidInputError, match=r"^options\.sampler: "):
        generate(Conditions(plan_along()), sampler="magic")


def test_a_checkpoint_that_raises_drops_the_work(generate, plan_along):
    steps = []

    def stop(step):
        steps.append(step)
        if step == 2:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        generate(Conditions(plan_along()), steps=50, checkpoint=stop)
    assert steps == [0, 1, 2]


def test_whatever_is_decoded_the_static_world_of_a_chunk_is_rigid(generate, plan_along):
    chunk = generate(Conditions(plan_along(8.0, 0.0))).occupancy
    pose = inverse(chunk.poses_world_from_ego[0]) @ chunk.poses_world_from_ego[-1]
    x, y = np.meshgrid(CARLASC_GRID.centres(0), CARLASC_GRID.centres(1), indexing="ij")
    beyond_ego = (np.hypot(x, y) > np.hypot(*EGO_UPPER_M[:2]))[..., None]
    static = ~np.isin(chunk.labels[0], CARLASC.moving_labels) & beyond_ego
    assert static_agreement(chunk.labels[0], chunk.labels[-1], pose, CARLASC_GRID, CARLASC, first_mask=static) == 1.0
