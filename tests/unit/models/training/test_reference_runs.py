"""Runs of the family reference: what they begin from, what they go on with, and what leads to them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from dyncity_models.data.shards import EncodedSet, shard_folder, write_index, write_shard
from dyncity_models.reference.autoencoder import ReferenceAutoencoder
from dyncity_models.reference.checkpoint import load_reference, save_reference
from dyncity_models.reference.config import (
    ReferenceAutoencoderConfig,
    ReferenceClasses,
    ReferenceConfig,
    ReferenceSpace,
)
from dyncity_models.reference.conventions import EgoConvention, OfficialConvention
from dyncity_models.reference.dit import ReferenceTransformer
from dyncity_models.training.config import OptimiserConfig
from dyncity_models.training.families import TRANSFORMERS
from dyncity_models.training.reference_config import (
    ReferenceAutoencoderTrainingConfig,
    ReferenceDataConfig,
    ReferenceTransformerTrainingConfig,
    transformer_of,
)
from dyncity_models.training.reference_stages import train_reference_autoencoder, train_reference_transformer

from dyncity_sim.cli.main import main
from dyncity_sim.config import load_variant
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import ConfigError, InvalidInputError

PLANES = ReferenceAutoencoderConfig(
    frames=4, grid=(16, 16, 8), classes=5, plane_channels=8, low_channels=8, high_channels=8, dropout=0.0
)
TINY = {"size": "small", "depth": 1, "width": 32, "heads": 2}


@pytest.fixture
def save_weights(tmp_path):
    """A function that saves random weights, whole or of an autoencoder alone."""

    def save(name, planes=PLANES, convention=None, whole=True, **config):
        torch.manual_seed(0)
        model = transformer_of(TINY)
        transformer = ReferenceTransformer(model, planes) if whole else None
        described = ReferenceConfig(planes, model, **config)
        save_reference(
            tmp_path / name, described, ReferenceAutoencoder(planes), transformer, convention or EgoConvention()
        )
        return tmp_path / name

    return save


@pytest.fixture
def transformer_run(save_weights, brief_run, tmp_path):
    """A run on two encoded chunks of random latents."""
    base = load_reference(save_weights("vae", whole=False))
    shape = (PLANES.latent_channels, *PLANES.rollout_shape)
    rollouts = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float16)
    rows = {
        "rollout": rollouts,
        "hexplane": rollouts,
        "has_previous": np.ones(2, np.bool_),
        "trajectory": np.zeros((2, PLANES.frames, 3), np.float32),
        "command": np.arange(2),
        "layout": np.zeros((2, PLANES.frames, 4, 4), np.bool_),
    }
    latents = tmp_path / "latents"
    write_shard(latents, 0, rows)
    described = {"family": "reference", "autoencoder": base.model_id, "convention": "ego"}
    write_index(EncodedSet(latents, (shard_folder(latents, 0),), described))
    return ReferenceTransformerTrainingConfig(
        model=dict(TINY),
        autoencoder=str(tmp_path / "vae"),
        latents=str(latents),
        validation_latents=str(latents),
        optimiser=OptimiserConfig(steps=1, batch=2),
        run=brief_run,
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"planes": replace(PLANES, frames=8)}, "frames 8, expected 4"),
        ({"planes": replace(PLANES, grid=(32, 32, 8))}, "plane_cells .*16.*, expected .*8"),
        ({"planes": replace(PLANES, latent_channels=8)}, "latent_channels 8, expected 16"),
        ({"classes": ReferenceClasses(("free", "a", "b", "c", "d"))}, "classes reference-.*, expected reference-"),
        ({"space": ReferenceSpace(rate_hz=2.0)}, r"space .*rate_hz=2\.0.*, expected .*rate_hz=10\.0"),
        ({"convention": OfficialConvention()}, "convention official, expected ego"),
    ],
)
def test_a_transformer_that_saw_chunks_otherwise_is_no_beginning(transformer_run, save_weights, changes, message):
    initial = str(save_weights("initial", **changes))
    with pytest.raises(InvalidInputError, match=f"^initial: got .* with {message}"):
        train_reference_transformer(replace(transformer_run, initial=initial))


def test_a_transformer_goes_on_from_weights_that_saw_chunks_as_it_does(transformer_run, save_weights):
    initial = save_weights("initial", replace(PLANES, high_channels=12))
    still = OptimiserConfig(steps=1, batch=2, lr=0.0, weight_decay=0.0)
    export = train_reference_transformer(replace(transformer_run, initial=str(initial), optimiser=still))
    expected = load_reference(initial).transformer.state_dict()
    torch.testing.assert_close(load_reference(export).transformer.state_dict(), expected, rtol=0, atol=0)


@pytest.fixture
def autoencoder_run(recording, brief_run):
    """A run of one step of the smallest autoencoder."""
    model = {
        "size": "small",
        "grid": [16, 16, 8],
        "frames": 2,
        "plane_channels": 8,
        "low_channels": 8,
        "high_channels": 8,
    }
    return ReferenceAutoencoderTrainingConfig(
        model=model,
        data=ReferenceDataConfig([str(recording)], [str(recording)], workers=1),
        optimiser=OptimiserConfig(steps=1, batch=1),
        run=brief_run,
    )


def test_an_autoencoder_keeps_its_convention_and_its_classes(autoencoder_run):
    train_reference_autoencoder(autoencoder_run)
    longer = replace(autoencoder_run, optimiser=OptimiserConfig(steps=2, batch=1))
    with pytest.raises(ConfigError, match=r"^convention: got official, expected ego, which"):
        train_reference_autoencoder(replace(longer, convention="official"))
    with pytest.raises(ConfigError, match=r"^taxonomy: got carlasc-raw, expected carlasc, which"):
        train_reference_autoencoder(replace(longer, data=replace(longer.data, labels="own")))
    train_reference_autoencoder(longer)


def test_encode_ends_with_the_command_that_trains_on_what_it_encoded(save_weights, recording, tmp_path, capsys):
    of_data = {"classes": ReferenceClasses(CARLASC.names), "space": ReferenceSpace.carlasc(PLANES.grid)}
    vae = str(save_weights("vae", replace(PLANES, classes=len(CARLASC)), whole=False, **of_data))
    latents = str(tmp_path / "latents")
    assert main(["encode", str(recording), "--autoencoder", vae, "--out", latents]) == 0
    *_, (command, *words) = (line.split() for line in capsys.readouterr().out.splitlines())
    assert (command, words[:3]) == ("train:", ["dyncity", "train", "dit"])
    config = load_variant("family", TRANSFORMERS, None, words[3:-1])
    assert isinstance(config, ReferenceTransformerTrainingConfig)
    assert (config.autoencoder, config.latents, words[-1]) == (vae, latents, "validation_latents=...")
