"""Training from a recording to weights; a killed run goes on from its newest checkpoint."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from dyncity_models.anchored.checkpoint import load_model, save_model
from dyncity_models.backends.load import load
from dyncity_models.config import REMEMBERED, SamplingConfig
from dyncity_models.data.latents import LatentSample
from dyncity_models.data.shards import PLAN
from dyncity_models.training.averaging import warmed_up_average
from dyncity_models.training.config import (
    AutoencoderTrainingConfig,
    DataConfig,
    OptimiserConfig,
    RunConfig,
    TransformerTrainingConfig,
)
from dyncity_models.training.draws import batch_generator
from dyncity_models.training.optimiser import MuonAdamW, split_parameters
from dyncity_models.training.run import resumed_step
from dyncity_models.training.schedule import warm_up_constant_decay
from dyncity_models.training.stages import encode_recordings, start_from, train_autoencoder, train_transformer
from dyncity_models.training.transformer_task import TransformerTask
from torch import nn

from dyncity_sim.cli.main import main
from dyncity_sim.config import load_config
from dyncity_sim.domain.conditions import Conditions, SamplingOptions
from dyncity_sim.errors import ConfigError, InvalidInputError

PATIENCE_S = 120.0
WITH_LAYOUT = ("continuation", "plan", "layout", "command")
STATISTICS = {f"{p}_{m}": [v] * 8 for p in ("xy", "tx", "ty") for m, v in (("mean", 0.0), ("std", 1.0))}
RATE = 0.1

quiet_lightning = [
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated"),
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:The number of training batches .* is smaller than the logging interval"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed from"),
    pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended"),
]


@pytest.fixture
def autoencoder_run(tiny, recording, tmp_path):
    """A run of the autoencoder of a few seconds, checkpointed at every other step."""
    return AutoencoderTrainingConfig(
        model=tiny.autoencoder,
        data=DataConfig([str(recording)], [str(recording)], workers=0),
        optimiser=OptimiserConfig(steps=1000, batch=1, warm_up=2),
        run=RunConfig(str(tmp_path / "vae"), 0, "32-true", "cpu", 1, 2, 100, 2),
    )


def exported(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.slow
class TestKilledRun:
    pytestmark = quiet_lightning

    def test_goes_on_from_its_checkpoint_to_the_last_step_and_a_finished_one_stays_as_it_is(
        self, autoencoder_run, train_until_killed, tmp_path
    ):
        done = train_until_killed(autoencoder_run)
        assert done >= 4
        assert not (tmp_path / "vae" / "export").exists()

        last = replace(autoencoder_run, optimiser=replace(autoencoder_run.optimiser, steps=done + 4))
        export = train_autoencoder(last)
        final = torch.load(tmp_path / "vae" / "checkpoints" / "final.ckpt", weights_only=False)
        assert final["global_step"] == done + 4 == resumed_step(last.run)
        averaged = final["state_dict"]["autoencoder.decoder.head.weight"]
        weights = load_model(export).autoencoder.decoder.head.weight
        assert torch.equal(weights, averaged.half().float())

        before = exported(export)
        train_autoencoder(last)
        assert exported(export) == before

    def test_ends_with_the_weights_of_a_run_that_was_not_killed(self, autoencoder_run, train_until_killed, tmp_path):
        whole = replace(autoencoder_run, run=replace(autoencoder_run.run, out=str(tmp_path / "whole")))
        done = train_until_killed(autoencoder_run)
        steps = replace(autoencoder_run.optimiser, steps=done + 4, decay_from=1.0)
        resumed, undisturbed = (train_autoencoder(replace(r, optimiser=steps)) for r in (autoencoder_run, whole))
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
        with pytest.raises(ConfigError, match=r"run\.accumulate"):
            train_autoencoder(replace(longer, run=replace(run, accumulate=2)))

    def test_that_ran_out_of_time_goes_on_in_the_next_one(self, autoencoder_run, tmp_path):
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


@pytest.mark.slow
class TestStages:
    pytestmark = quiet_lightning

    def test_lead_from_a_recording_to_weights_that_generate(
        self, tiny, autoencoder_run, recording, tmp_path, plan_along
    ):
        steps = replace(autoencoder_run.optimiser, steps=3)
        brief = replace(autoencoder_run.run, validate_every=2)
        # So it learns that little of the world moves: one that is full of vehicles takes long to track.
        fast = replace(steps, steps=5, lr=0.02)
        autoencoder = train_autoencoder(replace(autoencoder_run, optimiser=fast, run=brief))
        counts = encode_recordings([recording], autoencoder, tmp_path / "latents", 0, 1)
        assert counts == {"static": 2, "forward": 4, "left": 0, "right": 0, "left out": 0}
        with pytest.raises(InvalidInputError, match="without an encoded data set"):
            encode_recordings([recording], autoencoder, tmp_path / "latents", 0, 1)

        latents = str(tmp_path / "latents")
        config = TransformerTrainingConfig(
            tiny.transformer,
            str(autoencoder),
            latents,
            latents,
            replace(steps, batch=2),
            run=replace(brief, out=str(tmp_path / "dit")),
        )
        weights = train_transformer(config)
        (log,) = (file.read_text() for file in (tmp_path / "dit" / "log").rglob("metrics.csv"))
        assert "val_xy_start" in log
        assert "val_xy_go_on" in log
        statistics = json.loads((tmp_path / "latents" / "latents.json").read_text())
        model = load_model(weights)
        assert model.normalisation.get_buffer("tx_mean").flatten().tolist() == pytest.approx(statistics["tx_mean"])
        chunk = load(weights).generate(Conditions(plan_along()), SamplingOptions(seed=0), lambda step: None)
        assert chunk.model_id == model.model_id != load_model(autoencoder).model_id
        assert model.config.known_world == REMEMBERED

        onward = replace(config, initial=str(weights), run=replace(brief, out=str(tmp_path / "onward")))
        still = replace(onward, optimiser=replace(config.optimiser, lr=0.0, weight_decay=0.0))
        unchanged = load_model(train_transformer(still)).transformer.state_dict()
        assert all(torch.equal(unchanged[name], value) for name, value in model.transformer.state_dict().items())
        with pytest.raises(InvalidInputError, match="initial"):
            train_transformer(replace(onward, model=replace(tiny.transformer, depth=4)))

        retrained = load_model(weights)
        retrained.autoencoder.decoder.head.bias.data += 0.1
        whole = retrained.autoencoder, retrained.transformer, retrained.normalisation
        save_model(tmp_path / "retrained", retrained.config, *whole)
        with pytest.raises(InvalidInputError, match=r"^latents: .* of the autoencoder"):
            train_transformer(replace(config, autoencoder=str(tmp_path / "retrained")))
        encode_recordings([recording], tmp_path / "retrained", tmp_path / "retrained-latents", 0, 1)
        with pytest.raises(InvalidInputError, match=r"^validation_latents: .* of the autoencoder"):
            train_transformer(replace(config, validation_latents=str(tmp_path / "retrained-latents")))

        latents = str(tmp_path / "retrained-latents")
        other = replace(config, autoencoder=str(tmp_path / "retrained"), latents=latents, validation_latents=latents)
        with pytest.raises(ConfigError, match=r"^autoencoder: got .* has learnt from so far"):
            train_transformer(other)

        apart = replace(tiny.autoencoder, canvas=replace(tiny.autoencoder.canvas, common=False))
        save_model(tmp_path / "apart", replace(tiny, autoencoder=apart), load_model(autoencoder).autoencoder)
        with pytest.raises(InvalidInputError, match="common frame"):
            train_transformer(replace(config, autoencoder=str(tmp_path / "apart")))

        rolled = replace(tiny.transformer, rollout=True)
        rollout = replace(config, model=rolled, run=replace(brief, out=str(tmp_path / "rollout")))
        rolled_out = train_transformer(rollout)
        assert load_model(rolled_out).config.transformer == rolled
        load(rolled_out).generate(Conditions(plan_along()), SamplingOptions(seed=0), lambda step: None)
        with pytest.raises(InvalidInputError, match="initial"):
            train_transformer(replace(rollout, initial=str(weights), run=onward.run))

        small = replace(tiny.transformer, width=16)
        guide = replace(config, guides=str(weights), model=small, run=replace(brief, out=str(tmp_path / "guide")))
        guided = load_model(train_transformer(replace(guide, sampling=SamplingConfig(steps=2, autoguidance=1.5))))
        assert (guided.config.guide, guided.config.transformer) == (small, tiny.transformer)
        assert guided.guide is not None
        assert all(
            torch.equal(model.transformer.state_dict()[n], v) for n, v in guided.transformer.state_dict().items()
        )
        load(tmp_path / "guide" / "export").generate(
            Conditions(plan_along()), SamplingOptions(seed=0), lambda step: None
        )
        with pytest.raises(InvalidInputError, match="guides"):
            train_transformer(replace(guide, model=replace(small, conditions=WITH_LAYOUT)))
        with pytest.raises(InvalidInputError, match=r"guides.* with another autoencoder"):
            train_transformer(replace(guide, guides=str(tmp_path / "retrained")))
        # Whole weights have the autoencoder that the latents are of.
        again = replace(brief, out=str(tmp_path / "again"))
        train_transformer(replace(config, autoencoder=str(weights), run=again))
        older = shutil.copytree(tmp_path / "latents", tmp_path / "older")
        (older / PLAN).write_text("{}")
        with pytest.raises(InvalidInputError, match=r"^latents: .* movers foreseen"):
            train_transformer(replace(guide, latents=str(older), validation_latents=str(older)))
        with pytest.raises(InvalidInputError, match=r"^validation_latents: .* movers foreseen"):
            train_transformer(replace(config, validation_latents=str(older)))

        taught = replace(onward, model=replace(tiny.transformer, conditions=WITH_LAYOUT))
        taught = replace(taught, run=replace(brief, out=str(tmp_path / "taught")))
        with_layout = load_model(train_transformer(taught))
        assert with_layout.config.transformer.takes_layout
        assert with_layout.transformer.patch_tx.weight[:, 8:].any()
        (log,) = (file.read_text() for file in (tmp_path / "taught" / "log").rglob("metrics.csv"))
        assert "val_tx_layout" in log
        with pytest.raises(InvalidInputError, match="initial"):
            train_transformer(replace(onward, initial=str(tmp_path / "taught" / "export")))

    def test_give_an_autoencoder_with_planes_over_height_that_nothing_is_encoded_or_generated_with(
        self, tiny, autoencoder_run, recording, tmp_path
    ):
        model = replace(tiny.autoencoder, height_planes=True)
        steps = replace(autoencoder_run.optimiser, steps=3)
        autoencoder = train_autoencoder(replace(autoencoder_run, model=model, optimiser=steps))
        assert load_model(autoencoder).config.autoencoder == model
        with pytest.raises(InvalidInputError, match="height_planes"):
            encode_recordings([recording], autoencoder, tmp_path / "latents", 0, 1)
        with pytest.raises(InvalidInputError, match="height_planes"):
            train_transformer(TransformerTrainingConfig(tiny.transformer, str(autoencoder)))


@pytest.mark.parametrize("stage", ["vae", "dit"])
def test_an_unknown_key_is_named_and_ends_the_command_with_code_2(stage, capsys):
    assert main(["train", stage, "optimiser.stepz=3"]) == 2
    assert "optimiser.stepz" in capsys.readouterr().err


def test_a_value_of_the_wrong_type_is_named():
    with pytest.raises(ConfigError) as caught:
        load_config(AutoencoderTrainingConfig, None, ["optimiser.steps=many"])
    assert caught.value.field == "optimiser.steps"
    assert caught.value.expected == "a value of the key's type"


@pytest.mark.parametrize(("stage", "schema"), [("vae", AutoencoderTrainingConfig), ("dit", TransformerTrainingConfig)])
def test_the_shipped_configurations_fit(stage, schema, pytestconfig):
    for folder in ("anchored", "anchored/gpu"):
        config = load_config(schema, pytestconfig.rootpath / "configs" / folder / f"{stage}.yaml")
        assert config.run.out == f"out/train/{stage}"
        assert stage == "vae" or config.model.takes_layout


def test_the_shipped_guide_fits_the_shipped_transformer(pytestconfig):
    folder = pytestconfig.rootpath / "configs" / "anchored"
    guide, guided = (load_config(TransformerTrainingConfig, folder / f"{name}.yaml") for name in ("guide", "dit"))
    assert guide.guides == f"{guided.run.out}/export"
    assert guide.model.conditions == guided.model.conditions
    assert guide.model.width < guided.model.width
    assert guide.model.depth < guided.model.depth


def test_every_batch_of_every_step_draws_its_own_numbers():
    run = RunConfig(seed=5, accumulate=2)
    seeds = [batch_generator(run, step, index, "cpu").initial_seed() for step in range(3) for index in (0, 1)]
    assert len(set(seeds)) == 6
    since_the_run_began = [batch_generator(run, number // 2, number, "cpu").initial_seed() for number in range(6)]
    assert since_the_run_began == seeds
    alone = [batch_generator(RunConfig(seed=5), step, step, "cpu").initial_seed() for step in range(6)]
    assert alone == seeds


def test_a_fresh_run_begins_at_step_zero(tmp_path):
    assert resumed_step(RunConfig(str(tmp_path))) == 0


def test_averaged_weights_forget_where_a_run_began_and_then_decay_at_the_rate_asked_for():
    model = nn.Linear(1, 1, bias=False)
    averaged = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=warmed_up_average(0.99))
    with torch.no_grad():
        model.weight.fill_(1000.0)
        averaged.update_parameters(model)
        model.weight.fill_(1.0)
        for _ in range(300):
            averaged.update_parameters(model)
        assert averaged.module.weight.item() == pytest.approx(1.0, abs=1e-3)
        for _ in range(1000):
            averaged.update_parameters(model)
        model.weight.fill_(2.0)
        averaged.update_parameters(model)
    assert averaged.module.weight.item() == pytest.approx(1.01, abs=1e-3)


def test_the_rate_of_a_run_that_is_limited_in_time_decays_with_the_time():
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    config = OptimiserConfig(steps=1000, warm_up=1, decay_from=0.5, final_lr_share=0.1)
    clock = iter([100.0, *np.arange(115.0, 170.0, 15.0)])
    factor = warm_up_constant_decay(optimiser, config, most_minutes=1.0, now=lambda: next(clock)).lr_lambdas[0]
    assert [factor(step) for step in (3, 4, 5, 6)] == pytest.approx([1.0, 1.0, 0.55, 0.1])


def test_the_rate_warms_up_stays_and_decays_to_its_last_share():
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    config = OptimiserConfig(steps=100, warm_up=10, decay_from=0.6, final_lr_share=0.1)
    factor = warm_up_constant_decay(optimiser, config).lr_lambdas[0]
    assert [factor(step) for step in (0, 9, 10, 60)] == [0.1, 1.0, 1.0, 1.0]
    assert factor(80) == pytest.approx(0.55)
    assert factor(100) == pytest.approx(0.1)
    assert factor(1000) == pytest.approx(0.1)
    factors = [factor(step) for step in range(101)]
    assert (np.diff(factors[60:]) < 0).all()


class Towers(nn.Module):
    """Two linear layers as blocks, one more as head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.head = nn.Linear(4, 1)

    def forward(self, x):
        for block in self.blocks:
            x = torch.tanh(block(x))
        return self.head(x)


