import dataclasses
import shutil

import numpy as np
import pytest
import torch
from dyncity_models.config import FORESEEN, REMEMBERED
from dyncity_models.data.autoencoder_batches import AutoencoderBatches, ValidationChunks, class_shares
from dyncity_models.data.clips import SEEN, UNOBSERVED, Clip, ClipSource, FrameStore
from dyncity_models.data.encoding import command_of, encode_excerpts, encoding_of, read_excerpts, statistics
from dyncity_models.data.latents import COMMANDS, LatentBatches, Latents, LatentSample, SpreadLatents
from dyncity_models.data.shards import EncodedSet, shard_folder, write_index, write_shard
from dyncity_models.data.views import (
    behind_line,
    column_points,
    covered,
    hidden_by,
    known_latent_mask,
    known_tokens,
    moved_to_canvas,
    mover_columns,
    remembered_tokens,
    vehicle_layout,
)
from dyncity_models.hexplane import Planes
from dyncity_models.normalisation import Normalisation

from dyncity_sim.domain.agreement import agreement_between_frames
from dyncity_sim.domain.conditions import Command
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.taxonomy import CARLASC, merged_labels
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
    with pytest.raises(InvalidInputError, match=r"recordings: got no folder"):
        ClipSource([])
    with pytest.raises(InvalidInputError, match="recording"):
        ClipSource([tmp_path])


def test_clips_are_not_cut_across_frames_that_are_missing(recording, tmp_path):
    shutil.copytree(recording, tmp_path / "rec")
    file = tmp_path / "rec" / "drive_00000.npz"
    arrays = dict(np.load(file))
    arrays["times_us"][9:] += 300_000
    np.savez(file, **arrays)
    with pytest.raises(
        InvalidInputError, match=r"drive_00000\.npz: got 0\.4 s between frames 8 and 9, expected 0\.1 s"
    ):
        FrameStore.load(ClipSource([tmp_path / "rec"]), torch.device("cpu"), 1)


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
def test_a_chunk_amounts_to_the_command_of_its_plan(yaw_rad, command):
    planar = np.column_stack([np.arange(16) * 0.8, np.zeros(16), np.arange(16) * yaw_rad])
    assert command_of(planar) is command
    assert command_of(0 * planar) is Command.STATIC


def test_a_store_holds_every_frame_of_every_drive(source, street_clip):
    store = FrameStore.load(source, torch.device("cpu"), threads=2)
    assert len(store) == 3
    assert store.starts.tolist() == [0, 40, 80, 120]
    mirrored = store.cells[40:80].numpy()
    assert np.array_equal(mirrored & (SEEN - 1), street_clip.mirrored().labels)
    assert np.array_equal(mirrored >= SEEN, street_clip.mirrored().observed)
    assert np.allclose(store.planar[:40], street_clip.planar)


def test_what_was_taken_of_every_drive_is_not_kept_beside_it(recording):
    source = ClipSource([recording])
    FrameStore.load(source, torch.device("cpu"), threads=2)
    assert not any("_arrays" in vars(drive) for drive in source.drives)
    for drive in range(len(source)):
        read_excerpts(source, drive, count=2, seed=0)
    assert not any("_arrays" in vars(drive) for drive in source.drives)


def test_sensor_view_hides_what_was_not_observed(street_clip):
    tokens = street_clip.observed_tokens
    assert (tokens[~street_clip.observed] == UNOBSERVED).all()
    assert np.array_equal(tokens[street_clip.observed], street_clip.labels[street_clip.observed])


def test_known_tokens_hide_movers_and_unknown_columns(street_clip):
    labels = torch.from_numpy(street_clip.labels)[None]
    known = torch.zeros(labels.shape[:4], dtype=torch.bool)
    known[:, :, 64:] = True
    tokens = known_tokens(labels, known)
    movers = torch.isin(labels, torch.tensor(CARLASC.moving_labels))
    assert movers[:, :, 64:].any()
    assert (tokens[:, :, :64] == UNOBSERVED).all()
    assert (tokens[movers] == UNOBSERVED).all()
    shown = known[..., None] & ~movers
    assert torch.equal(tokens[shown], labels[shown])


PARKED, LEAVING, PASSING, ARRIVING = range(4)


