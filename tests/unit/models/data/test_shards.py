"""Encoded chunks in shards: the same rows however many there are, whoever makes them and whenever they are stopped."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from dyncity_models.anchored.checkpoint import load_model
from dyncity_models.config import FORESEEN, REMEMBERED
from dyncity_models.data.chunks import ChunkSource
from dyncity_models.data.encode_shards import Encoding, Part, encode_shards
from dyncity_models.data.latents import LatentBatches, Latents
from dyncity_models.data.shards import INDEX, PLAN, EncodedSet, shard_folder, write_shard
from dyncity_models.reference.conventions import EgoConvention
from hypothesis import given, settings
from hypothesis import strategies as st

from dyncity_sim.cli.main import main
from dyncity_sim.errors import InvalidInputError

CPU = torch.device("cpu")
DRIVES, ROWS_PER_DRIVE = 7, 2
PATIENCE_S = 120.0


class StoppedError(Exception):
    pass


def squares(seed=0, stop_at=None):
    """Two rows a drive, which depend on its number and the seed; encoding stops at one of them if asked to."""

    def read(drive):
        return [100 * seed + ROWS_PER_DRIVE * drive + row for row in range(ROWS_PER_DRIVE)]

    def encode(numbers):
        if stop_at in numbers:
            raise StoppedError
        values = np.array(numbers)
        return {"xy": (values[:, None] ** 2).astype(np.float16), "command": values % 4}

    return Encoding([f"drive {n}" for n in range(DRIVES)], ROWS_PER_DRIVE, read, encode, 3, {"seed": seed})


def said(encoded):
    return {"total": int(encoded.every("xy", 1).sum()), "some": encoded.every("xy", 3)[:, 0].tolist()}


def made(folder, encoding=None, **options):
    return encode_shards(folder, encoding or squares(), said, threads=2, **options)


def content(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def whole(tmp_path):
    made(tmp_path / "whole", samples=4)
    return tmp_path / "whole"


@settings(max_examples=20)
@given(samples=st.integers(1, 20), stride=st.integers(1, 20))
def test_rows_and_what_is_said_of_them_do_not_depend_on_the_size_of_shards(samples, stride, tmp_path_factory):
    folder = tmp_path_factory.mktemp("latents")
    made(folder, samples=samples)
    encoded = EncodedSet.open(folder)
    numbers = torch.arange(DRIVES * ROWS_PER_DRIVE)
    assert torch.equal(encoded.tensor("xy", CPU)[:, 0], (numbers**2).half())
    assert torch.equal(encoded.tensor("command", CPU), numbers % 4)
    assert encoded.every("command", stride).tolist() == (numbers % 4)[::stride].tolist()
    assert encoded.described == {"total": 819, "some": [0.0, 9.0, 36.0, 81.0, 144.0]}
    assert max(encoded.rows) <= max(samples, ROWS_PER_DRIVE)
    shutil.rmtree(folder)


@pytest.mark.parametrize("stop_at", [0, 3, 4, 9, 13])
def test_a_call_that_was_stopped_goes_on_with_the_shards_that_are_missing(whole, tmp_path, stop_at):
    folder = tmp_path / "stopped"
    with pytest.raises(StoppedError):
        made(folder, squares(stop_at=stop_at), samples=4)
    there = sorted(folder.glob("shard-*"))
    assert len(there) == stop_at // 4
    with pytest.raises(InvalidInputError, match="dyncity encode"):
        EncodedSet.open(folder)
    before = [shard.stat().st_ino for shard in there]
    made(folder, samples=4)
    assert [shard.stat().st_ino for shard in there] == before
    assert content(folder) == content(whole)


def test_parts_make_what_one_call_makes_and_the_last_of_them_the_index(whole, tmp_path):
    folder = tmp_path / "parts"
    to_come = []
    for name in ("2/3", "3/3", "1/3"):
        assert not (folder / INDEX).exists()
        to_come.append(made(folder, samples=4, part=Part.named(name)).to_come)
    assert to_come == [3, 2, 0]
    assert content(folder) == content(whole)


def test_a_part_without_shards_has_nothing_to_do(tmp_path):
    encoded = made(tmp_path, part=Part.named("2/2"))
    assert encoded.counts == {"static": 0, "forward": 0, "left": 0, "right": 0, "shards to come": 1}


def test_what_a_killed_process_left_unfinished_goes_when_the_set_is_whole(whole, tmp_path):
    folder = tmp_path / "killed"
    (folder / ".shard-00001.1.part").mkdir(parents=True)
    made(folder, samples=4)
    assert {file.name for file in folder.iterdir()} == {file.name for file in whole.iterdir()}


def test_what_a_killed_process_of_the_same_number_left_is_in_nobodys_way(whole, tmp_path):
    """As in a container, where the one process that runs always has the same number."""
    folder = tmp_path / "killed"
    leftover = folder / f".shard-00001.{os.getpid()}.part"
    leftover.mkdir(parents=True)
    (leftover / "stray.npy").touch()
    made(folder, samples=4)
    assert content(folder) == content(whole)


def test_a_call_that_stops_does_not_read_first_what_it_had_begun_to_read_ahead(tmp_path):
    stopped, read_after = squares(stop_at=0), []

    def read(drive):
        if drive > 1:
            time.sleep(0.2)
            read_after.append(drive)
        return stopped.read(drive)

    with pytest.raises(StoppedError):
        encode_shards(tmp_path / "stopped", replace(stopped, read=read), said, threads=1, samples=4)
    assert len(read_after) <= 1


@pytest.mark.parametrize(
    ("encoding", "samples", "field"),
    [
        (squares(seed=1), 4, "seed: got 1, expected 0"),
        (squares(), 6, "drives_per_shard"),
        (replace(squares(), names=["a", "b", "c"]), 4, "drives: got others"),
        (squares(), 0, "samples-per-shard"),
    ],
)
def test_a_set_is_not_gone_on_with_in_another_way(tmp_path, encoding, samples, field):
    made(tmp_path, samples=4, part=Part(0, 2))
    with pytest.raises(InvalidInputError, match=field):
        made(tmp_path, encoding, samples=samples)


def test_a_whole_set_is_not_encoded_again(whole):
    with pytest.raises(InvalidInputError, match="without an encoded data set"):
        made(whole, samples=4)


def test_a_set_that_has_lost_rows_is_refused(whole):
    file = shard_folder(whole, 1) / "command.npy"
    stored = file.read_bytes()
    file.write_bytes(stored[:-1])
    with pytest.raises(InvalidInputError, match=r"command\.npy"):
        EncodedSet.open(whole)
    shutil.rmtree(shard_folder(whole, 1))
    with pytest.raises(InvalidInputError, match="shard-00001"):
        EncodedSet.open(whole)
    write_shard(whole, 1, {"command": np.zeros(3, np.int64)})
    with pytest.raises(InvalidInputError, match=r"\[4, 3, 4, 2\] rows"):
        EncodedSet.open(whole)


@pytest.mark.parametrize("damage", ["{", "[]", "[" * 100_000, '{"rows": 3}'])
def test_an_index_that_is_damaged_is_named(whole, damage):
    (whole / "latents.json").write_text(damage)
    with pytest.raises(InvalidInputError, match=r"latents: got .*latents\.json"):
        EncodedSet.open(whole)


def test_a_plan_that_is_damaged_is_named(whole):
    (whole / "latents.json").unlink()
    (whole / "encoding.json").write_text("{")
    with pytest.raises(InvalidInputError, match=r"latents: got .*encoding\.json"):
        made(whole, samples=4)


def test_an_array_of_fewer_rows_than_others_is_refused(whole):
    file = next(whole.glob("shard-*")) / "xy.npy"
    np.save(file, np.load(file)[:1])
    with pytest.raises(InvalidInputError, match=r"rows of xy, expected"):
        EncodedSet.open(whole).tensor("xy", torch.device("cpu"))


@pytest.mark.parametrize("content", [b"", b"{{{", b"\x93NUMPY\x01\x00"])
def test_an_array_that_is_none_is_named_and_not_unpickled(whole, content):
    file = next(whole.glob("shard-*")) / "command.npy"
    file.write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"command\.npy: (?!.*pickle).* expected a whole array"):
        EncodedSet.open(whole)


def test_shards_whose_rows_have_different_shapes_are_refused(whole):
    file = next(whole.glob("shard-*")) / "xy.npy"
    np.save(file, np.load(file)[..., None])
    with pytest.raises(InvalidInputError, match="rows of one shape and type"):
        EncodedSet.open(whole).tensor("xy", torch.device("cpu"))


@pytest.mark.parametrize("name", ["0/2", "3/2", "1", "a/b", "1/2/3", "-1/2", ""])
def test_parts_that_cannot_be_are_refused(name):
    with pytest.raises(InvalidInputError, match="part"):
        Part.named(name)


def encode(weights, recording, out, *options):
    return [str(word) for word in ("encode", recording, "--autoencoder", weights, "--out", out, *options)]


@pytest.fixture(scope="module")
def latents(weights, recording, tmp_path_factory):
    """What ``dyncity encode`` makes: three shards of four rows."""
    out = tmp_path_factory.mktemp("latents") / "train"
    options = ("--chunks-per-drive", 2, "--samples-per-shard", 4)
    assert main(encode(weights, recording, out, *options)) == 0
    assert len(list(out.glob("shard-*"))) == 3
    return out


def test_the_command_makes_a_set_by_parts_and_says_what_is_left(weights, recording, latents, tmp_path, capsys):
    options = ("--chunks-per-drive", 2, "--samples-per-shard", 4, "--part")
    assert main(encode(weights, recording, tmp_path, *options, "3/2")) == 2
    assert "I/N" in capsys.readouterr().err
    assert main(encode(weights, recording, tmp_path, *options, "1/2")) == 0
    assert "1 shards to come" in capsys.readouterr().out
    assert main(encode(weights, recording, tmp_path, *options, "2/2")) == 0
    ended = capsys.readouterr().out
    assert "shards to come" not in ended
    assert f"latents={tmp_path} validation_latents=" in ended
    assert content(tmp_path) == content(latents)


def test_parts_of_recordings_that_only_share_their_names_are_not_joined(weights, recording, tmp_path, capsys):
    other = shutil.copytree(recording, tmp_path / "other" / recording.name)
    described = (other / "recording.json").read_text()
    (other / "recording.json").write_text(described.replace('"seed": 0', '"seed": 1'))
    options = ("--samples-per-shard", 2, "--part")
    assert main(encode(weights, recording, tmp_path / "out", *options, "1/2")) == 0
    assert main(encode(weights, other, tmp_path / "out", *options, "2/2")) == 2
    assert "drives: got others" in capsys.readouterr().err
    one, another = (ChunkSource.open([folder], 16, "merged", EgoConvention()).names for folder in (recording, other))
    assert not set(one) & set(another)


def test_a_set_says_what_its_known_world_tells_of_movers_that_of_the_weights_unless_asked(
    weights, recording, latents, tmp_path
):
    assert Latents(latents, CPU).known_world == load_model(weights).config.known_world == FORESEEN
    assert main(encode(weights, recording, tmp_path / "asked", "--known-world", "remembered")) == 0
    assert Latents(tmp_path / "asked", CPU).known_world == REMEMBERED
    older = shutil.copytree(latents, tmp_path / "older")
    (older / PLAN).unlink()
    assert Latents(older, CPU).known_world == FORESEEN


def test_training_draws_from_shards_what_it_drew_from_the_flat_arrays_of_before(latents, tmp_path):
    encoded = EncodedSet.open(latents)
    for file in shard_folder(latents, 0).iterdir():
        np.save(tmp_path / file.name, encoded.every(file.stem, 1))
    (tmp_path / INDEX).write_text((latents / INDEX).read_text().replace('"rows"', '"unread"'))
    flat, sharded = (
        LatentBatches(Latents(folder, CPU, True), batch=5, seed=3, stop=4) for folder in (tmp_path, latents)
    )
    for before, now in zip(flat, sharded, strict=True):
        assert before.keys() == now.keys()
        assert all(torch.equal(before[name], now[name]) for name in now)


@pytest.mark.slow
def test_an_encoding_process_that_was_killed_goes_on_to_the_same_bytes(weights, recording, tmp_path):
    options = ("--chunks-per-drive", 6, "--samples-per-shard", 12)
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    command = [sys.executable, "-m", "dyncity_sim.cli.main", *encode(weights, recording, killed, *options)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        deadline_s = time.monotonic() + PATIENCE_S
        while not shard_folder(killed, 0).is_dir():
            assert process.poll() is None
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert not (killed / INDEX).exists()
    for out in (killed, undisturbed):
        assert main(encode(weights, recording, out, *options)) == 0
    assert content(killed) == content(undisturbed)
    assert load_model(weights).model_id in (killed / "encoding.json").read_text()


@pytest.mark.parametrize(
    ("option", "value"), [("--chunks-per-drive", "0"), ("--seed", "-1"), ("--samples-per-shard", "0")]
)
def test_numbers_that_cannot_be_are_refused_by_the_command(weights, recording, tmp_path, capsys, option, value):
    words = ["encode", str(recording), "--autoencoder", str(weights), "--out", str(tmp_path / "out"), option, value]
    assert main(words) == 2
    assert f"{option.removeprefix('--')}: got {value}, expected at least" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
