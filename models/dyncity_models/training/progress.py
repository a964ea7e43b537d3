"""How fast a run is, what memory it takes, and when it ends."""

import resource
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from time import monotonic
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import RichProgressBar

WINDOW_BATCHES = 50
"""Batches that the pace is a mean over."""


class Pace:
    """Batches per second over the last few batches, and the time that is left.

    Args:
        batches: number of the batch after the last one.
        seconds: time for this run, from now on; 0 for no limit.
        now: a clock, in seconds.
    """

    def __init__(self, batches: int, seconds: float = 0.0, now: Callable[[], float] = monotonic) -> None:
        self.batches, self.now = batches, now
        self.deadline_s = now() + seconds if seconds else float("inf")
        self.done: deque[tuple[float, int]] = deque(maxlen=WINDOW_BATCHES + 1)

    def count(self, batches: int) -> None:
        """Note that ``batches`` of the run are done by now."""
        self.done.append((self.now(), batches))

    @property
    def batches_per_s(self) -> float:
        """Mean pace, validation and checkpoints included; 0 until two batches are done."""
        if len(self.done) < 2:
            return 0.0
        (begun_s, first), (ended_s, last) = self.done[0], self.done[-1]
        return (last - first) / max(ended_s - begun_s, 1e-9)

    @property
    def remaining_s(self) -> float | None:
        """Seconds until the last batch or the deadline, whichever comes first; None while nothing is known."""
        limit_s = self.deadline_s - self.now()
        if self.batches_per_s:
            limit_s = min(limit_s, (self.batches - self.done[-1][1]) / self.batches_per_s)
        return None if limit_s == float("inf") else max(limit_s, 0.0)


def peak_memory_gib(device: torch.device) -> float:
    """Most memory so far: what PyTorch allocated on a GPU, else what was resident of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


class Progress(RichProgressBar):
    """A progress bar that also shows chunks per second, peak memory and the time left; none of it is logged.

    Args:
        batch: chunks of a batch, of all processes.
        pace: of this run.
    """

    def __init__(self, batch: int, pace: Pace) -> None:
        super().__init__(refresh_rate=5)
        self.batch, self.pace = batch, pace

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count, then draw."""
        self.pace.count(batch_idx + 1)
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def get_metrics(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> dict[str, Any]:
        """What is shown beside the bar."""
        remaining_s = self.pace.remaining_s
        return super().get_metrics(trainer, pl_module) | {
            "chunks/s": f"{self.batch * self.pace.batches_per_s:.1f}",
            "memory": f"{peak_memory_gib(pl_module.device):.1f} GiB",
            "left": "?" if remaining_s is None else str(timedelta(seconds=round(remaining_s))),
        }
