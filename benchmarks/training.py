"""Chunks per second of both training stages by batch size, with arithmetic and peak memory.

Steps are timed as the trainer runs them (forward, backward, optimiser), on random chunks that lie where the network
runs; what the trainer itself and the reading of recordings cost comes on top. TFLOP/s count matrix products and
convolutions, forward and backward.
"""

import argparse
import itertools
import time
from dataclasses import replace

import lightning
import numpy as np
import torch
from dyncity_models.config import AutoencoderConfig
from dyncity_models.data.autoencoder_batches import AutoencoderBatches
from dyncity_models.data.clips import FrameStore
from dyncity_models.data.latents import LatentSample
from dyncity_models.training.autoencoder_task import AutoencoderTask
from dyncity_models.training.config import AutoencoderTrainingConfig, TransformerTrainingConfig
from dyncity_models.training.transformer_task import TransformerTask
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dyncity_sim.config import load_config

STATISTICS = {f"{p}_{m}": [v] * 8 for p in ("xy", "tx", "ty") for m, v in (("mean", 0.0), ("std", 1.0))}


class Stage:
    """A task with its optimiser and a batch, outside of a trainer."""

    def __init__(self, task: lightning.LightningModule, batch: object, device: torch.device) -> None:
        self.task, self.batch, self.device = task.to(device), batch, device
        self.task.log_dict = lambda *arguments, **options: None  # type: ignore[method-assign]
        self.optimiser = task.configure_optimizers()["optimizer"]  # type: ignore[index,call-overload]

    def step(self) -> None:
        """One step of training."""
        with torch.autocast(self.device.type, torch.bfloat16):
            loss: Tensor = self.task.training_step(self.batch, 0)  # type: ignore[assignment]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.task.parameters(), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad()


def autoencoder_stage(config: AutoencoderTrainingConfig, batch: int, device: torch.device) -> Stage:
    """The autoencoder on streets of random blocks."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 11, (64, 16, 16, 8), generator=generator, dtype=torch.uint8)
    blocks = coarse.repeat_interleave(8, 1).repeat_interleave(8, 2)
    free = torch.rand(blocks.shape, generator=generator) < 0.85
    cells = torch.where(free, 0, blocks) + 128 * (torch.rand(blocks.shape, generator=generator) < 0.5)
    planar = np.column_stack([0.5 * np.arange(64.0), np.zeros(64), np.zeros(64)])
    store = FrameStore(cells.to(torch.uint8).to(device), planar, np.array([0, 64]))
    task = AutoencoderTask(config, torch.full((11,), 1 / 11))
    return Stage(task, AutoencoderBatches(store, config.model, batch, config.loss.frames, 0, 1).batch(0), device)


def transformer_stage(config: TransformerTrainingConfig, batch: int, device: torch.device) -> Stage:
    """The transformer on random planes."""
    planes = AutoencoderConfig()
    channels, cells, pairs = planes.latent_channels, planes.latent_cells, planes.pairs
    sample = LatentSample(
        xy=torch.randn(batch, channels, cells, cells),
        tx=torch.randn(batch, channels, pairs, cells),
        ty=torch.randn(batch, channels, pairs, cells),
        known_xy=torch.randn(batch, channels, cells, cells),
        known_mask=torch.ones(batch, 1, cells, cells),
        movers=torch.zeros(batch, 4, planes.canvas.cells, planes.canvas.cells),
        canvas_from_ego=torch.zeros(batch, planes.frames, 3),
        command=torch.zeros(batch, dtype=torch.int64),
        layout=torch.zeros(batch, planes.frames, 32, 32),
    )
    there = {name: value.to(device) for name, value in sample.items()}  # type: ignore[attr-defined]
    return Stage(TransformerTask(config, planes, STATISTICS), there, device)


def measure(stage: Stage, seconds: float) -> tuple[float, float, float]:
    """(seconds a step, FLOPs a step, peak memory in GiB) of a warm stage."""
    # Who counts sees no compiled code, and what runs under a counter first would never be compiled.
    with FlopCounterMode(display=False) as counter, torch.compiler.set_stance("force_eager"):
        stage.step()
    gpu = stage.device.type == "cuda"
    for _ in range(3):
        stage.step()
    if gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    started, steps = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        stage.step()
        steps += 1
        if gpu:
            torch.cuda.synchronize()
    duration = (time.perf_counter() - started) / steps
    return duration, counter.get_total_flops(), torch.cuda.max_memory_allocated() / 2**30 if gpu else float("nan")


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", nargs="+", choices=["vae", "dit"], default=["vae", "dit"])
    parser.add_argument("--batch", type=int, nargs="+", default=[2, 16])
    parser.add_argument("--seconds", type=float, default=5.0, help="time to measure each figure for (default: 5)")
    parser.add_argument("--compile", action="store_true", help="also the transformer under torch.compile")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. model.width=384, of the one stage")
    arguments = parser.parse_args()

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    table = Table("stage", "batch", "compiled", "ms a step", "chunks/s", "TFLOP/s", "peak GiB", title=name)
    for kind, batch, compiled in itertools.product(arguments.stages, arguments.batch, (False, True)):
        if compiled and (kind == "vae" or not arguments.compile):
            continue
        if kind == "vae":
            stage = autoencoder_stage(load_config(AutoencoderTrainingConfig, None, arguments.overrides), batch, device)
        else:
            # Another size of batch would be compiled for any size.
            torch._dynamo.reset()
            config = load_config(TransformerTrainingConfig, None, arguments.overrides)
            stage = transformer_stage(replace(config, run=replace(config.run, compile=compiled)), batch, device)
        seconds, flops, memory = measure(stage, arguments.seconds)
        row = f"{1e3 * seconds:.1f}", f"{batch / seconds:.1f}", f"{flops / seconds / 1e12:.2f}"
        peak = "-" if np.isnan(memory) else f"{memory:.1f}"
        table.add_row(kind, str(batch), "yes" if compiled else "no", *row, peak)
    Console().print(table)


if __name__ == "__main__":
    main()
