"""A run of a few steps of the smallest task there is, which any test can stop."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import lightning
import pytest
import torch
from dyncity_models.training.config import AutoencoderTrainingConfig, DataConfig, OptimiserConfig, RunConfig
from dyncity_models.training.run import batch_numbers, fit
from torch import Tensor, nn


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
        self.log("loss", loss)
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
