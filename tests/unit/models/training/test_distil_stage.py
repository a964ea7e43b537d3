"""The stage from whole weights to those of few steps."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from dyncity_models.anchored.checkpoint import load_model, save_model
from dyncity_models.backends.load import load
from dyncity_models.config import REMEMBERED, AnchoredConfig, SamplingConfig
from dyncity_models.data.latents import AUTOENCODER_DIGEST, KNOWN_WORLD
from dyncity_models.data.shards import PLAN
from dyncity_models.training.config import DistilTrainingConfig, OptimiserConfig, TransformerTrainingConfig
from dyncity_models.training.distil_stage import train_distil

from dyncity_sim.cli.main import main
from dyncity_sim.config import load_config
from dyncity_sim.domain.conditions import Conditions, SamplingOptions
from dyncity_sim.errors import CheckpointError, ConfigError, InvalidInputError


@pytest.fixture
def config(weights, latents, brief_run):
    optimiser = OptimiserConfig(steps=4, batch=2, warm_up=2, lr=1e-3, decay_from=1.0)
    run = replace(brief_run, validate_every=2, checkpoint_every=1)
    sampling = SamplingConfig(steps=4, shift=3.0)
    return DistilTrainingConfig(
        str(weights), str(latents), str(latents), sampling, evaluations=2, limit_steps=6, optimiser=optimiser, run=run
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


def test_a_run_does_not_go_on_with_another_teacher_of_the_same_autoencoder(config, build_guided_weights):
    train_distil(config)
    longer = replace(config, optimiser=replace(config.optimiser, steps=5))
    with pytest.raises(ConfigError, match=r"^teacher: got anchored-.*, expected anchored-.* has learnt from so far"):
        train_distil(replace(longer, teacher=str(build_guided_weights(autoguidance=1.5))))
    train_distil(longer)


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


def test_latents_of_other_planes_than_the_teachers_are_refused(
    config, write_latents, build_planes, build_conditions, tmp_path
):
    planes = build_planes(2)
    smaller = replace(planes, xy=planes.xy[:, :4])
    other = str(write_latents(tmp_path / "other", smaller, build_conditions(2)))
    for name in ("latents", "validation_latents"):
        with pytest.raises(InvalidInputError, match="as the autoencoder has them"):
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
