"""How a run of any stage begins and ends, and what it leaves in its folder."""

import csv
import json
import signal
import subprocess
from dataclasses import replace

import lightning
import pytest
import torch
from dyncity_models.training.config import RunConfig
from dyncity_models.training.draws import batch_generator
from dyncity_models.training.provenance import provenance_of
from dyncity_models.training.run import resumed_step

from dyncity_sim.cli.signals import terminated_like_interrupted
from dyncity_sim.errors import StorageError


def test_a_fresh_run_begins_at_step_zero(tmp_path):
    assert resumed_step(RunConfig(str(tmp_path))) == 0


@pytest.mark.parametrize("steps", [3, 4])
def test_the_weights_that_a_run_ends_with_are_validated_once(config, trained, tmp_path, steps):
    run = replace(config.run, validate_every=2)
    line = trained(replace(config, run=run, optimiser=replace(config.optimiser, steps=steps)))
    (file,) = (tmp_path / "run" / "log").rglob("metrics.csv")
    with file.open() as log:
        weights = [float(row["weight"]) for row in csv.DictReader(log) if row["weight"]]
    assert len(weights) == 2
    assert weights[-1] == pytest.approx(line.line.weight.item())


def test_beside_its_checkpoints_a_run_says_how_it_was_configured_and_by_what_code(config, trained, tmp_path):
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
def test_a_run_that_is_told_to_end_does_not_end_as_if_it_were_done_or_had_failed(
    config, trained, number, end, code, capsys
):
    with pytest.raises(end) as ended, terminated_like_interrupted():
        trained(config, lambda _: signal.raise_signal(getattr(signal, number)))
    assert ended.value.args == code
    assert "stopped in step 1; the same command goes on" in capsys.readouterr().out


def test_a_place_that_cannot_be_a_run_is_a_storage_error(config, trained, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        trained(replace(config, run=replace(config.run, out=str(tmp_path / "file" / "run"))))


def test_every_batch_of_every_step_draws_its_own_numbers():
    run = RunConfig(seed=5, accumulate=2)
    seeds = [batch_generator(run, step, index, "cpu").initial_seed() for step in range(3) for index in (0, 1)]
    assert len(set(seeds)) == 6
    since_the_run_began = [batch_generator(run, number // 2, number, "cpu").initial_seed() for number in range(6)]
    assert since_the_run_began == seeds
    alone = [batch_generator(RunConfig(seed=5), step, step, "cpu").initial_seed() for step in range(6)]
    assert alone == seeds
