"""Pedestrians of a generated chunk who stand set off along the sidewalk; the ego drives at 4 m/s."""

from dataclasses import replace

import numpy as np
import pytest
from dyncity_models.data.clips import UNOBSERVED
from dyncity_models.drive.classes import FREE, PEDESTRIAN
from dyncity_models.drive.road_users import road_users_of
from dyncity_models.drive.setting_off import PACE_MPS, SLOWEST_MPS
from dyncity_models.drive.traffic import with_traffic
from scipy.ndimage import binary_dilation

from dyncity_sim.domain.grid import CARLASC_GRID as GRID
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.scene.actors.find import find_tracks

NOTHING = np.full(GRID.shape, UNOBSERVED, dtype=np.uint8)
BODY_M = (0.9, 0.9, 1.75)
STANDS, WALKS, IN_THE_ROAD = (6.0, -6.5, 0.0, 0.0), (3.0, 6.5, 0.0, 1.4), (12.0, 2.0, 0.0, 0.0)
MANY, SEEDS = range(25), range(6)


@pytest.fixture
def build_walk(build_street, street_actor):
    """A function that builds a street with some pedestrians in it."""

    def build(*places, frames=16):
        return build_street(frames, 4.0, [street_actor(*place, BODY_M, PEDESTRIAN) for place in places])

    return build


def drawn(street, seed, coming=None, share=0.8):
    return replace(street, labels=with_traffic(street, coming, NOTHING, share, np.random.default_rng(seed)))


def ways_m(street):
    """Of each pedestrian x and y of the way from its first sighting to its last one."""
    walkers = [track for track in find_tracks(street) if track.kind is ActorKind.PEDESTRIAN]
    return np.array([np.diff(w.poses_world_from_actor[[0, -1], :2, 3], axis=0)[0] for w in walkers]).reshape(-1, 2)


def test_most_of_those_who_stand_set_off_along_the_sidewalk_to_either_side(build_walk):
    street = build_walk(STANDS)
    ways = np.array([ways_m(drawn(street, seed))[0] for seed in MANY])
    leave = np.abs(ways[:, 0]) > 0.9 * SLOWEST_MPS * 1.5
    assert 0.6 < leave.mean() < 0.95
    assert 0.2 < (ways[leave, 0] > 0).mean() < 0.8
    assert (np.abs(ways[leave, 1]) < np.abs(ways[leave, 0])).all()
    assert np.abs(ways[leave, 0]).mean() == pytest.approx(PACE_MPS * 1.5, rel=0.15)


def test_the_same_seed_draws_the_same_and_a_share_of_0_nobody(build_walk):
    street = build_walk(STANDS, WALKS)
    assert np.array_equal(drawn(street, 3).labels, drawn(street, 3).labels)
    assert all(np.array_equal(drawn(street, seed, share=0).labels, street.labels) for seed in SEEDS)


def test_who_sets_off_is_there_in_every_frame_as_one_body_and_nothing_else_changes(build_walk):
    street = build_walk(STANDS)
    cells = (street.labels == PEDESTRIAN).sum(axis=(1, 2, 3))
    for seed in SEEDS:
        found = drawn(street, seed).labels
        assert len(ways_m(drawn(street, seed))) == 1
        assert ((found == PEDESTRIAN).sum(axis=(1, 2, 3)) == cells[0]).all() or np.array_equal(found, street.labels)
        others = found != PEDESTRIAN
        assert np.array_equal(found[others], np.where(street.labels == PEDESTRIAN, FREE, street.labels)[others])


def test_who_is_on_the_way_keeps_it(build_walk):
    street = build_walk(WALKS)
    assert all(np.array_equal(drawn(street, seed).labels, street.labels) for seed in SEEDS)


def test_who_stands_in_the_road_goes_to_a_sidewalk(build_walk):
    street = build_walk(IN_THE_ROAD)
    ways = [ways_m(drawn(street, seed))[0] for seed in SEEDS]
    assert all(np.hypot(*way) < 0.5 or way[1] > 0.7 for way in ways)
    assert any(way[1] > 0.7 for way in ways)


def test_who_stands_between_walls_stays_there(build_walk):
    closed = build_walk(STANDS)
    around = closed.labels[:, :, :, 1] == PEDESTRIAN
    near = binary_dilation(around, np.ones((1, 9, 9), dtype=np.bool_))
    closed.labels[near & ~around, 1:4] = CARLASC.index("barrier")
    assert all(np.array_equal(drawn(closed, seed).labels, closed.labels) for seed in SEEDS)


def test_who_stood_before_the_chunk_stands_on(build_walk, forecast_halfway):
    street = build_walk(STANDS, frames=32)
    coming = forecast_halfway(street)
    assert all(np.array_equal(drawn(street[16:], seed, coming).labels, street[16:].labels) for seed in SEEDS)


def test_who_comes_into_view_may_set_off(build_walk, forecast_halfway):
    street = build_walk((31.4, -6.5, 0.0, 0.0), frames=32)
    coming = forecast_halfway(street)
    ways = [ways_m(drawn(street[16:], seed, coming)) for seed in SEEDS]
    assert any(len(way) and np.abs(way[0, 0]) > 0.5 for way in ways)


def test_the_next_chunk_is_told_how_fast_they_walk(build_walk):
    street = build_walk(STANDS)
    for seed in SEEDS:
        chunk = drawn(street, seed)
        walked_m = np.linalg.norm(ways_m(chunk)[0])
        assert road_users_of(chunk)[1][0, 5] == pytest.approx(walked_m / 1.5, abs=0.3)
