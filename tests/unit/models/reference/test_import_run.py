"""Runs of the published trainers become weights of the family reference."""

import os
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from dyncity_models.reference.autoencoder import ReferenceAutoencoder
from dyncity_models.reference.checkpoint import load_reference
from dyncity_models.reference.config import AUTOENCODERS, ReferenceTransformerConfig
from dyncity_models.reference.dit import position_embedding
from dyncity_models.reference.import_run import import_run
from dyncity_models.reference.labels import LEFT, RIGHT, STATIC
from dyncity_models.reference.names import autoencoder_modules, tensor_names, transformer_modules

from dyncity_sim.cli.main import main
from dyncity_sim.domain.conditions import Command
from dyncity_sim.domain.frames import poses_from_planar
from dyncity_sim.errors import CheckpointError, StorageError


def test_an_autoencoder_arrives_with_its_weights_and_classes(runs, tmp_path, even_planes):
    vae, _, autoencoder, _ = runs
    import_run(vae, tmp_path / "out")
    model = load_reference(tmp_path / "out")
    torch.testing.assert_close(model.autoencoder.state_dict(), autoencoder.state_dict(), rtol=0, atol=0)
    assert model.transformer is None
    assert model.config.autoencoder == even_planes
    assert model.config.classes.names[3] == "class 3"
    assert model.convention.name == "official"
    assert not any(file.suffix in (".ckpt", ".pkl") for file in (tmp_path / "out").iterdir())


