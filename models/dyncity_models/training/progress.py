"""How fast a run is, what memory it takes, and when it ends."""

import resource
from collections import deque
from collections.abc import Callable, Iterable
from datetime import timedelta
from time import monotonic
from typing import Any

import lightning
import rich.progress
import torch
from lightning.pytorch.callbacks import Callback
from rich import get_console
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.text import Text

WINDOW_BATCHES = 50
"""Batches that the pace is a mean over."""

REDRAWN_S = 0.25
"""Between two drawings of the bar."""


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


class Progress(Callback):
    """A bar of steps over the losses, with the time left, chunks per second and peak memory; none of it is logged.

    Where there is no terminal to draw in, a line after each validation tells the same. The first process alone shows.

    Args:
        batch: chunks of a batch, of all processes.
        pace: of this run.
        console: where to; standard output by default.
    """

    def __init__(self, batch: int, pace: Pace, console: Console | None = None) -> None:
        self.batch, self.pace, self.console = batch, pace, console or get_console()
        self.bar: _Bar | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Say what begins, and show the bar."""
        if trainer.is_global_zero:
            begun = f"from step {trainer.global_step}" if trainer.global_step else "from the beginning"
            device, count = pl_module.device.type, trainer.world_size
            where = device if count == 1 else f"{count} x {device}"
            self.console.print(f"training on {where} in {trainer.precision}, {begun} to step {trainer.max_steps}")
            self.bar = _Bar(self.console, trainer.max_steps)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count, then draw."""
        self.pace.count(batch_idx + 1)
        if self.bar and self.bar.is_due():
            self._draw(trainer, pl_module)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Tell of it."""
        if self.bar:
            self._draw(trainer, pl_module)
        if trainer.is_global_zero and not self.console.is_terminal:
            told = "; ".join(filter(None, (losses_of(trainer), self.told(pl_module.device))))
            self.console.print(f"step {trainer.global_step}/{trainer.max_steps}: {told}", soft_wrap=True)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Leave the bar as it is."""
        if self.bar:
            self._draw(trainer, pl_module)
            self.bar.stop()
            self.bar = None

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Leave the terminal as it was, and say what becomes of a run that was interrupted."""
        if self.bar:
            self.bar.stop()
            self.bar = None
            if isinstance(exception, KeyboardInterrupt | SystemExit):
                told = f"stopped in step {trainer.global_step + 1}; the same command goes on from the newest checkpoint"
                self.console.print(told)

    def told(self, device: torch.device) -> str:
        """Pace, time left and memory."""
        remaining_s = self.pace.remaining_s
        left = "?" if remaining_s is None else str(timedelta(seconds=round(remaining_s)))
        return f"{self.batch * self.pace.batches_per_s:.1f} chunks/s, {left} left, {peak_memory_gib(device):.1f} GiB"

    def _draw(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert self.bar is not None
        self.bar.draw(trainer.global_step, self.told(pl_module.device), losses_of(trainer))


def losses_of(trainer: lightning.Trainer) -> str:
    """What tasks log for the bar, in a line."""
    return "  ".join(f"{name} {float(value):.4g}" for name, value in trainer.progress_bar_metrics.items())


class _Bar(rich.progress.Progress):
    """Two lines: how far a run is, and its losses; nothing where there is no terminal."""

    def __init__(self, console: Console, steps: int) -> None:
        self.losses, self.drawn_s = "", -float("inf")
        columns = TextColumn("step"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}")
        super().__init__(*columns, console=console, disable=not console.is_terminal)
        self.task = self.add_task("", total=steps)
        self.start()

    def is_due(self) -> bool:
        """Whether it was drawn long enough ago: what is drawn has to come from the GPU, which must not wait for it."""
        return not self.disable and self.get_time() - self.drawn_s >= REDRAWN_S

    def draw(self, step: int, told: str, losses: str) -> None:
        self.losses, self.drawn_s = losses, self.get_time()
        self.update(self.task, completed=step, description=told)

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        yield Text(self.losses, style="dim")
