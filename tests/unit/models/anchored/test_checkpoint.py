import json
import shutil
from dataclasses import replace

import pytest
import torch
from dyncity_models.anchored.checkpoint import load_model, save_model
from dyncity_models.backends.anchored.pipeline import AnchoredPipeline
from dyncity_models.normalisation import Normalisation
from safetensors.torch import load_file, save_file

from dyncity_sim.errors import CheckpointError, StorageError


@pytest.fixture
def copied(weights, tmp_path):
    """Weights of this test's own."""
    return shutil.copytree(weights, tmp_path / "weights")


def test_what_was_saved_is_loaded_in_half_precision(weights, tiny, build_autoencoder, build_transformer):
    loaded = load_model(weights)
    assert loaded.config == tiny
    pairs = (loaded.autoencoder, build_autoencoder()), (loaded.transformer, build_transformer())
    for found, saved in pairs:
        assert not found.training
        expected = saved.state_dict()
        assert found.state_dict().keys() == expected.keys()
        for name, value in found.state_dict().items():
            assert value.dtype == torch.float32
            assert torch.equal(value, expected[name].half().float())
    assert torch.equal(loaded.normalisation.get_buffer("xy_std"), torch.full((8, 1, 1), 0.7))


def test_planes_over_height_are_saved_with_their_autoencoder(tiny, build_autoencoder, tmp_path):
    config = replace(tiny, autoencoder=replace(tiny.autoencoder, height_planes=True))
    save_model(tmp_path, config, build_autoencoder(height_planes=True))
    loaded = load_model(tmp_path)
    assert loaded.config == config
    saved = build_autoencoder(height_planes=True).state_dict()
    assert all(torch.equal(v, saved[name].half().float()) for name, v in loaded.autoencoder.state_dict().items())


def test_weights_from_before_an_ablation_was_a_choice_are_those_without_it(copied):
    before = load_model(copied)
    config = change(copied)
    del config["autoencoder"]["height_planes"], config["transformer"]["rollout"]
    change(copied, config=config)
    loaded = load_model(copied)
    assert loaded.config == before.config
    assert not loaded.config.autoencoder.height_planes
    assert not loaded.config.transformer.rollout


def test_saving_leaves_only_whole_files(weights):
    names = {"model.json", *(f"{n}.safetensors" for n in ("autoencoder", "transformer", "normalisation"))}
    assert {file.name for file in weights.iterdir()} == names


def test_an_export_that_fails_half_way_leaves_no_mixture_of_weights(copied, tiny, build_autoencoder, build_transformer):
    (copied / "guide.safetensors").mkdir()
    whole = build_autoencoder(seed=1), build_transformer(), Normalisation(8), build_transformer(seed=1)
    with pytest.raises(StorageError, match="weights could not be written"):
        save_model(copied, tiny, *whole)
    with pytest.raises(CheckpointError, match=r"no model\.json"):
        load_model(copied)


def test_where_no_folder_can_be_nothing_is_exported(tiny, build_autoencoder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="could not be written"):
        save_model(tmp_path / "file" / "weights", tiny, build_autoencoder())


def test_an_autoencoder_that_is_exported_over_whole_weights_is_alone(copied, tiny, build_autoencoder):
    save_model(copied, tiny, build_autoencoder())
    assert load_model(copied).transformer is None


def test_the_same_weights_have_the_same_model_id_and_one_changed_weight_another(
    weights, tiny, build_autoencoder, build_transformer, tmp_path
):
    autoencoder, normalisation = build_autoencoder(), load_model(weights).normalisation
    save_model(tmp_path / "same", tiny, autoencoder, build_transformer(), normalisation)
    with torch.no_grad():
        autoencoder.decoder.head.bias[0] += 0.01
    save_model(tmp_path / "other", tiny, autoencoder, build_transformer(), normalisation)
    same, other = (load_model(tmp_path / name).model_id for name in ("same", "other"))
    assert same == load_model(weights).model_id
    assert other != same
    assert other.startswith("anchored-")


