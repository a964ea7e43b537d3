import math

import numpy as np
import pytest
import torch
from dyncity_models.diffusion.gaussian import GaussianDiffusion, respaced

MASK = torch.ones(4, 4, dtype=torch.bool)


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_respacing_keeps_both_ends():
    assert respaced(10).tolist() == [0, 111, 222, 333, 444, 555, 666, 777, 888, 999]
    assert respaced(1000).tolist() == list(range(1000))
    assert respaced(1).tolist() == [999]
    for steps in (0, 1001):
        with pytest.raises(ValueError, match="1000"):
            respaced(steps)


def test_a_respaced_process_adds_the_noise_of_the_full_one():
    full, few = GaussianDiffusion.linear(), GaussianDiffusion.linear(10)
    np.testing.assert_allclose(few.alphas_cumprod, full.alphas_cumprod[few.timesteps], rtol=1e-10)


@pytest.mark.parametrize("index", [1, 500, 999])
def test_the_true_noise_and_variance_have_no_loss(index):
    process, index_B = GaussianDiffusion.linear(), torch.tensor([index])
    data, noise = normal(0, 1, 2, 4, 4).double(), normal(1, 1, 2, 4, 4).double()
    # A fraction of -1 is the variance of the posterior.
    squared, bound = process.losses(torch.cat([noise, -torch.ones_like(noise)], dim=1), data, noise, index_B, MASK)
    assert float(squared) == 0
    assert abs(float(bound)) < 1e-6


def test_the_squared_error_is_masked_and_the_bound_is_not():
    process, index_B = GaussianDiffusion.linear(), torch.tensor([300])
    data, noise = normal(0, 1, 2, 4, 4), normal(1, 1, 2, 4, 4)
    mask = MASK.clone()
    mask[:2] = False
    exact = torch.cat([noise, -torch.ones_like(noise)], dim=1)
    wrong = exact.clone()
    wrong[..., :2, :] += 1.0
    (squared, bound), (_, exact_bound) = (process.losses(p, data, noise, index_B, mask) for p in (wrong, exact))
    assert float(squared) == 0
    assert float(bound) > float(exact_bound) + 1e-4
    wrong[..., 3, 3] += 1.0
    assert float(process.losses(wrong, data, noise, index_B, mask)[0]) == pytest.approx(1 / 8)


def test_the_bound_teaches_the_variance_only():
    process, index_B = GaussianDiffusion.linear(), torch.tensor([0, 400])
    predicted = normal(2, 2, 4, 4, 4).requires_grad_()
    _, bound = process.losses(predicted, normal(0, 2, 2, 4, 4), normal(1, 2, 2, 4, 4), index_B, MASK)
    bound.sum().backward()
    assert not predicted.grad[:, :2].any()
    assert predicted.grad[:, 2:].any()


def test_the_first_step_is_a_likelihood_in_bins():
    process, index_B = GaussianDiffusion.linear(), torch.tensor([0])
    data, noise = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    _, bound = process.losses(torch.cat([noise, torch.ones_like(noise)], dim=1), data, noise, index_B, MASK)
    # The whole bin of 2/255 under a normal of deviation 0.01 around its centre.
    inside = math.erf(1 / 255 / 0.01 / math.sqrt(2))
    assert float(bound) == pytest.approx(-math.log2(inside), rel=1e-2)
