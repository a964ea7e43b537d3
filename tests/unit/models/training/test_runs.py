"""What every training run does whatever it trains: checkpoints, provenance, loggers, progress."""

import csv
import io
import json
import re
import resource
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import lightning
import pytest
import torch
from dyncity_models.config import AutoencoderConfig, CanvasConfig, DiffusionTransformerConfig
from dyncity_models.processes import WHOLE, Share
from dyncity_models.training.callbacks import TrainedSeconds
from dyncity_models.training.config import (
    AutoencoderLossConfig,
    AutoencoderTrainingConfig,
    DistilLossConfig,
    OptimiserConfig,
    RunConfig,
    TransformerLossConfig,
)
from dyncity_models.training.launch import Launch, launch_of
from dyncity_models.training.loggers import loggers_of
from dyncity_models.training.progress import Pace, peak_memory_gib
from dyncity_models.training.provenance import provenance_of
from dyncity_models.training.reference_config import (
    ReferenceAutoencoderTrainingConfig,
    ReferenceTransformerTrainingConfig,
)
from dyncity_models.training.run import batch_numbers, fit, resumed_step
from torch import nn

from dyncity_sim.cli.signals import terminated_like_interrupted
from dyncity_sim.errors import CheckpointError, ConfigError, MissingExtraError, StorageError

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


@dataclass
class ShapedConfig(LineConfig):
    model: dict[str, int] = field(default_factory=lambda: {"width": 2})


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
        self.log("weight", self.line.weight.sum())

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


PATIENCE_S = 60.0


@pytest.fixture
def config(tmp_path):
    run = RunConfig(str(tmp_path / "run"), precision="32-true", accelerator="cpu", threads=1, checkpoint_every=1)
    return LineConfig(OptimiserConfig(steps=3, batch=1), replace(run, accumulate=2, log_every=1))


def trained(config, stop_before=None, learns_from=None):
    line, train = Line(stop_before), Numbers(*batch_numbers(config.run, config.optimiser))
    fit(line, train, Numbers(1, 0), config, config.run, config.optimiser, learns_from)
    return line


def test_a_run_that_stops_within_a_step_goes_on_with_that_step_whenever_it_stops(config):
    with pytest.raises(StoppedError):
        trained(config, stop_before=3)
    # Resumed at batch 2, and stopped again in the same step: batch 2 has left nothing behind.
    with pytest.raises(StoppedError):
        trained(config, stop_before=3)
    assert trained(config).seen == [2, 3, 4, 5]


@pytest.mark.parametrize("checkpoint_every", [1, 2, 100])
def test_a_run_whose_steps_are_raised_sees_every_batch_once(config, checkpoint_every):
    seen = []
    for steps in (2, 3, 9):
        run = replace(config.run, checkpoint_every=checkpoint_every)
        seen += trained(replace(config, run=run, optimiser=replace(config.optimiser, steps=steps))).seen
    assert seen == list(range(18))


def ended_with(config, out, all_steps, most_minutes=0.0):
    """Weights of a run whose steps are raised from time to time, or which is started again as often."""
    for steps in all_steps:
        torch.manual_seed(0)
        run = replace(config.run, out=str(out), most_minutes=most_minutes)
        line = trained(replace(config, run=run, optimiser=replace(config.optimiser, steps=steps)))
    return line.state_dict()


@pytest.mark.parametrize("checkpoint_every", [1, 3, 100])
def test_a_run_whose_steps_are_raised_ends_with_the_weights_of_one_that_had_them_at_once(
    config, tmp_path, checkpoint_every
):
    config = replace(config, run=replace(config.run, checkpoint_every=checkpoint_every))
    assert ended_with(config, tmp_path / "raised", (2, 5, 9)) == ended_with(config, tmp_path / "whole", (9,))


def test_a_run_that_is_out_of_time_in_every_step_ends_with_the_weights_of_one_that_is_not(config, tmp_path):
    config = replace(config, run=replace(config.run, checkpoint_every=100))
    hurried = ended_with(config, tmp_path / "hurried", (4,) * 4, most_minutes=1e-9)
    assert hurried == ended_with(config, tmp_path / "whole", (4,))


