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


@pytest.mark.parametrize(
    ("part", "key", "value", "message"),
    [
        # Half a terabyte, and a third of one.
        ("autoencoder", "plane_channels", 65536, r"decoder\.planes.*got shape .*, expected shape .*196608"),
        ("transformer", "width", 65536, r"blocks\.0.*got shape .*, expected shape .*65536"),
        ("autoencoder", "mlp_width", 10**9, r"autoencoder\.mlp_width: 1000000000, expected from 1 to 65536"),
        ("autoencoder", "depth", 10**9, r"autoencoder\.depth: 1000000000, expected from 1 to 128"),
        ("autoencoder", "classes", -3, r"autoencoder\.classes: -3, expected from 2 to 256"),
        ("autoencoder", "grid", [-16, 16, 8], r"autoencoder\.cells along x: -16, expected from 1 to 4096"),
        ("autoencoder", "grid", [17, 16, 8], r"autoencoder\.cells along x: 17, expected a multiple of 2"),
        ("autoencoder", "down", [-1, 1, 1], r"autoencoder\.halvings along x: -1, expected from 0 to 8"),
        ("autoencoder", "plane_down", [30, 0, 0, 0], r"autoencoder\.halvings along t: 30, expected from 0 to 8"),
        ("autoencoder", "frequencies", -2, r"autoencoder\.frequencies: -2, expected from 0 to 16"),
        ("autoencoder", "dropout", 5.0, r"autoencoder\.dropout: 5\.0, expected from 0 to 1"),
        ("transformer", "depth", 10**8, r"transformer\.depth: 100000000, expected from 1 to 128"),
        ("transformer", "patch", 3, r"plane_cells: .*multiples of the patch 3"),
        ("transformer", "conditions", ["sounds"], r"transformer\.conditions: sounds, expected some of trajectory"),
        ("space", "rate_hz", 0.0, r"space\.rate_hz: 0\.0, expected from 0\.01 to 1000"),
        ("sampling", "latent_limit", -1.0, r"sampling\.latent_limit: -1\.0, expected above 0"),
    ],
)
def test_sizes_that_the_weights_do_not_have_are_refused_before_memory_is_taken_for_them(
    saved, part, key, value, message
):
    edit(saved, lambda described: described["config"].setdefault(part, {}).update({key: value}))
    with pytest.raises(CheckpointError, match=message):
        load_reference(saved)


def test_a_description_that_is_nested_without_end_is_refused(saved):
    (saved / "model.json").write_text(10**5 * "[")
    with pytest.raises(CheckpointError, match="valid JSON"):
        load(saved)


def test_weights_of_another_taxonomy_or_convention_are_refused(saved):
    edit(saved, lambda described: described["config"]["classes"].update(names=["free", "road"]))
    with pytest.raises(CheckpointError, match=r"classes\.names"):
        load(saved)
    edit(saved, lambda described: described.update(convention="sideways"))
    with pytest.raises(CheckpointError, match="convention"):
        load(saved)
    edit(saved, lambda described: described.update(convention="official", thresholds={"angle_rad": -1.0}))
    with pytest.raises(CheckpointError, match=r"thresholds\.angle_rad: -1\.0"):
        load(saved)
    edit(saved, lambda described: described.update(thresholds=3))
    with pytest.raises(CheckpointError, match="thresholds 3"):
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


def test_an_autoencoder_that_replaces_whole_weights_leaves_no_transformer_beside_it(saved):
    whole = load_reference(saved)
    save_reference(saved, whole.config, whole.autoencoder)
    assert sorted(file.name for file in saved.iterdir()) == ["autoencoder.safetensors", "model.json"]
    assert load_reference(saved).transformer is None


def test_weights_that_are_not_finite_are_refused(saved):
    file = saved / "transformer.safetensors"
    tensors = load_file(file)
    next(iter(tensors.values())).view(-1)[0] = float("inf")
    save_file(tensors, file)
    with pytest.raises(CheckpointError, match=r"transformer\.safetensors: .*infinity or NaN"):
        load_reference(saved)
