"""A run of the autoencoder that is killed goes on from its newest checkpoint."""

from dataclasses import replace

import pytest
import torch
from dyncity_models.anchored.checkpoint import load_model
from dyncity_models.training.run import resumed_step
from dyncity_models.training.stages import train_autoencoder


@pytest.fixture
def autoencoder_run(build_autoencoder_run, tmp_path):
    return build_autoencoder_run(tmp_path / "vae")


@pytest.fixture(scope="module")
def gone_on(build_autoencoder_run, train_until_killed, tmp_path_factory):
    """A run that went on for four steps after it was killed, and what it exported."""
    folder = tmp_path_factory.mktemp("killed")
    run = build_autoencoder_run(folder / "vae")
    done = train_until_killed(run, folder)
    assert done >= 4
    assert not (folder / "vae" / "export").exists()
    run = replace(run, optimiser=replace(run.optimiser, steps=done + 4, decay_from=1.0))
    return run, train_autoencoder(run)


def exported(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.slow
class TestKilledRun:
    def test_goes_on_from_its_checkpoint_to_the_last_step_and_a_finished_one_stays_as_it_is(self, gone_on):
        run, export = gone_on
        final = torch.load(export.parent / "checkpoints" / "final.ckpt", weights_only=False)
        assert final["global_step"] == run.optimiser.steps == resumed_step(run.run)
        averaged = final["state_dict"]["autoencoder.decoder.head.weight"]
        weights = load_model(export).autoencoder.decoder.head.weight
        assert torch.equal(weights, averaged.half().float())

        before = exported(export)
        train_autoencoder(run)
        assert exported(export) == before

    def test_ends_with_the_weights_of_a_run_that_was_not_killed(self, gone_on, tmp_path):
        run, resumed = gone_on
        undisturbed = train_autoencoder(replace(run, run=replace(run.run, out=str(tmp_path / "whole"))))
        assert exported(resumed) == exported(undisturbed)

    @pytest.mark.parametrize("accumulate", [1, 3])
    def test_goes_on_early_in_a_run_and_with_accumulated_batches_as_if_it_had_not_ended(
        self, autoencoder_run, accumulate, tmp_path
    ):
        run = replace(autoencoder_run.run, accumulate=accumulate, validation_clips=1)
        config = replace(autoencoder_run, run=run)
        steps = replace(config.optimiser, decay_from=1.0)
        train_autoencoder(replace(config, optimiser=replace(steps, steps=2)))
        assert resumed_step(run) == 2
        longer = replace(config, optimiser=replace(steps, steps=4))
        whole = replace(longer, run=replace(run, out=str(tmp_path / "whole")))
        assert exported(train_autoencoder(longer)) == exported(train_autoencoder(whole))

    def test_that_ran_out_of_time_goes_on_in_the_next_one(self, autoencoder_run):
        brief = replace(autoencoder_run, run=replace(autoencoder_run.run, most_minutes=1e-3, checkpoint_every=100))
        train_autoencoder(brief)
        first = resumed_step(brief.run)
        assert 0 < first < 100
        train_autoencoder(brief)
        assert first < resumed_step(brief.run) < 100

    def test_that_was_moved_keeps_one_newest_checkpoint(self, autoencoder_run, tmp_path):
        train_autoencoder(replace(autoencoder_run, optimiser=replace(autoencoder_run.optimiser, steps=2)))
        moved = replace(autoencoder_run, run=replace(autoencoder_run.run, out=str(tmp_path / "moved")))
        (tmp_path / "vae").rename(tmp_path / "moved")
        train_autoencoder(replace(moved, optimiser=replace(moved.optimiser, steps=4)))
        assert resumed_step(moved.run) == 4