@pytest.fixture
def remembered():
    """A function that gives the tokens, and who is where, of a chunk whose movers do as some of the above say."""

    def build(*doings, yaw_rate=0.02):
        planar = torch.stack([torch.arange(32) * 0.8, torch.zeros(32), torch.arange(32) * yaw_rate], dim=-1)
        road, vehicle = CARLASC.index("road"), VEHICLE
        labels = torch.zeros(1, 32, 128, 128, 8, dtype=torch.uint8)
        labels[..., 0] = road
        movers = torch.zeros(labels.shape, dtype=torch.bool)
        points = column_points(planar[None], 128, 25.6)
        for doing in doings:
            for frame in range(32):
                x = {
                    PARKED: 20.0,
                    LEAVING: 20.0 + 0.9 * max(frame - 15, 0),
                    PASSING: 0.9 * frame,
                    ARRIVING: 14.0 + min(0.9 * frame, 22.0),
                }[doing]
                offset = points[0, frame] - torch.tensor([x, {PASSING: 2.0, ARRIVING: 6.0}.get(doing, -6.0)])
                body = (offset.abs() < torch.tensor([2.2, 0.9])).all(dim=-1)
                movers[0, frame, ..., 1:4] |= body[..., None]
        labels[movers] = vehicle
        past, chunk = labels[:, :16], labels[:, 16:]
        recent = past[:, [-1, -6]]
        known = torch.ones(1, 16, 128, 128, dtype=torch.bool)
        tokens = remembered_tokens(chunk, recent, planar[None, 16:], planar[None, [15, 10]], known, 25.6)
        return tokens, movers[:, 16:]

    return build


def test_what_is_remembered_does_not_tell_where_movers_will_be(remembered):
    empty, _ = remembered()
    for doing in (PASSING, ARRIVING):
        tokens, movers = remembered(doing)
        assert movers.any(dim=(2, 3, 4)).sum() > 8
        assert (tokens != empty).float().mean() < 1e-4
    assert (remembered(PARKED)[0] != remembered(LEAVING)[0]).float().mean() < 1e-4


def test_what_stood_before_a_chunk_leaves_a_hole_in_all_of_it(remembered):
    tokens, movers = remembered(PARKED)
    assert (tokens[movers] == UNOBSERVED).float().mean() > 0.85
    left, gone = remembered(LEAVING)
    holes = (left == UNOBSERVED) & ~gone
    assert holes[0, -1].sum() > 0.7 * movers[0, -1].sum()


def test_remembered_cells_are_those_of_the_static_world_or_unknown(street_clip):
    labels = torch.from_numpy(street_clip.labels[16:32])[None]
    recent = torch.from_numpy(street_clip.labels[[15, 10]])[None]
    planar = torch.from_numpy(street_clip.planar).float()[None]
    known = torch.zeros(labels.shape[:4], dtype=torch.bool)
    known[:, :, 64:] = True
    tokens = remembered_tokens(labels, recent, planar[:, 16:32], planar[:, [15, 10]], known, 25.6)
    movers = torch.isin(labels, torch.tensor(CARLASC.moving_labels))
    assert (tokens[:, :, :64] == UNOBSERVED).all()
    assert not torch.isin(tokens, torch.tensor(CARLASC.moving_labels)).any()
    still = known[..., None] & ~movers & (tokens != UNOBSERVED)
    assert torch.equal(tokens[still], labels[still])
    assert still.float().sum() > 0.98 * (known[..., None] & ~movers).sum()


def test_column_points_are_those_of_the_grid_carried_by_the_pose():
    points = column_points(torch.tensor([[[10.0, 20.0, np.pi / 2]]]), 128, 25.6)
    assert points.shape == (1, 1, 128, 128, 2)
    x, y = CARLASC_GRID.centres(0), CARLASC_GRID.centres(1)
    # facing north: forward is +y of the world, left is -x
    assert points[0, 0, 100, 3].tolist() == pytest.approx([10.0 - y[3], 20.0 + x[100]], abs=1e-4)


def test_points_are_covered_inside_the_square_of_any_pose_of_their_own_batch():
    planar = torch.tensor([[[0.0, 0.0, 0.0], [100.0, 0.0, np.pi / 4]], [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]])
    points = torch.tensor([[9.9, -9.9], [10.1, 0.0], [100.0, 14.0], [107.5, 7.5], [86.1, 0.0], [50.0, 0.0]])
    found = covered(points.expand(2, -1, -1), planar, 10.0)
    assert found.tolist() == [[True, False, True, False, True, False], [True] + 5 * [False]]


