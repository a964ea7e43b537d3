"""Straight paths through windows of time, on data whose velocity is known exactly."""

from itertools import pairwise

import pytest
import torch
from dyncity_models.diffusion.sampling import make_sampler
from dyncity_models.diffusion.walks import flow_walk
from dyncity_models.diffusion.windows import StraightPath, Windows, followed


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def bent(latents_BN, time_B):
    """A velocity whose paths are parabolas."""
    return torch.tensor([3.0, -1.0]) * time_B[:, None] + 0.5


def turning(latents_BN, time_B):
    """A velocity whose paths are circles, one radian in a unit of time."""
    return torch.stack([latents_BN[:, 1], -latents_BN[:, 0]], dim=1)


def knowing(data):
    """The velocity of one datum, whose paths are straight."""
    return lambda latents_BN, time_B: (latents_BN - data) / time_B[:, None]


@pytest.mark.parametrize("evaluations", [1, 3])
@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("count", [1, 4, 7])
def test_windows_begin_where_the_sampler_asks_the_network_and_end_where_it_asks_next(count, shift, evaluations):
    times = Windows(count, shift, evaluations).times(torch.arange(count))
    assert times.shape == (count, evaluations + 1)
    assert times[:, 0].tolist() == pytest.approx(flow_walk("euler", count, shift).told, abs=1e-6)
    assert torch.equal(times[1:, 0], times[:-1, -1])
    assert float(times[-1, -1]) == 0.0
    assert (times.diff(dim=1) < 0).all()


def test_windows_are_followed_at_the_times_of_a_sampler_of_more_steps():
    times = Windows(4, 3.0, 5).times(torch.arange(4))
    assert times[:, :-1].flatten().tolist() == pytest.approx(flow_walk("euler", 20, 3.0).told, abs=1e-6)


@pytest.mark.parametrize("evaluations", [1, 4])
def test_where_paths_are_straight_the_target_is_noise_minus_data(evaluations):
    data, noise = normal(1, 4, 6), normal(2, 4, 6)
    times = Windows(4, 3.0, evaluations).times(torch.arange(4))
    start = times[:, :1]
    path = StraightPath.between_ends(knowing(data), (1 - start) * data + start * noise, times)
    torch.testing.assert_close(path.velocity, noise - data)
    latents, now = path.at(torch.tensor([0.0, 0.3, 0.9, 1.0]))
    torch.testing.assert_close(latents, (1 - now[:, None]) * data + now[:, None] * noise)
    assert now[0] == times[0, 0]
    assert now[3] == times[3, -1]


def test_where_paths_bend_the_target_leads_straight_to_their_end():
    latents, times = normal(1, 4, 2), Windows(4, 3.0, 64).times(torch.arange(4))
    path = StraightPath.between_ends(turning, latents, times)
    angle = path.start - path.end
    exact = torch.stack(
        [
            latents[:, 0] * angle.cos() - latents[:, 1] * angle.sin(),
            latents[:, 0] * angle.sin() + latents[:, 1] * angle.cos(),
        ],
        dim=1,
    )
    torch.testing.assert_close(path.at(torch.ones(4))[0], exact, rtol=0, atol=1e-4)
    assert not torch.allclose(path.velocity, turning(latents, path.start), atol=0.05)


def test_a_velocity_that_changes_evenly_is_followed_exactly_but_for_its_first_step():
    start = torch.tensor([[1.0], [0.5]])
    times = start * torch.tensor([[1.0, 0.7, 0.2, 0.0]])
    latents = normal(1, 2, 2)
    after_first = latents + (times[:, 1:2] - start) * bent(latents, start[:, 0])
    end = torch.tensor([3.0, -1.0]) * 0.5 * (0.0 - times[:, 1:2] ** 2) + 0.5 * (0.0 - times[:, 1:2])
    torch.testing.assert_close(followed(bent, latents, times), after_first + end)


def test_the_error_falls_with_the_square_of_the_evaluations():
    latents, angle = torch.tensor([[1.0, 0.0]]).double(), torch.tensor(1.0).double()
    exact = torch.stack([angle.cos(), angle.sin()])[None]
    errors = [
        float((followed(turning, latents, torch.linspace(1, 0, parts + 1)[None]) - exact).norm())
        for parts in (8, 16, 32, 64)
    ]
    assert all(3.5 < coarse / fine < 4.5 for coarse, fine in pairwise(errors))


def test_steps_of_euler_along_the_targets_end_where_the_teacher_ends():
    windows, noise = Windows(4, 3.0, 6), normal(3, 5, 2)
    borders = flow_walk("euler", 4, 3.0).told

    def student(latents_BN, time_B):
        number = borders.index(pytest.approx(float(time_B[0]), abs=1e-6))
        times = windows.times(torch.full((len(latents_BN),), number))
        return StraightPath.between_ends(turning, latents_BN, times).velocity

    expected = noise
    for number in range(4):
        expected = followed(turning, expected, windows.times(torch.full((5,), number)))
    found = make_sampler("euler", "flow", 4, 3.0).sample(student, noise, lambda: noise)
    torch.testing.assert_close(found, expected)
    plain = make_sampler("euler", "flow", 4, 3.0).sample(turning, noise, lambda: noise)
    assert not torch.allclose(plain, expected, atol=0.05)
