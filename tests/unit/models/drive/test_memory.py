import tracemalloc
import zlib
from dataclasses import replace

import numpy as np
import pytest
import zstandard
from dyncity_models.data.clips import UNOBSERVED
from dyncity_models.drive.borders import IS_SURFACE
from dyncity_models.drive.memory import COLUMNS, LAYERS_AROUND, MOST_ROAD_USERS, MOTION, DriveMemory
from dyncity_models.drive.packing import pack, unpack
from hypothesis import given, settings
from hypothesis import strategies as st

from dyncity_sim.domain.frames import poses_from_planar, transform_points
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import InvalidInputError

GRID = CARLASC_GRID
VEHICLE, ROAD, BUILDING = (CARLASC.index(name) for name in ("vehicle", "road", "building"))
CELL_M, LAYER_M = GRID.voxel_size_m[0], GRID.voxel_size_m[2]
ORIGIN = np.zeros(3)
DAMAGE = st.integers(0, 2**31)


def empty(planar=ORIGIN, height_m=0.0):
    return DriveMemory.empty(np.asarray(planar, dtype=float), height_m, GRID)


def random_static(seed=0, frames=1):
    """Frames that all look the same, of static labels at random."""
    static = np.array([0, 1, 2, 3, 5, 6, 7, 8, 9], dtype=np.uint8)
    frame = np.random.default_rng(seed).choice(static, GRID.shape)
    return np.broadcast_to(frame, (frames, *GRID.shape))


def at(*planar):
    return np.array(planar, dtype=float).reshape(-1, 3)


def learn(memory, labels, planar=None, heights_m=None, evidence=None):
    planar = np.zeros((len(labels), 3)) if planar is None else planar
    heights_m = np.zeros(len(labels)) if heights_m is None else np.asarray(heights_m, dtype=float)
    return memory.learn(labels, planar, heights_m, GRID, evidence)


def seen(memory, *planar, heights_m=None):
    poses = at(*planar) if planar else at(ORIGIN)
    return memory.seen_from(poses, np.zeros(len(poses)) if heights_m is None else np.asarray(heights_m), GRID)


def same(first, second):
    return all(
        np.array_equal(value, getattr(second, name))
        and np.asarray(value).dtype == np.asarray(getattr(second, name)).dtype
        for name, value in vars(first).items()
    )


@pytest.fixture(scope="module")
def learnt():
    memory = learn(empty([3.0, -2.0, 0.4], 1.5), random_static(), at(3.0, -2.0, 0.4), [1.5])
    rng = np.random.default_rng(1)
    movers, users = rng.random((4, 128, 128)) < 0.05, rng.integers(0, 4, GRID.shape, dtype=np.uint8)
    planar, motion = np.arange(12.0).reshape(4, 3), rng.normal(size=(3, len(MOTION)))
    return replace(memory, movers=movers, movers_planar=planar, road_users=users, motion=motion)


@settings(max_examples=15)
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(0, MOST_ROAD_USERS), st.floats(-1e4, 1e4))
def test_a_memory_comes_back_from_its_bytes(seed, movers, vehicles, height_m):
    rng = np.random.default_rng(seed)
    labels = np.full((COLUMNS, COLUMNS, 8 + 2 * LAYERS_AROUND), UNOBSERVED, dtype=np.uint8)
    labels[tuple(rng.integers(0, COLUMNS, (2, 50)))] = rng.integers(0, UNOBSERVED, (50, labels.shape[-1]))
    memory = DriveMemory(
        labels,
        rng.normal(size=3) * 1000,
        rng.integers(-(10**6), 10**6, 2),
        height_m,
        rng.random((movers, 128, 128)) < 0.1,
        rng.normal(size=(movers, 3)),
        rng.integers(0, vehicles, GRID.shape, dtype=np.uint8, endpoint=True),
        rng.normal(size=(vehicles, len(MOTION))),
    )
    assert same(unpack(pack(memory), GRID), memory)


def test_the_same_memory_has_the_same_bytes(learnt):
    assert pack(learnt) == pack(unpack(pack(learnt), GRID))


def refused(payload):
    with pytest.raises(InvalidInputError) as caught:
        unpack(payload, GRID)
    return caught.value.field == "continuation.payload"


