import dataclasses
import json

import numpy as np
import pytest
import torch
from dyncity_models.data.autoencoder_samples import AutoencoderSamples, ValidationChunks, class_shares
from dyncity_models.data.clips import UNOBSERVED, Clip, ClipSource
from dyncity_models.data.latents import (
    COMMANDS,
    LatentRows,
    LatentSample,
    LatentSamples,
    chunk_command,
    encode_chunk,
    encoded_chunks,
    statistics,
)
from dyncity_models.data.views import (
    cell_centres_world,
    covered,
    known_latent_mask,
    known_tokens,
    moved_to_canvas,
    mover_columns,
    random_known_columns,
)
from scipy.spatial import ConvexHull, Delaunay

from dyncity_sim.domain.agreement import agreement_between_frames
from dyncity_sim.domain.conditions import Command
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import InvalidInputError

VEHICLE, PEDESTRIAN = CARLASC.index("vehicle"), CARLASC.index("pedestrian")


@pytest.fixture(scope="module")
def source(recording):
    return ClipSource([recording])


def equal(first, second):
    return all(np.array_equal(a, b) for a, b in zip(vars(first).values(), vars(second).values(), strict=True))


def test_a_clip_of_a_recording_is_what_was_recorded(source, street_clip):
    assert len(source) == 3
    assert source.length(0) == 40
    clip = source.clip(0, 5)
    assert len(clip) == 16
    assert np.array_equal(clip.labels, street_clip.labels[5:21])
    assert np.array_equal(clip.observed, street_clip.observed[5:21])
    assert np.allclose(clip.planar, street_clip.planar[5:21])


def test_a_source_without_a_drive_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match=r"data\.recordings"):
        ClipSource([])
    with pytest.raises(InvalidInputError, match="recording"):
        ClipSource([tmp_path])


def test_a_mirrored_clip_has_left_and_right_swapped_and_mirrored_twice_is_itself(street_clip):
    mirrored = street_clip.mirrored()
    assert np.array_equal(mirrored.labels, np.flip(street_clip.labels, axis=2))
    assert np.array_equal(mirrored.planar[:, 0], street_clip.planar[:, 0])
    assert np.array_equal(mirrored.planar[:, 1:], -street_clip.planar[:, 1:])
    assert equal(mirrored.mirrored(), street_clip)
    assert not equal(mirrored, street_clip)


def test_a_mirrored_clip_is_a_rigid_world_too(street_clip, occupancy_of):
    for clip in (street_clip, street_clip.mirrored()):
        assert agreement_between_frames(occupancy_of(Clip(clip.labels, clip.observed, clip.planar)), 0, 15) > 0.95


@pytest.mark.parametrize(("yaw_rad", "command"), [(0.02, Command.LEFT), (-0.02, Command.RIGHT), (0, Command.FORWARD)])
def test_a_chunk_amounts_to_the_command_of_its_plan(street_clip, yaw_rad, command):
    planar = np.column_stack([np.arange(16) * 0.8, np.zeros(16), np.arange(16) * yaw_rad])
    clip = Clip(street_clip.labels[:16], street_clip.observed[:16], planar)
    assert chunk_command(clip) is command
    assert chunk_command(dataclasses.replace(clip, planar=0 * planar)) is Command.STATIC


def test_sensor_view_hides_what_was_not_observed(street_clip):
    tokens = street_clip.observed_tokens
    assert (tokens[~street_clip.observed] == UNOBSERVED).all()
    assert np.array_equal(tokens[street_clip.observed], street_clip.labels[street_clip.observed])


def test_known_tokens_hide_movers_and_unknown_columns(street_clip):
    known = np.zeros(street_clip.labels.shape[:3], dtype=bool)
    known[:, 64:] = True
    tokens = known_tokens(street_clip, known)
    movers = np.isin(street_clip.labels, CARLASC.moving_labels)
    assert movers[:, 64:].any()
    assert (tokens[:, :64] == UNOBSERVED).all()
    assert (tokens[movers] == UNOBSERVED).all()
    shown = known[..., None] & ~movers
    assert np.array_equal(tokens[shown], street_clip.labels[shown])


