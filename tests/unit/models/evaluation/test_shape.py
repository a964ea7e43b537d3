"""Kerbs, walls and footprints of known shape, painted at any yaw."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from dyncity_models.evaluation.shape import (
    building_rectangularity,
    kerb_straightness,
    smallest_rectangle_m2,
    wall_straightness,
)
from scipy import ndimage

from dyncity_sim.domain.frames import poses_from_planar
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import InvalidInputError

ROAD, SIDEWALK, BUILDING = (CARLASC.index(name) for name in ("road", "sidewalk", "building"))
FLOOR_M = 0.4 / np.sqrt(12)
"""What the staircase of a straight border leaves at most."""

X_M, Y_M = np.meshgrid(CARLASC_GRID.centres(0), CARLASC_GRID.centres(1), indexing="ij")


def turned(yaw_deg: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of all columns along and across a yaw, off the middle of a cell."""
    cos, sin = np.cos(np.deg2rad(yaw_deg)), np.sin(np.deg2rad(yaw_deg))
    return cos * X_M + sin * Y_M - 0.07, cos * Y_M - sin * X_M - 0.11


def painted(ground: np.ndarray, building: np.ndarray | None = None) -> OccupancySequence:
    """One frame with a class of ground in each column and buildings on it."""
    labels = np.zeros((1, *CARLASC_GRID.shape), dtype=np.uint8)
    labels[0, :, :, 0] = ground
    if building is not None:
        labels[0, building] = BUILDING
    return OccupancySequence(labels, poses_from_planar(np.zeros((1, 3))), np.array([0]), CARLASC_GRID, CARLASC)


def kerb(border_m: Callable[[np.ndarray], np.ndarray], yaw_deg: float = 0.0) -> OccupancySequence:
    """Road on one side of a border that is given as a function along the yaw, sidewalk on the other."""
    along, across = turned(yaw_deg)
    return painted(np.where(across < border_m(along), ROAD, SIDEWALK).astype(np.uint8))


def built(*buildings: np.ndarray) -> OccupancySequence:
    return painted(np.full(X_M.shape, SIDEWALK, np.uint8), np.logical_or.reduce(buildings))


def rectangle(size_m: tuple[float, float], yaw_deg: float, centre_m: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    along, across = turned(yaw_deg)
    return (abs(along - centre_m[0]) < size_m[0] / 2) & (abs(across - centre_m[1]) < size_m[1] / 2)


def test_a_kerb_along_the_grid_is_perfectly_straight():
    found = kerb_straightness(kerb(lambda along: 0 * along))
    assert found.residual_m == pytest.approx(0.0, abs=1e-9)
    assert found.sides == 128
    assert found.fitted_share > 0.9


@pytest.mark.parametrize("yaw_deg", [5, 17, 30, 45, 62, 80])
def test_the_staircase_of_a_slanted_kerb_is_not_taken_for_raggedness(yaw_deg):
    found = kerb_straightness(kerb(lambda along: 0 * along, yaw_deg))
    assert found.residual_m <= FLOOR_M
    assert found.fitted_share > 0.9


@pytest.mark.parametrize("yaw_deg", [0, 30])
def test_ragged_and_wavy_kerbs_are_clearly_worse_than_straight_ones(yaw_deg):
    rng = np.random.default_rng(2)
    noise_m = ndimage.gaussian_filter1d(rng.normal(size=400), 3.0)
    noise_m *= 0.6 / noise_m.std()
    ragged = kerb_straightness(
        kerb(lambda along: np.interp(along, np.linspace(-40, 40, 400), noise_m), yaw_deg=yaw_deg)
    )
    wavy = kerb_straightness(kerb(lambda along: 0.8 * np.sin(2 * np.pi * along / 7), yaw_deg))
    assert ragged.residual_m > 2 * FLOOR_M
    assert wavy.residual_m > 2 * FLOOR_M


def test_a_kerb_that_bends_has_the_residual_of_its_arc():
    radius_m = 15.0
    found = kerb_straightness(painted(np.where(np.hypot(*turned(0)) < radius_m, ROAD, SIDEWALK).astype(np.uint8)))
    arc_m = 0.3 * 6.0**2 / (8 * radius_m)
    assert found.residual_m == pytest.approx(np.hypot(arc_m, 0.1), abs=0.04)


def test_specks_of_road_lower_the_share_of_the_border_that_lines_fit():
    street = kerb(lambda along: 0 * along)
    labels = street.labels.copy()
    labels[0, 4::12, 80::12, 0] = ROAD
    found = kerb_straightness(replace(street, labels=labels))
    assert found.residual_m == pytest.approx(0.0, abs=1e-9)
    assert found.fitted_share < 0.5


def test_a_kerb_that_something_stands_on_is_not_measured_there():
    street = kerb(lambda along: 0 * along)
    labels = street.labels.copy()
    labels[0, :32, 60:68] = 0
    assert kerb_straightness(replace(street, labels=labels)).sides == 96


@pytest.mark.parametrize("measure", [kerb_straightness, wall_straightness, building_rectangularity])
def test_shapes_that_were_seen_in_part_are_refused(measure):
    street = built(rectangle((16, 12), 0))
    observed = np.ones(street.labels.shape, dtype=np.bool_)
    measure(replace(street, observed=observed))
    observed[0, :48, 64:] = False
    with pytest.raises(InvalidInputError, match=r"occupancy\.observed"):
        measure(replace(street, observed=observed))


def test_without_a_border_or_a_window_nothing_is_measured():
    nothing = kerb_straightness(painted(np.full(X_M.shape, ROAD, np.uint8)))
    assert nothing.sides == 0
    assert np.isnan([nothing.residual_m, nothing.fitted_share]).all()
    speck = kerb_straightness(painted(np.where(rectangle((2, 2), 0), ROAD, SIDEWALK).astype(np.uint8)))
    assert (speck.fitted_share, speck.sides) == (0.0, 20)
    assert np.isnan(speck.residual_m)


def test_only_the_middle_frame_is_looked_at(build_street):
    street = build_street(16, 5.0)
    labels = street.labels.copy()
    labels[:8] = labels[9:] = 0
    assert kerb_straightness(replace(street, labels=labels)) == kerb_straightness(street)
    assert kerb_straightness(street).residual_m == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("yaw_deg", [0, 30])
def test_walls_are_straight_and_melted_ones_are_not(yaw_deg):
    """One of the two buildings is cut by the border of the grid."""
    houses = rectangle((16, 12), yaw_deg) | rectangle((60, 12), yaw_deg, (0, 22))
    straight = wall_straightness(built(houses))
    noise = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=houses.shape), 2.5)
    rim = ndimage.gaussian_filter(houses.astype(float), 2.5)
    melted = wall_straightness(built(rim + 0.35 * noise / noise.std() > 0.5))
    assert straight.residual_m <= FLOOR_M
    assert melted.residual_m > 1.5 * FLOOR_M