def test_a_transformer_arrives_with_its_averaged_weights_and_its_autoencoder(runs, tmp_path):
    _, dit, autoencoder, transformer = runs
    model = import_run(dit, tmp_path / "out", heads=4)
    torch.testing.assert_close(model.transformer.state_dict(), transformer.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(model.autoencoder.state_dict(), autoencoder.state_dict(), rtol=0, atol=0)
    assert model.config.transformer == transformer.config
    assert re.fullmatch("reference-[0-9a-f]{16}", model.model_id)


def test_weights_of_a_right_handed_data_set_are_not_mirrored(runs, tmp_path, even_planes, rewrite):
    vae, dit = runs[:2]
    config = replace(even_planes, grid=(200, 200, 16))
    with torch.device("meta"):
        expected = ReferenceAutoencoder(config).state_dict()
    pairs = tensor_names(autoencoder_modules(config), expected)
    tensors = {theirs: torch.zeros(expected[ours].shape) for theirs, ours in pairs}
    rewrite(vae / "last.ckpt", lambda state: state.update(model_state_dict=tensors))
    conf = yaml.safe_load((vae / "conf.yaml").read_text())
    conf["dataset"] |= {"dataset": "occ3d_waymo", "spatial_size": list(config.grid)}
    (vae / "conf.yaml").write_text(yaml.safe_dump(conf))
    convention = import_run(vae, tmp_path / "out").convention
    assert convention.name == "official-right-handed"
    assert convention.number(Command.LEFT) == LEFT
    positions = position_embedding(110 // 2, 110 // 2, 32)[None]
    rewrite(dit / "last.ckpt", lambda state: state["ema"].update(pos_embed=positions))
    assert import_run(dit, tmp_path / "both", heads=4).convention == convention


def test_commands_keep_the_thresholds_of_the_run(runs, tmp_path):
    dit = runs[1]
    drift = poses_from_planar(np.column_stack([np.arange(4), np.zeros(4), 0.01 * np.arange(4)]))
    convention = import_run(dit, tmp_path / "as_published", heads=4).convention
    assert convention.command_of(drift, np.arange(4)) == RIGHT
    conf = yaml.safe_load((dit / "conf.yaml").read_text())
    conf["dataset"] = {"batch_size": 16, "angle_thr_mul": 0.04, "forward_thr_mul": 5}
    (dit / "conf.yaml").write_text(yaml.safe_dump(conf))
    convention = import_run(dit, tmp_path / "own", heads=4).convention
    assert convention.command_of(drift, np.arange(4)) == STATIC
    assert load_reference(tmp_path / "own").convention == convention
    for value in (-1, "much", float("nan")):
        conf["dataset"]["angle_thr_mul"] = value
        (dit / "conf.yaml").write_text(yaml.safe_dump(conf))
        with pytest.raises(CheckpointError, match=r"conf\.yaml: dataset\.angle_thr_mul"):
            import_run(dit, tmp_path / "out", heads=4)


def test_every_tensor_of_the_official_autoencoder_has_one_published_name():
    config = AUTOENCODERS["official"]
    with torch.device("meta"):
        expected = ReferenceAutoencoder(config).state_dict()
    pairs = list(tensor_names(autoencoder_modules(config), expected))
    assert len({theirs for theirs, _ in pairs}) == len({ours for _, ours in pairs}) == len(expected)
    names = dict(pairs)
    qkv = names["encoder.transformers.tz.layers.1.0.1.qkv.weight"]
    assert qkv == "encoder.projections.tz.layers.1.attention.qkv.weight"
    assert names["encoder.downsamplers.4.down.1.0.bias"] == "encoder.downsamplers.ty.steps.0.bias"
    assert names["vae.fc_mu_logvar.5.weight"] == "moments.tz.weight"
    assert names["decoder.conv_block.out_layers_t.1.weight"] == "decoder.planes.mix.moving.weight"
    modules = transformer_modules(ReferenceTransformerConfig(depth=1, cross_attention=True))
    assert modules["blocks.0.x_attn.kv"] == "blocks.0.cross.kv"


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_what_wraps_a_network_in_training_is_no_part_of_its_names(runs, tmp_path, prefix, rewrite):
    vae, dit, autoencoder, transformer = runs

    def wrapped(tensors):
        return {prefix + name: value for name, value in tensors.items()}

    rewrite(vae / "last.ckpt", lambda s: s.update(model_state_dict=wrapped(s["model_state_dict"])))
    rewrite(dit / "last.ckpt", lambda s: s.update(ema=wrapped(s["ema"])))
    model = import_run(dit, tmp_path / "out", heads=4)
    torch.testing.assert_close(model.autoencoder.state_dict(), autoencoder.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(model.transformer.state_dict(), transformer.state_dict(), rtol=0, atol=0)
    name = "decoder.voxel_decoder.conv_in.0.weight"
    rewrite(vae / "last.ckpt", lambda s: s["model_state_dict"].update({name: torch.zeros(8, 8, 1, 1, 1)}))
    with pytest.raises(CheckpointError, match="no such tensor"):
        import_run(vae, tmp_path / "out")


def test_heads_are_asked_for_when_the_size_has_no_published_name(runs, tmp_path):
    with pytest.raises(CheckpointError, match=r"heads.*DiT-TINY/2.*--heads"):
        import_run(runs[1], tmp_path / "out")
    with pytest.raises(CheckpointError, match="divisor of the width 32"):
        import_run(runs[1], tmp_path / "out", heads=5)


def test_a_published_name_on_another_size_is_refused(runs, tmp_path):
    file = runs[1] / "conf.yaml"
    file.write_text(file.read_text().replace("DiT-TINY/2", "DiT-DC/2"))
    with pytest.raises(CheckpointError, match=r"2 blocks of width 32.*16 blocks of width 384"):
        import_run(runs[1], tmp_path / "out")


def test_a_missing_autoencoder_is_asked_for(runs, tmp_path):
    moved = shutil.move(runs[0], tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="--vae"):
        import_run(runs[1], tmp_path / "out", heads=4)
    import_run(runs[1], tmp_path / "out", heads=4, autoencoder_run=moved)


def test_an_autoencoder_is_found_beside_the_link_to_a_run(runs, tmp_path):
    shutil.move(runs[1], tmp_path / "elsewhere")
    runs[1].symlink_to(tmp_path / "elsewhere")
    import_run(runs[1], tmp_path / "out", heads=4)
    (tmp_path / "link").symlink_to(runs[0].parent / "DIT2")
    shutil.move(tmp_path / "elsewhere", runs[0].parent / "DIT2")
    import_run(tmp_path / "link", tmp_path / "out", heads=4)


def test_the_checkpoint_is_last_or_the_only_one_or_the_one_named(runs, tmp_path):
    vae = runs[0]
    shutil.move(vae / "last.ckpt", vae / "12_mIoU_37.25.ckpt")
    import_run(vae, tmp_path / "out")
    shutil.copy(vae / "12_mIoU_37.25.ckpt", vae / "7_mIoU_30.10.ckpt")
    with pytest.raises(CheckpointError, match="--checkpoint"):
        import_run(vae, tmp_path / "out")
    import_run(vae, tmp_path / "out", checkpoint="7_mIoU_30.10.ckpt")
    with pytest.raises(CheckpointError, match=r"no 8_mIoU\.ckpt"):
        import_run(vae, tmp_path / "out", checkpoint="8_mIoU.ckpt")


def test_a_folder_with_the_name_of_a_checkpoint_is_none(runs, tmp_path):
    vae = runs[0]
    shutil.move(vae / "last.ckpt", vae / "12_mIoU_37.25.ckpt")
    (vae / "last.ckpt").mkdir()
    import_run(vae, tmp_path / "out")


@pytest.mark.parametrize("score", ["0.0", "79.61", "1e-05", "5.5e-17", "nan"])
def test_a_checkpoint_of_a_best_score_is_found_however_the_score_is_written(runs, tmp_path, score):
    shutil.move(runs[0] / "last.ckpt", runs[0] / f"3_mIoU_{score}.ckpt")
    import_run(runs[0], tmp_path / "out")


def test_a_file_of_another_folder_is_not_taken_for_the_one_of_its_name_in_the_run(runs, tmp_path):
    vae, dit, *_ = runs
    import_run(vae, tmp_path / "out", checkpoint=str(vae / "last.ckpt"))
    for elsewhere in (dit / "last.ckpt", "../DIT/last.ckpt", ""):
        with pytest.raises(CheckpointError, match=r"checkpoint: got .*expected the name of a file of the run folder"):
            import_run(vae, tmp_path / "out", checkpoint=str(elsewhere))
    with pytest.raises(CheckpointError, match=r"checkpoint: got .*expected the name of a file of the run folder"):
        import_run(dit, tmp_path / "out", heads=4, autoencoder_checkpoint=str(dit / "last.ckpt"))


@pytest.mark.parametrize("option", [{"heads": 4}, {"autoencoder_run": "x"}, {"autoencoder_checkpoint": "last.ckpt"}])
def test_what_goes_with_a_transformer_is_refused_for_an_autoencoder(runs, tmp_path, option):
    with pytest.raises(CheckpointError, match="--vae, --vae-checkpoint and --heads"):
        import_run(runs[0], tmp_path / "out", **option)


def test_the_command_imports_and_says_what(runs, tmp_path, capsys):
    assert main(["import-checkpoint", str(runs[1]), "--out", str(tmp_path / "out"), "--heads", "4"]) == 0
    said = capsys.readouterr().out
    assert "transformer:" in said
    assert "chunks: 4 frames at 10 Hz, 16 x 16 x 8 cells of 0.4 x 0.4 x 0.375 m, 5 classes (reference-" in said
    assert "conditions: trajectory, command, layout, hexplane; 4 attention heads" in said
    assert "convention: official\n" in said
    assert main(["import-checkpoint", str(runs[1]), "--out", str(tmp_path / "other")]) != 0
    assert "--heads" in capsys.readouterr().err


def test_an_output_that_cannot_be_a_folder_is_a_storage_error(runs, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        import_run(runs[0], tmp_path / "file")


def respelled(out, said, instead):
    text = (out / "model.json").read_text()
    assert said in text
    (out / "model.json").write_text(text.replace(said, instead))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda out: (out / "model.json").unlink(), r"no model\.json"),
        (lambda out: (out / "model.json").write_text("{"), "valid JSON"),
        (lambda out: (out / "model.json").write_text('{"format": 1, "family": "anchored"}'), "'anchored'"),
        (lambda out: (out / "autoencoder.safetensors").unlink(), r"no autoencoder\.safetensors"),
        (lambda out: os.truncate(out / "autoencoder.safetensors", 500), "whole safetensors"),
        (
            lambda out: respelled(out, '"low_channels": 8', '"low_channels": 9'),
            r"autoencoder\.safetensors: .*got shape .*expected shape",
        ),
        (lambda out: respelled(out, '"heads": 2', '"heads": 3'), r"autoencoder\.heads: 3, expected a divisor of 16"),
        (
            lambda out: respelled(out, '"heads": 6', '"heads": 0'),
            r"transformer\.heads: 0, expected a divisor of the width 384",
        ),
        (lambda out: respelled(out, '"classes": {', '"classes": 3, "": {'), "names and values"),
        (lambda out: respelled(out, '"parts": [', '"parts": null, "": ['), "parts None, expected a list"),
    ],
)
def test_damaged_imports_are_refused(runs, tmp_path, damage, message):
    import_run(runs[0], tmp_path / "out")
    damage(tmp_path / "out")
    with pytest.raises(CheckpointError, match=message):
        load_reference(tmp_path / "out")
