"""The time that a run has left and the time that it has trained."""

from types import SimpleNamespace

import lightning
import pytest
import torch
from dyncity_models.training.callbacks import TrainedSeconds
from dyncity_models.training.progress import Pace, Progress, peak_memory_gib


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


def test_the_bar_shows_chunks_a_second_and_the_time_left():
    clock = iter([10.0, 14.0, 15.0])
    pace = Pace(batches=103, now=lambda: next(clock))
    progress, trainer = Progress(batch=8, pace=pace), lightning.Trainer(accelerator="cpu", logger=False)
    pace.count(1)
    pace.count(3)
    shown = progress.get_metrics(trainer, lightning.LightningModule())
    assert (shown["chunks/s"], shown["left"]) == ("4.0", "0:03:20")
    assert shown["memory"].endswith(" GiB")


def test_memory_is_more_than_what_was_ever_held():
    held = torch.ones(2**26)
    assert peak_memory_gib(held.device) >= 0.25


def logged(seconds, module):
    seconds.on_validation_start(None, module)
    seconds.on_validation_epoch_end(None, module)
    return module.values[-1]


def test_the_time_trained_leaves_validation_out_and_counts_what_was_trained_before():
    clock = iter([10.0, 14.0, 20.0, 23.0, 24.0, 26.0, 100.0, 101.0])
    module = SimpleNamespace(values=[])
    module.log = lambda name, value: module.values.append(value)
    seconds = TrainedSeconds(lambda: next(clock))
    seconds.on_train_start(None, module)
    assert logged(seconds, module) == 4.0
    seconds.on_validation_end(None, module)
    assert logged(seconds, module) == 7.0
    seconds.on_validation_end(None, module)
    resumed = TrainedSeconds(lambda: next(clock))
    resumed.load_state_dict(seconds.state_dict())
    resumed.on_train_start(None, module)
    assert logged(resumed, module) == 10.0
