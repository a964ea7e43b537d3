"""Averaged weights: what is validated and exported."""

from collections.abc import Callable
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from dyncity_models.training.sharding import ShardedStrategy, own, whole


class Averaging(WeightAveraging):
    """Keeps a moving average of the weights (``warmed_up_average``); of shared weights, each process its own part.

    Args:
        decay: of the average.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(use_buffers=False, multi_avg_fn=warmed_up_average(decay))

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Lay the average, a copy of the weights from before all that, where they lie, and share it out as they are."""
        assert self._average_model is not None
        self._average_model.to(pl_module.device)
        if isinstance(trainer.strategy, ShardedStrategy):
            trainer.strategy.shard(self._average_model.module)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Take over the average, in whole tensors."""
        super().on_train_end(trainer, pl_module)
        if isinstance(trainer.strategy, ShardedStrategy):
            trainer.strategy.gather()

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save whole tensors."""
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        checkpoint["state_dict"] = whole(checkpoint["state_dict"])


def warmed_up_average(decay: float) -> Callable[[list[Tensor], list[Tensor], Tensor], None]:
    """An exponential moving average that forgets where a run began, for ``AveragedModel``'s ``multi_avg_fn``.

    The n-th update keeps ``min(decay, (1 + n) / (10 + n))`` of the average (as TensorFlow's
    ``ExponentialMovingAverage`` does with ``num_updates``). A constant decay would leave ``decay ** steps`` of the
    random weights that a run starts from in what it ends with: a third after 1,100 steps at 0.999.
    """

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor) -> None:
        kept = ((1 + count) / (10 + count)).clamp(max=decay)
        averages, weights = ([own(tensor) for tensor in tensors] for tensors in (averaged, current))
        torch._foreach_sub_(averages, weights)
        torch._foreach_mul_(averages, kept)
        torch._foreach_add_(averages, weights)

    return update
