import math

import pytest
import torch
from dyncity_models.diffusion.gaussian import GaussianDiffusion
from dyncity_models.diffusion.inpainting import KnownLatents
from dyncity_models.diffusion.levels import Level
from dyncity_models.diffusion.sampling import SAMPLERS, make_sampler, noise_from

from dyncity_sim.errors import InvalidInputError

SIGNAL = GaussianDiffusion.linear().alphas_cumprod
COVARIANCE = 0.8 * torch.tensor([[1.0, 0.9, 0.5], [0.9, 1.0, 0.8], [0.5, 0.8, 1.0]])
MEAN = torch.tensor([0.3, -0.2, 0.1])
ALL = [(process, name) for process, names in SAMPLERS.items() for name in names]
FIRST = torch.tensor([True, False, False])


def correlated(process):
    """What a perfect network says where data are three correlated normal values."""

    def predict(latents, told_B):
        if process == "flow":
            signal, noise = 1 - float(told_B[0]), float(told_B[0])
        else:
            signal, noise = math.sqrt(SIGNAL[int(told_B[0])]), math.sqrt(1 - SIGNAL[int(told_B[0])])
        spread = signal**2 * COVARIANCE + noise**2 * torch.eye(3)
        pull = torch.linalg.solve(spread, (latents - signal * MEAN).T).T
        fresh = noise * pull
        if process == "flow":
            return fresh - (MEAN + signal * pull @ COVARIANCE)
        return torch.cat([fresh, -torch.ones_like(fresh)], dim=1)

    return predict


def completed(process, name, known, steps=10, seed=0):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(known.values.shape, generator=generator)
    return make_sampler(name, process, steps).sample(
        correlated(process), noise, noise_from(generator, noise), known=known
    )


@pytest.mark.parametrize(("process", "name"), ALL)
def test_resampling_fits_the_unknown_to_the_known(process, name):
    values = torch.zeros(2000, 3)
    values[:, 0] = 1.5
    conditional = MEAN[1:] + COVARIANCE[1:, 0] / COVARIANCE[0, 0] * (1.5 - MEAN[0])

    def error(resamples):
        found = completed(process, name, KnownLatents(values, FIRST, resamples))
        assert (found[:, 0] == 1.5).all()
        assert found.abs().max() < 8
        return float((found[:, 1:].mean(dim=0) - conditional).abs().max())

    assert error(10) < 0.6 * error(1)


@pytest.mark.parametrize(("process", "name"), ALL)
def test_what_is_known_comes_back_exactly_and_the_same_seed_gives_the_same_bytes(process, name):
    values = torch.randn(5, 3, generator=torch.Generator().manual_seed(9))
    known = KnownLatents(values, torch.tensor([[True, False, True]] * 2 + [[False, True, False]] * 3), 2)
    first, again, other = (completed(process, name, known, 4, seed) for seed in (1, 1, 2))
    assert torch.equal(first[known.mask], values[known.mask])
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_each_interval_is_walked_as_often_as_asked():
    told = []

    def predict(latents, told_B):
        told.append(round(float(told_B[0]), 3))
        return latents

    known = KnownLatents(torch.zeros(1, 3), FIRST, 2)
    noise = torch.ones(1, 3)
    make_sampler("heun", "flow", 4).sample(predict, noise, lambda: torch.zeros(1, 3), known=known)
    assert told == [1.0, 0.5, 1.0, 0.5, 0.5, 0.5]


@pytest.mark.parametrize("before", [Level(0.6, 0.4), Level(math.sqrt(0.36), math.sqrt(0.64)), Level(0.0, 1.0)])
def test_renoised_data_are_noisy_data_of_the_noisier_level(before):
    after = Level(0.9, 0.1)
    generator = torch.Generator().manual_seed(0)
    once, twice = (torch.randn(200_000, generator=generator) for _ in range(2))
    data = torch.full_like(once, 2.0)
    found = before.renoised(after.noisy(data, once), after, twice)
    assert float(found.mean()) == pytest.approx(before.signal * 2.0, abs=0.01)
    assert float(found.std()) == pytest.approx(before.noise, abs=0.01)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"mask": torch.ones(3, dtype=torch.bool)}, "known.mask"),
        ({"mask": torch.zeros(3, dtype=torch.bool)}, "known.mask"),
        ({"values": torch.tensor([[float("nan"), 0.0, 0.0]])}, "known.values"),
        ({"resamples": 0}, "known.resamples"),
    ],
)
def test_nothing_to_generate_or_nothing_known_is_refused(change, field):
    with pytest.raises(InvalidInputError) as caught:
        KnownLatents(**({"values": torch.zeros(1, 3), "mask": FIRST} | change))
    assert caught.value.field == field
    KnownLatents(torch.tensor([[0.0, float("nan"), 0.0]]), FIRST)
