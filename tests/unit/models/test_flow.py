from itertools import pairwise

import pytest
import torch
from dyncity_models.diffusion.flow import draw_times, guided, interpolate, noise_like, sample
from dyncity_models.hexplane import Planes


def filled(value, batch=1):
    return Planes(*(torch.full((batch, 2, *size), value, dtype=torch.float64) for size in ((4, 4), (2, 4), (2, 4))))


def mapped(function, *planes):
    return Planes(*(function(*parts) for parts in zip(*planes, strict=True)))


def largest(planes):
    return max(float(plane.abs().max()) for plane in planes)


@pytest.mark.parametrize("sampler", ["euler", "heun"])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_the_exact_velocity_of_one_datum_leads_to_it_in_any_number_of_steps(build_planes, sampler, steps):
    data, noise = build_planes(seed=1), build_planes(seed=2)

    def velocity(planes, time_B):
        return mapped(lambda x, d: (x - d) / time_B[:, None, None, None], planes, data)

    found = sample(velocity, noise, steps, sampler)
    assert largest(mapped(torch.sub, found, data)) < 1e-4


@pytest.mark.parametrize(("sampler", "order"), [("euler", 1.0), ("heun", 2.0)])
def test_samplers_converge_with_their_order(sampler, order):
    def velocity(planes, time_B):
        return mapped(lambda x: x * (1 + time_B[:, None, None, None].double()), planes)

    # dx/dt = (1 + t) x from t = 1 to 0: x(0) = x(1) exp(-3/2)
    exact = filled(float(torch.exp(torch.tensor(-1.5, dtype=torch.float64))))
    spent = {"euler": 1, "heun": 2}[sampler]
    errors = [
        largest(mapped(torch.sub, sample(velocity, filled(1.0), spent * n, sampler), exact)) for n in (32, 64, 128)
    ]
    orders = [float(torch.log2(torch.tensor(a / b))) for a, b in pairwise(errors)]
    assert orders == pytest.approx([order, order], abs=0.15)


@pytest.mark.parametrize("steps", range(1, 9))
@pytest.mark.parametrize(("sampler", "unspent"), [("euler", (0, 0)), ("heun", (1, 0))])
def test_samplers_spend_the_evaluations_they_are_given(sampler, unspent, steps):
    calls = []

    def velocity(planes, time_B):
        calls.append(float(time_B[0]))
        return planes

    progress = []
    sample(velocity, filled(1.0), steps, sampler, progress.append)
    assert len(calls) == steps - unspent[steps % 2]
    assert calls[0] == 1.0
    assert min(calls) > 0.0
    assert progress[0] == 0
    assert progress[-1] == len(calls)
    assert progress == sorted(set(progress))


def test_a_checkpoint_that_raises_stops_sampling_at_once():
    calls = []

    def velocity(planes, time_B):
        calls.append(1)
        return planes

    def stop(done):
        if done == 3:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        sample(velocity, filled(1.0), 10, "euler", stop)
    assert len(calls) == 3


def test_interpolation_begins_at_the_data_and_ends_at_the_noise(build_planes):
    data, noise = build_planes(3, seed=1), build_planes(3, seed=2)
    between = interpolate(data, noise, torch.tensor([0.0, 1.0, 0.25]))
    for x, e, t in zip(data, noise, between, strict=True):
        assert torch.equal(t[0], x[0])
        assert torch.equal(t[1], e[1])
        assert torch.allclose(t[2], 0.75 * x[2] + 0.25 * e[2])


def test_guidance_of_one_never_asks_without_conditions():
    def conditional(planes, time_B):
        return planes

    def unconditional(planes, time_B):
        raise AssertionError

    assert guided(conditional, unconditional, 1.0) is conditional


def test_guidance_moves_away_from_what_is_without_conditions():
    velocity = guided(lambda p, t: filled(3.0), lambda p, t: filled(1.0), 2.5)
    assert largest(mapped(torch.sub, velocity(filled(0.0), torch.ones(1)), filled(6.0))) == 0
    ignoring = guided(lambda p, t: filled(3.0), lambda p, t: filled(1.0), 0.0)
    assert largest(mapped(torch.sub, ignoring(filled(0.0), torch.ones(1)), filled(1.0))) == 0


def test_the_same_seed_draws_the_same_noise_and_another_seed_another(build_planes):
    like = build_planes()
    first, again, other = (noise_like(like, torch.Generator().manual_seed(s)) for s in (5, 5, 6))
    for a, b, c, shape in zip(first, again, other, like, strict=True):
        assert a.shape == shape.shape
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


def test_times_are_logit_normal():
    times = draw_times(20_000, 0.3, torch.Generator().manual_seed(0))
    assert 0 < float(times.min()) < float(times.max()) < 1
    logits = torch.logit(times)
    assert float(logits.mean()) == pytest.approx(0.3, abs=0.03)
    assert float(logits.std()) == pytest.approx(1.0, abs=0.03)
