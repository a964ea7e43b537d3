"""Distillation: what the student learns of its teacher, and the stage from whole weights to few-step ones."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from dyncity_models.anchored.checkpoint import load_model, save_model
from dyncity_models.backends.load import load
from dyncity_models.conditioning import PUSHED
from dyncity_models.config import REMEMBERED, AnchoredConfig, SamplingConfig
from dyncity_models.data.latents import AUTOENCODER_DIGEST, KNOWN_WORLD, Latents
from dyncity_models.data.shards import PLAN, EncodedSet, write_index, write_shard
from dyncity_models.diffusion.flow import noise_like
from dyncity_models.normalisation import Normalisation
from dyncity_models.training.config import (
    DistilLossConfig,
    DistilTrainingConfig,
    OptimiserConfig,
    RunConfig,
    TransformerTrainingConfig,
)
from dyncity_models.training.distil_stage import train_distil
from dyncity_models.training.distil_task import DistilTask
from dyncity_models.training.teacher import Teacher
from torch import nn

from dyncity_sim.cli.main import main
from dyncity_sim.config import load_config
from dyncity_sim.domain.conditions import Conditions, SamplingOptions
from dyncity_sim.errors import CheckpointError, ConfigError, InvalidInputError

CPU = torch.device("cpu")


@pytest.fixture
def run(tmp_path):
    run = RunConfig(str(tmp_path / "run"), precision="32-true", accelerator="cpu", threads=1, validation_clips=2)
    return replace(run, log_every=1)


@pytest.fixture
def taught_by(run):
    """A function that builds the task of a student of some weights."""

    def build(folder, **changes):
        config = DistilTrainingConfig(sampling=SamplingConfig(steps=4, shift=3.0), run=run, **changes)
        return DistilTask(config, Teacher(load_model(folder), CPU, run)).eval()

    return build


@pytest.fixture
def lesson(build_planes, build_conditions):
    """Data, noise, windows, shares of them, and conditions of four chunks."""
    conditions = build_conditions(4).without("layout")
    return build_planes(4, 1), build_planes(4, 2), torch.arange(4), torch.tensor([0.0, 0.3, 0.6, 0.9]), conditions


@torch.no_grad()
def losses_of(task, lesson):
    return [float(value) for value in task.losses(*lesson).values()]


@pytest.fixture
def straight_weights(tiny, build_autoencoder, build_transformer, tmp_path):
    """Weights whose velocity is the same everywhere, so that all their paths are straight."""
    transformer = build_transformer(initial=True)
    generator = torch.Generator().manual_seed(0)
    for layer in (transformer.head_xy[-1], transformer.unpatch_tx, transformer.unpatch_ty):
        nn.init.normal_(layer.bias, generator=generator)
    save_model(tmp_path / "straight", tiny, build_autoencoder(), transformer, Normalisation(8))
    return tmp_path / "straight"


def test_a_student_of_a_teacher_whose_paths_are_straight_has_nothing_to_learn(taught_by, straight_weights, lesson):
    task = taught_by(straight_weights)
    assert losses_of(task, lesson) == pytest.approx([0.0] * 3, abs=1e-9)
    with torch.no_grad():
        task.transformer.unpatch_tx.bias += 1.0
    assert losses_of(task, lesson) == pytest.approx([0.0, 1.0, 0.0], abs=1e-6)


def test_a_student_begins_as_its_teacher_and_learns_where_paths_bend(taught_by, weights, lesson):
    data, noise, windows, _, conditions = lesson
    at_the_start = data, noise, windows, torch.zeros(4), conditions
    assert losses_of(taught_by(weights, evaluations=1), at_the_start) == pytest.approx([0.0] * 3, abs=1e-9)
    assert min(losses_of(taught_by(weights, evaluations=4), at_the_start)) > 1e-5


def test_the_teachers_autoguidance_is_learned(taught_by, build_guided_weights, lesson):
    data, noise, _, _, conditions = lesson
    conditions = conditions.without_known(torch.tensor([True, False, True, False]))
    over_time = torch.tensor([0.5, 1.0, 0.5, 1.0])[:, None, None, None]
    task = taught_by(build_guided_weights(autoguidance=2.5, autoguidance_time=0.5), evaluations=1)
    model = task.teacher.model
    with torch.inference_mode():
        good = model.transformer(noise, torch.ones(4), conditions)
        weak = model.guide(noise, torch.ones(4), conditions.without(*PUSHED))
        led = [w + scale * (g - w) for g, w, scale in zip(good, weak, (2.5, over_time, over_time), strict=True)]
    path = task.path(data, noise, torch.zeros(4, dtype=torch.int64), conditions)
    for found, expected, alone in zip(data.shaped(path.velocity), led, good, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
        assert not torch.allclose(found, alone, atol=1e-2)


def test_the_teachers_guidance_is_learned(taught_by, tiny, build_autoencoder, build_transformer, tmp_path, lesson):
    data, noise, _, _, conditions = lesson
    config = replace(tiny, sampling=replace(tiny.sampling, guidance_scale=3.0))
    save_model(tmp_path / "guided", config, build_autoencoder(), build_transformer(), Normalisation(8))
    task = taught_by(tmp_path / "guided", evaluations=1)
    with torch.inference_mode():
        full, known_only = (
            task.transformer(noise, torch.ones(4), given).flat()
            for given in (conditions, conditions.without("plan", "command"))
        )
    path = task.path(data, noise, torch.zeros(4, dtype=torch.int64), conditions)
    torch.testing.assert_close(path.velocity, known_only + 3.0 * (full - known_only), rtol=0, atol=1e-4)


def test_what_a_student_is_shown_begins_with_noise_in_the_first_window(taught_by, weights, lesson):
    data, noise, _, _, conditions = lesson
    path = taught_by(weights).path(data, noise, torch.arange(4), conditions)
    assert torch.equal(path.latents[0], noise.flat()[0])
    time = float(path.start[3])
    torch.testing.assert_close(path.latents[3], (1 - time) * data.flat()[3] + time * noise.flat()[3])


def test_the_teachers_weights_are_no_part_of_the_student(taught_by, build_guided_weights):
    task = taught_by(build_guided_weights(autoguidance=2.0))
    assert {name.split(".")[0] for name in task.state_dict()} == {"transformer", "normalisation"}
    assert all(
        not any(own is other for other in task.teacher.pipeline.transformer.parameters())
        for own in task.transformer.parameters()
    )


@pytest.mark.parametrize(("at_start", "least", "most"), [(1.0, 64, 64), (0.5, 16, 48), (0.0, 0, 0)])
def test_a_share_of_the_samples_is_learned_where_a_step_of_the_student_begins(
    taught_by, weights, latents, at_start, least, most
):
    seen = []
    task = taught_by(weights, loss=DistilLossConfig(at_start=at_start))
    task.losses = lambda *lesson: seen.append(lesson) or dict.fromkeys(("xy", "tx", "ty"), torch.zeros(()))
    task.log_dict = lambda *arguments, **options: None
    task.training_step(Latents(Path(latents), CPU).rows(np.zeros(64)), 0)
    ((_, _, numbers, passed, conditions, _),) = seen
    assert least <= int((passed == 0.0).sum()) <= most
    assert 0.0 <= float(passed.min()) <= float(passed.max()) < 1.0
    assert set(numbers.tolist()) == {0, 1, 2, 3}
    assert conditions.plan_given.all()
    assert 0 < int((conditions.command == 4).sum()) < 64


def test_a_student_samples_with_steps_of_euler_and_no_guidance(taught_by, weights, lesson):
    _, noise, _, _, conditions = lesson
    task = taught_by(weights)
    with torch.inference_mode():
        plain = task.teacher.sample(conditions, noise, "euler", 4, 3.0)
        torch.testing.assert_close(task.sample(conditions, noise), plain)


def test_validation_says_how_far_student_and_teacher_are_from_many_steps(
    taught_by, weights, latents, build_planes, build_conditions
):
    task = taught_by(weights, limit_steps=12, loss=DistilLossConfig(drop_command=0.0, drop_known=0.0))
    with torch.no_grad():
        task.transformer.unpatch_tx.bias += 1.0
    batches = [Latents(Path(latents), CPU).rows(rows) for rows in (np.arange(4), np.arange(4, 6))]
    logged = {}
    task.log = lambda name, value, **options: logged.update({name: value})
    with torch.inference_mode():
        for number, batch in enumerate(batches):
            task.validation_step(batch, number)
        task.on_validation_epoch_end()
        samples = []
        for number, batch in enumerate(batches):
            data, conditions = task.unpack(batch)
            noise = noise_like(data, torch.Generator().manual_seed(number))
            limit, brief = (task.teacher.sample(conditions, noise, n, s, 1.0) for n, s in (("unipc", 12), ("euler", 4)))
            samples.append((limit, brief, task.sample(conditions, noise)))
    limit, brief, student = (torch.cat(parts) for parts in zip(*samples, strict=True))
    expected = {
        "val_distance": float((student - limit).norm() / limit.norm()),
        "val_distance_teacher": float((brief - limit).norm() / limit.norm()),
    }
    assert logged == pytest.approx(expected, rel=1e-5)
    assert logged["val_distance"] > 2 * logged["val_distance_teacher"] > 0.0


@pytest.fixture
def latents(tmp_path, build_planes, build_conditions):
    """An encoded set of six chunks."""
    return encoded(tmp_path / "latents", build_planes(6), build_conditions(6))


def encoded(folder, planes, conditions):
    rows = {name: getattr(planes, name).numpy().astype(np.float16) for name in ("xy", "tx", "ty")}
    rows |= {name: getattr(conditions, name).numpy() for name in ("known_xy", "known_mask", "movers")}
    rows |= {"canvas_from_ego": conditions.canvas_from_ego.numpy(), "command": conditions.command.numpy()}
    write_shard(folder, 0, rows)
    statistics = {f"{p}_{m}": [v] * 8 for p in ("xy", "tx", "ty") for m, v in (("mean", 0.0), ("std", 1.0))}
    write_index(EncodedSet(folder, (folder / "shard-00000",), statistics))
    return str(folder)


@pytest.fixture
def config(weights, latents, run):
    optimiser = OptimiserConfig(steps=4, batch=2, warm_up=2, lr=1e-3, decay_from=1.0)
    run = replace(run, validate_every=2, checkpoint_every=1)
    sampling = SamplingConfig(steps=4, shift=3.0)
    return DistilTrainingConfig(
        str(weights), latents, latents, sampling, evaluations=2, limit_steps=6, optimiser=optimiser, run=run
    )


def distances_of(run):
    (log,) = (run / "log").rglob("metrics.csv")
    with log.open() as file:
        return [row for row in csv.DictReader(file) if row["val_distance"]]


def exported(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_what_is_exported_serves_a_chunk_in_as_many_evaluations_as_there_are_windows(
    config, build_guided_weights, plan_along
):
    teacher = build_guided_weights(autoguidance=1.5)
    export = train_distil(replace(config, teacher=str(teacher)))
    student, whole = load_model(export), load_model(teacher)
    assert student.guide is student.config.guide is None
    assert student.config == replace(whole.config, sampling=config.sampling, guide=None)
    for name in ("autoencoder", "normalisation"):
        assert exported(export)[f"{name}.safetensors"] == exported(teacher)[f"{name}.safetensors"]
    calls = []
    chunk = load(export).generate(Conditions(plan_along()), SamplingOptions(seed=0), calls.append)
    assert calls == [0, 1, 2, 3, 4]
    assert chunk.model_id == student.model_id != whole.model_id


def test_a_resumed_run_ends_with_the_weights_of_an_unbroken_one_and_logs_distances(config, tmp_path):
    train_distil(replace(config, optimiser=replace(config.optimiser, steps=2)))
    resumed = train_distil(config)
    unbroken = train_distil(replace(config, run=replace(config.run, out=str(tmp_path / "unbroken"))))
    assert exported(resumed) == exported(unbroken)
    rows = distances_of(tmp_path / "unbroken")
    assert len(rows) == 2
    assert all(float(row["val_distance"]) > 0.0 for row in rows)
    assert len({row["val_distance_teacher"] for row in rows}) == 1


def test_a_run_does_not_go_on_with_another_autoencoder(config, weights, tmp_path):
    train_distil(config)
    other = load_model(weights)
    other.autoencoder.decoder.head.bias.data += 0.1
    save_model(tmp_path / "other", other.config, other.autoencoder, other.transformer, other.normalisation)
    with pytest.raises(ConfigError, match=r"^autoencoder: got .* has learnt from so far"):
        train_distil(replace(config, teacher=str(tmp_path / "other")))


def test_a_student_that_learns_nothing_has_the_distance_of_its_teacher_with_as_few_steps(config):
    """Random weights sample with Euler's method in even steps."""
    still = replace(config.optimiser, lr=0.0, weight_decay=0.0)
    train_distil(replace(config, sampling=SamplingConfig(steps=4), optimiser=still))
    row = distances_of(Path(config.run.out))[0]
    assert float(row["val_distance"]) == pytest.approx(float(row["val_distance_teacher"]), rel=1e-5)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sampling.steps", 0),
        ("evaluations", 0),
        ("limit_steps", 0),
        ("sampling.sampler", "unipc"),
        ("sampling.guidance_scale", 2.0),
        ("sampling.autoguidance", 2.0),
    ],
)
def test_sampling_that_a_student_cannot_learn_is_refused(config, field, value):
    part, _, name = field.rpartition(".")
    changes = {name: value}
    changed = {part: replace(getattr(config, part), **changes)} if part else changes
    with pytest.raises(ConfigError) as caught:
        train_distil(replace(config, **changed))
    assert caught.value.field == field


