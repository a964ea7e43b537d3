import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from dyncity_models.diffusion.bounds import bounded
from dyncity_models.diffusion.gaussian import GaussianDiffusion
from dyncity_models.diffusion.sampling import SAMPLERS, make_sampler, noise_from
from dyncity_models.diffusion.walks import gaussian_walk

from dyncity_sim.errors import InvalidInputError

ALL = [(process, name) for process, names in SAMPLERS.items() for name in names]
DETERMINISTIC = [(process, name) for process, name in ALL if name != "ddpm"]
SIGNAL = GaussianDiffusion.linear().alphas_cumprod


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def sampled(process, name, steps, predict, noise, checkpoint=lambda done: None, seed=0):
    draw = noise_from(torch.Generator().manual_seed(seed), noise)
    return make_sampler(name, process, steps).sample(predict, noise, draw, checkpoint)


def knowing(data, process):
    """What a network says that knows the one datum there is; its log-variance is that of the posterior."""

    def predict(latents, told_B):
        if process == "flow":
            return (latents - data) / told_B[:, None]
        signal = float(SIGNAL[int(told_B[0])])
        noise = (latents - math.sqrt(signal) * data) / math.sqrt(1 - signal)
        return torch.cat([noise, -torch.ones_like(noise)], dim=1)

    return predict


def mixture_velocity(latents, told_B):
    """Exact velocity where data are a mixture of three narrow normal distributions."""
    time = told_B[:, None, None].double()
    centres, deviations = torch.tensor([-1.5, 0.2, 1.0]), torch.tensor([0.1, 0.3, 0.2])
    offsets = latents.double()[..., None] - (1 - time) * centres
    variance = ((1 - time) * deviations) ** 2 + time**2
    share = torch.softmax(-0.5 * offsets**2 / variance - 0.5 * variance.log(), dim=-1)
    data = centres + (1 - time) * deviations**2 / variance * offsets
    return (share * (time / variance * offsets - data)).sum(dim=-1).to(latents.dtype)


def mixture_noise(latents, told_B):
    """The same data under Gaussian diffusion, by the change of variables that makes it flow matching."""
    signal, deviation = (math.sqrt(v) for v in (SIGNAL[int(told_B[0])], 1 - SIGNAL[int(told_B[0])]))
    time = deviation / (signal + deviation)
    scaled = latents.double() / (signal + deviation)
    noise = scaled + (1 - time) * mixture_velocity(scaled, torch.full((len(latents),), time, dtype=torch.float64))
    return torch.cat([noise, -torch.ones_like(noise)], dim=1).to(latents.dtype)


def mixture(process):
    return mixture_velocity if process == "flow" else mixture_noise


@pytest.mark.parametrize("steps", [1, 2, 3, 10])
@pytest.mark.parametrize(("process", "name"), DETERMINISTIC)
def test_a_network_that_knows_the_datum_leads_to_it_in_any_number_of_steps(process, name, steps):
    data, noise = normal(1, 2, 6), normal(2, 2, 6)
    found = sampled(process, name, steps, knowing(data, process), noise)
    # Gaussian diffusion magnifies rounding of the noise by 1 / sqrt(signal), up to 160 times.
    torch.testing.assert_close(found, data, rtol=0, atol=1e-5 if process == "flow" else 1e-3)


@pytest.mark.parametrize("name", SAMPLERS["gaussian"])
def test_bounded_data_are_led_to_within_their_bounds_and_what_lies_within_them_is_reached(name):
    data, noise = normal(1, 2, 6), normal(2, 2, 6)
    assert data.abs().max() > 1.0
    found = sampled("gaussian", name, 10, bounded(knowing(data, "gaussian"), 1.0), noise)
    torch.testing.assert_close(found, data.clamp(-1.0, 1.0), rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", SAMPLERS["flow"])
def test_with_a_shift_the_same_data_are_reached_through_noisier_times(name):
    noise, asked = normal(3, 1, 64), []

    def predict(latents, told_B):
        asked.append(float(told_B[0]))
        return mixture_velocity(latents, told_B)

    exact = sampled("flow", "euler", 1000, mixture_velocity, noise)
    found = make_sampler(name, "flow", 200, shift=3.0).sample(predict, noise, lambda: noise)
    torch.testing.assert_close(found, exact, rtol=0, atol=0.02)
    assert np.mean(asked) > 0.6
    known = make_sampler(name, "flow", 5, shift=3.0).sample(knowing(noise + 1, "flow"), noise, lambda: noise)
    torch.testing.assert_close(known, noise + 1, rtol=0, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 20])
def test_ancestral_sampling_ends_at_the_datum_that_the_network_knows(steps):
    data, noise = normal(1, 1, 6).double(), normal(2, 1, 6).double()
    torch.testing.assert_close(
        sampled("gaussian", "ddpm", steps, knowing(data, "gaussian"), noise), data, rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("steps", range(1, 9))
@pytest.mark.parametrize(("process", "name"), ALL)
def test_samplers_ask_the_network_as_often_as_they_may(process, name, steps):
    told, progress = [], []

    def predict(latents, told_B):
        told.append(told_B[0].item())
        return latents.repeat(1, 2 if process == "gaussian" else 1)

    sampled(process, name, steps, predict, normal(0, 2, 4), progress.append)
    assert len(told) == (steps - 1 + steps % 2 if name == "heun" else steps)
    assert progress == list(range(len(told) + 1))
    if process == "flow":
        assert told[0] == 1.0
        assert min(told) > 0.0
    elif name == "ddpm":
        assert told == np.flip(GaussianDiffusion.linear(steps).timesteps).tolist()
    else:
        assert told[0] == 999
        assert min(told) > 0


def test_a_thousand_steps_are_taken_one_by_one():
    told = gaussian_walk("unipc", 1000).told
    assert told == list(range(999, 0, -1))


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("heun", 2)])
def test_single_step_samplers_converge_with_their_order(name, order):
    def predict(latents, told_B):
        return latents * (1 + told_B[:, None])

    # dx/dt = (1 + t) x from t = 1 to 0: x(0) = x(1) exp(-3/2)
    start = torch.ones(1, 1)
    errors = [abs(float(sampled("flow", name, order * n, predict, start)) - math.exp(-1.5)) for n in (16, 32, 64)]
    assert [math.log2(a / b) for a, b in pairwise(errors)] == pytest.approx([order, order], abs=0.15)


