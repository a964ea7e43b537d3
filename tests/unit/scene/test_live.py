"""Tracks that are made chunk by chunk."""

import numpy as np
import pytest

from dyncity_sim.scene.actors import find_tracks
from dyncity_sim.scene.live import LiveTracks


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


def test_a_chunk_s_tracks_lie_within_its_times(busy_street):
    live = LiveTracks()
    for chunk in chunks_of(busy_street):
        for track in live.add(chunk):
            assert track.times_us[0] >= chunk.times_us[0]
            assert track.times_us[-1] <= chunk.times_us[-1]


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