def test_cell_centres_of_the_world_are_those_of_the_grid_carried_by_the_pose():
    (points,) = cell_centres_world(np.array([[10.0, 20.0, np.pi / 2]]), 128, 25.6)
    x, y = CARLASC_GRID.centres(0), CARLASC_GRID.centres(1)
    # facing north: forward is +y of the world, left is -x
    assert points[100, 3] == pytest.approx([10.0 - y[3], 20.0 + x[100]])


def test_points_are_covered_inside_the_square_of_any_pose():
    planar = np.array([[0.0, 0.0, 0.0], [100.0, 0.0, np.pi / 4]])
    points = np.array([[9.9, -9.9], [10.1, 0.0], [100.0, 14.0], [107.5, 7.5], [86.1, 0.0], [50.0, 0.0]])
    assert covered(points, planar, 10.0).tolist() == [True, False, True, False, True, False]


def test_columns_a_drive_could_know_end_at_a_straight_line(street_clip):
    known = random_known_columns(street_clip, 25.6, np.random.default_rng(2))
    assert 0.05 < known.mean() < 0.95
    points = cell_centres_world(street_clip.planar, 128, 25.6)
    inside, outside = points[known], points[~known]
    for one, other in ((inside, outside), (outside, inside)):
        hull = Delaunay(one[ConvexHull(one).vertices])
        assert (hull.find_simplex(other[::11]) < 0).all()


def test_movers_are_drawn_on_the_canvas_where_they_stood():
    columns = np.zeros((2, 128, 128), dtype=bool)
    columns[0, 99:102, 63:66] = True
    columns[1, 99:102, 63:66] = True
    centre_m = CARLASC_GRID.centres(0)[100]
    planar = np.array([[5.0, 0.0, 0.0], [0.0, 0.0, np.pi / 2]])
    drawn = moved_to_canvas(columns, planar, np.zeros(3), 25.6, 32.0, 64)
    assert drawn.shape == (2, 64, 64)
    for mask, xy in zip(drawn, [(5.0 + centre_m, 0.2), (-0.2, centre_m)], strict=True):
        cells = np.argwhere(mask)
        assert len(cells) in (1, 2, 4)
        assert np.allclose(cells.mean(axis=0) + 0.5 - 32.0, xy, atol=0.5)


def test_a_car_survives_being_drawn_on_a_turned_canvas():
    columns = np.zeros((1, 128, 128), dtype=bool)
    columns[0, 90:101, 40:45] = True
    drawn = moved_to_canvas(columns, np.zeros((1, 3)), np.array([3.0, 1.0, 0.6]), 25.6, 32.0, 64)[0]
    cells = np.argwhere(drawn) + 0.5 - 32.0
    back = cells @ np.array([[np.cos(0.6), np.sin(0.6)], [-np.sin(0.6), np.cos(0.6)]]) + [3.0, 1.0]
    x_m, y_m = CARLASC_GRID.centres(0)[[90, 100]], CARLASC_GRID.centres(1)[[40, 44]]
    assert ((back > [x_m[0] - 1, y_m[0] - 1]) & (back < [x_m[1] + 1, y_m[1] + 1])).all()
    assert len(cells) >= 4.4 * 2.0


def test_what_lies_outside_the_canvas_is_not_drawn():
    everywhere = np.ones((1, 128, 128), dtype=bool)
    assert not moved_to_canvas(everywhere, np.array([[100.0, 0.0, 0.0]]), np.zeros(3), 25.6, 32.0, 64).any()
    here = moved_to_canvas(everywhere, np.zeros((1, 3)), np.zeros(3), 25.6, 32.0, 64)[0]
    x = np.arange(64) + 0.5 - 32.0
    reached = np.abs(x) - 0.5 < 25.6
    assert np.array_equal(here, reached[:, None] & reached[None])