@settings(max_examples=60)
@given(DAMAGE, st.integers(0, 7))
def test_one_flipped_bit_is_noticed_wherever_it_is(learnt, place, bit):
    payload = bytearray(pack(learnt))
    payload[place % len(payload)] ^= 1 << bit
    assert refused(bytes(payload))


@settings(max_examples=30)
@given(DAMAGE)
def test_a_truncated_or_lengthened_payload_is_refused(learnt, length):
    payload = pack(learnt)
    assert refused(payload[: length % len(payload)])
    assert refused(payload + bytes(1 + length % 50))


@given(st.binary(max_size=200))
def test_any_other_bytes_are_refused(payload):
    assert refused(payload)
    assert refused(b"DCM3" + payload)


@pytest.mark.parametrize(
    "change",
    [
        {"labels": np.zeros((COLUMNS, COLUMNS, 4), np.uint8)},
        {"labels": np.full((COLUMNS, COLUMNS, 8 + 2 * LAYERS_AROUND), UNOBSERVED + 1, np.uint8)},
        {"movers": np.zeros((1, 64, 64), bool), "movers_planar": np.zeros((1, 3))},
        {"movers": np.zeros((2, 128, 128), bool), "movers_planar": np.zeros((1, 3))},
        {"movers": np.zeros((65, 128, 128), bool), "movers_planar": np.zeros((65, 3))},
        {"movers": np.zeros((1, 128, 128), bool), "movers_planar": np.full((1, 3), np.nan)},
        {"world_from_memory": np.array([0.0, np.inf, 0.0])},
        {"corner": np.zeros(3, np.int64)},
        {"height_m": float("nan")},
        {"road_users": np.full(GRID.shape, 4, np.uint8)},
        {"road_users": np.zeros((128, 128, 4), np.uint8)},
        {"motion": np.zeros((MOST_ROAD_USERS + 1, len(MOTION)))},
        {"motion": np.full((3, len(MOTION)), np.inf)},
        {"motion": np.array([[0.0, 0.0, 0.0, 4.5, 1.8, 1e12, 0.0]] * 3)},
        {"motion": np.array([[0.0, 0.0, 0.0, 1e12, 1.8, 5.0, 0.0]] * 3)},
        {"motion": np.array([[1e12, 0.0, 0.0, 4.5, 1.8, 5.0, 0.0]] * 3)},
        {"movers": np.zeros((0, 128, 128), bool), "movers_planar": np.zeros((0, 3))},
    ],
    ids="-".join,
)
def test_a_memory_that_is_none_is_refused_though_its_checksum_fits(learnt, change):
    assert refused(pack(replace(learnt, **change)))


