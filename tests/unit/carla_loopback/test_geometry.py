import numpy as np
import pytest
from dyncity_carla.loopback.geometry import attached, matrix_from_row, overlapping, row_from_matrix, wrapped
from hypothesis import given
from hypothesis import strategies as st

ANGLE = st.floats(-179.0, 179.0)
ROW = st.tuples(*[st.floats(-500, 500)] * 3, st.floats(-88, 88), ANGLE, ANGLE).map(np.array)
EXTENT = st.tuples(*[st.floats(0.1, 10)] * 3).map(np.array)


@given(ROW)
def test_a_row_comes_back_from_its_matrix(row: np.ndarray):
    back = row_from_matrix(matrix_from_row(row))
    assert np.allclose(back[:3], row[:3], atol=1e-9)
    assert np.abs(wrapped(back[3:] - row[3:])).max() < 1e-6


@given(ROW)
def test_the_matrix_is_the_client_librarys(row: np.ndarray):
    carla = pytest.importorskip("carla")
    x, y, z, pitch, yaw, roll = row.tolist()
    transform = carla.Transform(carla.Location(x, y, z), carla.Rotation(pitch, yaw, roll))
    assert np.allclose(matrix_from_row(row), np.array(transform.get_matrix()), atol=1e-3)


@pytest.mark.parametrize("pitch", [90.0, -90.0])
def test_a_row_that_looks_straight_up_or_down_keeps_its_matrix(pitch: float):
    matrix = matrix_from_row(np.array([1.0, 2.0, 3.0, pitch, 30.0, 0.0]))
    assert np.allclose(matrix_from_row(row_from_matrix(matrix)), matrix, atol=1e-9)


def test_what_is_attached_ahead_of_a_parent_that_faces_right_stands_to_the_right():
    placed = attached(np.array([10.0, 20.0, 0.0, 0.0, 90.0, 0.0]), np.array([5.0, 0.0, 1.5, 0.0, 10.0, 0.0]))
    assert placed == pytest.approx([10.0, 25.0, 1.5, 0.0, 100.0, 0.0], abs=1e-9)


@given(st.floats(-6, 6), st.floats(-6, 6), st.floats(-3, 3), ANGLE, ANGLE, EXTENT, EXTENT)
def test_overlap_is_mutual_and_certain_where_a_point_lies_in_both(
    x: float, y: float, z: float, yaw: float, other_yaw: float, extent: np.ndarray, other_extent: np.ndarray
):
    here, there = np.zeros(3), np.array([x, y, z])
    forth = overlapping(here, yaw, extent, there[None], np.array([other_yaw]), other_extent[None])[0]
    back = overlapping(there, other_yaw, other_extent, here[None], np.array([yaw]), extent[None])[0]
    assert forth == back
    points = np.random.default_rng(0).uniform(-1, 1, (200, 3)) * extent
    in_world = points @ matrix_from_row(np.array([0, 0, 0, 0, yaw, 0.0]))[:3, :3].T
    in_other = (in_world - there) @ matrix_from_row(np.array([0, 0, 0, 0, other_yaw, 0.0]))[:3, :3]
    if (np.abs(in_other) < other_extent - 1e-9).all(axis=1).any():
        assert forth
    if np.hypot(x, y) > np.hypot(*extent[:2]) + np.hypot(*other_extent[:2]):
        assert not forth


def test_boxes_that_only_touch_do_not_overlap():
    extent = np.array([1.0, 1.0, 1.0])
    places = np.array([[2.0, 0.0, 0.0], [1.999, 0.0, 0.0], [0.0, 0.0, 2.0], [0.0, 0.0, 1.999]])
    flags = overlapping(np.zeros(3), 0.0, extent, places, np.zeros(4), np.tile(extent, (4, 1)))
    assert flags.tolist() == [False, True, False, True]
