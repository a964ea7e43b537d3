import collections
import os
import pickle
import re
import shutil
import zipfile

import numpy as np
import pytest
import torch
import yaml
from dyncity_models.reference.autoencoder import ReferenceAutoencoder
from dyncity_models.reference.checkpoint import load_reference
from dyncity_models.reference.config import AUTOENCODERS, ReferenceTransformerConfig
from dyncity_models.reference.import_run import import_run
from dyncity_models.reference.names import autoencoder_modules, tensor_names, transformer_modules
from dyncity_models.reference.official_conf import space_of

from dyncity_sim.cli.main import main
from dyncity_sim.errors import CheckpointError, StorageError

SWITCHES = {"trajectory": "traj_cond", "command": "cmd_cond", "layout": "layout_cond", "hexplane": "hex_cond"}


def published(module, modules):
    tensors = module.state_dict()
    return {theirs: tensors[ours].clone() for theirs, ours in tensor_names(modules, tensors)}


def autoencoder_conf(config):
    down, plane = config.down, config.plane_down
    return {
        "dataset": {
            "sequence_length": config.frames,
            "spatial_size": list(config.grid),
            "num_classes": config.classes,
            "semantic_names": {number: f"class {number}" for number in range(config.classes)},
            "semantic_map": {number: number for number in range(config.classes)},
            "semantic_frequency": {number: 10 - number for number in range(config.classes)},
        },
        "model": {
            "vae": True,
            "encoder_type": "tr",
            "decoder_type": "conv",
            "latent_channels": config.latent_channels,
            "query_channels": config.plane_channels,
            "conv_hidden_low_res": config.low_channels,
            "conv_hidden_high_res": config.high_channels,
            **{f"down_{axis}": steps for axis, steps in zip("xyz", down, strict=True)},
            **{f"hex_down_{axis}": steps for axis, steps in zip("txyz", plane, strict=True)},
            "separate_t_encoder": config.time_encoder,
            "one_hot_time": config.one_hot_time,
            "separate_t_reducer": config.time_reducer,
            "transformer_depth": config.depth,
            "transformer_heads": config.heads,
            "transformer_dim_mlp": config.mlp_width,
            "dropout": config.dropout,
            "hadamard": config.hadamard,
            "pe_freq": config.frequencies,
            "learning_rate": "1e-3",
        },
        "name": "VAE",
    }


@pytest.fixture
def runs(tmp_path, build_autoencoder, build_transformer, even_planes):
    """Run folders VAE and DIT as the published trainers leave them, and the modules in them."""
    vae, dit = tmp_path / "runs" / "VAE", tmp_path / "runs" / "DIT"
    vae.mkdir(parents=True)
    dit.mkdir()
    autoencoder, transformer = build_autoencoder(even_planes), build_transformer(cross_attention=True)
    (vae / "conf.yaml").write_text(yaml.safe_dump(autoencoder_conf(even_planes)))
    state = {
        "epoch": 4,
        "best_miou": np.float32(37.25),
        "scheduler_state_dict": {"milestones": collections.Counter([50, 60])},
        "model_state_dict": published(autoencoder, autoencoder_modules(even_planes)),
    }
    torch.save(state, vae / "last.ckpt")
    model = {"model": "DiT-TINY/2", "x_attn": True} | dict.fromkeys(SWITCHES.values(), True)
    (dit / "conf.yaml").write_text(yaml.safe_dump({"model": model, "name": "DIT", "vae_name": "VAE"}))
    averaged = published(transformer, transformer_modules(transformer.config))
    raw = {name: torch.zeros_like(value) for name, value in averaged.items()}
    torch.save({"current_step": 10000, "model_state_dict": raw, "ema": averaged}, dit / "last.ckpt")
    return vae, dit, autoencoder, transformer


def rewrite(file, change):
    """Change what a checkpoint holds."""
    kinds = [np._core.multiarray.scalar, np.dtype, type(np.dtype("f4")), collections.Counter]
    with torch.serialization.safe_globals(kinds):
        state = torch.load(file, weights_only=True)
    change(state)
    torch.save(state, file)