def stepped(model, optimiser, schedule, seeds):
    for seed in seeds:
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(seed))
        optimiser.zero_grad()
        (model(x) - x.sum(dim=1, keepdim=True)).square().mean().backward()
        optimiser.step()
        schedule.step()
    return [p.detach().clone() for p in model.parameters()]


def towers():
    model = Towers()
    optimiser = MuonAdamW(*split_parameters(model.blocks, model), lr=RATE, weight_decay=0.01)
    return model, optimiser, warm_up_constant_decay(optimiser, OptimiserConfig(steps=20, warm_up=5, decay_from=0.5))


def test_muon_takes_the_matrices_of_the_blocks_and_adamw_all_else():
    model = Towers()
    matrices, others = split_parameters(model.blocks, model)
    assert [tuple(p.shape) for p in matrices] == [(4, 4), (4, 4)]
    assert len(others) == 4
    assert {id(p) for p in matrices + others} == {id(p) for p in model.parameters()}


def test_both_optimisers_follow_one_schedule():
    _, optimiser, schedule = towers()
    assert [group["lr"] for group in optimiser.param_groups] == pytest.approx([RATE / 5] * 2)
    for _ in range(5):
        optimiser.step()
        schedule.step()
    rates = [group["lr"] for part in (optimiser, optimiser.muon, optimiser.adamw) for group in part.param_groups]
    assert rates == [RATE] * 4


