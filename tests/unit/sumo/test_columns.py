import numpy as np
import pytest
from dyncity_sumo.columns import CELL_M, StaticColumns, empty_columns

from dyncity_sim.errors import InvalidInputError


def test_empty_columns_cover_the_rectangle_asked_for():
    columns = empty_columns(np.array([-10.3, 4.2]), np.array([9.7, 30.1]))
    upper_m = columns.origin_m + np.array(columns.shape) * CELL_M
    assert (columns.origin_m <= [-10.3, 4.2]).all()
    assert (upper_m >= [9.7, 30.1]).all()
    assert not columns.ground_class.any()


def test_rasters_of_the_same_place_share_their_cell_borders():
    first = empty_columns(np.array([0.31, 0.77]), np.array([20.0, 20.0]))
    second = empty_columns(np.array([3.9, 5.05]), np.array([20.0, 20.0]))
    shift_cells = (second.origin_m - first.origin_m) / CELL_M
    np.testing.assert_allclose(shift_cells, np.round(shift_cells), atol=1e-9)


def test_the_index_of_a_point_is_the_column_that_holds_it():
    columns = empty_columns(np.array([-5.0, 10.0]), np.array([5.0, 20.0]))
    points_m = np.array([[-5.0, 10.0], [-4.81, 10.19], [-4.79, 10.21], [-5.01, 12.0]])
    np.testing.assert_array_equal(columns.index_of(points_m), [[0, 0], [0, 0], [1, 1], [-1, 10]])


def test_a_rectangle_without_an_area_is_refused():
    with pytest.raises(InvalidInputError, match="a rectangle with an area"):
        empty_columns(np.array([3.0, 3.0]), np.array([3.0, 9.0]))


def test_arrays_that_do_not_fit_each_other_are_refused():
    good = empty_columns(np.zeros(2), np.ones(2))
    with pytest.raises(InvalidInputError, match="span_lo_dm"):
        StaticColumns(
            good.origin_m, good.ground_class, good.ground_cm, good.span_class, good.span_lo_dm[:3], good.span_hi_dm
        )