def test_a_latent_cell_is_known_when_it_and_its_neighbours_are():
    known = np.zeros((16, 16), dtype=bool)
    known[2:12, :] = True
    mask = known_latent_mask(known)
    assert mask.shape == (8, 8)
    assert mask.nonzero()[0].min() == 2
    assert mask.nonzero()[0].max() == 4
    assert mask[2:5].all()
    known[6, 7] = False
    assert not known_latent_mask(known)[2:5, 2:5].any()
    assert known_latent_mask(np.ones((16, 16), dtype=bool)).all()


def test_mover_columns_are_vehicles_of_all_frames_then_pedestrians():
    labels = np.zeros((2, 128, 128, 8), dtype=np.uint8)
    labels[0, 1, 2, 3] = VEHICLE
    labels[1, 4, 5, 6] = PEDESTRIAN
    found = mover_columns(labels)
    assert [tuple(c) for c in np.argwhere(found)] == [(0, 1, 2), (3, 4, 5)]
    assert found.shape == (4, 128, 128)


def same_sample(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_autoencoder_samples_are_the_same_in_every_run_and_go_on_where_a_run_stopped(source, tiny):
    whole = AutoencoderSamples(source, tiny.autoencoder, 12, 4, seed=3)
    again = AutoencoderSamples(source, tiny.autoencoder, 12, 4, seed=3)
    rest = AutoencoderSamples(source, tiny.autoencoder, 12, 4, seed=3, first=7)
    other = AutoencoderSamples(source, tiny.autoencoder, 12, 4, seed=4)
    assert len(rest) == 12
    assert same_sample(whole[2], again[2])
    for i in range(3):
        assert same_sample(whole[7 + i], rest[i])
    assert not same_sample(whole[0], whole[1])
    assert not same_sample(whole[0], other[0])


def test_an_autoencoder_sample_scores_the_dense_truth_of_some_frames(source, tiny):
    views = set()
    for i in range(12):
        sample = AutoencoderSamples(source, tiny.autoencoder, 12, 4, seed=0)[i]
        frames, tokens = sample["frames"], sample["tokens"][sample["frames"]]
        assert frames.tolist() == sorted(set(frames.tolist()))
        assert len(frames) == 4
        assert sample["labels"].shape == sample["observed"].shape == (4, 128, 128, 8)
        assert int(sample["labels"].max()) < UNOBSERVED
        shown = tokens != UNOBSERVED
        assert torch.equal(tokens[shown], sample["labels"][shown])
        assert sample["planar"].dtype == torch.float32
        assert torch.equal(sample["planar"][8, :2], torch.zeros(2))
        if shown.all():
            views.add("dense")
        elif torch.equal(shown, sample["observed"]):
            views.add("sensor")
        else:
            assert not torch.isin(tokens, torch.tensor(CARLASC.moving_labels)).any()
            views.add("known")
    assert views == {"dense", "sensor", "known"}


def test_validation_looks_at_every_drive_once_in_sensor_view(source):
    chunks = ValidationChunks(source, 10)
    assert len(chunks) == 3
    sample = chunks[0]
    assert sample["frames"].tolist() == [0, 5, 10, 15]
    assert torch.equal(sample["tokens"] != UNOBSERVED, torch.from_numpy(source.clip(0, 12).observed))


def test_class_shares_are_those_of_the_dense_truth(source):
    shares = class_shares(source)
    middle = [source.clip(drive, 20, 1).labels for drive in range(3)]
    assert shares.shape == (UNOBSERVED,)
    assert shares.sum() == pytest.approx(1.0)
    assert shares[VEHICLE] == pytest.approx(np.mean([(labels == VEHICLE).mean() for labels in middle]))


@pytest.fixture(scope="module")
def rows(source, build_autoencoder):
    with torch.inference_mode():
        return list(encoded_chunks(build_autoencoder(), source, range(3), seed=0, chunks_per_drive=1))


@pytest.fixture(scope="module")
def latents(rows, tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("latents")
    arrays = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    (folder / "latents.json").write_text(json.dumps(statistics(arrays, tiny.autoencoder)))
    return folder


def test_every_drive_is_encoded_plain_and_mirrored(rows):
    assert len(rows) == 6
    assert all(set(row) == set(LatentSample.__annotations__) for row in rows)
    for plain, mirrored in (rows[:2], rows[2:4]):
        assert np.allclose(plain["canvas_from_ego"] * [1, -1, -1], mirrored["canvas_from_ego"], atol=1e-5)
    commands = [COMMANDS[int(row["command"])] for row in rows]
    assert commands == [Command.FORWARD] * 4 + [Command.STATIC] * 2


def test_what_is_known_before_a_chunk_was_covered_and_holds_no_mover(street_clip, build_autoencoder, monkeypatch):
    """Without gaps, the known mask is what the sixteen frames before covered of the canvas."""
    monkeypatch.setattr(
        "dyncity_models.data.latents.RandomGaps", lambda anchor, rng: lambda p: np.zeros(p.shape[:-1], bool)
    )
    with torch.inference_mode():
        row = encode_chunk(build_autoencoder(), street_clip, 16, np.random.default_rng(0))
    mask = row["known_mask"][0]
    assert mask.dtype == bool
    assert 0.3 < mask.mean() < 0.9
    # the ego drives forward at 6 m/s: behind is known, the farthest cells ahead are not
    assert mask[2:4, 8].all()
    assert not mask[-2:].any()
    vehicles_last, vehicles_sixth_last = row["movers"][:2]
    assert vehicles_last.any()
    assert vehicles_sixth_last.any()
    # the car drives ahead at 9 m/s: it was 4.5 m further back half a second earlier
    advance_m = 2.0 * (np.argwhere(vehicles_last)[:, 0].mean() - np.argwhere(vehicles_sixth_last)[:, 0].mean())
    assert advance_m == pytest.approx(4.5, abs=1.5)


def test_statistics_are_those_of_each_channel(rows, tiny):
    arrays = {name: np.stack([row[name] for row in rows]) for name in ("xy", "tx", "ty")}
    found = statistics(arrays, tiny.autoencoder)
    assert found["tx_mean"][3] == pytest.approx(arrays["tx"][:, 3].astype(float).mean())
    assert found["xy_std"][5] == pytest.approx(arrays["xy"][:, 5].astype(float).std())


def test_latent_samples_are_the_same_in_every_run_and_go_on_where_a_run_stopped(latents, rows):
    whole, again = (LatentSamples(latents, 100, seed=1) for _ in range(2))
    rest, other = LatentSamples(latents, 100, seed=1, first=40), LatentSamples(latents, 100, seed=2)
    assert len(whole) == 100
    assert all(same_sample(whole[i], again[i]) for i in range(20))
    assert all(same_sample(whole[40 + i], rest[i]) for i in range(20))
    assert not all(same_sample(whole[i], other[i]) for i in range(20))
    stored = whole.row(2)
    assert torch.equal(stored["xy"], torch.from_numpy(rows[2]["xy"]).float())
    assert stored["known_mask"].dtype == torch.float32
    assert stored["command"].dtype == torch.int64


def test_rare_commands_are_drawn_more_often_than_they_occur(latents):
    samples = LatentSamples(latents, 3000, seed=0)
    commands = np.bincount([int(samples[i]["command"]) for i in range(600)], minlength=4) / 600
    static, forward = COMMANDS.index(Command.STATIC), COMMANDS.index(Command.FORWARD)
    # four forward and two static chunks, in proportion to the square roots of their counts
    assert commands[static] == pytest.approx(np.sqrt(2) / (np.sqrt(2) + 2), abs=0.06)
    assert commands[forward] + commands[static] == 1.0


def test_rows_are_every_chunk_once_or_evenly_spread(latents):
    samples = LatentSamples(latents, 1, 0)
    assert len(LatentRows(samples, 100)) == 6
    assert LatentRows(samples, 3).rows.tolist() == [0, 2, 5]
    assert same_sample(LatentRows(samples, 3)[1], samples.row(2))


def test_a_folder_that_was_not_encoded_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="dyncity encode"):
        LatentSamples(tmp_path, 1, 0)