def test_an_optimiser_restored_from_its_state_takes_the_same_steps(tmp_path):
    model, optimiser, schedule = towers()
    stepped(model, optimiser, schedule, range(7))
    state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "schedule": schedule.state_dict()}
    torch.save(state, tmp_path / "state.ckpt")
    expected = stepped(model, optimiser, schedule, range(7, 14))

    restored, other, its_schedule = towers()
    state = torch.load(tmp_path / "state.ckpt", weights_only=False)
    restored.load_state_dict(state["model"])
    other.load_state_dict(state["optimiser"])
    its_schedule.load_state_dict(state["schedule"])
    found = stepped(restored, other, its_schedule, range(7, 14))
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_muon_and_adamw_learn():
    model, optimiser, schedule = towers()
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(1))

    @torch.no_grad()
    def error():
        return float((model(x) - x.sum(dim=1, keepdim=True)).square().mean())

    before = error()
    stepped(model, optimiser, schedule, range(20))
    assert error() < 0.7 * before


@pytest.fixture
def task(tiny):
    return TransformerTask(TransformerTrainingConfig(tiny.transformer), tiny.autoencoder, STATISTICS).eval()


def test_without_muon_one_optimiser_trains_every_parameter(task):
    task.config = replace(task.config, optimiser=OptimiserConfig(muon=False))
    optimiser = task.configure_optimizers()["optimizer"]
    assert type(optimiser) is torch.optim.AdamW
    trained = {id(p) for group in optimiser.param_groups for p in group["params"]}
    assert trained == {id(p) for p in task.transformer.parameters()}


