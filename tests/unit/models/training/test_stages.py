"""From a recording to weights of the family anchored, stage by stage."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from dyncity_models.anchored.checkpoint import load_model, save_model
from dyncity_models.backends.load import load
from dyncity_models.config import REMEMBERED, SamplingConfig
from dyncity_models.data.shards import PLAN
from dyncity_models.training.config import OptimiserConfig, RunConfig, TransformerTrainingConfig
from dyncity_models.training.stages import encode_recordings, train_autoencoder, train_transformer

from dyncity_sim.domain.conditions import Conditions, SamplingOptions
from dyncity_sim.errors import ConfigError, InvalidInputError

pytestmark = pytest.mark.slow

WITH_LAYOUT = ("continuation", "plan", "layout", "command")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("stages")


@pytest.fixture(scope="module")
def autoencoder(build_autoencoder_run, folder):
    """Weights that have learnt that little of the world moves: one that is full of vehicles takes long to track."""
    config = build_autoencoder_run(folder / "vae")
    fast = replace(config.optimiser, steps=5, lr=0.02)
    return train_autoencoder(replace(config, optimiser=fast, run=replace(config.run, validate_every=2)))


@pytest.fixture(scope="module")
def encoded(autoencoder, recording, folder):
    """The recording as that autoencoder has it, and what the command says of it."""
    counts = encode_recordings([recording], autoencoder, folder / "latents", 0, 1)
    return folder / "latents", counts


@pytest.fixture(scope="module")
def build_run(tiny, autoencoder, encoded):
    """A function that builds a run of a few steps of the transformer."""

    def build(out, **changes):
        config = TransformerTrainingConfig(
            tiny.transformer,
            str(autoencoder),
            latents=str(encoded[0]),
            validation_latents=str(encoded[0]),
            optimiser=OptimiserConfig(steps=3, batch=2, warm_up=2),
            run=RunConfig(str(out), 0, "32-true", "cpu", 1, 2, 2, 2),
        )
        return replace(config, **changes)

    return build


@pytest.fixture(scope="module")
def transformer(build_run, folder):
    """Whole weights."""
    return train_transformer(build_run(folder / "dit"))


@pytest.fixture(scope="module")
def retrained(transformer, folder):
    """The same weights but for their autoencoder."""
    model = load_model(transformer)
    model.autoencoder.decoder.head.bias.data += 0.1
    save_model(folder / "retrained", model.config, model.autoencoder, model.transformer, model.normalisation)
    return folder / "retrained"


@pytest.fixture(scope="module")
def latents_of_retrained(retrained, recording, folder):
    encode_recordings([recording], retrained, folder / "retrained-latents", 0, 1)
    return folder / "retrained-latents"


@pytest.fixture
def generate(plan_along):
    """A function that generates a chunk with weights."""
    return lambda weights: load(weights).generate(Conditions(plan_along()), SamplingOptions(seed=0), lambda step: None)


def assert_same(network, other):
    torch.testing.assert_close(network.state_dict(), other.state_dict(), rtol=0, atol=0)


def test_recordings_are_encoded_once_and_counted_by_command(encoded, autoencoder, recording):
    latents, counts = encoded
    assert counts == {"static": 2, "forward": 4, "left": 0, "right": 0, "left out": 0}
    with pytest.raises(InvalidInputError, match="without an encoded data set"):
        encode_recordings([recording], autoencoder, latents, 0, 1)


def test_stages_lead_from_a_recording_to_weights_that_generate(autoencoder, encoded, transformer, folder, generate):
    (log,) = (file.read_text() for file in (folder / "dit" / "log").rglob("metrics.csv"))
    assert "val_xy_start" in log
    assert "val_xy_go_on" in log
    statistics = json.loads((encoded[0] / "latents.json").read_text())
    model = load_model(transformer)
    assert model.normalisation.get_buffer("tx_mean").flatten().tolist() == pytest.approx(statistics["tx_mean"])
    assert generate(transformer).model_id == model.model_id != load_model(autoencoder).model_id
    assert model.config.known_world == REMEMBERED


def test_weights_that_training_begins_with_stay_as_they_are_at_a_rate_of_zero(build_run, transformer, tmp_path):
    still = OptimiserConfig(steps=3, batch=2, lr=0.0, weight_decay=0.0)
    trained = train_transformer(build_run(tmp_path, initial=str(transformer), optimiser=still))
    assert_same(load_model(trained).transformer, load_model(transformer).transformer)


@pytest.mark.parametrize("change", [{"depth": 4}, {"rollout": True}], ids=str)
def test_weights_of_another_architecture_are_nothing_to_begin_with(tiny, build_run, transformer, tmp_path, change):
    ((name, value),) = change.items()
    with pytest.raises(InvalidInputError, match=rf"^initial: got .* with model\.{name} \w+, expected {value}, as in"):
        train_transformer(build_run(tmp_path, initial=str(transformer), model=replace(tiny.transformer, **change)))


@pytest.mark.parametrize("field", ["initial", "guides"])
def test_an_autoencoder_is_no_transformer_to_begin_with_or_to_guide(build_run, autoencoder, tmp_path, field):
    with pytest.raises(InvalidInputError, match=rf"^{field}: got .*, an autoencoder without a transformer"):
        train_transformer(build_run(tmp_path, **{field: str(autoencoder)}))


@pytest.mark.parametrize(
    ("value", "expected"),
    [({"frames": 18}, 16), ({"classes": 12}, 11), ({"height_cells": 4}, 8), ({"grid_half_extent_m": 20.0}, 25.6)],
    ids=str,
)
def test_an_autoencoder_of_other_shapes_than_the_recordings_have_is_refused(
    tiny, build_autoencoder_run, tmp_path, value, expected
):
    config = build_autoencoder_run(tmp_path / "vae")
    with pytest.raises(ConfigError, match=rf"^model\.{next(iter(value))}: got .*, expected {expected}, as in"):
        train_autoencoder(replace(config, model=replace(tiny.autoencoder, **value)))


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"sampling": SamplingConfig(sampler="ddim")}, "sampler"),
        ({"sampling": SamplingConfig(steps=0)}, "sampling.steps"),
        ({"sampling": SamplingConfig(guidance_scale=float("nan"))}, "sampling.guidance_scale"),
    ],
    ids=str,
)
def test_weights_that_could_not_be_sampled_with_as_they_say_are_not_trained(build_run, tmp_path, value, field):
    with pytest.raises(ConfigError) as refused:
        train_transformer(build_run(tmp_path / "dit", **value))
    assert refused.value.field.endswith(field)
    assert not (tmp_path / "dit").exists()


def test_latents_of_another_autoencoder_are_refused(build_run, retrained, latents_of_retrained, tmp_path):
    with pytest.raises(InvalidInputError, match=r"^latents: .* of the autoencoder"):
        train_transformer(build_run(tmp_path, autoencoder=str(retrained)))
    with pytest.raises(InvalidInputError, match=r"^validation_latents: .* of the autoencoder"):
        train_transformer(build_run(tmp_path, validation_latents=str(latents_of_retrained)))


def test_a_run_does_not_go_on_with_another_autoencoder(build_run, transformer, retrained, latents_of_retrained, folder):
    latents = str(latents_of_retrained)
    other = build_run(folder / "dit", autoencoder=str(retrained), latents=latents, validation_latents=latents)
    with pytest.raises(ConfigError, match=r"^autoencoder: got .* has learnt from so far"):
        train_transformer(other)


def test_an_autoencoder_without_a_common_frame_is_refused(tiny, build_run, autoencoder, tmp_path):
    apart = replace(tiny.autoencoder, canvas=replace(tiny.autoencoder.canvas, common=False))
    save_model(tmp_path / "apart", replace(tiny, autoencoder=apart), load_model(autoencoder).autoencoder)
    with pytest.raises(InvalidInputError, match="common frame"):
        train_transformer(build_run(tmp_path / "dit", autoencoder=str(tmp_path / "apart")))


def test_a_transformer_on_rolled_out_planes_is_trained_and_generates(tiny, build_run, tmp_path, generate):
    rolled = replace(tiny.transformer, rollout=True)
    weights = train_transformer(build_run(tmp_path, model=rolled))
    assert load_model(weights).config.transformer == rolled
    generate(weights)


def test_a_guide_is_trained_beside_the_transformer_that_it_guides(tiny, build_run, transformer, tmp_path, generate):
    small = replace(tiny.transformer, width=16)
    sampling = SamplingConfig(steps=2, autoguidance=1.5)
    weights = train_transformer(build_run(tmp_path, guides=str(transformer), model=small, sampling=sampling))
    guided = load_model(weights)
    assert (guided.config.guide, guided.config.transformer) == (small, tiny.transformer)
    assert guided.guide is not None
    assert_same(guided.transformer, load_model(transformer).transformer)
    generate(weights)


def test_a_guide_needs_the_conditions_and_the_autoencoder_of_what_it_guides(
    tiny, build_run, transformer, retrained, tmp_path
):
    with_layout = replace(tiny.transformer, width=16, conditions=WITH_LAYOUT)
    with pytest.raises(InvalidInputError, match="guides"):
        train_transformer(build_run(tmp_path, guides=str(transformer), model=with_layout))
    with pytest.raises(InvalidInputError, match=r"guides.* with another autoencoder"):
        train_transformer(build_run(tmp_path, guides=str(retrained)))


def test_whole_weights_stand_for_the_autoencoder_in_them(build_run, transformer, autoencoder, tmp_path):
    weights = train_transformer(build_run(tmp_path, autoencoder=str(transformer)))
    assert_same(load_model(weights).autoencoder, load_model(autoencoder).autoencoder)


def test_latents_whose_known_world_tells_other_things_are_refused(build_run, encoded, transformer, tmp_path):
    older = shutil.copytree(encoded[0], tmp_path / "older")
    (older / PLAN).write_text("{}")
    guide = build_run(tmp_path / "dit", guides=str(transformer), latents=str(older), validation_latents=str(older))
    with pytest.raises(InvalidInputError, match=r"^latents: .* movers foreseen"):
        train_transformer(guide)
    with pytest.raises(InvalidInputError, match=r"^validation_latents: .* movers foreseen"):
        train_transformer(build_run(tmp_path / "dit", validation_latents=str(older)))


def test_weights_are_taught_a_new_condition_and_not_to_forget_one(tiny, build_run, transformer, tmp_path):
    taught = replace(tiny.transformer, conditions=WITH_LAYOUT)
    weights = train_transformer(build_run(tmp_path / "taught", initial=str(transformer), model=taught))
    with_layout = load_model(weights)
    assert with_layout.config.transformer.takes_layout
    assert with_layout.transformer.patch_tx.weight[:, 8:].any()
    (log,) = (file.read_text() for file in (tmp_path / "taught" / "log").rglob("metrics.csv"))
    assert "val_tx_layout" in log
    with pytest.raises(InvalidInputError, match="initial"):
        train_transformer(build_run(tmp_path / "forgets", initial=str(weights)))


def test_planes_over_height_are_trained_and_nothing_is_encoded_or_generated_with_them(
    tiny, build_autoencoder_run, build_run, recording, tmp_path
):
    config = build_autoencoder_run(tmp_path / "vae")
    model = replace(tiny.autoencoder, height_planes=True)
    autoencoder = train_autoencoder(replace(config, model=model, optimiser=replace(config.optimiser, steps=3)))
    assert load_model(autoencoder).config.autoencoder == model
    with pytest.raises(InvalidInputError, match="height_planes"):
        encode_recordings([recording], autoencoder, tmp_path / "latents", 0, 1)
    with pytest.raises(InvalidInputError, match="height_planes"):
        train_transformer(build_run(tmp_path / "dit", autoencoder=str(autoencoder)))
