"""The configuration that a published run was trained with: what it says of the weights, and what it cannot say."""

import pytest
import torch
import yaml
from dyncity_models.reference.config import ReferenceClasses
from dyncity_models.reference.import_run import import_run
from dyncity_models.reference.official_conf import space_of
from dyncity_models.training.reference_losses import class_weights

from dyncity_sim.errors import CheckpointError


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
        ("model", "down_x", -1, "0 to 8"),
        ("model", "hex_down_x", 12, r"hex_down_x: got 12, expected 0 to 8"),
        ("dataset", "spatial_size", [True, True, True], "spatial_size"),
        ("dataset", "spatial_size", [16, 16], "spatial_size"),
        ("dataset", "sequence_length", 5, "multiple of 2"),
        ("dataset", "num_classes", 9, "shape"),
        ("dataset", "semantic_map", {-1: 2}, "semantic_map"),
        ("dataset", "semantic_map", {0: 0, 256: 1}, "semantic_map"),
        ("dataset", "semantic_map", {0: 0, 1: None}, "semantic_map"),
        ("dataset", "semantic_names", {1: "car"}, "semantic_names"),
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


def test_raw_labels_that_the_files_of_a_data_set_leave_out_are_no_cells(runs, tmp_path):
    file = runs[0] / "conf.yaml"
    conf = yaml.safe_load(file.read_text())
    conf["dataset"] |= {
        "semantic_map": {0: 1, 1: 2, 2: 3, 3: 4, 23: 0},
        "semantic_frequency": {0: 1, 1: 2, 2: 3, 3: 4, 23: 90},
    }
    file.write_text(yaml.safe_dump(conf))
    classes = import_run(runs[0], tmp_path / "out").config.classes
    assert classes.merged_from_raw == (1, 2, 3, 4, *[0] * 20)
    whole = ReferenceClasses((), (0, 1, 2, 3, 4), (90.0, 1.0, 2.0, 3.0, 4.0))
    assert torch.equal(class_weights(classes, 5), class_weights(whole, 5))


@pytest.mark.parametrize(
    ("name", "cells", "lower_m", "size_m", "rate_hz"),
    [
        (None, (64, 32, 8), (-12.8, -6.4, -2.0), (0.4, 0.4, 0.375), 10.0),
        ("carlasc", (128, 128, 8), (-25.6, -25.6, -2.0), (0.4, 0.4, 0.375), 10.0),
        ("CarlaSC", (128, 128, 8), (-25.6, -25.6, -2.0), (0.4, 0.4, 0.375), 10.0),
        ("carlasc", (256, 256, 16), (-25.6, -25.6, -2.0), (0.2, 0.2, 0.1875), 10.0),
        ("occ3d_waymo", (200, 200, 16), (-40.0, -40.0, -1.0), (0.4, 0.4, 0.4), 10.0),
        ("Occ3D-nuScenes", (200, 200, 16), (-40.0, -40.0, -1.0), (0.4, 0.4, 0.4), 2.0),
    ],
)
def test_cells_lie_where_the_data_set_of_the_run_has_them(name, cells, lower_m, size_m, rate_hz):
    dataset = {"spatial_size": list(cells)} | ({} if name is None else {"dataset": name})
    space = space_of({"dataset": dataset})
    assert (space.lower_m, space.voxel_size_m, space.rate_hz) == (lower_m, size_m, rate_hz)


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
    conf = yaml.safe_load((vae / "conf.yaml").read_text())
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
