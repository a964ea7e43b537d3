from dataclasses import replace

import numpy as np
import pytest
from dyncity_models.drive.classes import FREE, PEDESTRIAN, VEHICLE
from dyncity_models.drive.persistence import with_road_users_going_on
from dyncity_models.drive.region import seconds_since
from scipy.ndimage import maximum_filter

from dyncity_sim.domain.frames import planar_from_poses
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.taxonomy import CARLASC

GRID = CARLASC_GRID
BUILDING = CARLASC.index("building")


@pytest.fixture
def street(build_street, street_actor):
    """Two chunks: a car that is parked at the kerb, and one that drives ahead of the ego."""
    return build_street(32, 4.0, [street_actor(16.0, 4.3), street_actor(8.0, -1.0, 0.0, 6.0)])


@pytest.fixture
def put_back(forecast_halfway):
    """What becomes of other labels in place of a street's second chunk."""

    def put(street, labels):
        planar, coming = planar_from_poses(street.poses_world_from_ego[16:]), forecast_halfway(street)
        return with_road_users_going_on(labels, coming, planar, seconds_since(street.times_us[16:], coming.frame))

    return put


def without(labels, cells):
    return np.where(cells, FREE, labels).astype(np.uint8)


def near(cells):
    return maximum_filter(cells, (1, 3, 3, 1))


def overlap(labels, true, frame):
    shown, expected = labels[frame] == VEHICLE, true[frame] == VEHICLE
    return (shown & expected).sum() / (shown | expected).sum()


def test_vehicles_that_a_chunk_has_lost_are_where_they_were_going(street, put_back):
    true = street.labels[16:]
    found = put_back(street, without(true, true == VEHICLE))
    assert all(overlap(found, true, frame) > 0.5 for frame in range(16))
    assert np.array_equal(found == VEHICLE, found != without(true, true == VEHICLE))


def test_a_chunk_that_shows_them_stays_as_it_is_wherever_they_go_then(street, put_back):
    true = street.labels[16:]
    stays = np.concatenate([true[:1], without(true[1:], true[1:] == VEHICLE)])
    for labels in (true, stays):
        assert np.array_equal(put_back(street, labels), labels)


def test_what_is_left_of_a_lost_vehicle_goes_and_its_neighbour_stays(street, put_back):
    true = street.labels[16:]
    parked = (true == VEHICLE) & (GRID.centres(1) > 2.0)[:, None]
    low = np.arange(GRID.shape[2]) < 3
    splinters = without(true, parked & ~low)
    assert 0 < (splinters[0] == VEHICLE).sum() < (true[0] == VEHICLE).sum()
    found = put_back(street, splinters)
    assert overlap(found, true, 0) > 0.7
    driving = (true == VEHICLE) & ~parked
    assert (found[driving] == VEHICLE).all()


def test_a_lost_vehicle_is_not_the_one_that_stands_beside_its_place(build_street, street_actor, street, put_back):
    true, driving = street.labels[16:], street_actor(8.0, -1.0, 0.0, 6.0)
    another = build_street(32, 4.0, [street_actor(16.0, 2.3), driving]).labels[16:]
    found = put_back(street, another)
    assert (found[(true == VEHICLE) | (another == VEHICLE)] == VEHICLE).mean() > 0.98
    assert (found[another == VEHICLE] == VEHICLE).all()


def test_a_lost_vehicle_takes_no_room_from_what_stands_there_now(street, put_back):
    true = street.labels[16:]
    built = np.where(true == VEHICLE, BUILDING, true).astype(np.uint8)
    assert (put_back(street, built)[true == VEHICLE] == BUILDING).all()


def test_a_lost_vehicle_that_the_ego_would_drive_through_makes_way(build_street, street_actor, put_back):
    street = build_street(32, 6.0, [street_actor(18.0, 0.0)])
    labels = street.labels[16:]
    gone = without(labels, labels == VEHICLE)
    assert np.array_equal(put_back(street, gone), gone)


def test_pedestrians_who_were_lost_walk_on_and_are_no_vehicles(build_street, street_actor, put_back):
    walkers = [
        street_actor(x_m, y_m, yaw_rad, speed_mps, size_m=(0.8, 0.8, 1.7), label=PEDESTRIAN)
        for x_m, y_m, yaw_rad, speed_mps in ((12.0, 6.5, 0.0, 1.5), (9.0, -6.5, 0.0, 0.0))
    ]
    street = build_street(32, 4.0, walkers)
    true = street.labels[16:]
    found = put_back(street, without(true, true == PEDESTRIAN))
    assert np.array_equal(found == PEDESTRIAN, found != without(true, true == PEDESTRIAN))
    for frame in range(0, 16, 5):
        missing = (true[frame] == PEDESTRIAN) & ~near(found == PEDESTRIAN)[frame]
        assert not missing.any()


def test_pedestrians_who_walk_are_not_where_a_chunk_shows_them_standing(build_street, street_actor, put_back):
    walker = street_actor(12.0, 6.5, 0.0, 1.5, size_m=(0.8, 0.8, 1.7), label=PEDESTRIAN)
    street = build_street(32, 4.0, [walker])
    true = street.labels[16:]
    stands = replace(walker, x_m=12.0 + 1.5 * 1.6, speed_mps=0.0)
    found = put_back(street, build_street(32, 4.0, [stands]).labels[16:])
    assert (found == PEDESTRIAN).any(axis=(1, 2, 3)).all()
    for frame in range(0, 16, 5):
        assert not ((found == PEDESTRIAN)[frame] & ~near(true == PEDESTRIAN)[frame]).any()


def test_pedestrians_who_stand_stay_as_a_chunk_shows_them(build_street, street_actor, put_back):
    street = build_street(32, 4.0, [street_actor(9.0, -6.5, size_m=(0.8, 0.8, 1.7), label=PEDESTRIAN)])
    assert np.array_equal(put_back(street, street.labels[16:]), street.labels[16:])


def test_without_vehicles_before_nothing_changes(build_street, put_back):
    street = build_street(32, 6.0)
    assert np.array_equal(put_back(street, street.labels[16:]), street.labels[16:])