def test_gaps_are_discs_and_a_radius_of_zero_hides_nothing():
    points = torch.tensor([[[0.0, 0.0], [3.0, 0.0], [5.0, 0.0]]])
    centres, radii = torch.tensor([[[0.0, 0.0], [5.0, 0.0]]]), torch.tensor([[3.1, 0.0]])
    assert hidden_by(points, centres, radii).tolist() == [[True, True, False]]


def test_what_is_known_ends_at_a_straight_line():
    points = torch.tensor([[[12.0, 50.0], [14.0, -50.0]], [[0.0, 2.9], [0.0, 3.1]]])
    origin = torch.tensor([[10.0, 0.0], [0.0, 1.0]])
    angle = torch.tensor([0.0, np.pi / 2], dtype=torch.float32)
    near = behind_line(points, origin, angle, torch.tensor([3.0, 2.0]))
    assert near.tolist() == [[True, False], [True, False]]


def on_canvas(columns, planar, canvas_planar):
    arguments = (torch.from_numpy(values)[None] for values in (columns, planar, canvas_planar))
    return moved_to_canvas(*arguments, 25.6, 32.0, 64)[0].numpy()


def test_movers_are_drawn_on_the_canvas_where_they_stood():
    columns = np.zeros((2, 128, 128), dtype=bool)
    columns[0, 99:102, 63:66] = True
    columns[1, 99:102, 63:66] = True
    centre_m = CARLASC_GRID.centres(0)[100]
    planar = np.array([[5.0, 0.0, 0.0], [0.0, 0.0, np.pi / 2]])
    drawn = on_canvas(columns, planar, np.zeros(3))
    assert drawn.shape == (2, 64, 64)
    for mask, xy in zip(drawn, [(5.0 + centre_m, 0.2), (-0.2, centre_m)], strict=True):
        cells = np.argwhere(mask)
        assert len(cells) in (1, 2, 4)
        assert np.allclose(cells.mean(axis=0) + 0.5 - 32.0, xy, atol=0.5)


def test_a_car_survives_being_drawn_on_a_turned_canvas():
    columns = np.zeros((1, 128, 128), dtype=bool)
    columns[0, 90:101, 40:45] = True
    drawn = on_canvas(columns, np.zeros((1, 3)), np.array([3.0, 1.0, 0.6]))[0]
    cells = np.argwhere(drawn) + 0.5 - 32.0
    back = cells @ np.array([[np.cos(0.6), np.sin(0.6)], [-np.sin(0.6), np.cos(0.6)]]) + [3.0, 1.0]
    x_m, y_m = CARLASC_GRID.centres(0)[[90, 100]], CARLASC_GRID.centres(1)[[40, 44]]
    assert ((back > [x_m[0] - 1, y_m[0] - 1]) & (back < [x_m[1] + 1, y_m[1] + 1])).all()
    assert len(cells) >= 4.4 * 2.0


def test_what_lies_outside_the_canvas_is_not_drawn():
    everywhere = np.ones((1, 128, 128), dtype=bool)
    assert not on_canvas(everywhere, np.array([[100.0, 0.0, 0.0]]), np.zeros(3)).any()
    here = on_canvas(everywhere, np.zeros((1, 3)), np.zeros(3))[0]
    x = np.arange(64) + 0.5 - 32.0
    reached = np.abs(x) - 0.5 < 25.6
    assert np.array_equal(here, reached[:, None] & reached[None])


def test_a_latent_cell_is_known_when_it_and_its_neighbours_are():
    known = torch.zeros((2, 16, 16), dtype=torch.bool)
    known[0, 2:12, :] = True
    known[1] = True
    mask = known_latent_mask(known)
    assert mask.shape == (2, 1, 8, 8)
    assert mask[0, 0].any(dim=1).tolist() == [False, False, True, True, True, False, False, False]
    assert mask[0, 0, 2:5].all()
    assert mask[1].all()
    known[0, 6, 7] = False
    assert not known_latent_mask(known)[0, 0, 2:5, 2:5].any()