def test_at_initialisation_the_loss_is_that_of_a_velocity_of_zero(task, build_planes, build_conditions):
    """Noise minus data of independent unit normals has variance two."""
    with torch.inference_mode():
        losses = task.losses(build_planes(8, 1), build_planes(8, 2), torch.full((8,), 0.5), build_conditions(8))
    assert {name: float(value) for name, value in losses.items()} == {
        name: pytest.approx(2.0, abs=0.15) for name in ("xy", "tx", "ty")
    }


def test_weights_that_learn_a_new_condition_begin_by_predicting_what_they_did(
    tiny, weights, build_planes, build_conditions
):
    config = TransformerTrainingConfig(replace(tiny.transformer, conditions=WITH_LAYOUT))
    task = TransformerTask(config, tiny.autoencoder, STATISTICS).eval()
    start_from(task, weights, config)
    model, planes, conditions = load_model(weights), build_planes(), build_conditions()
    times = torch.tensor([0.2, 0.9])
    with torch.inference_mode():
        before, after = (t(planes, times, conditions) for t in (model.transformer, task.transformer))
    assert all(torch.allclose(a, b, atol=1e-6) and a.any() for a, b in zip(after, before, strict=True))
    for name, value in model.normalisation.state_dict().items():
        assert torch.equal(task.normalisation.state_dict()[name], value)


