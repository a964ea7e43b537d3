import pytest
import torch
from dyncity_models.diffusion.flow import draw_times, interpolate, noise_like


def test_interpolation_begins_at_the_data_and_ends_at_the_noise(build_planes):
    data, noise = build_planes(3, seed=1), build_planes(3, seed=2)
    between = interpolate(data, noise, torch.tensor([0.0, 1.0, 0.25]))
    for x, e, t in zip(data, noise, between, strict=True):
        assert torch.equal(t[0], x[0])
        assert torch.equal(t[1], e[1])
        assert torch.allclose(t[2], 0.75 * x[2] + 0.25 * e[2])


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