def test_a_teacher_that_cannot_teach_is_refused(config, tiny, build_autoencoder, tmp_path):
    save_model(tmp_path / "half", AnchoredConfig(autoencoder=tiny.autoencoder), build_autoencoder())
    with pytest.raises(InvalidInputError, match="without a transformer"):
        train_distil(replace(config, teacher=str(tmp_path / "half")))
    with pytest.raises(CheckpointError, match=r"no model\.json"):
        train_distil(replace(config, teacher=str(tmp_path / "nothing")))


def test_latents_of_other_planes_than_the_teachers_are_refused(config, build_planes, build_conditions, tmp_path):
    planes = build_planes(2)
    smaller = replace(planes, xy=planes.xy[:, :4])
    other = encoded(tmp_path / "other", smaller, build_conditions(2))
    for name in ("latents", "validation_latents"):
        with pytest.raises(InvalidInputError, match="as the teacher has them"):
            train_distil(replace(config, **{name: other}))


def test_latents_of_another_autoencoder_than_the_teachers_are_refused(config):
    (Path(config.latents) / PLAN).write_text(json.dumps({AUTOENCODER_DIGEST: "0123456789abcdef"}))
    with pytest.raises(InvalidInputError, match="of the autoencoder 0123456789abcdef"):
        train_distil(config)


