"""Tracks that are made chunk by chunk."""

import gc

import numpy as np
import pytest

from dyncity_sim.scene.actors.find import find_tracks
from dyncity_sim.scene.actors.live import LiveTracks
from dyncity_sim.scene.actors.tracking import Tracklet


@pytest.fixture
def busy_street(build_street, street_actor):
    return build_street(
        frames=48,
        ego_speed_mps=5.0,
        actors=[
            street_actor(8.0, 3.0, np.pi, 4.0),
            street_actor(12.0, -2.0, 0.0, 6.0, absent=frozenset(range(20))),
            street_actor(6.0, 7.0, 0.0, 0.0),
            street_actor(-12.0, -2.0, 0.0, 6.0, absent=frozenset([*range(5), *range(14, 48)])),
        ],
    )


def chunks_of(occupancy, frames=16):
    return [occupancy[first : first + frames] for first in range(0, len(occupancy), frames)]


def test_an_actor_keeps_its_id_kind_and_size_over_the_borders_of_chunks(busy_street):
    live = LiveTracks()
    parts = [live.add(chunk) for chunk in chunks_of(busy_street)]
    everywhere = set.intersection(*({track.id for track in part} for part in parts))
    assert len(everywhere) == 2
    for number in everywhere:
        same = [next(track for track in part if track.id == number) for part in parts]
        assert len({track.kind for track in same}) == len({track.size_m for track in same}) == 1
        places = np.concatenate([track.poses_world_from_actor[:, :3, 3] for track in same])
        assert len(places) >= 40
        assert np.linalg.norm(np.diff(places, axis=0), axis=1).max() < 1.0


def test_a_chunk_s_tracks_begin_where_the_chunk_before_left_them(busy_street):
    live, before, carried_on = LiveTracks(), {}, 0
    for chunk in chunks_of(busy_street):
        tracks = live.add(chunk)
        for track in tracks:
            assert track.times_us[-1] <= chunk.times_us[-1]
            if track.times_us[0] < chunk.times_us[0]:
                left = before[track.id]
                assert track.times_us[0] == left.times_us[-1] == chunk.times_us[0] - 100_000
                np.testing.assert_array_equal(track.poses_world_from_actor[0], left.poses_world_from_actor[-1])
                carried_on += 1
        before = {track.id: track for track in tracks}
    assert carried_on >= 4


def test_the_whole_drive_s_tracks_are_what_was_told_of_each_chunk(busy_street):
    live = LiveTracks()
    parts = [track for chunk in chunks_of(busy_street) for track in live.add(chunk)]
    assert [track.id for track in live.tracks] == sorted({track.id for track in parts})
    for whole in live.tracks:
        told = [part for part in parts if part.id == whole.id]
        assert {time_us for part in told for time_us in part.times_us.tolist()} == set(whole.times_us.tolist())
        for part in told:
            at = np.searchsorted(whole.times_us, part.times_us)
            np.testing.assert_array_equal(whole.times_us[at], part.times_us)
            np.testing.assert_array_equal(whole.poses_world_from_actor[at], part.poses_world_from_actor)
            np.testing.assert_array_equal(whole.velocities_world_mps[at], part.velocities_world_mps)
            assert (whole.kind, whole.size_m) == (part.kind, part.size_m)


def test_an_actor_out_of_sight_at_the_end_of_a_chunk_comes_back_under_a_new_id(build_street, street_actor):
    street = build_street(
        frames=32,
        ego_speed_mps=5.0,
        actors=[
            street_actor(8.0, 3.0, 0.0, 5.0, absent=frozenset({15})),
            street_actor(12.0, -2.0, 0.0, 6.0, absent=frozenset({16})),
        ],
    )
    live = LiveTracks()
    first, second = (live.add(chunk) for chunk in chunks_of(street))
    assert [track.id for track in first] == [1, 2]
    stayed, came_back = second
    assert (stayed.id, came_back.id) == (2, 3)
    assert stayed.times_us[:2].tolist() == street.times_us[[15, 17]].tolist()
    assert came_back.times_us[0] == street.times_us[16]
    assert (came_back.kind, came_back.size_m) == (first[0].kind, first[0].size_m)


def test_live_tracks_stand_where_those_of_the_whole_drive_do(busy_street):
    live = LiveTracks()
    parts = [track for chunk in chunks_of(busy_street) for track in live.add(chunk)]
    whole = find_tracks(busy_street)
    assert {track.id for track in parts} == {track.id for track in whole}
    for part in parts:
        of_whole = next(track for track in whole if track.id == part.id)
        at = np.searchsorted(of_whole.times_us, part.times_us)
        away = of_whole.poses_world_from_actor[at, :2, 3] - part.poses_world_from_actor[:, :2, 3]
        assert np.linalg.norm(away, axis=1).max() < 0.6


def test_one_chunk_alone_gives_what_the_whole_drive_gives(busy_street):
    chunk = busy_street[:16]
    for live, whole in zip(LiveTracks().add(chunk), find_tracks(chunk), strict=True):
        np.testing.assert_array_equal(live.poses_world_from_actor, whole.poses_world_from_actor)
        assert (live.id, live.kind, live.size_m) == (whole.id, whole.kind, whole.size_m)


def test_the_ground_under_an_actor_stays_where_more_of_its_height_shows(build_street, street_actor):
    low, high = (
        build_street(32, 5.0, [street_actor(8.0, 3.0, 0.0, 5.0, (4.5, 1.8, height_m))]) for height_m in (1.4, 2.5)
    )
    live = LiveTracks()
    (first,), (second,) = live.add(low[:16]), live.add(high[16:])
    assert first.size_m == second.size_m
    np.testing.assert_allclose(second.poses_world_from_actor[:, 2, 3], first.poses_world_from_actor[0, 2, 3], atol=0.02)


def test_a_chunk_of_any_length_is_told_whole(build_street, street_actor):
    street = build_street(60, 5.0, [street_actor(8.0, 3.0, 0.0, 5.0)])
    (track,) = LiveTracks().add(street)
    assert np.array_equal(track.times_us, street.times_us)


def test_of_actors_that_are_gone_nothing_is_kept_but_what_was_told(build_street, street_actor):
    passing = [
        street_actor(-20.0 - 2.0 * n, -2.0, 0.0, 20.0, absent=frozenset(range(160)) - set(range(n, n + 5)))
        for n in range(0, 160, 16)
    ]
    live, before = LiveTracks(), sum(type(one) is Tracklet for one in gc.get_objects())
    for chunk in chunks_of(build_street(160, 0.0, passing)):
        live.add(chunk)
    assert len(live.tracks) == len(passing)
    assert sum(type(one) is Tracklet for one in gc.get_objects()) - before <= 4