@pytest.mark.parametrize("accumulate", [0, 1])
def test_batches_of_a_step_that_cannot_be_are_refused(config, accumulate):
    if accumulate:
        trained(config)
    with pytest.raises(ConfigError, match=r"run\.accumulate"):
        trained(replace(config, run=replace(config.run, accumulate=accumulate)))


def test_beside_its_checkpoints_a_run_says_how_it_was_configured_and_by_what_code(config, tmp_path):
    trained(config)
    folder = tmp_path / "run" / "checkpoints"
    assert {file.name for file in folder.iterdir()} == {"last.ckpt", "final.ckpt", "config.yaml", "provenance.json"}
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
    assert set(header.split(",")) == {"epoch", "step", "loss", "weight", "seconds"}
    assert len(rows) == 3 + 1


@pytest.mark.parametrize("steps", [3, 4])
def test_the_weights_that_a_run_ends_with_are_validated_once(config, tmp_path, steps):
    run = replace(config.run, validate_every=2)
    line = trained(replace(config, run=run, optimiser=replace(config.optimiser, steps=steps)))
    (file,) = (tmp_path / "run" / "log").rglob("metrics.csv")
    with file.open() as log:
        weights = [float(row["weight"]) for row in csv.DictReader(log) if row["weight"]]
    assert len(weights) == 2
    assert weights[-1] == pytest.approx(line.line.weight.item())


def test_a_logger_whose_package_is_missing_says_which_extra_has_it(config, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingExtraError, match=re.escape("pip install '.[wandb]'")):
        trained(replace(config, run=replace(config.run, loggers=["csv", "wandb"])))


@pytest.mark.parametrize("loggers", [["csv", "paper"], ["csv", "csv"]])
def test_loggers_that_cannot_be_are_refused(loggers):
    with pytest.raises(ConfigError, match=r"run\.loggers"):
        loggers_of(RunConfig(loggers=loggers))


