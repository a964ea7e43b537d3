"""Runs of a few steps: of the smallest task there is, which any test can stop, and of an autoencoder, to be killed."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch
from dyncity_models.conditioning import CanvasConditions
from dyncity_models.data.shards import EncodedSet, shard_folder, write_index, write_shard
from dyncity_models.hexplane import Planes
from dyncity_models.training.config import AutoencoderTrainingConfig, DataConfig, OptimiserConfig, RunConfig
from dyncity_models.training.run import batch_numbers, fit, resumed_step
from torch import Tensor, nn

from dyncity_sim.config import save_config

PATIENCE_S = 120.0


@dataclass
class LineConfig:
    """The sections that every stage has."""

    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    run: RunConfig = field(default_factory=RunConfig)


class Line(lightning.LightningModule):
    """A line through points, and the batches that it has seen."""

    def __init__(self, before_batch: Callable[[int], object]) -> None:
        super().__init__()
        self.line, self.before_batch, self.seen = nn.Linear(1, 1), before_batch, []

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        number = int(batch[0])
        self.before_batch(number)
        self.seen.append(number)
        loss = (self.line(batch) - 3.0).square().mean()
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Tensor, index: int) -> None:
        self.log("weight", self.line.weight.sum())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


@dataclass(frozen=True)
class Numbers:
    """Batches whose value is their number."""

    stop: int
    first: int

    def __len__(self) -> int:
        return self.stop

    def __iter__(self) -> Iterator[Tensor]:
        return (torch.full((1, 1), float(number)) for number in range(self.first, self.stop))


@pytest.fixture
def config(tmp_path: Path) -> LineConfig:
    """A run of three steps of two batches, checkpointed after each."""
    run = RunConfig(str(tmp_path / "run"), precision="32-true", accelerator="cpu", threads=1, checkpoint_every=1)
    return LineConfig(OptimiserConfig(steps=3, batch=1), replace(run, accumulate=2, log_every=1))


@pytest.fixture(scope="session")
def trained() -> Callable[..., Line]:
    """A function that runs a configuration to its end, or goes on with its run, and gives the line."""

    def run(
        config: LineConfig,
        before_batch: Callable[[int], object] = lambda number: None,
        learns_from: Mapping[str, str] | None = None,
    ) -> Line:
        line, train = Line(before_batch), Numbers(*batch_numbers(config.run, config.optimiser))
        fit(line, train, Numbers(1, 0), config, config.run, config.optimiser, learns_from)
        return line

    return run


@pytest.fixture(scope="session")
def build_autoencoder_run(tiny, recording) -> Callable[[Path], AutoencoderTrainingConfig]:
    """A function that builds a run of the autoencoder of a few seconds, checkpointed at every other step."""

    def build(out: Path) -> AutoencoderTrainingConfig:
        return AutoencoderTrainingConfig(
            model=tiny.autoencoder,
            data=DataConfig([str(recording)], [str(recording)], workers=0),
            optimiser=OptimiserConfig(steps=1000, batch=1, warm_up=2),
            run=RunConfig(str(out), 0, "32-true", "cpu", 1, 2, 100, 2),
        )

    return build


@pytest.fixture
def brief_run(tmp_path: Path) -> RunConfig:
    """A run on the CPU that logs every step."""
    run = RunConfig(str(tmp_path / "run"), precision="32-true", accelerator="cpu", threads=1, validation_clips=2)
    return replace(run, log_every=1)


@pytest.fixture(scope="session")
def write_latents() -> Callable[[Path, Planes, CanvasConditions], Path]:
    """A function that writes an encoded set of chunks without layouts."""

    def write(folder: Path, planes: Planes, conditions: CanvasConditions) -> Path:
        rows = {name: getattr(planes, name).numpy().astype(np.float16) for name in ("xy", "tx", "ty")}
        rows |= {name: getattr(conditions, name).numpy() for name in ("known_xy", "known_mask", "movers")}
        rows |= {"canvas_from_ego": conditions.canvas_from_ego.numpy(), "command": conditions.command.numpy()}
        write_shard(folder, 0, rows)
        statistics = {f"{p}_{m}": [v] * 8 for p in ("xy", "tx", "ty") for m, v in (("mean", 0.0), ("std", 1.0))}
        write_index(EncodedSet(folder, (shard_folder(folder, 0),), statistics))
        return folder

    return write


@pytest.fixture
def latents(write_latents, build_planes, build_conditions, tmp_path: Path) -> Path:
    """An encoded set of six chunks."""
    return write_latents(tmp_path / "latents", build_planes(6), build_conditions(6))


@pytest.fixture(scope="session")
def train_until_killed() -> Callable[..., int]:
    """A function that runs a stage of many steps as a process and kills it once it has a checkpoint.

    It returns the steps that the checkpoint has behind it. Beside the run, its configuration and its log lie in a
    folder.
    """

    def run(config, folder: Path, stage: str = "vae") -> int:
        endless = replace(config, optimiser=replace(config.optimiser, steps=100_000))
        file, log = folder / "run.yaml", folder / "log.txt"
        save_config(endless, file)
        command = [sys.executable, "-m", "dyncity_sim.cli.main", "train", stage, "--config", str(file)]
        with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
            deadline_s = time.monotonic() + PATIENCE_S
            while resumed_step(config.run) < 4:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline_s, log.read_text()
                time.sleep(0.1)
            process.kill()
        return resumed_step(config.run)

    return run
