import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from dyncity_models.anchored.autoencoder import kl_divergence, sample_posterior
from dyncity_models.hexplane import Planes
from dyncity_models.training.losses import lovasz_on_observed, lovasz_softmax, moved_cells, weighted_cross_entropy

VEHICLE, ROAD = 10, 6


def jaccard_loss(mispredicted, foreground):
    """Delta of Berman et al. 2018, equation 3: |M| / |foreground or M| of a set of mispredicted cells."""
    union = foreground | mispredicted
    return mispredicted.sum() / max(1, union.sum())


def lovasz_extension(errors, foreground):
    """Equation 9 by its definition: errors in decreasing order, each times what its cell adds to the loss."""
    total, mispredicted = 0.0, np.zeros(len(errors), dtype=bool)
    before = 0.0
    for cell in np.argsort(-errors):
        mispredicted[cell] = True
        after = jaccard_loss(mispredicted, foreground)
        total += errors[cell] * (after - before)
        before = after
    return total


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(2, 5))
def test_lovasz_softmax_is_the_mean_extension_over_present_classes(seed, cells, classes):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(classes), cells)
    labels = rng.integers(0, classes, cells)
    expected = np.mean(
        [
            lovasz_extension(np.abs((labels == k) - probabilities[:, k]), labels == k)
            for k in range(classes)
            if (labels == k).any()
        ]
    )
    found = lovasz_softmax(torch.from_numpy(probabilities).float(), torch.from_numpy(labels))
    assert float(found) == pytest.approx(expected, abs=1e-5)


def test_hard_mistakes_cost_the_jaccard_loss():
    labels, predicted = torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor([0, 0, 1, 1, 1, 0])
    loss = lovasz_softmax(F.one_hot(predicted).float(), labels)
    assert float(loss) == pytest.approx(1 - 2 / 4)


def test_a_perfect_prediction_costs_nothing():
    labels = torch.randint(0, 4, (2, 6, 6), generator=torch.Generator().manual_seed(0))
    logits = 200.0 * F.one_hot(labels, 4).permute(0, 3, 1, 2).float()
    everything = torch.ones_like(labels, dtype=torch.bool)
    assert float(lovasz_on_observed(logits, labels, everything, 1000)) == 0.0
    assert float(weighted_cross_entropy(logits, labels, torch.ones(4), torch.ones(2, 6, 6))) == 0.0


def test_lovasz_looks_at_observed_cells_only():
    labels = torch.zeros(1, 4, 4, dtype=torch.int64)
    logits = torch.zeros(1, 2, 4, 4)
    logits[:, 0], logits[:, 1, 2:] = 100.0, 300.0
    observed = torch.zeros(1, 4, 4, dtype=torch.bool)
    observed[:, :2] = True
    assert float(lovasz_on_observed(logits, labels, observed, 100)) == 0.0
    assert float(lovasz_on_observed(logits, labels, ~observed, 100)) == 1.0


def test_cross_entropy_without_cell_weights_is_torchs():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, 8, 8, generator=generator)
    labels = torch.randint(0, 5, (3, 8, 8), generator=generator)
    weights = torch.rand(5, generator=generator) + 0.1
    found = weighted_cross_entropy(logits, labels.to(torch.uint8), weights, torch.ones(3, 8, 8))
    assert torch.allclose(found, F.cross_entropy(logits, labels, weight=weights))


def test_cells_of_weight_zero_do_not_count_and_weight_two_counts_twice():
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(1, 3, 1, 4, generator=generator), torch.tensor([[[0, 1, 2, 0]]])
    each = F.cross_entropy(logits, labels, reduction="none").flatten()
    found = weighted_cross_entropy(logits, labels, torch.ones(3), torch.tensor([[[0.0, 1.0, 2.0, 1.0]]]))
    assert torch.allclose(found, (each[1] + 2 * each[2] + each[3]) / 4)


def frames_with_vehicle_at(*cells):
    labels = torch.full((1, len(cells), 16, 16, 2), ROAD, dtype=torch.uint8)
    for frame, (x, y) in enumerate(cells):
        labels[0, frame, x, y, 1] = VEHICLE
    return labels


def moved(labels, poses):
    found = moved_cells(labels, torch.tensor([poses]), (4, VEHICLE), 8.0)
    return [tuple(cell) for cell in found[0].nonzero().tolist()]


def test_a_vehicle_that_drives_on_has_moved_in_both_frames():
    standing = [(0.0, 0.0, 0.0)] * 2
    assert moved(frames_with_vehicle_at((5, 5), (9, 5)), standing) == [(0, 5, 5), (1, 9, 5)]


def test_a_parked_vehicle_has_not_moved_though_the_ego_has():
    forward = [(0.0, 0.0, 0.0), (3.0, 0.0, 0.0)]
    assert moved(frames_with_vehicle_at((9, 5), (6, 5)), forward) == []
    assert moved(frames_with_vehicle_at((9, 5), (9, 5)), forward) == [(0, 9, 5), (1, 9, 5)]


def test_what_another_frame_does_not_show_has_not_moved():
    far = [(0.0, 0.0, 0.0), (100.0, 0.0, 0.0)]
    assert moved(frames_with_vehicle_at((5, 5), (9, 5)), far) == []


def test_frames_are_compared_with_the_ones_half_the_list_away():
    standing = [(0.0, 0.0, 0.0)] * 4
    assert moved(frames_with_vehicle_at((5, 5), (9, 5), (5, 5), (9, 5)), standing) == []


def test_the_posterior_is_drawn_with_its_mean_and_deviation():
    generator = torch.Generator().manual_seed(0)
    means, log_variances = (Planes(*(torch.full((1, 1, 200, 200), v),) * 3) for v in (2.0, -1.0))
    drawn = sample_posterior(means, log_variances, generator).xy
    assert float(drawn.mean()) == pytest.approx(2.0, abs=0.02)
    assert float(drawn.std()) == pytest.approx(np.exp(-0.5), abs=0.02)


def test_the_divergence_is_torchs_and_zero_for_the_unit_normal():
    generator = torch.Generator().manual_seed(0)
    means, log_variances = (Planes(*torch.randn(3, 1, 2, 4, 4, generator=generator)) for _ in range(2))
    divergences = [
        torch.distributions.kl_divergence(
            torch.distributions.Normal(m, (0.5 * v).exp()), torch.distributions.Normal(0.0, 1.0)
        )
        for m, v in zip(means, log_variances, strict=True)
    ]
    assert torch.allclose(kl_divergence(means, log_variances), torch.stack(divergences).mean(), atol=1e-6)
    zeros = Planes(*torch.zeros(3, 1, 2, 4, 4))
    assert float(kl_divergence(zeros, zeros)) == 0.0
