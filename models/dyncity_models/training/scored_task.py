"""Validation of an autoencoder by what it reconstructs."""

import lightning
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from dyncity_models.evaluation.scores import confusion_matrix, mean_iou


class ScoredTask(lightning.LightningModule):
    """A task whose validation logs ``miou``: over present classes, free excluded, observed cells, per cent.

    Args:
        classes: K.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.confusion = torch.zeros(classes, classes, dtype=torch.int64)

    def count(
        self, labels: UInt8[Tensor, "*cells"], predicted: UInt8[Tensor, "*cells"], observed: Bool[Tensor, "*cells"]
    ) -> None:
        """Count observed cells by truth and prediction."""
        self.confusion += confusion_matrix(labels[observed], predicted[observed], len(self.confusion)).cpu()

    def on_validation_epoch_start(self) -> None:
        """Start counting afresh."""
        self.confusion.zero_()

    def on_validation_epoch_end(self) -> None:
        """Log the mean IoU."""
        self.log("miou", 100 * mean_iou(self.confusion), prog_bar=True, sync_dist=True)
