"""Drives to latents: each chunk, its mirror image, and what the frames before it make known."""

import dataclasses

import numpy as np
import pytest
import torch
from dyncity_models.config import FORESEEN, REMEMBERED
from dyncity_models.data.encoding import command_of, encode_excerpts, read_excerpts, statistics
from dyncity_models.data.latents import COMMANDS, LatentSample
from dyncity_models.data.shards import EncodedSet, shard_folder, write_shard
from dyncity_models.data.views import column_points
from dyncity_models.hexplane import Planes
from dyncity_models.normalisation import Normalisation

from dyncity_sim.domain.conditions import Command
from dyncity_sim.domain.taxonomy import CARLASC, merged_labels

VEHICLE = CARLASC.index("vehicle")


@pytest.fixture(scope="module")
def excerpt(source):
    (found,) = read_excerpts(source, 0, 1, seed=0)
    return found


@pytest.fixture(scope="module")
def rows_of(build_autoencoder):
    """A function that encodes an excerpt."""
    autoencoder = build_autoencoder()

    def run(excerpt, known_world=REMEMBERED):
        with torch.inference_mode():
            return encode_excerpts(autoencoder, [excerpt], torch.device("cpu"), known_world)

    return run


@pytest.mark.parametrize(("yaw_rad", "command"), [(0.02, Command.LEFT), (-0.02, Command.RIGHT), (0, Command.FORWARD)])
def test_a_chunk_amounts_to_the_command_of_its_plan(yaw_rad, command):
    planar = np.column_stack([np.arange(16) * 0.8, np.zeros(16), np.arange(16) * yaw_rad])
    assert command_of(planar) is command
    assert command_of(0 * planar) is Command.STATIC


def test_every_drive_is_encoded_plain_and_mirrored(rows):
    assert set(rows) == set(LatentSample.__annotations__)
    assert {len(array) for array in rows.values()} == {6}
    poses = rows["canvas_from_ego"]
    assert np.allclose(poses[::2] * [1, -1, -1], poses[1::2], atol=1e-5)
    assert [COMMANDS[c] for c in rows["command"]] == [Command.FORWARD] * 4 + [Command.STATIC] * 2


def test_what_a_chunk_becomes_does_not_depend_on_what_it_is_encoded_with(rows, encode):
    alone = encode(1)
    for name in ("known_mask", "movers", "layout", "command", "canvas_from_ego"):
        assert np.array_equal(rows[name], alone[name])
    for name in ("xy", "tx", "ty", "known_xy"):
        assert np.allclose(rows[name], alone[name], atol=2e-2)


def test_a_turn_to_the_left_is_one_to_the_right_in_the_mirror(excerpt, rows_of):
    bend = np.column_stack([np.arange(32) * 0.8, np.zeros(32), np.arange(32) * 0.02])
    turning = rows_of(dataclasses.replace(excerpt, planar=bend))
    assert [COMMANDS[c] for c in turning["command"]] == [Command.LEFT, Command.RIGHT]


def test_what_is_known_before_a_chunk_was_covered_and_holds_no_mover(excerpt, rows_of):
    """Without gaps, the known mask is what the sixteen frames before covered of the canvas."""
    without_gaps = dataclasses.replace(excerpt, gap_radii_m=0 * excerpt.gap_radii_m)
    rows = rows_of(without_gaps)
    mask = rows["known_mask"][0, 0]
    assert mask.dtype == bool
    assert 0.3 < mask.mean() < 0.9
    # the ego drives forward at 6 m/s: behind is known, the farthest cells ahead are not
    assert mask[2:4, 8].all()
    assert not mask[-2:].any()
    vehicles_last, vehicles_sixth_last = rows["movers"][0, :2]
    assert vehicles_last.any()
    assert vehicles_sixth_last.any()
    # the car drives ahead at 9 m/s: it was 4.5 m further back half a second earlier
    advance_m = 2.0 * (np.argwhere(vehicles_last)[:, 0].mean() - np.argwhere(vehicles_sixth_last)[:, 0].mean())
    assert advance_m == pytest.approx(4.5, abs=1.5)


