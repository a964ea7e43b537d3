"""Configurations of runs: what cannot be is refused by field, and what is shipped fits."""

import pytest
from dyncity_models.config import AutoencoderConfig, CanvasConfig, DiffusionTransformerConfig
from dyncity_models.training.config import (
    AutoencoderLossConfig,
    AutoencoderTrainingConfig,
    DataConfig,
    DistilLossConfig,
    OptimiserConfig,
    RunConfig,
    TransformerLossConfig,
    TransformerTrainingConfig,
)
from dyncity_models.training.reference_config import (
    ReferenceAutoencoderTrainingConfig,
    ReferenceTransformerTrainingConfig,
)

from dyncity_sim.cli.main import main
from dyncity_sim.config import load_config
from dyncity_sim.errors import ConfigError


@pytest.mark.parametrize(
    ("section", "values", "field"),
    [
        (RunConfig, {"precision": "half"}, "run.precision"),
        (RunConfig, {"accelerator": "abacus"}, "run.accelerator"),
        (RunConfig, {"out": ""}, "run.out"),
        (RunConfig, {"loggers": ["csv", "paper"]}, "run.loggers"),
        (RunConfig, {"validate_every": 0}, "run.validate_every"),
        (RunConfig, {"checkpoint_every": 0}, "run.checkpoint_every"),
        (RunConfig, {"validation_clips": 0}, "run.validation_clips"),
        (RunConfig, {"most_minutes": -1.0}, "run.most_minutes"),
        (RunConfig, {"threads": -1}, "run.threads"),
        (RunConfig, {"seed": -1}, "run.seed"),
        (OptimiserConfig, {"steps": 0}, "optimiser.steps"),
        (OptimiserConfig, {"batch": 0}, "optimiser.batch"),
        (OptimiserConfig, {"lr": float("nan")}, "optimiser.lr"),
        (OptimiserConfig, {"ema_decay": 2.0}, "optimiser.ema_decay"),
        (OptimiserConfig, {"decay_from": -0.1}, "optimiser.decay_from"),
        (OptimiserConfig, {"lr": float("inf")}, "optimiser.lr"),
        (AutoencoderLossConfig, {"kl": float("nan")}, "loss.kl"),
        (AutoencoderLossConfig, {"lovasz": -1.0}, "loss.lovasz"),
        (TransformerLossConfig, {"xy": float("nan")}, "loss.xy"),
        (TransformerLossConfig, {"time_mean": float("inf")}, "loss.time_mean"),
        (ReferenceAutoencoderTrainingConfig, {"kl": float("nan")}, "kl"),
        (ReferenceTransformerTrainingConfig, {"drop": 2.0}, "drop"),
        (TransformerLossConfig, {"drop_known": 1.5}, "loss.drop_known"),
        (DistilLossConfig, {"at_start": -0.5}, "loss.at_start"),
        (AutoencoderTrainingConfig, {"loss": AutoencoderLossConfig(frames=17)}, "loss.frames"),
        (AutoencoderConfig, {"encoder_channels": 10}, "model.encoder_channels"),
        (AutoencoderConfig, {"canvas": CanvasConfig(cells=33)}, "model.canvas.cells"),
        (AutoencoderConfig, {"frames": 8}, "model.canvas.anchor_frame"),
        (AutoencoderConfig, {"embedding_channels": 0}, "model.embedding_channels"),
        (AutoencoderConfig, {"grid_half_extent_m": float("nan")}, "model.grid_half_extent_m"),
        (AutoencoderConfig, {"canvas": CanvasConfig(half_extent_m=0.0)}, "model.canvas.half_extent_m"),
        (DataConfig, {"workers": -1}, "data.workers"),
        (DiffusionTransformerConfig, {"heads": 3}, "model.width"),
        (DiffusionTransformerConfig, {"depth": 3}, "model.depth"),
        (DiffusionTransformerConfig, {"time_patch": 0}, "model.time_patch"),
    ],
)
def test_numbers_that_cannot_be_are_refused_by_field(section, values, field):
    with pytest.raises(ConfigError) as refused:
        section(**values)
    assert refused.value.field == field


@pytest.mark.parametrize("stage", ["vae", "dit"])
def test_an_unknown_key_is_named_and_ends_the_command_with_code_2(stage, capsys):
    assert main(["train", stage, "optimiser.stepz=3"]) == 2
    assert "optimiser.stepz" in capsys.readouterr().err


def test_a_value_of_the_wrong_type_is_named():
    with pytest.raises(ConfigError) as caught:
        load_config(AutoencoderTrainingConfig, None, ["optimiser.steps=many"])
    assert caught.value.field == "optimiser.steps"
    assert caught.value.expected == "a value of the key's type"


def test_who_gives_one_folder_for_a_list_of_them_is_told_how_lists_are_written():
    with pytest.raises(ConfigError, match=r"^data\.train: .* Lists are written \[A,B\]"):
        load_config(AutoencoderTrainingConfig, None, ["data.train=out/rec"])


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
