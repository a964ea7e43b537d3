"""Checkpoints are whole or absent, and hold nothing that is run."""

import io
import resource
import zipfile
from dataclasses import replace

import pytest
import torch
from dyncity_models.training.run import resumed_step

from dyncity_sim.errors import CheckpointError, StorageError


@pytest.fixture
def files_of_at_most():
    """A function that lets this process write no file beyond a size, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_checkpoint_before_to_go_on_from(
    config, trained, files_of_at_most, monkeypatch, tmp_path
):
    # Checkpoints must not pass through a folder that may lie on another file system.
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    trained(config)
    longer = replace(config, optimiser=replace(config.optimiser, steps=6))
    files_of_at_most(1000)
    with pytest.raises(StorageError, match="could not be written"):
        trained(longer)
    files_of_at_most(resource.RLIM_INFINITY)
    assert resumed_step(config.run) == 3
    assert trained(longer).seen == [6, 7, 8, 9, 10, 11]


def shortened(content):
    return content[:-200]


def with_another_bit(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        weights = max((archive.read(name) for name in archive.namelist() if "/data/" in name), key=len)
    at = content.index(weights)
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@pytest.mark.parametrize("damaged", [shortened, with_another_bit])
def test_a_damaged_checkpoint_is_refused_by_name(config, trained, damaged, tmp_path):
    trained(config)
    file = tmp_path / "run" / "checkpoints" / "last.ckpt"
    file.write_bytes(damaged(file.read_bytes()))
    with pytest.raises(CheckpointError, match=r"last\.ckpt.*Remove it"):
        trained(replace(config, optimiser=replace(config.optimiser, steps=4)))


class Hostile:
    """What runs code where it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return (type(self.file).touch, (self.file,))


def test_a_checkpoint_that_asks_for_more_than_tensors_is_refused_and_nothing_in_it_is_run(config, trained, tmp_path):
    trained(config)
    file, touched = tmp_path / "run" / "checkpoints" / "last.ckpt", tmp_path / "touched"
    checkpoint = torch.load(file, weights_only=True)
    torch.save(checkpoint | {"hostile": Hostile(touched)}, file)
    with pytest.raises(CheckpointError, match=r"last\.ckpt: a file that asks for \S+, .*Nothing in it was run"):
        trained(replace(config, optimiser=replace(config.optimiser, steps=4)))
    assert not touched.exists()


def test_a_run_that_runs_away_ends_and_leaves_the_last_checkpoint_of_finite_weights(config, trained, tmp_path):
    with pytest.raises(CheckpointError, match=r"^last\.ckpt: line\.\w+: got infinity or NaN, .*Training ran away"):
        trained(replace(config, optimiser=replace(config.optimiser, steps=100, gradient_clip=0.0)))
    assert 0 < resumed_step(config.run) < 100
    left = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert all(tensor.isfinite().all() for tensor in left["current_model_state"].values())
