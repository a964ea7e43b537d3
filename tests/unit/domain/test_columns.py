"""Columns with any of some cells."""

import numpy as np
import pytest

from dyncity_sim.domain.grid import columns_of


@pytest.mark.parametrize("shape", [(3, 5, 8), (2, 3, 5, 8), (3, 5, 9), (4, 2, 1), (0, 5, 8)])
def test_a_column_is_one_where_any_of_its_cells_is(shape):
    cells = np.random.default_rng(0).random(shape) < 0.1
    assert np.array_equal(columns_of(cells), cells.any(axis=-1))


@pytest.mark.parametrize(
    "seen", [np.s_[:, ::2], np.s_[1:, :, 8:], np.s_[..., ::2], np.s_[..., 3:11], np.s_[2]], ids=str
)
def test_parts_of_a_larger_map_are_seen_as_they_are(seen):
    cells = (np.random.default_rng(1).random((4, 6, 16)) < 0.1)[seen]
    assert np.array_equal(columns_of(cells), cells.any(axis=-1))


def test_what_it_gives_is_not_what_it_was_given():
    cells = np.ones((2, 2, 3), dtype=np.bool_)
    columns_of(cells)[:] = False
    assert cells.all()
