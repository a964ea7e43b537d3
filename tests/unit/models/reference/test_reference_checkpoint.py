"""Weights of the family reference on disk: whole, finite and of the shapes that are said, or refused."""

import json

import pytest
import torch
from dyncity_models.backends.load import load
from dyncity_models.reference.autoencoder import ReferenceAutoencoder
from dyncity_models.reference.checkpoint import load_reference, save_reference
from safetensors.torch import load_file, save_file

from dyncity_sim.errors import CheckpointError


def edit(folder, change):
    described = json.loads((folder / "model.json").read_text())
    change(described)
    (folder / "model.json").write_text(json.dumps(described))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid": [32, 32, 8]}, "shape"),
        ({"classes": 6}, "shape"),
        ({"latent_channels": 8}, "shape"),
        ({"grid": "wide"}, "grid"),
    ],
)
def test_weights_of_another_shape_are_refused(saved, change, message):
    edit(saved, lambda described: described["config"]["autoencoder"].update(change))
    with pytest.raises(CheckpointError, match=message):
        load(saved)


def test_weights_of_another_taxonomy_or_convention_are_refused(saved):
    edit(saved, lambda described: described["config"]["classes"].update(names=["free", "road"]))
    with pytest.raises(CheckpointError, match=r"classes\.names"):
        load(saved)
    edit(saved, lambda described: described.update(convention="sideways"))
    with pytest.raises(CheckpointError, match="convention"):
        load(saved)
    edit(saved, lambda described: described.update(family="unheard of"))
    with pytest.raises(CheckpointError, match="one of anchored, reference"):
        load(saved)


@pytest.mark.parametrize("file", ["autoencoder.safetensors", "transformer.safetensors"])
def test_truncated_weights_are_refused(saved, file):
    whole = (saved / file).read_bytes()
    (saved / file).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=file):
        load(saved)
    (saved / file).unlink()
    with pytest.raises(CheckpointError, match=file):
        load(saved)


def test_weights_that_are_not_finite_are_not_written_and_those_before_them_stay(saved, even_planes):
    before = load_reference(saved)
    spoilt = ReferenceAutoencoder(even_planes)
    with torch.no_grad():
        next(spoilt.parameters()).view(-1)[0] = float("nan")
    with pytest.raises(CheckpointError, match=r"autoencoder\.safetensors: .*infinity or NaN"):
        save_reference(saved, before.config, spoilt)
    assert load_reference(saved).model_id == before.model_id


def test_weights_that_are_not_finite_are_refused(saved):
    file = saved / "transformer.safetensors"
    tensors = load_file(file)
    next(iter(tensors.values())).view(-1)[0] = float("inf")
    save_file(tensors, file)
    with pytest.raises(CheckpointError, match=r"transformer\.safetensors: .*infinity or NaN"):
        load_reference(saved)
