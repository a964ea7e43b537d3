"""Rectangles behind sets of cells."""

import numpy as np
import pytest

from dyncity_sim.scene.actors.footprint import sides, split_touching

CELL_M = 0.4


def cells_of_box(size_m, yaw_rad, offset_m):
    """Centres of the cells of a grid that lie in a box at the origin."""
    x, y = np.meshgrid(*[np.arange(-40, 40) * CELL_M + o for o in offset_m], indexing="ij")
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    inside = (np.abs(cos * x + sin * y) <= size_m[0] / 2) & (np.abs(-sin * x + cos * y) <= size_m[1] / 2)
    return np.stack([x[inside], y[inside]], axis=-1)


@pytest.mark.parametrize("yaw_deg", [0, 13, 45, 90])
@pytest.mark.parametrize("size_m", [(4.5, 1.8), (12.0, 2.5), (2.2, 0.9)])
def test_sides_are_unbiased_at_any_angle(yaw_deg, size_m):
    rng = np.random.default_rng(3)
    yaw_rad = np.deg2rad(yaw_deg)
    found = [sides(cells_of_box(size_m, yaw_rad, rng.uniform(0, CELL_M, 2)), yaw_rad, CELL_M) for _ in range(60)]
    np.testing.assert_allclose(np.mean(found, axis=0), size_m, atol=0.1)


@pytest.mark.parametrize("yaw_deg", [0, 20, 70])
def test_one_vehicle_is_never_split(yaw_deg):
    for size_m, height_m in (((4.8, 1.9), 1.5), ((12.0, 2.5), 2.6), ((7.8, 2.5), 2.6)):
        columns = cells_of_box(size_m, np.deg2rad(yaw_deg), (0.1, 0.3))
        assert len(split_touching(columns, height_m, CELL_M)) == 1


def test_two_abreast_and_three_in_a_row_are_split():
    abreast = cells_of_box((4.6, 4.4), 0.0, (0.1, 0.3))
    row = cells_of_box((14.6, 1.9), 0.3, (0.1, 0.3))
    for columns, count, size_m, yaw_rad in ((abreast, 2, (4.6, 2.2), 0.0), (row, 3, (14.6 / 3, 1.9), 0.3)):
        masks = split_touching(columns, 1.5, CELL_M)
        assert len(masks) == count
        assert (np.sum(masks, axis=0) == 1).all()
        for mask in masks:
            np.testing.assert_allclose(sides(columns[mask], yaw_rad, CELL_M), size_m, atol=0.45)
    assert (np.sum(masks, axis=0) == 1).all()