def test_mover_columns_are_vehicles_of_all_frames_then_pedestrians():
    labels = torch.zeros((1, 2, 128, 128, 8), dtype=torch.uint8)
    labels[0, 0, 1, 2, 3] = VEHICLE
    labels[0, 1, 4, 5, 6] = PEDESTRIAN
    found = mover_columns(labels)
    assert found.nonzero().tolist() == [[0, 0, 1, 2], [0, 3, 4, 5]]
    assert found.shape == (1, 4, 128, 128)


def test_a_layout_marks_every_cell_that_any_vehicle_stands_in():
    labels = torch.zeros((1, 2, 128, 128, 8), dtype=torch.uint8)
    labels[0, 0, 7, 8, 3] = VEHICLE
    labels[0, 1, 64:70, 0, 0] = VEHICLE
    labels[0, 1, 100, 100, 0] = PEDESTRIAN
    found = vehicle_layout(labels)
    assert found.shape == (1, 2, 32, 32)
    assert found.nonzero().tolist() == [[0, 0, 1, 2], [0, 1, 16, 0], [0, 1, 17, 0]]


def same_sample(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def store(source):
    return FrameStore.load(source, torch.device("cpu"), threads=1)


def test_autoencoder_batches_are_the_same_in_every_run_and_go_on_where_a_run_stopped(store, tiny):
    def batches(seed, first=0):
        return list(AutoencoderBatches(store, tiny.autoencoder, 2, 4, seed, 5, first))

    whole, again, rest, other = batches(3), batches(3), batches(3, first=3), batches(4)
    assert (len(whole), len(rest)) == (5, 2)
    assert all(same_sample(a, b) for a, b in zip(whole, again, strict=True))
    assert all(same_sample(a, b) for a, b in zip(whole[3:], rest, strict=True))
    assert not same_sample(whole[0], whole[1])
    assert not same_sample(whole[0], other[0])


def test_a_chunk_to_learn_from_scores_the_dense_truth_of_some_frames(store, tiny):
    views = set()
    batch = AutoencoderBatches(store, tiny.autoencoder, 16, 4, seed=0, stop=1).batch(0)
    assert batch["labels"].shape == batch["observed"].shape == (16, 4, 128, 128, 8)
    assert batch["planar"].dtype == torch.float32
    for sample in (dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)):
        frames, tokens = sample["frames"], sample["tokens"][sample["frames"]]
        assert frames.tolist() == sorted(set(frames.tolist()))
        assert int(sample["labels"].max()) < UNOBSERVED
        shown = tokens != UNOBSERVED
        assert torch.equal(tokens[shown], sample["labels"][shown])
        assert torch.equal(sample["planar"][8, :2], torch.zeros(2))
        if shown.all():
            views.add("dense")
        elif torch.equal(shown, sample["observed"]):
            views.add("sensor")
        else:
            assert not torch.isin(tokens, torch.tensor(CARLASC.moving_labels)).any()
            views.add("known")
    assert views == {"dense", "sensor", "known"}


def test_chunks_to_learn_from_are_those_of_the_drives_and_their_mirror_images(store, tiny, street_clip):
    batch = AutoencoderBatches(store, tiny.autoencoder, 16, 16, seed=1, stop=1).batch(0)
    clips = [clip for half in (street_clip, street_clip.mirrored()) for clip in (half, half.frames(0, 1))]
    known = {c.labels[i].tobytes() for c in clips for i in range(len(c))}
    assert {frame.numpy().tobytes() for chunk in batch["labels"] for frame in chunk} <= known
    turns = batch["planar"][:, -1, 2] - batch["planar"][:, 0, 2]
    assert (turns > 0.05).any()
    assert (turns < -0.05).any()


def test_validation_looks_at_every_drive_once_in_sensor_view(source):
    chunks = ValidationChunks(source, 10)
    assert len(chunks) == 3
    sample = chunks[0]
    assert sample["frames"].tolist() == [0, 5, 10, 15]
    assert torch.equal(sample["tokens"] != UNOBSERVED, torch.from_numpy(source.clip(0, 12).observed))


