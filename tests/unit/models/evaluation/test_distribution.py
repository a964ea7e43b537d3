"""Distances between sets of features, against closed forms, plain loops and torchmetrics."""

import numpy as np
import pytest
import torch
from dyncity_models.evaluation.distribution import (
    NEIGHBOURS,
    frechet_distance,
    kernel_distance,
    manifold_radii,
    memorisation,
    set_distance,
)
from torchmetrics.image.fid import FrechetInceptionDistance

from dyncity_sim.errors import InvalidInputError


def normal(count, features=6, mean=0.0, deviation=1.0, seed=0):
    return np.random.default_rng(seed).normal(mean, deviation, (count, features))


def test_the_frechet_distance_of_normal_sets_is_that_of_their_distributions():
    """Of isotropic normals: squared distance of means, plus features times squared difference of deviations."""
    a, b = normal(60_000), normal(60_000, mean=0.5, deviation=2.0, seed=1)
    assert frechet_distance(a, b) == pytest.approx(6 * 0.25 + 6 * 1.0, rel=0.03)
    assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-6)


def test_the_frechet_distance_is_that_of_torchmetrics():
    class Given(torch.nn.Module):
        num_features = 6

        def forward(self, features):
            return features

    a, b = normal(200), normal(150, mean=0.3, seed=1) @ np.diag([1, 2, 1, 0.5, 1, 1])
    metric = FrechetInceptionDistance(Given(), input_img_size=(6,))
    metric.update(torch.from_numpy(a), real=True)
    metric.update(torch.from_numpy(b), real=False)
    assert frechet_distance(a, b) == pytest.approx(float(metric.compute()), rel=1e-4)


def test_the_kernel_distance_is_unbiased():
    """Of equal distributions it is 0 on average, with either sign, however few samples there are."""
    found = np.array([kernel_distance(normal(12, seed=n), normal(12, seed=1000 + n)) for n in range(300)])
    assert abs(found.mean()) < 3 * found.std() / np.sqrt(len(found))
    assert (found < 0).any()
    assert kernel_distance(normal(200), normal(200, mean=1.0, seed=1)) > 10 * found.std()


def clustered(seed, drives=25, frames=4):
    """(Samples of drives, whose frames are alike, the drive of each.)"""
    rng = np.random.default_rng(seed)
    middles, of = rng.normal(size=(drives, 6)), np.repeat(np.arange(drives), frames)
    return middles[of] + 0.3 * rng.normal(size=(len(of), 6)), of


def test_frames_of_one_drive_do_not_set_equal_distributions_apart():
    pairs = [(clustered(n), clustered(1000 + n)) for n in range(200)]
    found = np.array([kernel_distance(a, b, a_of, b_of) for (a, a_of), (b, b_of) in pairs])
    assert abs(found.mean()) < 3 * found.std() / np.sqrt(len(found))
    as_if_apart = np.array([kernel_distance(a, b) for (a, _), (b, _) in pairs])
    assert as_if_apart.mean() > 10 * found.std() / np.sqrt(len(found))


def test_a_set_of_one_drive_has_no_kernel_distance():
    one_drive = np.zeros(20, dtype=np.int64)
    found = set_distance(normal(20), normal(20, seed=1), one_drive, np.arange(20))
    assert np.isnan(found.kid)
    assert found.fid > 0


def test_radii_reach_to_the_kth_other_sample():
    line = np.arange(20.0)[:, None]
    assert manifold_radii(line)[0] == NEIGHBOURS
    assert manifold_radii(line)[10] == 3


def test_a_set_compared_with_itself_scores_full_marks():
    found = set_distance(normal(50), normal(50))
    assert (found.precision, found.recall, found.coverage) == (1.0, 1.0, 1.0)
    assert found.fid == pytest.approx(0.0, abs=1e-6)
    assert found.samples == 50


def test_samples_that_are_all_the_same_lie_within_one_another():
    """Kynkaanniemi et al. count what lies on the border of a neighbourhood, here one of radius 0."""
    found = set_distance(np.ones((8, 6)), np.ones((8, 6)))
    assert (found.precision, found.recall, found.coverage) == (1.0, 1.0, 1.0)


def test_another_draw_of_a_distribution_has_a_density_near_one():
    found = set_distance(normal(800, seed=1), normal(800))
    assert found.density == pytest.approx(1.0, abs=0.05)
    assert found.coverage > 0.9


def test_precision_falls_for_samples_far_off_and_recall_for_what_is_never_made():
    recorded = np.concatenate([normal(100), normal(100, mean=30.0, seed=1)])
    one_of_two = set_distance(normal(100, seed=2), recorded)
    assert one_of_two.precision > 0.9
    assert 0.4 < one_of_two.recall <= 0.5
    assert 0.4 < one_of_two.coverage <= 0.5
    half_off = set_distance(np.concatenate([normal(50, seed=2), normal(50, mean=90.0, seed=3)]), normal(100))
    assert 0.4 < half_off.precision <= 0.5


def test_too_few_samples_are_refused():
    with pytest.raises(InvalidInputError, match="samples"):
        set_distance(normal(NEIGHBOURS), normal(50))


def test_copies_of_training_samples_are_noticed():
    training, held_out = normal(300), normal(100, seed=1)
    honest = memorisation(normal(100, seed=2), held_out, training)
    assert honest.copies == pytest.approx(0.05, abs=0.07)
    assert honest.generated == pytest.approx(honest.held_out, rel=0.2)
    half = np.concatenate([training[:50] + 1e-3, normal(50, seed=2)])
    assert memorisation(half, held_out, training).copies > 0.5
