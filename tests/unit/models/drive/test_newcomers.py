"""Streets of 32 frames, in whose second half a network draws one more; the ego drives at 4 m/s."""

from functools import partial

import numpy as np
import pytest
from dyncity_models.data.clips import UNOBSERVED
from dyncity_models.drive.classes import FREE, PEDESTRIAN, VEHICLE
from dyncity_models.drive.traffic import with_traffic

from dyncity_sim.domain.grid import CARLASC_GRID as GRID

BODY_M = (0.9, 0.9, 1.75)
CAR_M = (4.5, 1.8, 1.5)
KNOWN = np.full(GRID.shape, FREE, dtype=np.uint8)
BEFORE, AFTER = frozenset(range(16)), frozenset(range(16, 32))


@pytest.fixture
def remains(build_street, street_actor, forecast_halfway):
    """A function that says whether somebody who is drawn in the second half of a street is still there then."""

    def draw(at, known=KNOWN, there_before=(), body_m=BODY_M, label=PEDESTRIAN):
        others = [street_actor(*other, body_m, label, absent=AFTER) for other in there_before]
        street = build_street(32, 4.0, [*others, street_actor(*at, body_m, label, absent=BEFORE)])
        assert (street.labels[16:] == label).any(axis=(1, 2, 3)).sum() > 8
        found = with_traffic(street[16:], forecast_halfway(street), known, 0.0, np.random.default_rng(0))
        return ((found == label) & (street.labels[16:] == label)).any()

    return draw


@pytest.fixture
def car_remains(remains):
    """The same of a car."""
    return partial(remains, body_m=CAR_M, label=VEHICLE)


PLACE = (14.0, -6.5, 0.0, 0.0)
ROADSIDE = (18.0, 4.3, 0.0, 0.0)


def test_nobody_stands_where_a_drive_has_just_seen_nobody(remains):
    assert not remains(PLACE)


def test_who_was_there_or_close_by_is_the_same(remains):
    assert remains(PLACE, there_before=[PLACE])
    assert remains(PLACE, there_before=[(13.0, -6.9, 0.0, 0.0)])
    assert not remains(PLACE, there_before=[(9.0, -6.5, 0.0, 0.0)])


def test_where_a_drive_knows_nothing_there_may_be_somebody(remains):
    assert remains(PLACE, known=np.full(GRID.shape, UNOBSERVED, dtype=np.uint8))


@pytest.mark.parametrize("at", [(31.4, -6.5, 0.0, 0.0), (34.2, -6.5, np.pi, 1.4)])
def test_who_comes_into_view_was_out_of_it(remains, at):
    assert remains(at)


def test_no_car_stands_where_a_drive_has_just_seen_none(car_remains):
    assert not car_remains(ROADSIDE)
    assert not car_remains(ROADSIDE, there_before=[(10.0, 4.3, 0.0, 0.0)])


def test_a_car_that_was_there_or_close_by_is_the_same(car_remains):
    assert car_remains(ROADSIDE, there_before=[ROADSIDE])
    assert car_remains(ROADSIDE, there_before=[(15.5, 4.3, 0.0, 0.0)])


def test_where_a_drive_knows_nothing_there_may_be_a_car(car_remains):
    assert car_remains(ROADSIDE, known=np.full(GRID.shape, UNOBSERVED, dtype=np.uint8))


@pytest.mark.parametrize("at", [(30.0, 4.3, 0.0, 0.0), (48.0, 2.0, np.pi, 10.0)])
def test_a_car_that_comes_into_view_was_out_of_it(car_remains, at):
    assert car_remains(at)
