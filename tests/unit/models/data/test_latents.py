"""Encoded chunks in memory, and batches of them."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from dyncity_models.data.encoding import statistics
from dyncity_models.data.latents import COMMANDS, LatentBatches, Latents, SpreadLatents
from dyncity_models.data.shards import INDEX, EncodedSet, shard_folder, write_index, write_shard

from dyncity_sim.domain.conditions import Command
from dyncity_sim.errors import InvalidInputError


@pytest.fixture(scope="module")
def latents(rows, tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("latents")
    shards = [{name: array[part] for name, array in rows.items()} for part in (slice(4), slice(4, 6))]
    for number, shard in enumerate(shards):
        write_shard(folder, number, shard)
    made = EncodedSet(folder, (shard_folder(folder, 0), shard_folder(folder, 1)), {})
    write_index(dataclasses.replace(made, described=statistics(made, tiny.autoencoder)))
    return folder


@pytest.fixture(scope="module")
def encoded(latents):
    return Latents(latents, torch.device("cpu"))


def test_latent_batches_are_the_same_in_every_run_and_go_on_where_a_run_stopped(encoded):
    def batches(seed, first=0):
        return list(LatentBatches(encoded, 4, seed, 10, first))

    whole, again, rest, other = batches(1), batches(1), batches(1, first=4), batches(2)
    assert (len(whole), len(rest)) == (10, 6)
    torch.testing.assert_close([*whole, *whole[4:]], [*again, *rest], rtol=0, atol=0)
    drawn, otherwise = (torch.cat([batch["xy"] for batch in batches]) for batches in (whole, other))
    assert not torch.equal(drawn, otherwise)


def test_a_batch_of_latents_is_what_was_encoded(encoded, rows):
    batch = encoded.rows(np.array([2, 0]))
    assert torch.equal(batch["xy"], torch.from_numpy(rows["xy"][[2, 0]]).float())
    assert batch["known_mask"].dtype == torch.float32
    assert batch["command"].dtype == torch.int64


def test_layouts_are_unpacked_where_they_are_asked_for(latents, rows):
    plain, with_layout = (
        Latents(latents, torch.device("cpu"), asked_for).rows(np.array([3, 0])) for asked_for in (False, True)
    )
    assert "layout" not in plain
    assert np.array_equal(with_layout["layout"].numpy(), np.unpackbits(rows["layout"][[3, 0]], axis=-1))
    assert with_layout["layout"].any()


def test_latents_without_layouts_are_refused_only_where_they_are_asked_for(latents, tmp_path):
    older = shutil.copytree(latents, tmp_path / "older", ignore=shutil.ignore_patterns("layout.npy"))
    assert len(Latents(older, torch.device("cpu"))) == 6
    with pytest.raises(InvalidInputError, match=r"layout\.npy"):
        Latents(older, torch.device("cpu"), layout=True)


def test_rare_commands_are_drawn_more_often_than_they_occur(encoded):
    drawn = torch.cat([batch["command"] for batch in LatentBatches(encoded, 600, seed=0, stop=10)])
    commands = np.bincount(drawn.numpy(), minlength=4) / 6000
    static, forward = COMMANDS.index(Command.STATIC), COMMANDS.index(Command.FORWARD)
    # four forward and two static chunks, in proportion to the square roots of their counts
    assert commands[static] == pytest.approx(np.sqrt(2) / (np.sqrt(2) + 2), abs=0.02)
    assert commands[forward] + commands[static] == 1.0


def test_validation_takes_every_encoded_chunk_once_or_some_evenly_spread(encoded):
    whole = SpreadLatents(encoded, 100, 4)
    assert [len(batch["command"]) for batch in whole] == [4, 2]
    assert len(whole) == 2
    (three,) = SpreadLatents(encoded, 3, 4)
    torch.testing.assert_close(three, encoded.rows(np.array([0, 2, 5])), rtol=0, atol=0)


def test_a_folder_that_was_not_encoded_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="dyncity encode"):
        Latents(tmp_path, torch.device("cpu"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("xy_mean", "x"),
        ("xy_mean", [0.0] * 3),
        ("ty_std", None),
        ("ty_std", [0.0] * 8),
        ("tx_mean", [float("nan")] * 8),
    ],
    ids=str,
)
def test_statistics_that_planes_cannot_be_normalised_with_are_refused(latents, tiny, tmp_path, name, value):
    damaged = shutil.copytree(latents, tmp_path / "damaged")
    index = json.loads((damaged / INDEX).read_text())
    (damaged / INDEX).write_text(json.dumps(index | {name: value}))
    Latents(latents, torch.device("cpu")).check_planes(tiny.autoencoder, "latents")
    with pytest.raises(InvalidInputError, match=rf"^validation_latents: got .*latents\.json with {name} "):
        Latents(damaged, torch.device("cpu")).check_planes(tiny.autoencoder, "validation_latents")


@pytest.mark.parametrize("commands", [np.full(4, 9), np.full(4, -1), np.full(4, 0.5)], ids=str)
def test_commands_that_are_none_are_refused(latents, tmp_path, commands):
    damaged = shutil.copytree(latents, tmp_path / "damaged")
    np.save(shard_folder(damaged, 0) / "command.npy", commands)
    with pytest.raises(InvalidInputError, match=r"^latents: got .*command"):
        Latents(damaged, torch.device("cpu"))
