"""Checkpoints of the published trainers: read without running them, and refused by what is wrong with them."""

import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from dyncity_models.reference.import_run import import_run

from dyncity_sim.errors import CheckpointError


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
def test_a_numpy_scalar_of_any_kind_of_number_is_read(runs, tmp_path, kind, rewrite):
    rewrite(runs[0] / "last.ckpt", lambda state: state.update(best_miou=np.dtype(kind).type(1)))
    import_run(runs[0], tmp_path / "out")


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


def test_an_archive_that_unpacks_to_more_than_it_is_is_refused_before_it_is_unpacked(runs, tmp_path, rewrite):
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
def test_tensors_of_another_model_are_named(runs, tmp_path, change, message, rewrite):
    rewrite(runs[0] / "last.ckpt", lambda state: change(state["model_state_dict"]))
    with pytest.raises(CheckpointError, match=message):
        import_run(runs[0], tmp_path / "out")


def test_a_switch_without_its_tensors_is_refused(runs, tmp_path, rewrite):
    rewrite(runs[1] / "last.ckpt", lambda state: state["ema"].pop("cmd_emb.embedder.weight"))
    with pytest.raises(CheckpointError, match=r"cmd_emb\.embedder\.weight: got no such tensor"):
        import_run(runs[1], tmp_path / "out", heads=4)


def test_a_transformer_that_would_fill_the_memory_is_refused_before_it_is_built(runs, tmp_path, rewrite):
    wide = torch.zeros(1).expand(65536, 16, 2, 2)
    rewrite(runs[1] / "last.ckpt", lambda state: state["ema"].update({"x_embedder.proj.weight": wide}))
    with pytest.raises(CheckpointError, match=r"pos_embed: got shape \(1, 49, 32\), expected shape \(1, 49, 65536\)"):
        import_run(runs[1], tmp_path / "out", heads=4)


def test_a_number_of_a_block_that_is_none_is_refused_by_its_name(runs, tmp_path, rewrite):
    name = f"blocks.{5000 * '9'}.attn.qkv.bias"
    rewrite(runs[1] / "last.ckpt", lambda state: state["ema"].update({name: torch.zeros(1)}))
    with pytest.raises(CheckpointError, match=r"last\.ckpt: blocks\.999"):
        import_run(runs[1], tmp_path / "out", heads=4)


def test_weights_without_the_training_around_them_are_told_in_a_few_words(runs, tmp_path):
    file = runs[0] / "last.ckpt"
    torch.save({f"layer{number}.weight": torch.zeros(1) for number in range(500)}, file)
    with pytest.raises(
        CheckpointError, match=r"layer0\.weight.* and 49\d more, expected .*'model_state_dict'"
    ) as error:
        import_run(runs[0], tmp_path / "out")
    assert len(str(error.value)) < 400
