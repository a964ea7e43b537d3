"""Figures of cells: what is counted, and what perfect weights would score."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from dyncity_models.evaluation.figures import share_ratios
from dyncity_models.evaluation.reconstruction import AnchoredReconstructor, posterior_noise_share, reconstruct
from dyncity_models.evaluation.recorded import RecordedDrives
from dyncity_models.evaluation.scores import class_iou, confusion_matrix, mean_iou, occupied_iou
from dyncity_models.hexplane import Planes


def test_the_confusion_matrix_counts_truth_by_row_and_prediction_by_column():
    truth = torch.tensor([0, 1, 1, 2, 2, 2], dtype=torch.uint8)
    predicted = torch.tensor([0, 1, 2, 2, 2, 0], dtype=torch.uint8)
    assert confusion_matrix(truth, predicted, 3).tolist() == [[1, 0, 0], [0, 1, 1], [1, 0, 2]]


def test_iou_is_intersection_over_union_and_nan_where_a_class_is_absent():
    confusion = torch.tensor([[8, 0, 2, 0], [0, 0, 0, 0], [1, 0, 3, 0], [0, 0, 1, 1]])
    iou = class_iou(confusion)
    assert iou[[0, 2, 3]].tolist() == pytest.approx([8 / 11, 3 / 7, 1 / 2])
    assert iou[1].isnan()


def test_mean_iou_leaves_out_free_space_and_what_the_truth_does_not_hold():
    confusion = torch.tensor([[8, 1, 1, 0], [0, 0, 0, 0], [1, 0, 3, 0], [0, 1, 0, 1]])
    assert mean_iou(confusion) == pytest.approx((3 / 5 + 1 / 2) / 2)
    assert np.isnan(mean_iou(torch.tensor([[5, 1], [0, 0]])))


def test_occupied_cells_are_scored_whatever_their_class():
    confusion = torch.tensor([[50, 2, 0], [3, 10, 5], [1, 4, 6]])
    assert occupied_iou(confusion) == pytest.approx(25 / 31)
    assert np.isnan(occupied_iou(torch.zeros(3, 3, dtype=torch.int64)))


def test_a_class_that_is_nowhere_has_no_ratio():
    found = share_ratios(np.array([0.5, 0.3, 0.2, 0.0]), np.array([0.25, 0.0, 0.75, 0.0]))
    assert found[[0, 2]].tolist() == pytest.approx([2.0, 0.2 / 0.75])
    assert np.isnan(found[[1, 3]]).all()


@pytest.mark.parametrize("count", [3, 6])
def test_the_noise_share_is_the_posterior_variance_over_the_whole(count):
    generator = torch.Generator().manual_seed(0)

    def planes(value):
        return Planes(*(value(shape) for shape in ((1, 2, 64, 64), *[(1, 2, 8, 512)] * (count - 1))))

    means = planes(lambda shape: 3.0 * torch.randn(shape, generator=generator))
    shares = posterior_noise_share([(means, planes(torch.zeros))])
    assert shares == pytest.approx(dict.fromkeys(("xy", "tx", "ty", "xz", "yz", "tz")[:count], 0.1), abs=0.01)


def test_chunks_of_perfect_weights_would_score_full_marks(backend, recording, monkeypatch):
    """The decoder is replaced by the truth: what is left is the counting."""
    chunks = list(RecordedDrives([recording], backend.info).spread(2))
    truths = iter([torch.from_numpy(chunk.labels.copy())[None] for chunk in chunks])
    monkeypatch.setattr(backend.pipeline, "decode", lambda planes, poses: next(truths))
    scores = reconstruct(AnchoredReconstructor(backend.pipeline), chunks)
    assert scores.miou_by_frame == pytest.approx([100.0] * 16)
    assert scores.miou == pytest.approx(100.0)
    assert scores.iou_by_frame == pytest.approx([100.0] * 16)
    assert np.nanmin(scores.class_iou_by_frame) == 100.0
    assert scores.confusions.sum(dim=(1, 2)).tolist() == [chunk.observed.sum() for chunk in chunks]
    assert scores.cells.sum(axis=1).tolist() == [16 * 128 * 128 * 8] * 2
    assert scores.rigidity == scores.rigidity_of_truth > 0.9
    present = np.unique(np.concatenate([chunk.labels[chunk.observed] for chunk in chunks]))
    assert np.isfinite(scores.class_iou).nonzero()[0].tolist() == present.tolist()


class GivesBack:
    """A reconstructor that loses nothing."""

    def reconstruct(self, recorded):
        return recorded.labels

    def noise_share(self):
        return {}


def test_chunks_in_which_nothing_stands_still_have_no_agreement_and_no_iou(build_street):
    street = build_street(16, 5.0)
    scores = reconstruct(GivesBack(), [replace(street, labels=np.zeros_like(street.labels))] * 2)
    assert np.isnan([scores.rigidity, scores.rigidity_of_truth, scores.miou, scores.iou]).all()
    assert scores.class_iou[0] == 100.0