def test_class_shares_are_those_of_the_dense_truth(store, source):
    shares = class_shares(store, frames=120)
    everything = np.concatenate([source.clip(drive, 0, 40).labels for drive in range(3)])
    assert shares.shape == (UNOBSERVED,)
    assert shares.sum() == pytest.approx(1.0)
    assert shares[VEHICLE] == pytest.approx((everything == VEHICLE).mean())


@pytest.fixture(scope="module")
def encode(source, build_autoencoder):
    def run(at_once):
        encoding = encoding_of(build_autoencoder(), source, "tiny", 0, 1, torch.device("cpu"), at_once)
        with torch.inference_mode():
            return encoding.rows(map(encoding.read, range(len(source))))

    return run


@pytest.fixture(scope="module")
def rows(encode):
    return encode(2)


@pytest.fixture(scope="module")
def latents(rows, tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("latents")
    shards = [{name: array[part] for name, array in rows.items()} for part in (slice(4), slice(4, 6))]
    for number, shard in enumerate(shards):
        write_shard(folder, number, shard)
    made = EncodedSet(folder, (shard_folder(folder, 0), shard_folder(folder, 1)), {})
    write_index(dataclasses.replace(made, described=statistics(made, tiny.autoencoder)))
    return folder


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


def test_a_turn_to_the_left_is_one_to_the_right_in_the_mirror(source, build_autoencoder):
    (excerpt,) = read_excerpts(source, 0, 1, seed=0)
    bend = np.column_stack([np.arange(32) * 0.8, np.zeros(32), np.arange(32) * 0.02])
    with torch.inference_mode():
        turning = encode_excerpts(build_autoencoder(), [dataclasses.replace(excerpt, planar=bend)], torch.device("cpu"))
    assert [COMMANDS[c] for c in turning["command"]] == [Command.LEFT, Command.RIGHT]


def test_what_is_known_before_a_chunk_was_covered_and_holds_no_mover(source, build_autoencoder):
    """Without gaps, the known mask is what the sixteen frames before covered of the canvas."""
    (excerpt,) = read_excerpts(source, 0, 1, seed=0)
    without_gaps = dataclasses.replace(excerpt, gap_radii_m=0 * excerpt.gap_radii_m)
    with torch.inference_mode():
        rows = encode_excerpts(build_autoencoder(), [without_gaps], torch.device("cpu"))
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
def test_a_known_world_tells_of_who_comes_later_only_if_it_is_to_be_foreseen(
    source, build_autoencoder, known_world, tells
):
    (excerpt,) = read_excerpts(source, 0, 1, seed=0)
    vehicle = excerpt.raw_labels[merged_labels(excerpt.raw_labels) == VEHICLE][0]
    crossed = excerpt.raw_labels.copy()
    crossing = crossed[5:7, 40:48, 66:70, 3:6]
    assert not merged_labels(crossing).any()
    crossing[:] = vehicle
    with torch.inference_mode():
        before, after = (
            encode_excerpts(build_autoencoder(), [one], torch.device("cpu"), known_world)["known_xy"]
            for one in (excerpt, dataclasses.replace(excerpt, raw_labels=crossed))
        )
    assert (not np.array_equal(before, after)) == tells


def test_the_layout_of_a_chunk_is_that_of_its_vehicles_and_its_mirror_images(source, build_autoencoder):
    (excerpt,) = read_excerpts(source, 0, 1, seed=0)
    with torch.inference_mode():
        rows = encode_excerpts(build_autoencoder(), [excerpt], torch.device("cpu"))
    plain, mirrored = np.unpackbits(rows["layout"], axis=-1).astype(bool)
    vehicles = (merged_labels(excerpt.raw_labels) == VEHICLE).any(axis=-1)
    assert np.array_equal(plain, vehicles.reshape(16, 32, 4, 32, 4).any(axis=(2, 4)))
    assert plain.any()
    assert np.array_equal(mirrored, plain[..., ::-1])


def test_gaps_hide_part_of_what_was_covered(source, build_autoencoder):
    (excerpt,) = read_excerpts(source, 0, 1, seed=0)
    radii_m = np.zeros_like(excerpt.gap_radii_m)
    radii_m[0, 0] = 6.0
    holes = dataclasses.replace(excerpt, gap_radii_m=radii_m, gap_centres_m=0 * excerpt.gap_centres_m)
    with torch.inference_mode():
        plain, mirrored = encode_excerpts(build_autoencoder(), [holes], torch.device("cpu"))["known_mask"][:, 0]
    middle = slice(len(plain) // 2 - 2, len(plain) // 2 + 2)
    assert not plain[middle, middle].any()
    assert mirrored[middle, middle].all()


def test_statistics_are_those_of_each_channel(rows, latents, tiny):
    found = statistics(EncodedSet.open(latents), tiny.autoencoder)
    assert found["tx_mean"][3] == pytest.approx(rows["tx"][:, 3].astype(float).mean())
    assert found["xy_std"][5] == pytest.approx(rows["xy"][:, 5].astype(float).std())


def test_a_channel_that_says_nothing_is_not_divided_by_zero(rows, tiny, tmp_path):
    silent = rows | {"tx": rows["tx"].copy()}
    silent["tx"][:, 3] = 0.25
    write_shard(tmp_path, 0, silent)
    found = statistics(EncodedSet(tmp_path, (shard_folder(tmp_path, 0),), {}), tiny.autoencoder)
    planes = Planes(*(torch.from_numpy(silent[name]).float() for name in ("xy", "tx", "ty")))
    normalised = Normalisation(8, found).normalise(planes)
    assert not normalised.tx[:, 3].any()
    assert normalised.flat().isfinite().all()


@pytest.fixture(scope="module")
def encoded(latents):
    return Latents(latents, torch.device("cpu"))


def test_latent_batches_are_the_same_in_every_run_and_go_on_where_a_run_stopped(encoded):
    def batches(seed, first=0):
        return list(LatentBatches(encoded, 4, seed, 10, first))

    whole, again, rest, other = batches(1), batches(1), batches(1, first=4), batches(2)
    assert (len(whole), len(rest)) == (10, 6)
    assert all(same_sample(a, b) for a, b in zip(whole, again, strict=True))
    assert all(same_sample(a, b) for a, b in zip(whole[4:], rest, strict=True))
    assert not all(same_sample(a, b) for a, b in zip(whole, other, strict=True))


def test_a_batch_of_latents_is_what_was_encoded(encoded, rows):
    batch = encoded.rows(np.array([2, 0]))
    assert torch.equal(batch["xy"], torch.from_numpy(rows["xy"][[2, 0]]).float())
    assert batch["known_mask"].dtype == torch.float32
    assert batch["command"].dtype == torch.int64


def test_layouts_are_unpacked_where_they_are_asked_for(latents, rows):
    plain, with_layout = (Latents(latents, torch.device("cpu"), asked).rows(np.array([3, 0])) for asked in (0, 1))
    assert "layout" not in plain
    assert np.array_equal(with_layout["layout"].numpy(), np.unpackbits(rows["layout"][[3, 0]], axis=-1))
    assert with_layout["layout"].any()


def test_latents_without_layouts_are_refused_only_where_they_are_asked_for(latents, tmp_path):
    older = shutil.copytree(latents, tmp_path / "older", ignore=shutil.ignore_patterns("layout.npy"))
    assert len(Latents(older, torch.device("cpu"))) == 6
    with pytest.raises(InvalidInputError, match=r"layout\.npy"):
        Latents(older, torch.device("cpu"), layout=True)


def test_rare_commands_are_drawn_more_often_than_they_occur(encoded):
    drawn = LatentBatches(encoded, 600, seed=0, stop=1).batch(0)["command"]
    commands = np.bincount(drawn.numpy(), minlength=4) / 600
    static, forward = COMMANDS.index(Command.STATIC), COMMANDS.index(Command.FORWARD)
    # four forward and two static chunks, in proportion to the square roots of their counts
    assert commands[static] == pytest.approx(np.sqrt(2) / (np.sqrt(2) + 2), abs=0.06)
    assert commands[forward] + commands[static] == 1.0


def test_validation_takes_every_encoded_chunk_once_or_some_evenly_spread(encoded):
    whole = SpreadLatents(encoded, 100, 4)
    assert [len(batch["command"]) for batch in whole] == [4, 2]
    assert len(whole) == 2
    (three,) = SpreadLatents(encoded, 3, 4)
    assert same_sample(three, encoded.rows(np.array([0, 2, 5])))


def test_a_folder_that_was_not_encoded_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="dyncity encode"):
        Latents(tmp_path, torch.device("cpu"))
