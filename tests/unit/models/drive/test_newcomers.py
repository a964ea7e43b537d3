"""Streets of 32 frames, in whose second half a network draws somebody; the ego drives at 4 m/s."""

import numpy as np
import pytest
from dyncity_models.data.clips import UNOBSERVED
from dyncity_models.drive.classes import FREE, PEDESTRIAN
from dyncity_models.drive.traffic import with_traffic

from dyncity_sim.domain.grid import CARLASC_GRID as GRID

BODY_M = (0.9, 0.9, 1.75)
KNOWN = np.full(GRID.shape, FREE, dtype=np.uint8)
BEFORE, AFTER = frozenset(range(16)), frozenset(range(16, 32))


@pytest.fixture
def remains(build_street, street_actor, forecast_halfway):
    """A function that says whether somebody who is drawn in the second half of a street is still there then."""

    def draw(at, known=KNOWN, there_before=()):
        others = [street_actor(*other, BODY_M, PEDESTRIAN, absent=AFTER) for other in there_before]
        street = build_street(32, 4.0, [*others, street_actor(*at, BODY_M, PEDESTRIAN, absent=BEFORE)])
        assert (street.labels[16:] == PEDESTRIAN).any(axis=(1, 2, 3)).sum() > 8
        found = with_traffic(street[16:], forecast_halfway(street), known, 0.0, np.random.default_rng(0))
        return ((found == PEDESTRIAN) & (street.labels[16:] == PEDESTRIAN)).any()

    return draw


PLACE = (14.0, -6.5, 0.0, 0.0)


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