def test_tensorboard_gets_the_losses_and_the_configuration(config, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trained(replace(config, run=replace(config.run, loggers=["tensorboard"])))
    (folder,) = {file.parent for file in (tmp_path / "run" / "tensorboard").rglob("events.*")}
    read = EventAccumulator(str(folder)).Reload()
    assert len(read.Scalars("loss")) == 3
    assert len(read.Scalars("weight")) == 1


def test_wandb_gets_the_losses_and_the_configuration_of_each_run_without_a_network(config, tmp_path, monkeypatch):
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("first", "second"):
        run = replace(config.run, out=str(tmp_path / name), loggers=["wandb"])
        trained(replace(config, run=run, optimiser=replace(config.optimiser, lr=0.25)))
        assert wandb.run is None
        (file,) = (tmp_path / name / "wandb").glob("offline-run-*/*.wandb")
        # Its service writes on for a moment after the run has ended.
        deadline_s = time.monotonic() + PATIENCE_S
        while (content := file.read_bytes()).count(b"loss") < 3:
            assert time.monotonic() < deadline_s, content
            time.sleep(0.05)
        assert b'"lr":0.25' in content.replace(b" ", b"")


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


@pytest.mark.parametrize(
    ("run", "batch", "field"),
    [
        (RunConfig(devices=2), 3, r"optimiser\.batch"),
        (RunConfig(devices=0), 2, r"run\.devices"),
        (RunConfig(strategy="spread"), 2, r"run\.strategy"),
    ],
)
def test_processes_that_cannot_be_are_refused_by_field(run, batch, field):
    with pytest.raises(ConfigError, match=field):
        launch_of(run, OptimiserConfig(batch=batch))


def test_weights_are_not_shared_out_in_a_stage_that_does_not_say_how(config):
    with pytest.raises(ConfigError, match=r"run\.strategy: got fsdp"):
        trained(replace(config, run=replace(config.run, strategy="fsdp")))


def test_torchrun_decides_how_many_processes_there_are(monkeypatch):
    torchrun = {"TORCHELASTIC_RUN_ID": "1", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1"}
    for name, value in torchrun.items():
        monkeypatch.setenv(name, value)
    assert launch_of(RunConfig(), OptimiserConfig(batch=8)) == Launch(devices=2, nodes=2, strategy="ddp")
    assert launch_of(RunConfig(strategy="fsdp"), OptimiserConfig(batch=8)).strategy == "fsdp"
    with pytest.raises(ConfigError, match=r"run\.devices"):
        launch_of(RunConfig(devices=4), OptimiserConfig(batch=8))
    with pytest.raises(ConfigError, match=r"optimiser\.batch"):
        launch_of(RunConfig(devices=2), OptimiserConfig(batch=2))


def test_shares_are_the_rows_of_a_whole_one_after_the_other():
    whole = torch.arange(6)
    assert torch.cat([Share(number, 3).of(whole) for number in range(3)]).equal(whole)
    parts = [Share(number, 2).drawn(torch.arange, 4) for number in range(2)]
    assert torch.cat(parts).equal(torch.arange(8))
    assert WHOLE.of(whole).equal(whole)


GRADIENTS = """
import torch
from dyncity_models.processes import WHOLE, own_share
from dyncity_models.reference.planes import HexPlanes
from dyncity_models.training.losses import lovasz_on_observed, sampled_cross_entropy
from dyncity_models.training.reference_losses import autoencoder_losses

torch.distributed.init_process_group("gloo")
g = torch.Generator().manual_seed(0)
logits, labels = torch.randn(2, 2, 4, 4, 2, 5, generator=g), torch.randint(5, (2, 2, 4, 4, 2), generator=g)
labels = labels.clamp(max=3).byte()
observed = torch.rand(labels.shape, generator=g) < torch.tensor([0.9, 0.2]).view(2, 1, 1, 1, 1)
weights, cell_weights = torch.rand(5, generator=g), torch.rand(labels.shape, generator=g)
planes = [HexPlanes(*(torch.randn(2, 3, 4, 4, generator=g) for _ in range(6))) for _ in range(2)]

def losses(share):
    x = share.of(logits).clone().requires_grad_()
    y, w, o = (share.of(t) for t in (labels, cell_weights, observed))
    flat, numbers = x.flatten(0, -2), lambda: torch.Generator().manual_seed(1)
    entropy = sampled_cross_entropy(flat, y.flatten(), weights, w.flatten(), numbers(), share)
    lovasz = lovasz_on_observed(flat, y.flatten(), o.flatten(), 50, numbers(), share)
    reference = autoencoder_losses(x, y, *(p.map(share.of) for p in planes), weights, 0.1, share).total
    for loss in (entropy, lovasz, reference):
        (gradient,) = torch.autograd.grad(loss, x, retain_graph=True)
        yield loss.detach(), gradient

share = own_share()
for (whole, gradient), (part, own) in zip(losses(WHOLE), losses(share)):
    assert torch.allclose(share.mean(part), whole, rtol=1e-5), (part, whole)
    # Averaging over processes divides by their number.
    assert torch.allclose(own / share.count, share.of(gradient), rtol=1e-4, atol=1e-7)
    assert gradient.any()
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_losses_of_two_parts_have_the_values_and_the_gradients_of_the_whole(tmp_path):
    script = tmp_path / "gradients.py"
    script.write_text(GRADIENTS)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr


class TestTrainedSeconds:
    """The time a run has trained, as its validations log it."""

    def logged(self, seconds, module):
        seconds.on_validation_start(None, module)
        seconds.on_validation_epoch_end(None, module)
        return module.values[-1]

    def test_leave_validation_out_and_count_what_was_trained_before(self):
        clock = iter([10.0, 14.0, 20.0, 23.0, 24.0, 100.0, 101.0])
        module = SimpleNamespace(values=[])
        module.log = lambda name, value: module.values.append(value)
        seconds = TrainedSeconds(lambda: next(clock))
        seconds.on_train_start(None, module)
        assert self.logged(seconds, module) == 4.0
        seconds.on_validation_end(None, module)
        assert self.logged(seconds, module) == 7.0
        kept = TrainedSeconds(lambda: next(clock))
        kept.load_state_dict({"seconds": 7.0})
        next(clock)
        kept.on_train_start(None, module)
        assert self.logged(kept, module) == 8.0


@pytest.fixture
def files_of_at_most():
    """A function that lets this process write no file beyond a size, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_checkpoint_before_to_go_on_from(config, files_of_at_most, monkeypatch, tmp_path):
    # Checkpoints must not pass through a folder that may lie on another file system.
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    trained(config)
    longer = replace(config, optimiser=replace(config.optimiser, steps=6))
    files_of_at_most(1000)
    with pytest.raises(StorageError, match="could not be written"):
        trained(longer)
    files_of_at_most(resource.RLIM_INFINITY)
    assert resumed_step(config.run) == 3
    assert trained(longer).seen == [6, 7, 8, 9, 10, 11]


def shortened(content):
    return content[:-200]


def with_another_bit(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        weights = max((archive.read(name) for name in archive.namelist() if "/data/" in name), key=len)
    at = content.index(weights)
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@pytest.mark.parametrize("damaged", [shortened, with_another_bit])
def test_a_damaged_checkpoint_is_refused_by_name(config, damaged, tmp_path):
    trained(config)
    file = tmp_path / "run" / "checkpoints" / "last.ckpt"
    file.write_bytes(damaged(file.read_bytes()))
    with pytest.raises(CheckpointError, match=r"last\.ckpt.*Remove it"):
        trained(replace(config, optimiser=replace(config.optimiser, steps=4)))


class Hostile:
    """What runs code where it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return (type(self.file).touch, (self.file,))


def test_a_checkpoint_that_asks_for_more_than_tensors_is_refused_and_nothing_in_it_is_run(config, tmp_path):
    trained(config)
    file, touched = tmp_path / "run" / "checkpoints" / "last.ckpt", tmp_path / "touched"
    checkpoint = torch.load(file, weights_only=True)
    torch.save(checkpoint | {"hostile": Hostile(touched)}, file)
    with pytest.raises(CheckpointError, match=r"last\.ckpt: a file that asks for \S+, .*Nothing in it was run"):
        trained(replace(config, optimiser=replace(config.optimiser, steps=4)))
    assert not touched.exists()


def test_a_run_goes_on_with_the_architecture_and_in_the_stage_that_it_began_with(config):
    begun = ShapedConfig(optimiser=config.optimiser, run=config.run)
    trained(begun)
    wider, longer = replace(begun, model={"width": 4}), replace(config.optimiser, steps=4)
    with pytest.raises(ConfigError, match=r"model\.width: got 4, expected 2, with which"):
        trained(wider)
    with pytest.raises(ConfigError, match="another one"):
        trained(replace(config, optimiser=longer))
    assert trained(replace(begun, optimiser=longer)).seen == [6, 7]


@pytest.mark.parametrize(("name", "began_with"), [("lr", 0.0012), ("weight_decay", 0.01)])
def test_what_the_optimisers_of_checkpoints_hold_cannot_be_changed_under_way(config, name, began_with):
    trained(config)
    changed = replace(config.optimiser, steps=4, **{name: 0.5})
    with pytest.raises(ConfigError, match=rf"optimiser\.{name}: got 0\.5, expected {began_with}, with which"):
        trained(replace(config, optimiser=changed))


def test_a_run_goes_on_with_what_it_learnt_from_and_a_finished_one_is_not_taken_for_another(config):
    longer = replace(config, optimiser=replace(config.optimiser, steps=4))
    trained(config, learns_from={"autoencoder": "a1"})
    for goes_on in (config, longer):
        with pytest.raises(ConfigError, match=r"^autoencoder: got b2, expected a1, which .*run has learnt from so far"):
            trained(goes_on, learns_from={"autoencoder": "b2"})
    assert trained(longer, learns_from={"autoencoder": "a1"}).seen == [6, 7]


def test_a_run_that_does_not_say_what_it_learnt_from_goes_on(config, tmp_path):
    trained(config)
    (tmp_path / "run" / "learnt_from.json").unlink()
    longer = replace(config, optimiser=replace(config.optimiser, steps=4))
    assert trained(longer, learns_from={"autoencoder": "a1"}).seen == [6, 7]


@pytest.fixture
def signals():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # A job in the background would ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize(
    ("number", "end", "code"), [("SIGINT", KeyboardInterrupt, ()), ("SIGTERM", SystemExit, (143,))]
)
def test_a_run_that_is_told_to_end_does_not_end_as_if_it_were_done_or_had_failed(config, number, end, code):
    class Signalled(Line):
        def training_step(self, batch, index):
            signal.raise_signal(getattr(signal, number))
            return super().training_step(batch, index)

    with pytest.raises(end) as ended, terminated_like_interrupted():
        fit(Signalled(), Numbers(6, 0), Numbers(1, 0), config, config.run, config.optimiser)
    assert ended.value.args == code


def test_a_place_that_cannot_be_a_run_is_a_storage_error(config, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        trained(replace(config, run=replace(config.run, out=str(tmp_path / "file" / "run"))))


@pytest.mark.parametrize(
    ("section", "values", "field"),
    [
        (RunConfig, {"precision": "half"}, "run.precision"),
        (RunConfig, {"accelerator": "abacus"}, "run.accelerator"),
        (RunConfig, {"validate_every": 0}, "run.validate_every"),
        (RunConfig, {"checkpoint_every": 0}, "run.checkpoint_every"),
        (RunConfig, {"validation_clips": 0}, "run.validation_clips"),
        (RunConfig, {"most_minutes": -1.0}, "run.most_minutes"),
        (RunConfig, {"threads": -1}, "run.threads"),
        (RunConfig, {"seed": -1}, "run.seed"),
        (OptimiserConfig, {"steps": 0}, "optimiser.steps"),
        (OptimiserConfig, {"batch": 0}, "optimiser.batch"),
        (OptimiserConfig, {"lr": float("nan")}, "optimiser.lr"),
        (OptimiserConfig, {"ema_decay": 2.0}, "optimiser.ema_decay"),
        (OptimiserConfig, {"decay_from": -0.1}, "optimiser.decay_from"),
        (OptimiserConfig, {"lr": float("inf")}, "optimiser.lr"),
        (AutoencoderLossConfig, {"kl": float("nan")}, "loss.kl"),
        (AutoencoderLossConfig, {"lovasz": -1.0}, "loss.lovasz"),
        (TransformerLossConfig, {"xy": float("nan")}, "loss.xy"),
        (TransformerLossConfig, {"time_mean": float("inf")}, "loss.time_mean"),
        (ReferenceAutoencoderTrainingConfig, {"kl": float("nan")}, "kl"),
        (ReferenceTransformerTrainingConfig, {"drop": 2.0}, "drop"),
        (TransformerLossConfig, {"drop_known": 1.5}, "loss.drop_known"),
        (DistilLossConfig, {"at_start": -0.5}, "loss.at_start"),
        (AutoencoderTrainingConfig, {"loss": AutoencoderLossConfig(frames=17)}, "loss.frames"),
        (AutoencoderConfig, {"encoder_channels": 10}, "model.encoder_channels"),
        (AutoencoderConfig, {"canvas": CanvasConfig(cells=33)}, "model.canvas.cells"),
        (AutoencoderConfig, {"frames": 8}, "model.canvas.anchor_frame"),
        (DiffusionTransformerConfig, {"heads": 3}, "model.width"),
        (DiffusionTransformerConfig, {"depth": 3}, "model.depth"),
    ],
)
def test_numbers_that_cannot_be_are_refused_by_field(section, values, field):
    with pytest.raises(ConfigError) as refused:
        section(**values)
    assert refused.value.field == field


def test_a_gpu_that_is_not_there_is_refused(config, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"run\.accelerator"):
        trained(replace(config, run=replace(config.run, accelerator="cuda")))
