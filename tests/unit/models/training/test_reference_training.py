"""From data sets to weights of the family reference, by the commands."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from dyncity_models.data.shards import EncodedSet
from dyncity_models.reference.autoencoder import ReferenceAutoencoder
from dyncity_models.reference.checkpoint import load_reference, save_reference
from dyncity_models.reference.config import (
    CONDITIONS,
    PUBLISHED_CONDITIONS,
    ReferenceAutoencoderConfig,
    ReferenceConfig,
)
from dyncity_models.reference.conventions import OfficialConvention
from dyncity_models.reference.labels import CommandThresholds
from dyncity_models.training.config import OptimiserConfig, RunConfig
from dyncity_models.training.families import encode, train
from dyncity_models.training.reference_config import (
    ReferenceAutoencoderTrainingConfig,
    ReferenceDataConfig,
    ReferenceTransformerTrainingConfig,
    autoencoder_of,
    transformer_of,
)
from dyncity_models.training.reference_stages import (
    encode_for_reference,
    train_reference_autoencoder,
    train_reference_transformer,
)

from dyncity_sim.cli.main import main
from dyncity_sim.config import load_config, save_config
from dyncity_sim.dataset.carlasc import export_carlasc
from dyncity_sim.dataset.store import Recording
from dyncity_sim.domain.taxonomy import CARLASC, CARLASC_RAW
from dyncity_sim.errors import ConfigError, InvalidInputError

PATIENCE_S = 120.0

TINY = {
    "size": "small",
    "grid": [16, 16, 8],
    "frames": 4,
    "plane_channels": 8,
    "low_channels": 8,
    "high_channels": 8,
    "dropout": 0.1,
}
TINY_TRANSFORMER = {"size": "small", "depth": 1, "width": 32, "heads": 2, "conditions": list(CONDITIONS)}


@pytest.fixture
def autoencoder_run(recording, tmp_path):
    """A run of a few seconds; with dropout, whose draws have to be resumed, too."""
    return ReferenceAutoencoderTrainingConfig(
        model=dict(TINY),
        data=ReferenceDataConfig([str(recording)], [str(recording)], workers=1),
        optimiser=OptimiserConfig(steps=3, batch=1, warm_up=2),
        run=RunConfig(str(tmp_path / "vae"), 0, "32-true", "cpu", 1, 2, 2, 2),
    )


@pytest.fixture
def build_transformer_run(autoencoder_run, tmp_path):
    """A function from an autoencoder and latents to a run of its transformer."""

    def build(autoencoder, latents, **changes):
        run = replace(autoencoder_run.run, out=str(tmp_path / "dit"))
        optimiser = OptimiserConfig(steps=3, batch=2, warm_up=2)
        config = ReferenceTransformerTrainingConfig(
            model=dict(TINY_TRANSFORMER),
            autoencoder=str(autoencoder),
            latents=str(latents),
            validation_latents=str(latents),
            optimiser=optimiser,
            run=run,
        )
        return replace(config, **changes)

    return build


def exported(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.slow
class TestStages:
    def test_lead_from_a_recording_to_weights_of_both_halves(
        self, autoencoder_run, build_transformer_run, recording, tmp_path
    ):
        save_config(autoencoder_run, tmp_path / "vae.yaml")
        autoencoder = train("vae", tmp_path / "vae.yaml", [])
        base = load_reference(autoencoder)
        assert base.transformer is None
        assert base.convention.name == "ego"
        assert base.config.autoencoder.grid == (16, 16, 8)
        assert base.config.classes.names == CARLASC.names
        assert base.config.space.lower_m == (-3.2, -3.2, -2.0)
        (log,) = (file.read_text() for file in (tmp_path / "vae" / "log").rglob("metrics.csv"))
        assert "miou" in log

        counts = encode([recording], autoencoder, tmp_path / "latents", 0, 2)
        assert counts == {"static": 2, "forward": 4, "left": 0, "right": 0, "first": 0, "left out": 0}
        with pytest.raises(InvalidInputError, match="without an encoded data set"):
            encode([recording], autoencoder, tmp_path / "latents", 0, 2)
        with pytest.raises(InvalidInputError, match=r"^known-world: got foreseen"):
            encode([recording], autoencoder, tmp_path / "foreseen", 0, 2, known_world="foreseen")

        config = build_transformer_run(autoencoder, tmp_path / "latents")
        save_config(config, tmp_path / "dit.yaml")
        weights = train("dit", tmp_path / "dit.yaml", ["sampling.steps=7"])
        (log,) = (file.read_text() for file in (tmp_path / "dit" / "log").rglob("metrics.csv"))
        assert "val_noise_free" in log
        assert "val_noise_given" in log
        assert "val_noise_region" in log
        model = load_reference(weights)
        assert model.config.sampling.steps == 7
        rollouts = np.abs(EncodedSet.open(tmp_path / "latents").every("rollout", 1).astype(np.float32))
        limit = model.config.sampling.latent_limit
        assert (rollouts[rollouts > 0] <= limit).mean() >= 0.999
        assert rollouts.mean() < limit <= rollouts.max()
        assert model.config.classes == base.config.classes
        trained, before = model.autoencoder.state_dict(), base.autoencoder.state_dict()
        assert all(torch.equal(trained[name], value) for name, value in before.items())

        onward = replace(config, initial=str(weights), run=replace(config.run, out=str(tmp_path / "onward")))
        still = replace(onward, optimiser=replace(config.optimiser, lr=0.0, weight_decay=0.0))
        unchanged = load_reference(train_reference_transformer(still)).transformer.state_dict()
        assert all(torch.equal(unchanged[name], value) for name, value in model.transformer.state_dict().items())
        unlimited = load_reference(train_reference_transformer(replace(still, limit_latents=False)))
        assert unlimited.config.sampling.latent_limit is None
        with pytest.raises(InvalidInputError, match="initial"):
            train_reference_transformer(replace(onward, model=TINY_TRANSFORMER | {"depth": 2}))
        with pytest.raises(InvalidInputError, match="latents of"):
            train_reference_transformer(replace(config, autoencoder=str(weights)))

    def test_of_an_autoencoder_go_on_from_weights_that_see_the_data_as_they_do(self, autoencoder_run, tmp_path):
        weights = train_reference_autoencoder(autoencoder_run)
        onward = replace(
            autoencoder_run, initial=str(weights), run=replace(autoencoder_run.run, out=str(tmp_path / "on"))
        )
        still = replace(onward, optimiser=replace(onward.optimiser, lr=0.0, weight_decay=0.0))
        before, after = (load_reference(f).autoencoder for f in (weights, train_reference_autoencoder(still)))
        unchanged = after.state_dict()
        assert all(torch.equal(unchanged[name], value) for name, value in before.state_dict().items())
        with pytest.raises(InvalidInputError, match="initial"):
            train_reference_autoencoder(replace(onward, model=TINY | {"low_channels": 9}))
        with pytest.raises(InvalidInputError, match="convention: got official, expected ego"):
            train_reference_autoencoder(replace(onward, convention="official"))

    def test_of_an_autoencoder_killed_and_resumed_end_as_one_that_was_not(
        self, autoencoder_run, train_until_killed, tmp_path
    ):
        done = train_until_killed(autoencoder_run, tmp_path)
        steps = replace(autoencoder_run.optimiser, steps=done + 3, decay_from=1.0)
        whole = replace(autoencoder_run.run, out=str(tmp_path / "whole"))
        resumed, undisturbed = (
            train_reference_autoencoder(replace(autoencoder_run, optimiser=steps, run=run))
            for run in (autoencoder_run.run, whole)
        )
        assert exported(resumed) == exported(undisturbed)

    def test_of_a_transformer_killed_and_resumed_end_as_one_that_was_not(
        self, autoencoder_run, build_transformer_run, train_until_killed, recording, tmp_path
    ):
        autoencoder = train_reference_autoencoder(autoencoder_run)
        encode_for_reference([recording], autoencoder, tmp_path / "latents", 0, 2)
        config = build_transformer_run(autoencoder, tmp_path / "latents")
        done = train_until_killed(config, tmp_path, "dit")
        steps = replace(config.optimiser, steps=done + 3, decay_from=1.0)
        whole = replace(config.run, out=str(tmp_path / "whole"))
        resumed, undisturbed = (
            train_reference_transformer(replace(config, optimiser=steps, run=run)) for run in (config.run, whole)
        )
        assert exported(resumed) == exported(undisturbed)

    def test_learn_published_carlasc_in_its_own_handedness(self, autoencoder_run, recording, tmp_path):
        export_carlasc(Recording.open(recording), tmp_path / "carlasc")
        folder = str(tmp_path / "carlasc")
        official = replace(
            autoencoder_run,
            data=ReferenceDataConfig([folder], [folder], 1, "own"),
            convention="official",
        )
        weights = train_reference_autoencoder(official)
        model = load_reference(weights)
        assert model.convention.name == "official"
        assert model.config.classes.names == CARLASC_RAW.names
        counts = encode_for_reference([tmp_path / "carlasc"], weights, tmp_path / "latents", 0, 1)
        assert counts["first"] == counts["left out"] == 0
        # Absolute yaw: the sequences begin at the origin of a world of their own, and one bends.
        yaw = EncodedSet.open(tmp_path / "latents").every("trajectory", 1)[:, :, 2]
        assert (yaw > 0.01).any()
        assert (yaw < -0.01).any()

        unusual = OfficialConvention(thresholds=CommandThresholds(angle_rad=0.1))
        save_reference(tmp_path / "unusual", model.config, model.autoencoder, None, unusual)
        run = replace(official.run, out=str(tmp_path / "on"))
        onward = replace(official, initial=str(tmp_path / "unusual"), run=run)
        assert load_reference(train_reference_autoencoder(onward)).convention == unusual


def test_the_family_is_chosen_by_the_configuration(tmp_path, capsys):
    assert main(["train", "vae", "family=reference", "model.size=huge"]) == 2
    assert "model.size" in capsys.readouterr().err
    assert main(["train", "dit", "family=other"]) == 2
    assert "one of anchored, reference" in capsys.readouterr().err
    (tmp_path / "run.yaml").write_text("family: reference\nkl: much\n")
    assert main(["train", "vae", "--config", str(tmp_path / "run.yaml")]) == 2
    assert "kl" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"grid": [17, 16, 8]}, "cells along x"),
        ({"frames": 3}, "cells along t"),
        ({"heads": 3}, "model.heads"),
        ({"widths": 3}, "widths"),
        ({"frames": "many"}, "frames"),
        ({"classes": 12, "plane_down": [1, 0, 0, 4]}, "cells along z"),
        ({"classes": 11}, "model.classes"),
    ],
)
def test_an_autoencoder_that_cannot_be_is_refused_by_field(changes, field):
    with pytest.raises(ConfigError, match=field):
        autoencoder_of(TINY | changes, (128, 128, 8), 12)


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"conditions": ["plan"]}, "model.conditions"), ({"heads": 5}, "model.heads"), ({"size": "large"}, "model.size")],
)
def test_a_transformer_that_cannot_be_is_refused_by_field(changes, field):
    with pytest.raises(ConfigError, match=field):
        transformer_of(TINY_TRANSFORMER | changes)


def test_grid_and_classes_are_those_of_the_data_unless_they_are_given():
    model = {"size": "official"}
    assert autoencoder_of(model, (200, 200, 16), 18).grid == (200, 200, 16)
    assert autoencoder_of(model, (200, 200, 16), 18).classes == 18
    assert autoencoder_of(model | {"grid": [64, 64, 8]}, (64, 64, 8), 12).grid == (64, 64, 8)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"model": TINY | {"grid": [256, 256, 8]}}, r"model\.grid"),
        ({"model": TINY | {"grid": [16, 16, 4]}}, r"model\.grid"),
        ({"model": TINY | {"grid": "all"}}, r"model\.grid"),
        ({"model": TINY | {"frames": 64}}, "at least 64 frames"),
        ({"model": TINY | {"classes": 23}}, r"model\.classes"),
        ({"convention": "mirror"}, "convention"),
    ],
)
def test_data_that_does_not_fit_the_configuration_is_refused_by_field(autoencoder_run, change, field):
    with pytest.raises(InvalidInputError, match=field):
        train_reference_autoencoder(replace(autoencoder_run, **change))


SMALL_PLANES = ReferenceAutoencoderConfig(
    frames=2, grid=(8, 8, 4), classes=5, plane_channels=8, low_channels=8, high_channels=8
)


def test_latents_of_another_family_are_refused(tmp_path, build_transformer_run):
    save_reference(tmp_path / "vae", ReferenceConfig(SMALL_PLANES), ReferenceAutoencoder(SMALL_PLANES))
    (tmp_path / "latents").mkdir()
    config = build_transformer_run(tmp_path / "vae", tmp_path / "latents")
    with pytest.raises(InvalidInputError, match="dyncity encode"):
        train_reference_transformer(config)
    (tmp_path / "latents" / "latents.json").write_text(json.dumps({"xy_mean": []}))
    with pytest.raises(InvalidInputError, match="another family"):
        train_reference_transformer(config)


@pytest.mark.parametrize("field", ["latents", "validation_latents"])
def test_latents_of_another_autoencoder_are_refused_by_field(tmp_path, build_transformer_run, monkeypatch, field):
    save_reference(tmp_path / "vae", ReferenceConfig(SMALL_PLANES), ReferenceAutoencoder(SMALL_PLANES))
    encoders = {"ours": load_reference(tmp_path / "vae").model_id, "theirs": "reference-other"}
    monkeypatch.setattr(
        "dyncity_models.training.reference_stages.ReferenceLatents",
        lambda folder, device: SimpleNamespace(described={"autoencoder": encoders[folder.name]}),
    )
    folders = {"latents": "ours", "validation_latents": "ours"} | {field: "theirs"}
    config = replace(build_transformer_run(tmp_path / "vae", tmp_path / "latents"), **folders)
    with pytest.raises(InvalidInputError, match=rf"^{field}: got theirs, encoded by reference-other"):
        train_reference_transformer(config)


@pytest.mark.parametrize("name", ["small/vae", "small/dit", "official/vae", "official/dit-dc1", "official/dit-dc2"])
def test_the_shipped_configurations_fit(name, pytestconfig):
    schema = ReferenceAutoencoderTrainingConfig if name.endswith("vae") else ReferenceTransformerTrainingConfig
    config = load_config(schema, pytestconfig.rootpath / "configs" / "reference" / f"{name}.yaml")
    assert config.family == "reference"
    if name.endswith("vae"):
        grid = config.model.get("grid") or (128, 128, 8)
        assert autoencoder_of(config.model, tuple(grid), 12).grid == tuple(grid)
    else:
        known = CONDITIONS if name.startswith("small") else PUBLISHED_CONDITIONS
        assert transformer_of(config.model).conditions == known