@pytest.mark.parametrize("process", SAMPLERS)
def test_samplers_agree_in_the_limit_and_multistep_ones_get_there_sooner(process):
    noise = normal(0, 1, 256)
    plain = "euler" if process == "flow" else "ddim"
    limit = sampled(process, plain, 1000, mixture(process), noise)

    def error(name, steps):
        return float((sampled(process, name, steps, mixture(process), noise) - limit).square().mean().sqrt())

    for name in SAMPLERS[process]:
        if name != "ddpm":
            assert error(name, 200) < 0.04, name
    for name in ("dpm++2m", "unipc"):
        assert error(name, 12) < 0.6 * error(plain, 12), name


def test_ancestral_sampling_draws_from_the_mixture():
    found = sampled("gaussian", "ddpm", 250, mixture_noise, normal(0, 1, 4000))[0]
    shares = [float(((found > low) & (found < high)).float().mean()) for low, high in ((-2, -1.1), (-1.1, 2))]
    # Each part of the mixture has a third of the data, the first one alone.
    assert shares == pytest.approx([1 / 3, 2 / 3], abs=0.04)


def test_ancestral_sampling_equals_that_of_diffusers():
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    process = GaussianDiffusion.linear(10)
    theirs = DDPMScheduler(10, trained_betas=process.betas, variance_type="learned_range", clip_sample=False)
    latents, generator = normal(3, 2, 4, 3, 3), torch.Generator().manual_seed(5)

    def predict(noisy, told_B):
        return torch.tanh(torch.cat([noisy, 1 - noisy], dim=1) + told_B.view(-1, 1, 1, 1) / 1000)

    expected = latents
    for index in theirs.timesteps:
        answer = predict(expected, torch.full((2,), int(process.timesteps[index])))
        expected = theirs.step(answer, int(index), expected, generator, return_dict=False)[0]
    torch.testing.assert_close(
        sampled("gaussian", "ddpm", 10, predict, latents, seed=5), expected, rtol=1e-4, atol=1e-4
    )


def test_heun_of_a_library_is_the_textbook_formula():
    noise = normal(0, 2, 128)
    latents = noise
    for start, end in pairwise(torch.linspace(1.0, 0.0, 6).tolist()):
        slope = mixture_velocity(latents, torch.full((2,), start))
        advanced = latents + (end - start) * slope
        if end > 0:
            slope = 0.5 * (slope + mixture_velocity(advanced, torch.full((2,), end)))
            advanced = latents + (end - start) * slope
        latents = advanced
    torch.testing.assert_close(sampled("flow", "heun", 10, mixture_velocity, noise), latents, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("process", "name"), ALL)
def test_the_same_seed_gives_the_same_bytes(process, name):
    noise = normal(0, 1, 64)
    first, again = (sampled(process, name, 5, mixture(process), noise, seed=1) for _ in range(2))
    other = sampled(process, name, 5, mixture(process), noise, seed=2)
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (name != "ddpm")


@pytest.mark.parametrize(("process", "name"), ALL)
def test_one_sampler_serves_many_samples(process, name):
    sampler, noise = make_sampler(name, process, 6), normal(0, 1, 64)
    first, again = (
        sampler.sample(mixture(process), noise, noise_from(torch.Generator().manual_seed(0), noise)) for _ in range(2)
    )
    assert torch.equal(first, again)


def test_a_checkpoint_that_raises_stops_sampling_at_once():
    calls = []

    def predict(latents, told_B):
        calls.append(1)
        return latents

    def stop(done):
        if done == 3:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        sampled("flow", "heun", 10, predict, normal(0, 1, 4), stop)
    assert len(calls) == 3


@pytest.mark.parametrize("process", SAMPLERS)
def test_an_unknown_sampler_is_refused_with_those_there_are(process):
    with pytest.raises(InvalidInputError, match=", ".join(SAMPLERS[process]).replace("+", r"\+")) as caught:
        make_sampler("magic", process, 10)
    assert caught.value.field == "options.sampler"


@pytest.mark.parametrize("steps", [0, 1001])
def test_a_number_of_steps_that_there_is_not_is_refused(steps):
    with pytest.raises(InvalidInputError) as caught:
        make_sampler("unipc", "gaussian", steps)
    assert caught.value.field == "options.steps"


@pytest.mark.parametrize(("process", "name"), ALL)
def test_a_sample_that_is_not_finite_is_refused(process, name):
    def predict(latents, _):
        return torch.full_like(torch.cat([latents] * (2 if process == "gaussian" else 1), dim=1), math.nan)

    with pytest.raises(InvalidInputError, match="infinity or NaN"):
        sampled(process, name, 4, predict, normal(0, 1, 3))