@pytest.mark.parametrize(("known_world", "tells"), [(FORESEEN, True), (REMEMBERED, False)])
def test_a_known_world_tells_of_who_comes_later_only_if_it_is_to_be_foreseen(excerpt, rows_of, known_world, tells):
    vehicle = excerpt.raw_labels[merged_labels(excerpt.raw_labels) == VEHICLE][0]
    crossed = excerpt.raw_labels.copy()
    crossing = crossed[5:7, 40:48, 66:70, 3:6]
    assert not merged_labels(crossing).any()
    crossing[:] = vehicle
    before, after = (
        rows_of(one, known_world)["known_xy"] for one in (excerpt, dataclasses.replace(excerpt, raw_labels=crossed))
    )
    assert (not np.array_equal(before, after)) == tells


def test_a_known_world_has_a_hole_where_a_vehicle_stood_before_the_chunk_and_was_gone_in_it(excerpt, rows_of):
    vehicle = excerpt.raw_labels[merged_labels(excerpt.raw_labels) == VEHICLE][0]
    recent = torch.from_numpy(excerpt.planar[[15, 10]])
    ahead_m = column_points(recent, 128, 25.6) - recent[0, :2] - torch.tensor([8.0, 5.0])
    stood = (ahead_m.abs() < torch.tensor([2.2, 0.9])).all(dim=-1).numpy()
    raw_recent = excerpt.raw_recent.copy()
    raw_recent[stood, 1:4] = vehicle
    without_gaps = dataclasses.replace(excerpt, gap_radii_m=0 * excerpt.gap_radii_m)
    before, after = (
        rows_of(one)["known_xy"] for one in (without_gaps, dataclasses.replace(without_gaps, raw_recent=raw_recent))
    )
    assert not np.array_equal(before, after)


def test_the_layout_of_a_chunk_is_that_of_its_vehicles_and_its_mirror_images(excerpt, rows_of):
    plain, mirrored = np.unpackbits(rows_of(excerpt)["layout"], axis=-1).astype(bool)
    vehicles = (merged_labels(excerpt.raw_labels) == VEHICLE).any(axis=-1)
    assert np.array_equal(plain, vehicles.reshape(16, 32, 4, 32, 4).any(axis=(2, 4)))
    assert plain.any()
    assert np.array_equal(mirrored, plain[..., ::-1])


def test_gaps_hide_part_of_what_was_covered(excerpt, rows_of):
    radii_m = np.zeros_like(excerpt.gap_radii_m)
    radii_m[0, 0] = 6.0
    holes = dataclasses.replace(excerpt, gap_radii_m=radii_m, gap_centres_m=0 * excerpt.gap_centres_m)
    plain, mirrored = rows_of(holes)["known_mask"][:, 0]
    middle = slice(len(plain) // 2 - 2, len(plain) // 2 + 2)
    assert not plain[middle, middle].any()
    assert mirrored[middle, middle].all()


@pytest.fixture
def statistics_of(tiny, tmp_path):
    """A function that writes rows as two shards and sums them up."""

    def run(rows):
        for number, part in enumerate((slice(4), slice(4, 6))):
            write_shard(tmp_path, number, {name: array[part] for name, array in rows.items()})
        shards = shard_folder(tmp_path, 0), shard_folder(tmp_path, 1)
        return statistics(EncodedSet(tmp_path, shards, {}), tiny.autoencoder)

    return run


def test_statistics_are_those_of_each_channel(rows, statistics_of):
    found = statistics_of(rows)
    assert found["tx_mean"][3] == pytest.approx(rows["tx"][:, 3].astype(float).mean())
    assert found["xy_std"][5] == pytest.approx(rows["xy"][:, 5].astype(float).std())


def test_a_channel_that_says_nothing_is_not_divided_by_zero(rows, statistics_of):
    silent = rows | {"tx": rows["tx"].copy()}
    silent["tx"][:, 3] = 0.25
    planes = Planes(*(torch.from_numpy(silent[name]).float() for name in ("xy", "tx", "ty")))
    normalised = Normalisation(8, statistics_of(silent)).normalise(planes)
    assert not normalised.tx[:, 3].any()
    assert normalised.flat().isfinite().all()