def same(module, other):
    tensors, others = module.state_dict(), other.state_dict()
    return tensors.keys() == others.keys() and all(torch.equal(tensors[name], others[name]) for name in tensors)


def test_an_autoencoder_arrives_with_its_weights_and_classes(runs, tmp_path, even_planes):
    vae, _, autoencoder, _ = runs
    import_run(vae, tmp_path / "out")
    model = load_reference(tmp_path / "out")
    assert same(model.autoencoder, autoencoder)
    assert model.transformer is None
    assert model.config.autoencoder == even_planes
    assert model.config.classes.names[3] == "class 3"
    assert model.convention.name == "official"
    assert not any(file.suffix in (".ckpt", ".pkl") for file in (tmp_path / "out").iterdir())


def test_a_transformer_arrives_with_its_averaged_weights_and_its_autoencoder(runs, tmp_path):
    _, dit, autoencoder, transformer = runs
    model = import_run(dit, tmp_path / "out", heads=4)
    assert same(model.transformer, transformer)
    assert same(model.autoencoder, autoencoder)
    assert model.config.transformer == transformer.config
    assert re.fullmatch("reference-[0-9a-f]{16}", model.model_id)


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


def test_a_numpy_scalar_of_numpy_1_is_read(runs, tmp_path):
    vae = runs[0]
    with zipfile.ZipFile(vae / "last.ckpt") as archive:
        entries = [(entry, archive.read(entry)) for entry in archive.infolist()]
    new, old = b"numpy._core.multiarray", b"numpy.core.multiarray"
    spelled = [(entry, content.replace(new, old)) for entry, content in entries]
    assert spelled != entries
    with zipfile.ZipFile(vae / "last.ckpt", "w") as archive:
        for entry, content in spelled:
            archive.writestr(entry.filename, content)
    import_run(vae, tmp_path / "out")


@pytest.mark.parametrize("kind", ["?", "i1", "u1", "i2", "u4", "u8", "f2", "f8", "g", "c8"])
def test_a_numpy_scalar_of_any_kind_of_number_is_read(runs, tmp_path, kind):
    rewrite(runs[0] / "last.ckpt", lambda state: state.update(best_miou=np.dtype(kind).type(1)))
    import_run(runs[0], tmp_path / "out")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_what_wraps_a_network_in_training_is_no_part_of_its_names(runs, tmp_path, prefix):
    vae, dit, autoencoder, transformer = runs

    def wrapped(tensors):
        return {prefix + name: value for name, value in tensors.items()}

    rewrite(vae / "last.ckpt", lambda s: s.update(model_state_dict=wrapped(s["model_state_dict"])))
    rewrite(dit / "last.ckpt", lambda s: s.update(ema=wrapped(s["ema"])))
    model = import_run(dit, tmp_path / "out", heads=4)
    assert same(model.autoencoder, autoencoder)
    assert same(model.transformer, transformer)
    rewrite(vae / "last.ckpt", lambda s: s["model_state_dict"].update({NAME: torch.zeros(8, 8, 1, 1, 1)}))
    with pytest.raises(CheckpointError, match="no such tensor"):
        import_run(vae, tmp_path / "out")


class Hostile:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("as_archive", [True, False])
def test_a_checkpoint_that_would_run_code_is_refused_and_runs_none(runs, tmp_path, as_archive):
    vae, trace = runs[0], tmp_path / "trace"
    state = {"model_state_dict": Hostile(f"touch {trace}")}
    if as_archive:
        torch.save(state, vae / "last.ckpt")
    else:
        (vae / "last.ckpt").write_bytes(pickle.dumps(state, protocol=2))
    with pytest.raises(CheckpointError, match=r"last\.ckpt"):
        import_run(vae, tmp_path / "out")
    assert not trace.exists()
    assert not (tmp_path / "out").exists()


def rezipped(file, compression):
    with zipfile.ZipFile(file) as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in entries:
            archive.writestr(name, content)


def test_an_archive_that_unpacks_to_more_than_it_is_is_refused_before_it_is_unpacked(runs, tmp_path):
    file = runs[0] / "last.ckpt"
    rezipped(file, zipfile.ZIP_STORED)
    import_run(runs[0], tmp_path / "out")
    rewrite(file, lambda state: state.update(bomb=torch.zeros(10**6)))
    rezipped(file, zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match=r"last\.ckpt: got .* unpacked.*as torch\.save writes"):
        import_run(runs[0], tmp_path / "out")


