import numpy as np
import pytest
import torch
from dyncity_models.anchored.autoencoder import kl_divergence, sample_posterior
from dyncity_models.hexplane import Planes
from dyncity_models.training.losses import (
    KEPT_BY_CLASS,
    lovasz_on_observed,
    lovasz_softmax,
    moved_cells,
    sampled_cross_entropy,
)
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

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


def sorted_lovasz(probabilities, labels):
    """Algorithm 1 on every cell of every class present, left to autograd."""
    losses = []
    for label in labels.unique():
        foreground = (labels == label).double()
        errors, order = (foreground - probabilities[:, label]).abs().sort(descending=True)
        foreground = foreground[order]
        intersection, union = foreground.sum() - foreground.cumsum(0), foreground.sum() + (1 - foreground).cumsum(0)
        jaccard = 1 - intersection / union
        losses.append(errors @ torch.cat([jaccard[:1], jaccard.diff()]))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("sharpness", [0.1, 3.0, 30.0])
def test_sorting_the_cells_that_matter_gives_the_gradients_of_sorting_all(sharpness):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (500,), generator=generator)
    right = 3 * F.one_hot(labels, 6) * (torch.rand(500, 1, generator=generator) < 0.7)
    logits = (sharpness * (right + torch.randn(500, 6, generator=generator))).double().requires_grad_()
    results = [of(logits.softmax(dim=-1), labels) for of in (lovasz_softmax, sorted_lovasz)]
    torch.testing.assert_close(*results, rtol=0, atol=1e-6)
    torch.testing.assert_close(*(torch.autograd.grad(of, logits)[0] for of in results), rtol=0, atol=1e-8)


def test_hard_mistakes_cost_the_jaccard_loss():
    labels, predicted = torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor([0, 0, 1, 1, 1, 0])
    loss = lovasz_softmax(F.one_hot(predicted).float(), labels)
    assert float(loss) == pytest.approx(1 - 2 / 4)


def random_cells(count, classes, seed=0):
    """Logits, labels, class weights and cell weights."""
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(count, 11, generator=generator),
        torch.tensor(classes, dtype=torch.uint8)[torch.randint(len(classes), (count,), generator=generator)],
        torch.rand(11, generator=generator) + 0.1,
        torch.rand(count, generator=generator) + 0.1,
    )


def weighted_mean(logits, labels, class_weights, cell_weights):
    weights = class_weights[labels.long()] * cell_weights
    return (F.cross_entropy(logits, labels.long(), reduction="none") * weights).sum() / weights.sum()


def test_a_perfect_prediction_costs_nothing():
    _, labels, class_weights, cell_weights = random_cells(500, range(11))
    logits = 200.0 * F.one_hot(labels.long(), 11).float()
    assert float(lovasz_on_observed(logits, labels, torch.ones(500, dtype=torch.bool), 1000)) == 0.0
    assert float(sampled_cross_entropy(logits, labels, class_weights, cell_weights)) == 0.0


def test_lovasz_looks_at_observed_cells_only():
    labels = torch.zeros(40, dtype=torch.uint8)
    logits = torch.zeros(40, 11)
    logits[:, 0], logits[20:, 1] = 100.0, 300.0
    observed = torch.arange(40) < 20
    assert float(lovasz_on_observed(logits, labels, observed, 100)) == 0.0
    assert float(lovasz_on_observed(logits, labels, ~observed, 100)) == 1.0


def test_rare_classes_all_enter_the_cross_entropy_which_is_then_torchs():
    rare = [k for k, share in enumerate(KEPT_BY_CLASS) if share == 1.0]
    logits, labels, class_weights, cell_weights = random_cells(300, rare)
    found = sampled_cross_entropy(logits, labels, class_weights, cell_weights)
    assert torch.allclose(found, weighted_mean(logits, labels, class_weights, cell_weights))
    unweighted = sampled_cross_entropy(logits, labels, class_weights, torch.ones(300))
    assert torch.allclose(unweighted, F.cross_entropy(logits, labels.long(), weight=class_weights))
    assert {4, VEHICLE} <= set(rare)


def test_the_cross_entropy_of_sampled_cells_is_that_of_all_of_them_on_average():
    cells = random_cells(20_000, range(11))
    generator = torch.Generator().manual_seed(1)
    draws = torch.stack([sampled_cross_entropy(*cells, generator) for _ in range(20)])
    assert float(draws.std()) > 0
    assert float(draws.mean()) == pytest.approx(float(weighted_mean(*cells)), rel=0.005)


def test_cells_of_weight_zero_do_not_count():
    logits, labels, class_weights, cell_weights = random_cells(300, [2, 3, VEHICLE])
    cell_weights[150:] = 0.0
    found = sampled_cross_entropy(logits, labels, class_weights, cell_weights)
    assert torch.allclose(found, weighted_mean(*(v[:150] for v in (logits, labels)), class_weights, cell_weights[:150]))


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
    of_xy, of_time = kl_divergence(means, log_variances)
    assert torch.allclose(of_xy + of_time, torch.stack(divergences).mean(), atol=1e-6)
    assert of_xy > 0
    assert of_time > 0
    six = Planes(*means, *means), Planes(*log_variances, *log_variances)
    assert torch.allclose(sum(kl_divergence(*six)), of_xy + of_time, atol=1e-6)
    still = Planes(means.xy, *torch.zeros(2, 1, 2, 4, 4), means.xy, means.xy, torch.zeros(1, 2, 4, 4))
    assert kl_divergence(still, Planes(*torch.zeros(6, 1, 2, 4, 4)))[1] == 0.0
    zeros = Planes(*torch.zeros(3, 1, 2, 4, 4))
    assert kl_divergence(zeros, zeros) == (0.0, 0.0)
