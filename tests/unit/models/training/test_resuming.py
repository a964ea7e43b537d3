"""A run goes on where it stopped, as what it began as."""

from dataclasses import dataclass, replace

import pytest
import torch
from dyncity_models.training.config import OptimiserConfig, RunConfig

from dyncity_sim.errors import ConfigError


class StoppedError(Exception):
    pass


def stop_before_three(number):
    if number == 3:
        raise StoppedError


def test_a_run_that_stops_within_a_step_goes_on_with_that_step_whenever_it_stops(config, trained):
    with pytest.raises(StoppedError):
        trained(config, stop_before_three)
    # Resumed at batch 2, and stopped again in the same step: batch 2 has left nothing behind.
    with pytest.raises(StoppedError):
        trained(config, stop_before_three)
    assert trained(config).seen == [2, 3, 4, 5]


@pytest.mark.parametrize("checkpoint_every", [1, 2, 100])
def test_a_run_whose_steps_are_raised_sees_every_batch_once(config, trained, checkpoint_every):
    seen = []
    for steps in (2, 3, 9):
        run = replace(config.run, checkpoint_every=checkpoint_every)
        seen += trained(replace(config, run=run, optimiser=replace(config.optimiser, steps=steps))).seen
    assert seen == list(range(18))


@pytest.fixture
def ended_with(trained):
    """A function that gives the weights of a run whose steps are raised from time to time, or which is started again.

    Each of ``all_steps`` is a start.
    """

    def weights(config, out, all_steps, most_minutes=0.0):
        for steps in all_steps:
            torch.manual_seed(0)
            run = replace(config.run, out=str(out), most_minutes=most_minutes)
            line = trained(replace(config, run=run, optimiser=replace(config.optimiser, steps=steps)))
        return line.state_dict()

    return weights


@pytest.mark.parametrize("checkpoint_every", [1, 3, 100])
def test_a_run_whose_steps_are_raised_ends_with_the_weights_of_one_that_had_them_at_once(
    config, ended_with, tmp_path, checkpoint_every
):
    config = replace(config, run=replace(config.run, checkpoint_every=checkpoint_every))
    assert ended_with(config, tmp_path / "raised", (2, 5, 9)) == ended_with(config, tmp_path / "whole", (9,))


def test_a_run_that_is_out_of_time_in_every_step_ends_with_the_weights_of_one_that_is_not(config, ended_with, tmp_path):
    config = replace(config, run=replace(config.run, checkpoint_every=100))
    hurried = ended_with(config, tmp_path / "hurried", (4,) * 4, most_minutes=1e-9)
    assert hurried == ended_with(config, tmp_path / "whole", (4,))


@pytest.mark.parametrize("accumulate", [0, 1])
def test_batches_of_a_step_that_cannot_be_are_refused(config, trained, accumulate):
    if accumulate:
        trained(config)
    with pytest.raises(ConfigError, match=r"run\.accumulate"):
        trained(replace(config, run=replace(config.run, accumulate=accumulate)))


@dataclass
class ShapedConfig:
    """A stage with an architecture."""

    optimiser: OptimiserConfig
    run: RunConfig
    model: dict[str, int]


def test_a_run_goes_on_with_the_architecture_and_in_the_stage_that_it_began_with(config, trained):
    begun = ShapedConfig(config.optimiser, config.run, {"width": 2})
    trained(begun)
    wider, longer = replace(begun, model={"width": 4}), replace(config.optimiser, steps=4)
    with pytest.raises(ConfigError, match=r"model\.width: got 4, expected 2, with which"):
        trained(wider)
    with pytest.raises(ConfigError, match="another one"):
        trained(replace(config, optimiser=longer))
    assert trained(replace(begun, optimiser=longer)).seen == [6, 7]


@pytest.mark.parametrize(("name", "began_with"), [("lr", 0.0012), ("weight_decay", 0.01)])
def test_what_the_optimisers_of_checkpoints_hold_cannot_be_changed_under_way(config, trained, name, began_with):
    trained(config)
    changed = replace(config.optimiser, steps=4, **{name: 0.5})
    with pytest.raises(ConfigError, match=rf"optimiser\.{name}: got 0\.5, expected {began_with}, with which"):
        trained(replace(config, optimiser=changed))


def test_a_run_goes_on_with_what_it_learnt_from_and_a_finished_one_is_not_taken_for_another(config, trained):
    longer = replace(config, optimiser=replace(config.optimiser, steps=4))
    trained(config, learns_from={"autoencoder": "a1"})
    for goes_on in (config, longer):
        with pytest.raises(ConfigError, match=r"^autoencoder: got b2, expected a1, which .*run has learnt from so far"):
            trained(goes_on, learns_from={"autoencoder": "b2"})
    assert trained(longer, learns_from={"autoencoder": "a1"}).seen == [6, 7]


def test_a_run_that_does_not_say_what_it_learnt_from_goes_on(config, trained, tmp_path):
    trained(config)
    (tmp_path / "run" / "learnt_from.json").unlink()
    longer = replace(config, optimiser=replace(config.optimiser, steps=4))
    assert trained(longer, learns_from={"autoencoder": "a1"}).seen == [6, 7]


@pytest.mark.parametrize("content", [b"", b"null", b"[1]", b"a: [", b"\x80"])
@pytest.mark.parametrize("name", ["config.yaml", "learnt_from.json"])
def test_a_run_whose_records_are_damaged_is_not_gone_on_with_unchecked(config, trained, tmp_path, name, content):
    trained(config, learns_from={"autoencoder": "a1"})
    (tmp_path / "run" / name).write_bytes(content)
    longer = replace(config, optimiser=replace(config.optimiser, steps=4))
    with pytest.raises(ConfigError, match=rf"^run\.out: got .*{name}: "):
        trained(longer, learns_from={"autoencoder": "b2"})