@pytest.mark.parametrize("protocol", [0, 4])
def test_a_bare_pickle_is_refused_in_any_protocol(runs, tmp_path, protocol):
    (runs[0] / "last.ckpt").write_bytes(pickle.dumps({"model_state_dict": "none"}, protocol=protocol))
    with pytest.raises(CheckpointError, match=r"last\.ckpt: got a file that is not a checkpoint"):
        import_run(runs[0], tmp_path / "out")


@pytest.mark.parametrize("kept", [0, 10, 5000, -200])
def test_a_truncated_checkpoint_is_refused(runs, tmp_path, kept):
    file = runs[0] / "last.ckpt"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"last\.ckpt"):
        import_run(runs[0], tmp_path / "out")


def test_a_checkpoint_with_one_wrong_bit_is_refused(runs, tmp_path):
    file = runs[0] / "last.ckpt"
    with zipfile.ZipFile(file) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size if "/data/" in entry.filename else 0)
        content = archive.read(largest)
    written = bytearray(file.read_bytes())
    written[written.index(content) + len(content) // 2] ^= 1
    file.write_bytes(written)
    with pytest.raises(CheckpointError, match=r"last\.ckpt: last/data/\d+: got a wrong checksum.*copy it anew"):
        import_run(runs[0], tmp_path / "out")


NAME = "decoder.voxel_decoder.conv_in.0.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(NAME), r"last\.ckpt: decoder\.voxel_decoder\.conv_in\.0\.weight: got no such tensor"),
        (
            lambda t: t.update({NAME: torch.zeros(8, 9, 1, 1, 1)}),
            r"conv_in.*got shape \(8, 9, 1, 1, 1\), expected shape \(8, 8",
        ),
        (lambda t: t.update(extra=torch.zeros(3)), r"last\.ckpt: extra: got a tensor of shape \(3,\)"),
        (lambda t: t.update({NAME: torch.full((8, 8, 1, 1, 1), torch.nan)}), "conv_in.*expected finite"),
        (lambda t: t.update({NAME: 3}), "conv_in.*got int"),
        (lambda t: t.update({NAME: torch.zeros(8, 8, 1, 1, 1).int()}), r"conv_in.*torch\.int32"),
        (lambda t: t.update({NAME: torch.ones(8, 8, 1, 1, 1).to_sparse()}), r"conv_in.*sparse.*dense"),
        (lambda t: t.update({NAME: torch.zeros(1).expand(10**13)}), r"conv_in.*got shape \(10000000000000,\)"),
        (
            lambda t: t.update({NAME: torch.full((8, 8, 1, 1, 1), 1e300, dtype=torch.double)}),
            "conv_in.*expected finite",
        ),
        (lambda t: t.update({NAME: torch.empty(8, 8, 1, 1, 1, device="meta")}), "conv_in.*no values.*dense tensor"),
        (lambda t: t.update({NAME: torch.zeros(1).expand(8, 8, 1, 1, 1)}), "conv_in.*got 256 bytes out of 4, expected"),
    ],
)
def test_tensors_of_another_model_are_named(runs, tmp_path, change, message):
    rewrite(runs[0] / "last.ckpt", lambda state: change(state["model_state_dict"]))
    with pytest.raises(CheckpointError, match=message):
        import_run(runs[0], tmp_path / "out")


def test_a_transformer_that_would_fill_the_memory_is_refused_before_it_is_built(runs, tmp_path):
    wide = torch.zeros(1).expand(65536, 16, 2, 2)
    rewrite(runs[1] / "last.ckpt", lambda state: state["ema"].update({"x_embedder.proj.weight": wide}))
    with pytest.raises(CheckpointError, match=r"pos_embed: got shape \(1, 49, 32\), expected shape \(1, 49, 65536\)"):
        import_run(runs[1], tmp_path / "out", heads=4)


