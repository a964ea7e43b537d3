"""Where a run's figures go."""

import re
import sys
import time
from dataclasses import asdict, replace

import pytest
import yaml
from dyncity_models.training.config import RunConfig

from dyncity_sim.errors import ConfigError, MissingExtraError

PATIENCE_S = 60.0


def test_losses_are_logged_as_csv_and_progress_is_not(config, trained, tmp_path):
    trained(config)
    header, *rows = (tmp_path / "run" / "log" / "metrics.csv").read_text().splitlines()
    assert header == "step,loss,weight,seconds"
    assert len(rows) == 3 + 1


def test_a_logger_whose_package_is_missing_says_which_extra_has_it(config, trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingExtraError, match=re.escape("pip install '.[wandb]'")):
        trained(replace(config, run=replace(config.run, loggers=["csv", "wandb"])))


@pytest.mark.parametrize("loggers", [["csv", "paper"], ["csv", "csv"]])
def test_loggers_that_cannot_be_are_refused(loggers):
    with pytest.raises(ConfigError, match=r"run\.loggers"):
        RunConfig(loggers=loggers)


def test_tensorboard_gets_the_losses_and_the_configuration(config, trained, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = replace(config, run=replace(config.run, loggers=["tensorboard"]))
    trained(config)
    (folder,) = {file.parent for file in (tmp_path / "run" / "tensorboard").rglob("events.*")}
    read = EventAccumulator(str(folder)).Reload()
    assert len(read.Scalars("loss")) == 3
    assert len(read.Scalars("weight")) == 1
    assert yaml.safe_load((folder / "hparams.yaml").read_text()) == asdict(config)


def test_wandb_gets_the_losses_and_the_configuration_of_each_run_without_a_network(
    config, trained, tmp_path, monkeypatch
):
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