def test_a_teacher_that_takes_a_layout_needs_latents_with_layouts(config, layout_weights):
    with pytest.raises(InvalidInputError, match="layout"):
        train_distil(replace(config, teacher=str(layout_weights)))


def test_latents_that_tell_less_of_movers_than_the_teacher_knows_are_refused(config):
    (Path(config.latents) / PLAN).write_text(json.dumps({KNOWN_WORLD: REMEMBERED}))
    with pytest.raises(InvalidInputError, match="movers remembered"):
        train_distil(config)


@pytest.mark.parametrize("folder", ["anchored", "anchored/gpu"])
def test_the_shipped_configurations_fit_the_guided_weights_and_take_four_steps(folder, pytestconfig):
    configs = pytestconfig.rootpath / "configs"
    config = load_config(DistilTrainingConfig, configs / folder / "distil.yaml")
    assert (config.sampling.sampler, config.sampling.steps) == ("euler", 4)
    assert config.run.out == "out/train/distil"
    assert config.loss.drop_plan == 0.0
    guided = load_config(TransformerTrainingConfig, configs / "anchored" / "guide.yaml")
    assert config.teacher == f"{guided.run.out}/export"
    assert config.sampling.shift == guided.sampling.shift


def test_the_command_names_an_unknown_key(capsys):
    assert main(["train", "distil", "teachr=x"]) == 2
    assert "teachr" in capsys.readouterr().err