def test_a_number_of_a_block_that_is_none_is_refused_by_its_name(runs, tmp_path):
    name = f"blocks.{5000 * '9'}.attn.qkv.bias"
    rewrite(runs[1] / "last.ckpt", lambda state: state["ema"].update({name: torch.zeros(1)}))
    with pytest.raises(CheckpointError, match=r"last\.ckpt: blocks\.999"):
        import_run(runs[1], tmp_path / "out", heads=4)


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("model", "encoder_type", "conv", "encoder_type.*'tr'"),
        ("model", "vae", False, r"model\.vae"),
        ("model", "vae", "${nowhere}", r"model\.vae: got '\$\{nowhere\}', expected True"),
        ("model", "pe_freq", "${nowhere}", r"pe_freq: got '\$\{nowhere\}', expected a value of type int"),
        ("model", "pe_freq", "???", r"pe_freq: got '\?\?\?', expected a value of type int"),
        ("model", "transformer_heads", 3, "divisor of 16"),
        ("model", "pe_freq", "three", r"pe_freq.*int"),
        ("model", "query_channels", 10**12, "1 to 65536"),
        ("model", "query_channels", 60000, "shape"),
        ("model", "down_x", -1, "0 to 16"),
        ("dataset", "spatial_size", [16, 16], "spatial_size"),
        ("dataset", "sequence_length", 5, "multiple of 2"),
        ("dataset", "num_classes", 9, "shape"),
        ("dataset", "semantic_map", {1: 2}, "semantic_map"),
        ("dataset", "semantic_map", {0: 0, "a": 1}, "semantic_map"),
        ("dataset", "semantic_map", {0: 0, 1: 5}, "0 to 4"),
        ("dataset", "semantic_map", {0: False, 1: True}, "semantic_map"),
        ("dataset", "semantic_frequency", {0: "many"}, "semantic_frequency"),
        ("dataset", "semantic_frequency", {0: 5, 1: -1}, r"semantic_frequency.*0 or more"),
        ("dataset", "semantic_frequency", {0: 5, 1: float("nan")}, r"semantic_frequency.*0 or more"),
        ("dataset", "semantic_frequency", dict.fromkeys(range(5), 0), r"semantic_frequency.*0 or more"),
        ("dataset", "semantic_names", {0: "free", 1: "car"}, r"names: got free, car, expected 5 different names"),
        ("dataset", "semantic_names", dict.fromkeys(range(5), "car"), r"names: got .*expected 5 different names"),
        ("dataset", "num_classes", 300, r"num_classes: got 300, expected 2 to 256"),
        ("dataset", "dataset", "kitti", r"dataset\.dataset: got 'kitti' with 16 x 16 x 8 cells, expected carlasc"),
        ("dataset", "dataset", "occ3d_waymo", r"dataset\.dataset: got 'occ3d_waymo' with 16 x .* 200 x 200 x 16"),
    ],
)
def test_a_conf_that_does_not_fit_is_named(runs, tmp_path, section, key, value, message):
    file = runs[0] / "conf.yaml"
    conf = yaml.safe_load(file.read_text())
    conf[section][key] = value
    file.write_text(yaml.safe_dump(conf))
    with pytest.raises(CheckpointError, match=message):
        import_run(runs[0], tmp_path / "out")


def test_names_of_classes_that_the_weights_do_not_have_are_left_out(runs, tmp_path):
    file = runs[0] / "conf.yaml"
    conf = yaml.safe_load(file.read_text())
    conf["dataset"]["semantic_names"] |= {5: "class 5", 6: "class 6"}
    file.write_text(yaml.safe_dump(conf))
    assert import_run(runs[0], tmp_path / "out").config.classes.names == tuple(f"class {n}" for n in range(5))


