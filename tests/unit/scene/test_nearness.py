import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from dyncity_sim.scene.actors.nearness import gaps_m, shares_within

NEAR_M = 0.9


@st.composite
def footprints(draw):
    """Up to five sets of up to eight points each, in a square of 3 m."""
    coordinate = st.floats(0.0, 3.0, width=32)
    some = st.lists(st.lists(st.tuples(coordinate, coordinate), min_size=1, max_size=8), max_size=5)
    return [np.array(points, dtype=np.float64) for points in draw(some)]


@given(footprints(), footprints())
@settings(max_examples=200)
def test_shares_are_those_of_looking_at_every_pair_of_columns(parts, wholes):
    found = shares_within(parts, wholes, NEAR_M)
    expected = [[(cdist(part, whole).min(axis=1) < NEAR_M).mean() for whole in wholes] for part in parts]
    assert found == pytest.approx(np.array(expected).reshape(len(parts), len(wholes)))


@given(footprints(), footprints())
@settings(max_examples=200)
def test_gaps_are_the_least_distances_of_pairs_that_come_near_nearest_first(parts, wholes):
    every = [(cdist(p, w).min(), i, j) for i, p in enumerate(parts) for j, w in enumerate(wholes)]
    expected = sorted(gap for gap in every if gap[0] <= NEAR_M)
    found = gaps_m(parts, wholes, NEAR_M)
    assert [gap[0] for gap in found] == pytest.approx([gap[0] for gap in expected])
    assert {gap[1:] for gap in found} == {gap[1:] for gap in expected}
    assert found == sorted(found)


def test_a_column_between_two_of_one_whole_counts_once():
    part, whole = np.array([[0.0, 0.0], [5.0, 0.0]]), np.array([[-0.1, 0.0], [0.1, 0.0]])
    assert shares_within([part], [whole], 0.4).tolist() == [[0.5]]


def test_a_column_exactly_as_far_away_as_asked_is_a_neighbour_but_does_not_lie_within():
    part, whole = np.array([[0.0, 0.0]]), np.array([[0.5, 0.0]])
    assert gaps_m([part], [whole], 0.5) == [(0.5, 0, 0)]
    assert shares_within([part], [whole], 0.5).tolist() == [[0.0]]