def test_a_payload_that_claims_more_than_a_memory_is_refused_before_it_is_unpacked():
    bomb = bytes(8 + 4 + 4) + zstandard.compress(bytes(256 * 2**20))
    tracemalloc.start()
    assert refused(b"DCM4" + zlib.crc32(bomb).to_bytes(4, "little") + bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_an_empty_memory_knows_nothing():
    assert (seen(empty()) == UNOBSERVED).all()
    assert not empty().known_on_canvas(ORIGIN, 0.0, 64, 32.0, GRID).any()


def test_what_was_learnt_is_seen_again_from_where_it_was_seen():
    labels = random_static()
    assert np.array_equal(seen(learn(empty(), labels)), labels)


@pytest.mark.parametrize(("forward", "left"), [(3, 0), (0, -5), (-20, 11)])
def test_after_whole_cells_the_same_world_is_seen_shifted(forward, left):
    labels = random_static()
    view = seen(learn(empty(), labels), (forward * CELL_M, left * CELL_M, 0.0))[0]
    x, y = np.meshgrid(np.arange(128) + forward, np.arange(128) + left, indexing="ij")
    inside = (x >= 0) & (x < 128) & (y >= 0) & (y < 128)
    assert np.array_equal(view[inside], labels[0][x[inside], y[inside]])
    assert (view[~inside] == UNOBSERVED).all()


def test_a_left_turn_on_the_spot_turns_the_world_right():
    labels = random_static()
    view = seen(learn(empty(), labels), (0.0, 0.0, np.pi / 2))[0]
    assert np.array_equal(view, np.rot90(labels[0], -1))


def test_a_drive_that_begins_anywhere_sees_what_it_would_at_the_origin():
    labels, start = random_static(), (812.3, -4021.7, 2.1)
    elsewhere = learn(empty(start, 55.0), labels, at(start), [55.0])
    assert np.array_equal(seen(elsewhere, start, heights_m=[55.0]), labels)


def test_every_column_is_where_its_pose_says():
    """From a turned and shifted ego, each cell shows what lies at its centre in the world."""
    labels, pose = random_static(), (4.1, -7.3, 0.7)
    view = seen(learn(empty(), labels), pose)[0]
    x, y = np.meshgrid(GRID.centres(0), GRID.centres(1), indexing="ij")
    points = transform_points(poses_from_planar(np.array(pose)), np.stack([x, y, 0 * x], -1).reshape(-1, 3))
    index = GRID.indices(points)
    inside = GRID.contains(index)
    expected = np.full((len(points), 8), UNOBSERVED, dtype=np.uint8)
    expected[inside] = labels[0][index[inside, 0], index[inside, 1]]
    assert np.array_equal(view, expected.reshape(GRID.shape))
    assert 0.5 < inside.mean() < 1


def test_a_cell_is_written_once_and_never_again():
    first, second = random_static(1), random_static(2)
    memory = learn(learn(empty(), first), second, at((8.0, 0.0, 0.0)))
    assert np.array_equal(seen(memory), first)
    ahead = seen(memory, (8.0, 0.0, 0.0))[0]
    new = np.arange(128) >= 128 - 20
    assert np.array_equal(ahead[new], second[0][new])
    assert np.array_equal(ahead[~new], first[0][20:])


def test_frames_vote_on_what_a_cell_holds():
    frames = np.concatenate([random_static(1, 4), random_static(2, 2)])
    assert np.array_equal(seen(learn(empty(), frames)), random_static(1))


def test_movers_do_not_enter_the_map_but_what_they_uncover_does():
    labels = random_static(0, 6).copy()
    labels[:, 40:50, 60:64, 1:4] = VEHICLE
    labels[0, 70:80, 60:64, 1:4] = VEHICLE
    view = seen(learn(empty(), labels))[0]
    assert not np.isin(view, CARLASC.moving_labels).any()
    assert (view[40:50, 60:64, 1:4] == UNOBSERVED).all()
    assert np.array_equal(view[70:80, 60:64], labels[1, 70:80, 60:64])


def test_a_cell_a_mover_hid_is_learnt_once_it_shows():
    hidden = random_static().copy()
    hidden[:, 40:50, 60:64, 1:4] = VEHICLE
    memory = learn(learn(empty(), hidden), random_static())
    assert np.array_equal(seen(memory), random_static())


def test_only_columns_with_evidence_are_learnt():
    evidence = np.zeros((1, 128, 128), dtype=bool)
    evidence[:, 64:, :64] = True
    view = seen(learn(empty(), random_static(), evidence=evidence))
    assert np.array_equal(view[evidence], random_static()[evidence])
    assert (view[~evidence] == UNOBSERVED).all()


def no_surfaces():
    labels = random_static()
    return np.where(IS_SURFACE[labels], BUILDING, labels)


@pytest.mark.parametrize("lift", [-3, -1, 1, 2, 9])
def test_from_higher_up_the_world_lies_lower(lift):
    labels = no_surfaces()
    view = seen(learn(empty(), labels), heights_m=[lift * LAYER_M])[0]
    layer = np.arange(8) + lift
    shown = (layer >= 0) & (layer < 8)
    assert np.array_equal(view[..., shown], labels[0][..., layer[shown]])
    assert (view[..., ~shown] == UNOBSERVED).all()


@pytest.mark.parametrize("lift", [-4, -1, 3])
def test_what_is_learnt_on_a_slope_is_seen_whole_from_there_and_shifted_from_where_the_drive_began(lift):
    labels = no_surfaces()
    memory = learn(empty(), labels, heights_m=[lift * LAYER_M])
    assert np.array_equal(seen(memory, heights_m=[lift * LAYER_M]), labels)
    shown = (np.arange(8) + lift >= 0) & (np.arange(8) + lift < 8)
    assert np.array_equal(seen(memory)[0][..., np.arange(8)[shown] + lift], labels[0][..., shown])


def test_a_road_that_half_of_the_frames_round_up_and_half_round_down_is_there():
    frames = np.zeros((6, *GRID.shape), dtype=np.uint8)
    frames[:3, ..., 2], frames[3:, ..., 3] = ROAD, ROAD
    assert (seen(learn(empty(), frames))[0, ..., 2:4] == ROAD).all()


def test_a_road_that_falls_by_less_than_a_layer_is_the_lowest_that_is_seen():
    labels = np.zeros((1, *GRID.shape), dtype=np.uint8)
    labels[..., 0] = ROAD
    labels[0, :20, :, 1] = CARLASC.index("sidewalk")
    labels[0, 20:40, :, 1] = BUILDING
    memory = learn(empty(), labels)
    for height_m, falls in ((0.0, False), (0.17, False), (0.18, True)):
        view = seen(memory, heights_m=[height_m])[0]
        assert (view[40:, :, 0] == ROAD).all(), "the road, or that under it"
        assert (view[:20, :, 1 - falls] == CARLASC.index("sidewalk")).all()
        assert (view[20:40, :, 0] == (BUILDING if falls else ROAD)).all()
    assert (seen(memory, heights_m=[0.18 + LAYER_M])[0] != ROAD).all()


def test_the_layers_move_with_the_height_of_the_ego(learnt):
    place, height_m = (3.0, -2.0, 0.4), 1.5 + 3 * LAYER_M
    moved = learnt.centred_on(learnt.world_from_memory[:2], height_m, GRID)
    assert moved.height_m == pytest.approx(height_m)
    for lift in (-2, 0, 3):
        heights_m = [1.5 + lift * LAYER_M]
        assert np.array_equal(seen(moved, place, heights_m=heights_m), seen(learnt, place, heights_m=heights_m))
    assert same(moved.centred_on(learnt.world_from_memory[:2], 1.5, GRID), learnt)
    assert (learnt.centred_on(learnt.world_from_memory[:2], 100.0, GRID).labels == UNOBSERVED).all()


def test_the_square_moves_by_whole_cells_and_keeps_what_it_holds(learnt):
    moved = learnt.centred_on(np.array([30.3, -17.9]), 1.5, GRID)
    assert not np.array_equal(moved.corner, learnt.corner)
    place = (3.0, -2.0, 0.4)
    assert np.array_equal(seen(moved, place, heights_m=[1.5]), seen(learnt, place, heights_m=[1.5]))
    there_and_back = moved.centred_on(learnt.world_from_memory[:2], 1.5, GRID)
    assert same(there_and_back, learnt)


def test_what_the_square_leaves_behind_is_forgotten(learnt):
    far = learnt.centred_on(np.array([1e6, 0.0]), 1.5, GRID)
    assert (far.labels == UNOBSERVED).all()
    back = far.centred_on(learnt.world_from_memory[:2], 1.5, GRID)
    assert np.array_equal(back.corner, learnt.corner)
    assert (back.labels == UNOBSERVED).all()


def test_known_canvas_cells_are_those_the_drive_covered():
    memory = learn(empty(), random_static())
    known = memory.known_on_canvas(at((10.0, 0.0, 0.0))[0], 0.0, 64, 32.0, GRID)
    x = np.arange(64) + 0.5 - 32.0
    expected = (np.abs(x + 10.0) < 25.6)[:, None] & (np.abs(x) < 25.6)[None]
    assert np.array_equal(known, expected)


def test_a_hill_takes_the_known_world_out_of_sight():
    memory = learn(empty(), random_static())
    heights_m = np.array([0, 3, 5, 20]) * LAYER_M
    shares = [memory.known_on_canvas(ORIGIN, height_m, 64, 32.0, GRID).mean() for height_m in heights_m]
    assert shares[0] == shares[1] > 0.5
    assert shares[2] == shares[3] == 0