@pytest.mark.parametrize(
    ("name", "cells", "lower_m", "rate_hz"),
    [
        (None, (64, 32, 8), (-12.8, -6.4, -2.0), 10.0),
        ("carlasc", (128, 128, 8), (-25.6, -25.6, -2.0), 10.0),
        ("CarlaSC", (128, 128, 8), (-25.6, -25.6, -2.0), 10.0),
        ("occ3d_waymo", (200, 200, 16), (-40.0, -40.0, -1.0), 10.0),
        ("Occ3D-nuScenes", (200, 200, 16), (-40.0, -40.0, -1.0), 2.0),
    ],
)
def test_cells_lie_where_the_data_set_of_the_run_has_them(name, cells, lower_m, rate_hz):
    dataset = {"spatial_size": list(cells)} | ({} if name is None else {"dataset": name})
    space = space_of({"dataset": dataset})
    assert (space.lower_m, space.rate_hz) == (lower_m, rate_hz)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "- 1",
        "a: [",
        "model: 3\ndataset: 4",
        f"a: {2000 * '['}{2000 * ']'}",
        "a: !!int x",
        "a: !!bool x",
        f"a: {5000 * '9'}",
    ],
)
def test_a_conf_that_is_none_is_refused(runs, tmp_path, content):
    (runs[0] / "conf.yaml").write_text(content)
    with pytest.raises(CheckpointError, match=r"conf\.yaml"):
        import_run(runs[0], tmp_path / "out")


def test_interpolations_are_resolved_where_their_values_are_wanted_and_nowhere_else(runs, tmp_path, even_planes):
    vae, dit = runs[:2]
    conf = autoencoder_conf(even_planes)
    conf |= {"cells": ["${side}", "${side}", 8], "side": 16, "raw": dict.fromkeys(range(5), "${zero}"), "zero": 0}
    conf["dataset"] |= {"spatial_size": "${cells}", "semantic_map": "${raw}", "data_path": "${oc.env:NOBODY_SETS_IT}"}
    conf["model"] |= {"conv_hidden_low_res": "${model.query_channels}", "optimizer": "${now:%Y}"}
    conf |= {"hydra": {"run": {"dir": "${hydra:job.name}"}}, "logs": "${nowhere}/logs", "later": "???"}
    # Each level holds the one before ten times.
    conf |= {"a0": ["x"]} | {f"a{n}": 10 * [f"${{a{n - 1}}}"] for n in range(1, 30)}
    (vae / "conf.yaml").write_text(yaml.safe_dump(conf))
    text = (dit / "conf.yaml").read_text()
    (dit / "conf.yaml").write_text(text.replace("vae_name: VAE", "vae_name: ${beside}\nbeside: VAE"))
    model = import_run(dit, tmp_path / "out", heads=4)
    assert model.config.autoencoder == even_planes
    assert model.config.classes.merged_from_raw == (0, 0, 0, 0, 0)


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


def test_a_switch_without_its_tensors_is_refused(runs, tmp_path):
    rewrite(runs[1] / "last.ckpt", lambda state: state["ema"].pop("cmd_emb.embedder.weight"))
    with pytest.raises(CheckpointError, match=r"cmd_emb\.embedder\.weight: got no such tensor"):
        import_run(runs[1], tmp_path / "out", heads=4)


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


def test_weights_without_the_training_around_them_are_told_in_a_few_words(runs, tmp_path):
    file = runs[0] / "last.ckpt"
    torch.save({f"layer{number}.weight": torch.zeros(1) for number in range(500)}, file)
    with pytest.raises(
        CheckpointError, match=r"layer0\.weight.* and 49\d more, expected .*'model_state_dict'"
    ) as error:
        import_run(runs[0], tmp_path / "out")
    assert len(str(error.value)) < 400


def test_the_command_imports_and_says_what(runs, tmp_path, capsys):
    assert main(["import-checkpoint", str(runs[1]), "--out", str(tmp_path / "out"), "--heads", "4"]) == 0
    assert "transformer:" in capsys.readouterr().out
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
        (lambda out: respelled(out, '"heads": 6', '"heads": 0'), r"transformer\.heads: 0, expected a divisor of 384"),
        (lambda out: respelled(out, '"classes": {', '"classes": 3, "": {'), "names and values"),
        (lambda out: respelled(out, '"parts": [', '"parts": null, "": ['), "parts None, expected a list"),
    ],
)
def test_damaged_imports_are_refused(runs, tmp_path, damage, message):
    import_run(runs[0], tmp_path / "out")
    damage(tmp_path / "out")
    with pytest.raises(CheckpointError, match=message):
        load_reference(tmp_path / "out")
