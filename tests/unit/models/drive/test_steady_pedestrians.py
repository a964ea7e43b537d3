"""Pedestrians of a chunk are there in all frames that they are in view in, or in none."""

from dataclasses import replace

import numpy as np
import pytest
from dyncity_models.drive.bodies import Course
from dyncity_models.drive.classes import FREE, PEDESTRIAN
from dyncity_models.drive.steady_pedestrians import steady_pedestrians, with_pedestrians

from dyncity_sim.domain.grid import CARLASC_GRID as GRID
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.scene.actors.find import find_tracks

BUILDING, POLE = CARLASC.index("building"), CARLASC.index("pole")
STANDS, WALKS = (6.0, -6.5, 0.0, 0.0), (3.0, 6.5, 0.0, 1.4)
BODY_M = (0.9, 0.9, 1.75)


@pytest.fixture
def build_walk(build_street, street_actor):
    """A function that builds a street with somebody in it who is not drawn in some frames."""

    def build(at, absent=(), ego_mps=4.0):
        return build_street(16, ego_mps, [street_actor(*at, BODY_M, PEDESTRIAN, absent=frozenset(absent))])

    return build


def steady(chunk, walkers=None):
    if walkers is None:
        walkers = [track for track in find_tracks(chunk) if track.kind is ActorKind.PEDESTRIAN]
    return with_pedestrians(*steady_pedestrians(chunk, [Course.of(walker, chunk) for walker in walkers]), chunk)


def overlap(labels, true):
    """Of columns, a cell wider, for a body of two cells that is moved by half a cell covers other ones."""
    shown, expected = ((frame == PEDESTRIAN).any(axis=-1) for frame in (labels, true))
    near = np.argwhere(expected)
    return np.mean([np.abs(near - column).max(axis=1).min() <= 1 for column in np.argwhere(shown)])


@pytest.mark.parametrize("at", [STANDS, WALKS])
def test_pedestrians_who_are_seen_in_every_frame_and_all_else_stay_as_they_are(build_walk, at):
    street = build_walk(at)
    assert np.array_equal(steady(street), street.labels)


@pytest.mark.parametrize("at", [STANDS, WALKS])
@pytest.mark.parametrize("absent", [{4, 5, 6}, {1, 3, 5, 7, 9, 11}, {12, 13, 14, 15}, {0, 1, 2, 3, 4}])
def test_who_flickers_is_there_in_all_frames_where_it_would_be(build_walk, at, absent):
    true, found = build_walk(at).labels, steady(build_walk(at, absent))
    for frame in absent:
        assert (found[frame] == PEDESTRIAN).sum() >= 0.5 * (true[frame] == PEDESTRIAN).sum()
        assert overlap(found[frame], true[frame]) == 1
    others = found != PEDESTRIAN
    assert np.array_equal(found[others], np.where(true == PEDESTRIAN, FREE, true)[others])


@pytest.mark.parametrize(("seen", "stays"), [(1, False), (2, False), (3, False), (4, False), (5, True), (16, True)])
def test_who_is_seen_in_hardly_any_frame_is_in_none(build_walk, seen, stays):
    found = steady(build_walk(STANDS, range(seen, 16)))
    assert (found == PEDESTRIAN).any(axis=(1, 2, 3)).all() == stays
    assert (found == PEDESTRIAN).any() == stays


@pytest.mark.parametrize("away_m", [(0.7, -0.7), (-0.6, 0.9), (1.1, -0.3), (0.4, 1.0)])
def test_noise_beside_somebody_goes_without_a_cell_of_theirs(build_street, street_actor, away_m):
    real = street_actor(6.3, -6.5, 0.0, 0.0, BODY_M, PEDESTRIAN)
    beside = (6.3 + away_m[0], -6.5 + away_m[1], 0.0, 0.0)
    noise = street_actor(*beside, (0.6, 0.6, 1.75), PEDESTRIAN, absent=frozenset(range(16)) - {5, 6, 7, 8})
    alone, together = build_street(16, 0.0, [real]), build_street(16, 0.0, [real, noise])
    assert len(find_tracks(together)) == 2
    assert np.array_equal(steady(together), alone.labels)


def test_who_leaves_the_view_is_not_noise(build_walk):
    street = build_walk((-24.0, -6.5, 0.0, 0.0), ego_mps=8.0)
    assert 2 < (street.labels == PEDESTRIAN).any(axis=(1, 2, 3)).sum() < 5
    assert np.array_equal(steady(street), street.labels)


def test_nobody_walks_into_a_wall_or_into_the_ego(build_walk):
    street = build_walk(WALKS, range(8, 16))
    wall = street.labels.copy()
    for frame in range(16):
        x = GRID.centres(0) + street.poses_world_from_ego[frame, 0, 3]
        wall[frame, x > 4.8, :, 1:] = BUILDING
    found = steady(replace(street, labels=wall))
    assert not (found[-1] == PEDESTRIAN).any()
    towards = build_walk((5.0, 0.0, np.pi, 1.4), range(6, 16), ego_mps=0.0)
    ahead = np.argwhere(steady(towards) == PEDESTRIAN)[:, 1]
    assert GRID.centres(0)[ahead].min() > 2.7


def test_of_sightings_without_cells_nobody_is_drawn_and_cells_without_sightings_go(build_walk):
    street = build_walk(STANDS)
    (track,) = find_tracks(street)
    elsewhere = track.poses_world_from_actor.copy()
    elsewhere[:, 1, 3] += 9.0
    found = steady(street, [replace(track, poses_world_from_actor=elsewhere)])
    assert np.array_equal(found, np.where(street.labels == PEDESTRIAN, FREE, street.labels))


def test_riders_are_their_vehicles(build_street, street_actor):
    rider = street_actor(8.0, -2.0, 0.0, 5.0, (1.8, 0.8, 1.8), rider_label=PEDESTRIAN)
    street = build_street(16, 4.0, [rider])
    assert np.array_equal(steady(street), street.labels)
