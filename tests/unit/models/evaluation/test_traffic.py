"""Road users of the synthetic street that are on their way or at rest."""

from dataclasses import replace

import numpy as np
import pytest
from dyncity_models.evaluation.intervals import intervals_of
from dyncity_models.evaluation.traffic import traffic_motion

from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import InvalidInputError


@pytest.fixture
def car(street_actor):
    """A function that places a car."""
    return lambda x_m, y_m, speed_mps=0.0, absent=(): street_actor(
        x_m, y_m, 0.0, speed_mps, (4.4, 2.0, 1.5), absent=frozenset(absent)
    )


@pytest.fixture
def walker(street_actor):
    """A function that places somebody on a sidewalk."""
    return lambda x_m, speed_mps: street_actor(x_m, -6.6, 0.0, speed_mps, (0.6, 0.6, 1.8), CARLASC.index("pedestrian"))


def test_those_on_their_way_are_told_from_those_at_rest(build_street, car, walker):
    cars = [car(-20.0, -2.1, 8.0), car(6.0, -2.1, 4.0), car(-12.0, 3.1), car(14.0, 3.1)]
    found = traffic_motion(build_street(16, 5.0, [*cars, walker(4.0, 1.4), walker(-9.0, 0.0), walker(12.0, 0.0)]))
    assert (found.vehicles, found.driving_share) == (4, 0.5)
    assert found.driving_mps == pytest.approx(6.0, abs=0.3)
    assert (found.pedestrians, found.walking_share) == (3, pytest.approx(1 / 3))


def test_who_is_there_for_half_a_second_is_not_counted(build_street, car):
    found = traffic_motion(build_street(16, 0.0, [car(-6.0, -2.1, 4.0, absent=range(6, 16))]))
    assert found.vehicles == 0
    assert np.isnan(found.driving_share)


def test_a_speed_is_that_from_the_first_sighting_to_the_last(build_street, car):
    found = traffic_motion(build_street(16, 5.0, [car(-16.0, -2.1, 8.0, absent=range(4))]))
    assert found.driving_mps == pytest.approx(8.0, abs=0.3)


def test_where_all_vehicles_stand_none_has_a_speed(build_street, car):
    found = traffic_motion(build_street(16, 0.0, [car(-12.0, 3.1)]))
    assert found.driving_share == 0.0
    assert np.isnan([found.driving_mps, found.walking_share]).all()


def test_shares_and_speeds_of_several_chunks_are_of_all_their_road_users(build_street, car, walker):
    """One of one drives, and one of three: two of four. Of the walkers, one of three walks."""
    lone = build_street(16, 5.0, [car(-20.0, -2.1, 8.0), walker(4.0, 1.4)])
    crowded = build_street(
        16, 5.0, [car(6.0, -2.1, 4.0), car(-12.0, 3.1), car(14.0, 3.1), walker(-9.0, 0.0), walker(12.0, 0.0)]
    )
    quiet = build_street(16, 5.0)
    found = intervals_of([traffic_motion(street) for street in (lone, crowded, quiet)], np.random.default_rng(0))
    assert (found["driving_share"].mean, found["driving_share"].missing) == (0.5, 1)
    assert found["driving_mps"].mean == pytest.approx(6.0, abs=0.3)
    assert found["walking_share"].mean == pytest.approx(1 / 3)
    assert found["vehicles"].mean == pytest.approx(4 / 3)


def test_traffic_that_was_seen_in_part_is_refused(build_street, car):
    street = build_street(16, 0.0, [car(-12.0, 3.1)])
    with pytest.raises(InvalidInputError, match=r"occupancy\.observed"):
        traffic_motion(replace(street, observed=street.labels > 0))
