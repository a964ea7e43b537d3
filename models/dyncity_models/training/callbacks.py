"""What happens between optimiser steps of a run."""

from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from dyncity_models.processes import common_clock


def ends_step(trainer: lightning.Trainer, index: int) -> bool:
    """Whether the batch with this index is the last one of an optimiser step."""
    return (index + 1) % trainer.accumulate_grad_batches == 0


class StepCheckpoint(ModelCheckpoint):
    """Saves after whole steps only, the last one too.

    Lightning's own forgets on resumption which step it saved last, and would save it again among the batches of the
    next one, whose gradients are in no checkpoint. And it saves the last step when training has ended, where averaged
    weights have taken the place of those that a run goes on with.
    """

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when a step has ended."""
        if not ends_step(trainer, batch_idx):
            return
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if trainer.global_step == trainer.max_steps and not self._should_skip_saving_checkpoint(trainer):
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Nothing is left to save: neither after the last step nor after a deadline."""


class TrainedSeconds(Callback):
    """Logs ``seconds`` beside what a validation logs: the time that the run has trained, validation left out.

    What a resumed run had trained before counts.

    Args:
        now: a clock, in seconds.
    """

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self.now, self.seconds, self.since_s = now, 0.0, 0.0

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"seconds": self._trained()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.seconds = state_dict["seconds"]

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock."""
        self.since_s = self.now()

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Stop the clock."""
        self.seconds = self._trained()

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Log."""
        pl_module.log("seconds", self.seconds)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Go on."""
        self.since_s = self.now()

    def _trained(self) -> float:
        return self.seconds + self.now() - self.since_s


class Deadline(Callback):
    """Ends a run after some time, counted from when it was started or resumed.

    Lightning's own ``max_time`` counts the time of all runs before a resumption, and leaves the last steps unsaved.

    Args:
        seconds: time for this run.
        checkpoint: where to save what the next run goes on from.
    """

    def __init__(self, seconds: float, checkpoint: Path) -> None:
        self.seconds, self.checkpoint = seconds, checkpoint

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock."""
        self.started_s = common_clock()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and stop when the time is up and a step has ended."""
        if not ends_step(trainer, batch_idx) or trainer.should_stop:
            return
        if common_clock() - self.started_s > self.seconds:
            trainer.save_checkpoint(self.checkpoint)
            trainer.should_stop = True
