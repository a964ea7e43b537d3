"""Lines in the road plane."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyncity_sim.scene.road.lines import smoothed

COORDINATE = st.floats(-100.0, 100.0)


@given(st.lists(st.tuples(COORDINATE, COORDINATE), min_size=26, max_size=40), st.floats(0.5, 6.0))
def test_both_ends_stay_where_they_are(points: list[tuple[float, float]], deviation: float) -> None:
    line = np.array(points)
    np.testing.assert_allclose(smoothed(line, deviation)[[0, -1]], line[[0, -1]], atol=1e-9)


@pytest.mark.parametrize("deviation", [1.0, 3.0, 6.0])
def test_a_straight_line_of_equal_steps_stays_as_it_is(deviation: float) -> None:
    line = np.stack([0.5 * np.arange(40), 3.0 - 0.25 * np.arange(40)], axis=-1)
    np.testing.assert_allclose(smoothed(line, deviation), line, atol=1e-9)
