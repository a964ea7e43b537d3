"""Scores on labels."""

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor


def confusion_matrix(truth: UInt8[Tensor, " N"], predicted: Tensor, classes: int) -> Int64[Tensor, "K K"]:
    """Cells by true label (row) and predicted label (column)."""
    index = truth.long() * classes + predicted.long()
    return torch.bincount(index.flatten(), minlength=classes * classes).view(classes, classes)


def class_iou(confusion: Int64[Tensor, "K K"]) -> Float[Tensor, " K"]:
    """Intersection over union of each class; NaN where neither truth nor prediction has it."""
    hits = confusion.diag().double()
    return hits / (confusion.sum(0) + confusion.sum(1) - confusion.diag()).double()


def mean_iou(confusion: Int64[Tensor, "K K"]) -> float:
    """Mean IoU over the classes present in the truth, free space (label 0) excluded."""
    present = confusion.sum(1) > 0
    present[0] = False
    return float(class_iou(confusion)[present].mean()) if present.any() else float("nan")


def occupied_iou(confusion: Int64[Tensor, "K K"]) -> float:
    """IoU of occupied cells, whatever their class; NaN where neither truth nor prediction has one."""
    occupied = torch.stack([confusion[0, 0], confusion[0, 1:].sum(), confusion[1:, 0].sum(), confusion[1:, 1:].sum()])
    return float(class_iou(occupied.view(2, 2))[1])