def test_layouts_are_dropped_apart_from_the_other_conditions(tiny, build_planes, build_conditions):
    class Recording(TransformerTask):
        def losses(self, data, noise, times, conditions, share):
            self.seen = conditions
            return super().losses(data, noise, times, conditions, share)

    config = TransformerTrainingConfig(replace(tiny.transformer, conditions=WITH_LAYOUT))
    task, count = Recording(config, tiny.autoencoder, STATISTICS), 64
    task.log_dict = lambda *arguments, **options: None
    task.training_step(batch_of(build_planes(count), build_conditions(count)), 0)
    kept = task.seen.layout_given
    assert 16 < int(kept.sum()) < 48
    known = task.seen.known_mask.flatten(1).any(dim=1)
    assert all((known[kept == given] == state).any() for given in (True, False) for state in (True, False))


def batch_of(planes, conditions):
    return LatentSample(
        **{name: getattr(planes, name) for name in ("xy", "tx", "ty")},
        **{name: getattr(conditions, name) for name in ("known_xy", "known_mask", "movers", "canvas_from_ego")},
        command=conditions.command,
        layout=torch.rand(len(planes), 16, 32, 32) < 0.1,
    )


def test_errors_near_the_ego_path_count_more(task, build_planes, build_conditions):
    conditions = build_conditions(2)
    weights = task._path_weights(conditions)
    assert weights.shape == (2, 1, 16, 16)
    assert set(weights.unique().tolist()) == {1.0, 3.0}
    assert (weights[:, 0, 8, 8] == 3.0).all()
    assert (weights[:, 0, :, 0] == 1.0).all()
    data = build_planes(2)
    with torch.inference_mode():
        losses = task.losses(data, data, torch.full((2,), 0.5), conditions)
    assert all(float(value) == 0.0 for value in losses.values())
