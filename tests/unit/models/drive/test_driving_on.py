"""Streets of 32 frames whose second half a network drew; the ego drives at 4 m/s."""

import numpy as np
import pytest
from dyncity_models.data.clips import UNOBSERVED
from dyncity_models.drive.traffic import with_traffic

from dyncity_sim.domain.grid import CARLASC_GRID as GRID
from dyncity_sim.domain.taxonomy import CARLASC

VEHICLE = CARLASC.index("vehicle")
CHUNK_S = 1.6


@pytest.fixture
def driven(build_street, street_actor, forecast_halfway):
    """A function that says how far a vehicle of one speed comes in the second half, and how far the network had it."""

    def drive(speed_mps=6.0, then_mps=0.0, there=(), at=(8.0, -1.0, 0.0), farther_m=0.0):
        x_m, y_m, yaw_rad = at
        before, after = frozenset(range(16)), frozenset(range(16, 32))
        changed_m = 1.5 * (speed_mps - then_mps) + farther_m
        then_at = (x_m + changed_m * np.cos(yaw_rad), y_m + changed_m * np.sin(yaw_rad), yaw_rad)
        actors = [
            street_actor(*at, speed_mps, absent=after),
            street_actor(*then_at, then_mps, absent=before),
            *(street_actor(*place, absent=before) for place in there),
        ]
        street = build_street(32, 4.0, actors)
        nothing = np.full(GRID.shape, UNOBSERVED, dtype=np.uint8)
        found = with_traffic(street[16:], forecast_halfway(street), nothing, 0.0, np.random.default_rng(0))
        return tuple(_way_m(labels, street.poses_world_from_ego[16:, 0, 3]) for labels in (found, street.labels[16:]))

    return drive


def _way_m(labels, ego_x_m):
    """How far the middle of what vehicles cover comes along the street."""
    first_m, last_m = (_middle_m(labels, ego_x_m, frame) for frame in (0, 15))
    return last_m - first_m


def _middle_m(labels, ego_x_m, frame):
    columns = np.argwhere((labels[frame] == VEHICLE).any(axis=-1))
    return ego_x_m[frame] + GRID.centres(0)[columns[:, 0]].mean()


@pytest.fixture
def jumped(build_street, street_actor, forecast_halfway):
    """A function that says how far ahead of where it would be a vehicle begins and ends a chunk, in whose drawing it is
    some metres ahead."""

    def jump(speed_mps, ahead_m, y_m=-1.0):
        before, after = frozenset(range(16)), frozenset(range(16, 32))
        there = street_actor(12.0, y_m, 0.0, speed_mps, absent=after)
        drawn = street_actor(12.0 + ahead_m, y_m, 0.0, speed_mps, absent=before)
        street = build_street(32, 4.0, [there, drawn])
        nothing = np.full(GRID.shape, UNOBSERVED, dtype=np.uint8)
        found = with_traffic(street[16:], forecast_halfway(street), nothing, 0.0, np.random.default_rng(0))
        ego_x_m = street.poses_world_from_ego[16:, 0, 3]
        return [_middle_m(found, ego_x_m, n) - (12.0 + speed_mps * (16 + n) / 10) for n in (0, 15)]

    return jump


@pytest.mark.parametrize("ahead_m", [1.2, 2.0, -1.6])
def test_a_vehicle_begins_where_it_was_to_be_and_comes_to_where_it_is_drawn(jumped, ahead_m):
    first_m, last_m = jumped(7.0, ahead_m)
    assert first_m == pytest.approx(0.0, abs=0.4)
    assert last_m == pytest.approx(ahead_m, abs=0.4)


def test_a_vehicle_that_stands_stays_where_it_stood(jumped):
    assert jumped(0.0, 1.6, y_m=4.3) == pytest.approx([0.0, 0.0], abs=0.4)


def test_a_vehicle_that_a_network_stops_at_once_drives_on_as_fast_as_it_was(driven):
    for speed_mps in (3.0, 6.0, 9.0):
        found_m, drawn_m = driven(speed_mps)
        assert abs(drawn_m) < 0.5
        assert found_m == pytest.approx(1.5 * speed_mps, abs=0.8)


def test_a_vehicle_that_a_network_stops_where_it_was_to_come_by_drives_there(driven):
    found_m, _ = driven(6.0, farther_m=2.8)
    assert found_m == pytest.approx(9.0, abs=0.8)


def test_an_oncoming_vehicle_drives_on_too(driven):
    found_m, _ = driven(5.0, at=(26.0, 3.0, np.pi))
    assert found_m == pytest.approx(-7.5, abs=0.8)


def test_a_vehicle_that_slows_down_as_vehicles_do_is_the_networks(driven):
    found_m, drawn_m = driven(6.0, 3.6)
    assert found_m == pytest.approx(drawn_m, abs=0.4)
    assert drawn_m < 6.0


def test_a_vehicle_that_stood_stands(driven):
    found_m, drawn_m = driven(0.0, at=(16.0, 4.3, 0.0))
    assert found_m == pytest.approx(drawn_m, abs=0.2)


def test_a_vehicle_does_not_drive_on_through_one_that_a_network_put_in_its_way(driven):
    found_m, drawn_m = driven(6.0, there=[(23.0, -1.0)])
    assert found_m == pytest.approx(drawn_m, abs=0.3)
