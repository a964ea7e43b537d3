"""The figures of a run: one table of all of its life, and a picture."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from dyncity_models.training.ending import told_at_the_end
from dyncity_models.training.loggers import LOG
from dyncity_models.training.loss_log import LossLog, _smoothed, draw_curves, read_log
from PIL import Image

from dyncity_sim.errors import InvalidInputError, StorageError


class StoppedError(Exception):
    pass


@pytest.fixture
def log(tmp_path):
    return tmp_path / "run" / LOG


def stop_before(stop):
    def before_batch(number):
        if number == stop:
            raise StoppedError

    return before_batch


def losses(rows):
    return {row["step"]: row["loss"] for row in rows if "loss" in row}


def test_a_run_that_stopped_and_goes_on_has_one_log_with_each_step_once(config, trained, log, tmp_path):
    run = replace(config.run, checkpoint_every=2)
    config = replace(config, run=run, optimiser=replace(config.optimiser, steps=5))
    torch.manual_seed(0)
    with pytest.raises(StoppedError):
        trained(config, stop_before(7))
    assert [*losses(read_log(log))] == [0, 1, 2]
    trained(config)
    torch.manual_seed(0)
    trained(replace(config, run=replace(run, out=str(tmp_path / "whole"))))
    assert [row["step"] for row in read_log(log)] == [0, 1, 2, 3, 4, 5]
    assert losses(read_log(log)) == losses(read_log(tmp_path / "whole" / LOG))
    assert {file.name for file in log.parent.iterdir()} == {"metrics.csv", "curves.png"}


def test_what_was_validated_when_a_run_ended_stays_when_it_goes_on(config, trained, log):
    trained(config)
    ended = [row for row in read_log(log) if "weight" in row]
    trained(replace(config, optimiser=replace(config.optimiser, steps=5)))
    assert [row["step"] for row in read_log(log)] == [0, 1, 2, 3, 3, 4, 5]
    assert [row for row in read_log(log) if "weight" in row][:1] == ended


def test_a_row_is_on_disk_before_the_next_step(config, trained, log):
    seen = []
    trained(config, lambda number: seen.append(len(read_log(log))))
    assert seen == [0, 0, 1, 1, 2, 2]


def test_a_run_that_is_too_short_for_its_interval_logs_its_last_step(config, trained, log):
    trained(replace(config, run=replace(config.run, log_every=25)))
    assert [*losses(read_log(log))] == [2]


@pytest.mark.parametrize("content", [b"step,loss\n0,much\n", b"loss\n1.0\n", b"\x80", b"step,loss\n1,2,3\n"])
def test_a_damaged_log_is_named_and_stays(config, trained, log, content):
    trained(config)
    log.write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"^run\.out: got .*metrics\.csv: .* Move it away"):
        trained(replace(config, optimiser=replace(config.optimiser, steps=4)))
    assert log.read_bytes() == content


def test_every_figure_has_a_panel_of_its_own_in_the_picture(tmp_path):
    rows = [{"step": float(n), "loss": 1 / (n + 1)} for n in range(50)]
    both = [*rows, {"step": 50.0, "miou": 3.0, "seconds": 9.0}]
    for name, shown in (("one", rows), ("two", both)):
        draw_curves(shown, tmp_path / f"{name}.png")
    one, two = (np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB")) for name in ("one", "two"))
    assert one.shape[0] == two.shape[0]
    assert two.shape[1] == 2 * one.shape[1]
    right = two[:, one.shape[1] :].reshape(-1, 3).astype(int)
    assert (np.abs(right - [255, 127, 14]).sum(axis=1) < 30).any()


@pytest.mark.parametrize("value", [1.0, -0.000123456, -98_765_432.1])
def test_what_is_written_beside_a_curve_is_not_cut_off(tmp_path, value):
    rows = [{"step": 100_000.0 * n, "loss": value * (1 + 1e-3 * n)} for n in range(6)]
    draw_curves(rows, tmp_path / "curves.png")
    shown = np.asarray(Image.open(tmp_path / "curves.png").convert("L"))
    assert (shown < 128).any()
    for edge in (shown[:3], shown[-3:], shown[:, :3], shown[:, -3:]):
        assert (edge == 255).all()


def test_a_smoothed_curve_has_no_bias_to_its_first_value_and_follows_the_last_ones():
    assert _smoothed([4.0] * 90) == pytest.approx([4.0] * 90)
    risen = _smoothed([0.0] * 45 + [1.0] * 45)
    assert risen[:45] == [0.0] * 45
    assert (np.diff(risen[44:]) > 0).all()
    assert 0.9 < risen[-1] < 1.0
    assert _smoothed([3.0, 5.0]) == [3.0, 5.0]


def test_a_run_ends_with_its_last_validation_its_files_and_what_its_weights_are_for(tmp_path):
    log = LossLog(tmp_path / "run" / LOG, 0)
    for step, miou in ((0, 12.0), (1, 34.5678)):
        log.log_metrics({"miou": miou, "seconds": 1.0, "epoch": 0}, step)
    export = tmp_path / "run" / "export"
    validated, figures, weights, encode = told_at_the_end("vae", export)
    assert validated == "ended at: miou 34.57"
    assert str(log.file) in figures
    assert weights.endswith(str(export))
    assert f"dyncity encode RECORDING ... --autoencoder {export}" in encode
    assert [line.split()[0] for line in told_at_the_end("dit", tmp_path / "export")] == [
        "weights:",
        "evaluate:",
        "serve:",
    ]


def test_who_starts_a_run_that_has_ended_is_told_that_it_has(config, trained, capsys):
    for _ in range(2):
        trained(config)
    assert capsys.readouterr().out.endswith("run has 3 steps behind it; a higher optimiser.steps lets it go on\n")


def test_curves_are_drawn_at_the_end_and_by_validations_that_are_not_too_close(log, monkeypatch):
    losses, curves = LossLog(log, 0), log.with_name("curves.png")
    losses.log_metrics({"miou": 12.0, "seconds": 1.0}, 1)
    assert not curves.exists()
    losses.draw()
    curves.unlink()
    monkeypatch.setattr("dyncity_models.training.loss_log.DRAWN_EVERY_S", 0.0)
    losses.log_metrics({"miou": 34.0, "seconds": 2.0}, 2)
    assert curves.is_file()


def test_a_row_that_cannot_be_written_is_told_by_the_name_of_the_log(log):
    losses = LossLog(log, 0)
    losses.log_metrics({"loss": 1.0}, 0)
    log.unlink()
    log.mkdir()
    with pytest.raises(StorageError, match=r"metrics\.csv could not be written"):
        losses.log_metrics({"loss": 0.5}, 1)
