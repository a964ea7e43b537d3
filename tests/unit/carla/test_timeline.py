"""Tracks at any time: while a drive is made chunk by chunk, and when it is played."""

import numpy as np
import pytest
from dyncity_carla.timeline import Timeline

from dyncity_sim.scene.actors.live import LiveTracks

CHUNK = 16


@pytest.fixture
def gappy_street(build_street, street_actor):
    """Three chunks; actors are out of sight inside a chunk, at the end of one, and at the beginning of one."""
    return build_street(
        frames=3 * CHUNK,
        ego_speed_mps=5.0,
        actors=[
            street_actor(8.0, 3.0, np.pi, 4.0),
            street_actor(12.0, -2.0, 0.0, 6.0, absent=frozenset({5, 6})),
            street_actor(-6.0, -2.0, 0.0, 5.0, absent=frozenset({14, 15})),
            street_actor(6.0, 7.0, 0.0, 5.0, absent=frozenset({32, 33})),
        ],
    )


@pytest.mark.parametrize("step_us", [100_000, 50_000])
def test_playing_a_drive_s_tracks_shows_what_was_shown_while_it_was_driven(gappy_street, step_us):
    live = LiveTracks()
    shown = {}
    for first in range(0, len(gappy_street), CHUNK):
        chunk = gappy_street[first : first + CHUNK]
        timeline = Timeline(live.add(chunk))
        begin_us = int(chunk.times_us[0]) - (100_000 - step_us if first else 0)
        for time_us in range(begin_us, int(chunk.times_us[-1]) + 1, step_us):
            shown[time_us] = {track.id: pose for track, pose in timeline.at(time_us)}
    played = Timeline(live.tracks)
    for time_us, figures in shown.items():
        again = {track.id: pose for track, pose in played.at(time_us)}
        assert again.keys() == figures.keys()
        for number, pose in figures.items():
            np.testing.assert_array_equal(again[number], pose)
    assert len(shown) == len(range(int(gappy_street.times_us[0]), int(gappy_street.times_us[-1]) + 1, step_us))


def test_an_actor_in_sight_on_both_sides_of_a_border_is_shown_on_its_way_over_it(gappy_street):
    live = LiveTracks()
    before = live.add(gappy_street[:CHUNK])
    timeline = Timeline(live.add(gappy_street[CHUNK : 2 * CHUNK]))
    border_us = int(gappy_street.times_us[CHUNK]) - 50_000
    in_sight = {track.id for track in before if track.times_us[-1] == gappy_street.times_us[CHUNK - 1]}
    assert {track.id for track, _ in timeline.at(border_us)} == in_sight
    assert len(in_sight) == 3
