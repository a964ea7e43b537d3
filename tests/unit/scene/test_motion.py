"""Paths of things out of noisy centres."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyncity_sim.scene.actors.motion import (
    INITIAL_SPEED_NOISE_MPS,
    MOST_ACCELERATION_MPS2,
    first_state,
    most_acceleration_mps2,
    predicted,
    smooth,
    updated,
)

FRAME_US = 100_000


def dense_posterior(centres_m, steps_s, density, noise_m, speed_noise_mps):
    """The most likely path by textbook: the whole information matrix, step by step."""
    size = 2 * len(centres_m)
    information, right = np.zeros((size, size)), np.zeros((size, 2))
    for n, (centre, noise) in enumerate(zip(centres_m, noise_m, strict=True)):
        information[2 * n, 2 * n] += 1 / noise**2
        right[2 * n] = centre / noise**2
    information[1, 1] += 1 / speed_noise_mps**2
    for n, step_s in enumerate(steps_s):
        weight = np.linalg.inv(density * np.array([[step_s**3 / 3, step_s**2 / 2], [step_s**2 / 2, step_s]]))
        difference = np.zeros((2, size))
        difference[:, 2 * n + 2 : 2 * n + 4] = np.eye(2)
        difference[:, 2 * n : 2 * n + 2] = -np.array([[1, step_s], [0, 1]])
        information += difference.T @ weight @ difference
    states = np.linalg.solve(information, right)
    return states[0::2], states[1::2]


@given(st.integers(2, 12), st.integers(0, 2**32 - 1))
def test_gentle_paths_are_the_most_likely_ones(count, seed):
    rng = np.random.default_rng(seed)
    times_us = np.cumsum(rng.integers(50_000, 300_000, count))
    centres_m = 700 + rng.normal(0, 0.05, (count, 2))
    noise_m = rng.uniform(0.2, 0.5, count)
    path_m, velocities = smooth(centres_m, times_us, True, noise_m)
    steps_s = np.diff(times_us) * 1e-6
    expected = dense_posterior(centres_m - 700, steps_s, 1.6, noise_m, INITIAL_SPEED_NOISE_MPS[True])
    np.testing.assert_allclose(path_m - 700, expected[0], atol=1e-8)
    np.testing.assert_allclose(velocities, expected[1], atol=1e-7)


@given(st.booleans(), st.integers(2, 60), st.floats(0.0, 3.0), st.integers(0, 2**32 - 1))
def test_no_path_asks_for_more_than_tyres_or_soles_give_however_noisy_its_centres(vehicle, count, noise_m, seed):
    rng = np.random.default_rng(seed)
    times_us = np.cumsum(rng.choice([1, 1, 1, 5], count)) * FRAME_US
    centres_m = np.array([8.0, 1.0]) * times_us[:, None] * 1e-6 + rng.normal(0, noise_m, (count, 2))
    path_m, velocities = smooth(centres_m, times_us, vehicle)
    assert most_acceleration_mps2(path_m, velocities, np.diff(times_us) * 1e-6) <= MOST_ACCELERATION_MPS2[vehicle]


def test_a_car_that_brakes_keeps_its_braking():
    times_s = np.arange(40) * 0.1
    braking = np.clip(times_s - 1.0, 0, 2.0)
    x_m = 12 * times_s - 0.5 * 5.0 * braking**2 - 10.0 * np.maximum(times_s - 3.0, 0)
    centres_m = np.column_stack([x_m, np.zeros(40)]) + np.random.default_rng(1).normal(0, 0.08, (40, 2))
    path_m, velocities = smooth(centres_m, (times_s * 1e6).round().astype(np.int64), True)
    assert np.abs(path_m[:, 0] - x_m).max() < 0.25
    np.testing.assert_allclose(velocities[[3, -3], 0], [12, 2], atol=0.6)


def test_one_sighting_far_off_the_path_hardly_moves_it():
    centres_m = np.column_stack([np.arange(30) * 0.8, np.zeros(30)])
    centres_m[15, 1] = 1.6
    path_m, _ = smooth(centres_m, np.arange(30) * FRAME_US, True)
    assert np.abs(path_m[:, 1]).max() < 0.35


@pytest.mark.parametrize("vehicle", [True, False])
def test_the_filter_learns_velocity_and_grows_unsure_where_it_does_not_see(vehicle):
    state = first_state(np.zeros(2), vehicle)
    for number in range(1, 20):
        state = updated(predicted(state, 0.1, vehicle), np.array([0.12 * number, 0.0]))
    mean, covariance = state
    np.testing.assert_allclose(mean[2:], [1.2, 0.0], atol=0.15)
    later = predicted(state, 0.5, vehicle)
    np.testing.assert_allclose(later[0][:2], mean[:2] + 0.5 * mean[2:])
    assert later[1][0, 0] > covariance[0, 0]
