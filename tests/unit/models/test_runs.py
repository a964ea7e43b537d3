"""What every training run does whatever it trains: checkpoints, provenance, loggers, progress."""

import json
import re
import subprocess
from dataclasses import dataclass, field, replace
from importlib.util import find_spec

import lightning
import pytest
import torch
from dyncity_models.training.config import OptimiserConfig, RunConfig
from dyncity_models.training.loggers import loggers_of
from dyncity_models.training.progress import Pace, peak_memory_gib
from dyncity_models.training.provenance import provenance_of
from dyncity_models.training.run import batch_numbers, fit
from torch import nn

from dyncity_sim.errors import ConfigError, MissingExtraError

pytestmark = [
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:The number of training batches .* is smaller than the logging interval"),
    pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended"),
]


@dataclass
class LineConfig:
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    run: RunConfig = field(default_factory=RunConfig)


class StoppedError(Exception):
    pass


class Line(lightning.LightningModule):
    """A line through points, and the batches that it has seen."""

    def __init__(self, stop_before=None):
        super().__init__()
        self.line, self.stop_before, self.seen = nn.Linear(1, 1), stop_before, []

    def training_step(self, batch, index):
        number = int(batch[0])
        if number == self.stop_before:
            raise StoppedError
        self.seen.append(number)
        loss = (self.line(batch) - 3.0).square().mean()
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, index):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Numbers:
    """Batches whose value is their number."""

    def __init__(self, stop, first):
        self.stop, self.first = stop, first

    def __len__(self):
        return self.stop

    def __iter__(self):
        return (torch.full((1, 1), float(number)) for number in range(self.first, self.stop))


@pytest.fixture
def config(tmp_path):
    run = RunConfig(str(tmp_path / "run"), precision="32-true", accelerator="cpu", threads=1, checkpoint_every=1)
    return LineConfig(OptimiserConfig(steps=3, batch=1), replace(run, accumulate=2, log_every=1))


def trained(config, stop_before=None):
    line = Line(stop_before)
    fit(
        line, Numbers(*batch_numbers(config.run, config.optimiser)), Numbers(1, 0), config, config.run, config.optimiser
    )
    return line


def test_a_run_that_stops_within_a_step_goes_on_with_that_step_whenever_it_stops(config):
    with pytest.raises(StoppedError):
        trained(config, stop_before=3)
    # Resumed at batch 2, and stopped again in the same step: batch 2 has left nothing behind.
    with pytest.raises(StoppedError):
        trained(config, stop_before=3)
    assert trained(config).seen == [2, 3, 4, 5]


@pytest.mark.parametrize("accumulate", [0, 1])
def test_batches_of_a_step_that_cannot_be_are_refused(config, accumulate):
    if accumulate:
        trained(config)
    with pytest.raises(ConfigError, match=r"run\.accumulate"):
        trained(replace(config, run=replace(config.run, accumulate=accumulate)))


def test_beside_its_checkpoints_a_run_says_how_it_was_configured_and_by_what_code(config, tmp_path):
    trained(config)
    folder = tmp_path / "run" / "checkpoints"
    assert {file.name for file in folder.iterdir()} >= {"last.ckpt", "final.ckpt", "config.yaml", "provenance.json"}
    assert (folder / "config.yaml").read_text() == (tmp_path / "run" / "config.yaml").read_text()
    written = json.loads((folder / "provenance.json").read_text())
    assert written.keys() == {"commit", "dirty", "versions"}
    assert written["versions"]["torch"] == torch.__version__
    assert written["versions"]["lightning"] == lightning.__version__


def test_code_in_a_checkout_is_known_by_its_commit_and_other_code_is_not(tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    file = tmp_path / "code.py"
    file.write_text("a = 1")
    assert (provenance_of(file).commit, provenance_of(file).dirty) == (None, None)
    git("init")
    assert provenance_of(file).commit is None
    git("add", "code.py")
    git("commit", "-m", "A")
    assert (provenance_of(file).commit, provenance_of(file).dirty) == (git("rev-parse", "HEAD"), False)
    file.write_text("a = 2")
    assert provenance_of(file).dirty


def test_losses_are_logged_as_csv_and_progress_is_not(config, tmp_path):
    trained(config)
    (log,) = (file.read_text() for file in (tmp_path / "run" / "log").rglob("metrics.csv"))
    header, *rows = log.splitlines()
    assert set(header.split(",")) == {"epoch", "step", "loss"}
    assert len(rows) == 3


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_logger_whose_package_is_missing_says_which_extra_has_it(name, config):
    if find_spec(name):
        pytest.skip(f"{name} is installed")
    with pytest.raises(MissingExtraError, match=re.escape(f"dyncity-sim[{name}]")):
        trained(replace(config, run=replace(config.run, loggers=["csv", name])))


@pytest.mark.parametrize("loggers", [["csv", "paper"], ["csv", "csv"]])
def test_loggers_that_cannot_be_are_refused(loggers):
    with pytest.raises(ConfigError, match=r"run\.loggers"):
        loggers_of(RunConfig(loggers=loggers))


def test_tensorboard_gets_the_losses_and_the_configuration(config, tmp_path):
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trained(replace(config, run=replace(config.run, loggers=["tensorboard"])))
    (events,) = (tmp_path / "run" / "tensorboard").rglob("events.*")
    read = EventAccumulator(str(events)).Reload()
    assert len(read.Scalars("loss")) == 3


def test_wandb_logs_without_a_network(config, tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    trained(replace(config, run=replace(config.run, loggers=["wandb"])))
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*"))


def test_the_time_left_is_that_to_the_last_batch_or_to_the_deadline_whichever_comes_first():
    clock = iter(range(0, 1000, 2))
    pace = Pace(batches=100, seconds=60.0, now=lambda: float(next(clock)))
    assert pace.remaining_s == 60.0 - 2.0
    for done in range(1, 4):
        pace.count(done)
    assert pace.batches_per_s == 0.5
    assert pace.remaining_s == 60.0 - 10.0
    pace.count(90)
    assert pace.remaining_s == pytest.approx(10 / pace.batches_per_s)


def test_nothing_is_said_of_the_time_left_before_anything_is_known():
    assert Pace(batches=10).remaining_s is None


def test_memory_is_more_than_what_was_ever_held():
    held = torch.ones(2**26)
    assert peak_memory_gib(held.device) >= 0.25