def test_a_guide_travels_with_the_weights_and_is_part_of_their_model_id(
    weights, build_guided_weights, build_transformer
):
    folder = build_guided_weights()
    loaded = load_model(folder)
    assert not loaded.guide.training
    saved = build_transformer(seed=1).state_dict()
    assert all(torch.equal(value, saved[name].half().float()) for name, value in loaded.guide.state_dict().items())
    assert load_model(weights).guide is None
    assert loaded.model_id != load_model(weights).model_id
    (folder / "guide.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"guide\.safetensors"):
        load_model(folder)


def test_autoguidance_without_a_guide_is_refused(copied):
    config = change(copied)
    change(copied, config=config | {"sampling": config["sampling"] | {"autoguidance": 2.0}})
    with pytest.raises(CheckpointError, match=r"sampling\.autoguidance.*without a guide"):
        load_model(copied)


def test_an_autoencoder_alone_loads_but_cannot_generate(tiny, build_autoencoder, tmp_path):
    save_model(tmp_path, tiny, build_autoencoder())
    loaded = load_model(tmp_path)
    assert loaded.transformer is None
    with pytest.raises(CheckpointError, match="without a transformer"):
        AnchoredPipeline(loaded, torch.device("cpu"))


@pytest.mark.parametrize("value", [float("nan"), 1e6])
def test_weights_that_half_precision_cannot_hold_are_not_written(tiny, build_autoencoder, tmp_path, value):
    autoencoder = build_autoencoder()
    with torch.no_grad():
        next(autoencoder.parameters()).view(-1)[0] = value
    with pytest.raises(CheckpointError, match=r"autoencoder\.safetensors: .*infinity or NaN"):
        save_model(tmp_path, tiny, autoencoder)
    assert not any(tmp_path.iterdir())


def test_a_transformer_that_ran_away_leaves_the_weights_before_it_as_they_were(copied):
    model = load_model(copied)
    assert model.transformer is not None
    with torch.no_grad():
        next(model.transformer.parameters()).view(-1)[0] = float("nan")
    before = {file.name: file.read_bytes() for file in copied.iterdir()}
    with pytest.raises(CheckpointError, match=r"transformer\.safetensors: .*infinity or NaN"):
        save_model(copied, model.config, model.autoencoder, model.transformer, model.normalisation)
    assert {file.name: file.read_bytes() for file in copied.iterdir()} == before


def test_weights_that_are_not_finite_are_refused(copied):
    file = copied / "transformer.safetensors"
    tensors = load_file(file)
    next(iter(tensors.values())).view(-1)[0] = float("nan")
    save_file(tensors, file)
    with pytest.raises(CheckpointError, match=r"transformer\.safetensors: .*infinity or NaN"):
        load_model(copied)


def test_a_missing_folder_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere.*Train one"):
        load_model(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["autoencoder.safetensors", "normalisation.safetensors"])
def test_a_missing_file_is_named(copied, name):
    (copied / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        load_model(copied)


@pytest.mark.parametrize("name", ["autoencoder.safetensors", "transformer.safetensors"])
@pytest.mark.parametrize("kept", [0, 4, 0.5, 0.999])
def test_a_truncated_file_is_named(copied, name, kept):
    content = (copied / name).read_bytes()
    (copied / name).write_bytes(content[: int(kept * len(content)) if kept < 1 else kept])
    with pytest.raises(CheckpointError, match=name):
        load_model(copied)


def change(folder, **values):
    described = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(described | values))
    return described["config"]


def test_weights_of_another_configuration_are_refused(copied):
    config = change(copied)
    config["autoencoder"]["feature_channels"] = 16
    change(copied, config=config)
    with pytest.raises(CheckpointError, match=r"autoencoder\.safetensors: .*shape"):
        load_model(copied)


@pytest.mark.parametrize(
    ("part", "key", "value", "message"),
    [
        # Terabytes, and networks that take minutes to be built.
        ("autoencoder", "encoder_channels", 65536, r"autoencoder\.safetensors: .*shape"),
        ("autoencoder", "encoder_channels", 8 * 10**6, r"encoder_channels: got 8000000, expected from 8 to 65536"),
        ("transformer", "width", 65536, r"transformer\.safetensors: .*shape"),
        ("transformer", "depth", 10**7, r"depth: got 10000000, expected from 2 to 128"),
        ("transformer", "patch", 7, r"transformer\.safetensors: model\.patch: 7, expected a divisor of"),
    ],
)
def test_sizes_that_the_weights_do_not_have_are_refused_before_memory_is_taken_for_them(
    copied, part, key, value, message
):
    config = change(copied)
    config[part][key] = value
    change(copied, config=config)
    with pytest.raises(CheckpointError, match=message):
        load_model(copied)


@pytest.mark.parametrize("values", [{"format": 2}, {"family": "reference"}])
def test_another_format_or_family_is_refused(copied, values):
    change(copied, **values)
    with pytest.raises(CheckpointError, match="format 1 of family 'anchored'"):
        load_model(copied)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": 1, "family": "anchored"}', "\udcff"])
def test_a_description_that_is_none_is_refused(copied, text):
    (copied / "model.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CheckpointError):
        load_model(copied)


@pytest.mark.parametrize(
    "config",
    [None, [], 3, "wide", {"autoencoder": {"spin": 1}}, {"autoencoder": {"frames": "x"}}, {"known_world": "guessed"}],
)
def test_a_configuration_of_another_version_is_refused(copied, config):
    change(copied, config=config)
    with pytest.raises(CheckpointError, match="configuration"):
        load_model(copied)


def test_no_weights_are_ever_unpickled(copied):
    torch.save({"weight": torch.zeros(3)}, copied / "autoencoder.safetensors")
    with pytest.raises(CheckpointError, match=r"autoencoder\.safetensors"):
        load_model(copied)


def test_a_transformer_is_saved_with_its_normalisation(tiny, build_autoencoder, build_transformer, tmp_path):
    with pytest.raises(AssertionError):
        save_model(tmp_path, tiny, build_autoencoder(), build_transformer())
    save_model(tmp_path, tiny, build_autoencoder(), build_transformer(), Normalisation(8))
    assert load_model(tmp_path).transformer is not None