def test_a_rectangle_fills_its_rectangle_at_any_yaw():
    assert building_rectangularity(built(rectangle((15, 10), 0))).filled_share == pytest.approx(1.0)
    for yaw_deg in (10, 30, 45, 77):
        found = building_rectangularity(built(rectangle((15, 10), yaw_deg)))
        assert 0.9 < found.filled_share <= 1.0
        assert found.area_m2 == pytest.approx(150, rel=0.03)


@pytest.mark.parametrize("yaw_deg", [0, 30])
def test_an_angle_and_a_blob_fill_less_of_theirs(yaw_deg):
    angle = rectangle((16, 12), yaw_deg) & ~rectangle((8, 6), yaw_deg, (4, 3))
    assert building_rectangularity(built(angle)).filled_share == pytest.approx(0.75, abs=0.06)
    blob = np.hypot(*turned(yaw_deg)) < 7 + np.sin(3 * np.arctan2(*turned(yaw_deg)))
    assert building_rectangularity(built(blob)).filled_share < 0.8


def test_holes_in_a_building_count_as_missing():
    holed = rectangle((16, 12), 0) & ~rectangle((8, 6), 0)
    assert building_rectangularity(built(holed)).filled_share == pytest.approx(0.75, abs=0.03)


def test_large_buildings_weigh_more_and_small_and_cut_ones_are_left_out():
    large, angle = rectangle((16, 12), 0, (-8, 0)), rectangle((8, 8), 0, (10, 0)) & ~rectangle((4, 4), 0, (12, 2))
    found = building_rectangularity(built(large, angle, rectangle((3, 3), 0, (0, 15)), rectangle((9, 9), 0, (0, -24))))
    assert found.buildings == 2
    assert found.filled_share == pytest.approx((192 * 1.0 + 48 * 0.75) / 240, abs=0.01)
    nothing = building_rectangularity(built(rectangle((3, 3), 0)))
    assert nothing.buildings == 0
    assert np.isnan(nothing.filled_share)


def test_the_smallest_rectangle_around_points_turns_with_them():
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.uniform(0, 1, (50, 2)), [[0, 0], [1, 0], [0, 1], [1, 1]]]) * [7.0, 3.0]
    for yaw_rad in (0.0, 0.4, 2.0):
        cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
        assert smallest_rectangle_m2(points @ np.array([[cos, sin], [-sin, cos]])) == pytest.approx(21.0)
