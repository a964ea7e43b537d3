"""The time that a run has left and the time that it has trained."""

import io
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from dyncity_models.training.callbacks import TrainedSeconds
from dyncity_models.training.progress import Pace, Progress, peak_memory_gib
from rich.console import Console
from rich.text import Text


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


def test_what_is_told_are_chunks_a_second_the_time_left_and_the_memory():
    clock = iter([10.0, 14.0, 15.0])
    progress = Progress(batch=8, pace=Pace(batches=103, now=lambda: next(clock)))
    progress.pace.count(1)
    progress.pace.count(3)
    assert re.fullmatch(r"4\.0 chunks/s, 0:03:20 left, \d+\.\d GiB", progress.told(torch.device("cpu")))


@pytest.fixture
def shown(config, trained, monkeypatch):
    """A function that gives what a run shows that has three steps behind it and two to go, in a terminal or in none."""

    def run(terminal):
        trained(config)
        console = Console(file=io.StringIO(), width=100, force_terminal=terminal)
        monkeypatch.setattr("dyncity_models.training.progress.get_console", lambda: console)
        trained(replace(config, optimiser=replace(config.optimiser, steps=5)))
        return console.file.getvalue()

    return run


def test_a_run_that_goes_on_is_shown_from_its_step_to_its_last(shown):
    drawn = Text.from_ansi(shown(terminal=True)).plain
    assert drawn.startswith("training on cpu in 32-true, from step 3 to step 5\n")
    assert re.findall(r"\d+/\d+", drawn)[-1] == "5/5"
    assert re.search(r"loss \d", drawn)


def test_without_a_terminal_each_validation_is_a_line(shown):
    begun, told = shown(terminal=False).splitlines()
    assert begun == "training on cpu in 32-true, from step 3 to step 5"
    assert re.fullmatch(r"step 5/5: .*chunks/s, 0:00:00 left, .* GiB", told)


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
