"""Claims about excursions: bounded, smooth, back where they began, and known to be clear before they are taken."""

import numpy as np
import pytest
import shapely
from dyncity_sumo.actors import KIND_CODES, ActorTable
from dyncity_sumo.city.canvas import POLE, ROAD, SIDEWALK
from dyncity_sumo.clearance import meets_others, share_on_road
from dyncity_sumo.columns import StaticColumns, empty_columns
from dyncity_sumo.ego import Motion
from dyncity_sumo.excursions import (
    CORNER_M,
    LATERAL_MPS2,
    STEEPEST,
    corner_ahead,
    displaced,
    drawn_excursion,
    excursion,
)
from dyncity_sumo.routes import SPACING_M, GuideLine, guide_line
from hypothesis import given
from hypothesis import strategies as st

from dyncity_sim.domain.recording import ActorKind

CAR_M = (4.5, 1.8, 1.5)

offsets = st.floats(0.3, 3.5).flatmap(lambda offset_m: st.sampled_from([offset_m, -offset_m]))


def line_with_corner(left: bool = True) -> GuideLine:
    """60 m east, a corner of 9 m radius, 60 m north or south."""
    angles = np.linspace(-np.pi / 2, 0, 13)
    turn = np.stack([60 + 9 * np.cos(angles), 9 + 9 * np.sin(angles)], axis=1)
    points = np.concatenate([[[0.0, 0.0]], turn, [[69.0, 69.0]]]) * [1, 1 if left else -1]
    return guide_line(np.column_stack([points, np.zeros(len(points))]), np.full(len(points), 13.9))


def motion(x_m: float, y_m: float, yaw_rad: float = 0.0) -> Motion:
    return Motion(x_m, y_m, yaw_rad, 5.0, 0.0, 0.0)


def cars(rows: list[tuple[float, float, float, float]]) -> ActorTable:
    """Cars by x, y, yaw and speed."""
    planar = np.array(rows).reshape(-1, 4)
    count = len(planar)
    return ActorTable(
        np.arange(1, count + 1, dtype=np.uint16),
        np.full(count, KIND_CODES[ActorKind.CAR], np.uint8),
        np.column_stack([planar[:, :2], np.full(count, 0.75)]),
        planar[:, 2],
        np.tile(CAR_M, (count, 1)),
        planar[:, 3],
    )


def street() -> StaticColumns:
    """A road 8 m wide along x, pavement beside it, and a post in the middle of the road at x = 30 m."""
    columns = empty_columns(np.array([-10.0, -10.0]), np.array([50.0, 10.0]))
    columns.ground_class[...] = SIDEWALK
    columns.ground_class[:, 30:70] = ROAD
    columns.span_class[200, 50, 0], columns.span_hi_dm[200, 50, 0] = POLE, 30
    return columns


@given(offsets, st.floats(0, 40), st.floats(3, 20))
def test_an_excursion_leaves_its_line_smoothly_and_comes_back(offset_m: float, hold_m: float, speed_mps: float) -> None:
    way = excursion(10.0, offset_m, hold_m, speed_mps)
    s_m = np.arange(0.0, way.to_m + 10, 0.02)
    off_m = way.at(s_m)
    assert off_m[s_m <= 10.0] == pytest.approx(0.0)
    assert off_m[s_m >= way.to_m] == pytest.approx(0.0)
    assert off_m[np.abs(off_m).argmax()] == pytest.approx(offset_m, abs=1e-3)
    slope = np.gradient(off_m, s_m)
    assert np.abs(slope).max() <= STEEPEST * 1.01
    assert (speed_mps**2 * np.abs(np.gradient(slope, s_m))).max() <= LATERAL_MPS2 * 1.05


@given(offsets, st.floats(0, 40), st.floats(0, 1))
def test_an_excursion_that_is_given_up_goes_no_farther(offset_m: float, hold_m: float, share: float) -> None:
    way = excursion(10.0, offset_m, hold_m, 8.0)
    here_m = 10.0 + share * (way.to_m - 10.0)
    back = way.given_up(here_m)
    there_m = np.arange(here_m, way.to_m + 5, 0.1)
    assert back.at(np.array([here_m])) == pytest.approx(way.at(np.array([here_m])), abs=1e-6)
    assert (np.abs(back.at(there_m)) <= np.abs(way.at(there_m)) + 1e-6).all()
    assert back.to_m <= way.to_m + 1e-6 or abs(back.offset_m) < 0.05


@pytest.mark.parametrize("offset_m", [1.2, -1.2])
def test_a_displaced_line_runs_beside_its_line_on_the_side_of_the_offset_and_back(offset_m: float) -> None:
    line = line_with_corner()
    way = excursion(20.0, offset_m, 25.0, 6.0)
    off = displaced(line, way)
    left = np.column_stack([-np.sin(line.yaws_rad), np.cos(line.yaws_rad), np.zeros(len(line.yaws_rad))])
    aside_m = way.at(SPACING_M * np.arange(len(line.points_m)))
    np.testing.assert_allclose(off.points_m - line.points_m, aside_m[:, None] * left, atol=1e-9)
    assert np.abs(off.yaws_rad - line.yaws_rad).max() < 0.35
    assert displaced(line, None) is line


@pytest.mark.parametrize("left", [True, False])
def test_a_corner_ahead_is_known_by_its_side(left: bool) -> None:
    line = line_with_corner(left)
    apex_m, to_left = corner_ahead(line, 30.0)
    assert to_left is left
    assert apex_m == pytest.approx(60 + 9 * np.pi / 4, abs=3)
    assert corner_ahead(line, 80.0) is None


def test_drawn_excursions_begin_ahead_and_are_decided_by_their_generator() -> None:
    line = line_with_corner()

    def drawn(seed: int) -> list[object]:
        rng = np.random.default_rng(seed)
        return [drawn_excursion(line, 20.0, 7.0, rng) for _ in range(40)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    ways = drawn(3)
    assert all(way.from_m >= 20.0 and way.rise_m > 0 and way.hold_m >= 0 for way in ways)
    assert {way.offset_m > 0 for way in ways} == {True, False}


def test_most_excursions_before_a_corner_are_whole_all_through_it() -> None:
    line, rng = line_with_corner(), np.random.default_rng(4)
    apex_m, _ = corner_ahead(line, 20.0)
    ways = [drawn_excursion(line, 20.0, 7.0, rng) for _ in range(60)]
    corner_m = apex_m + CORNER_M * np.array([-0.49, 0.0, 0.49])
    whole = [np.allclose(way.at(corner_m), way.offset_m) for way in ways]
    ends_with_it = [way.to_m - way.rise_m == pytest.approx(apex_m + CORNER_M / 2) for way in ways]
    assert 0.5 < np.mean(np.logical_and(whole, ends_with_it)) < 0.9


def test_a_footprint_is_on_the_road_until_it_reaches_a_kerb_or_a_post() -> None:
    motions = [motion(10, 0), motion(10, 3.3), motion(10, 9), motion(30.0, 0.5), motion(-100, 0)]
    on_road = share_on_road(motions, CAR_M, 0.0, street())
    assert on_road[0] == 1.0
    assert 0.5 < on_road[1] < 1.0
    assert on_road[2] == 0.0
    assert 0.9 < on_road[3] < 1.0
    assert on_road[4] == 0.0
    assert share_on_road([motion(10, 2.8)], CAR_M, 0.0, street())[0] == 1.0
    assert share_on_road([motion(10, 2.8)], CAR_M, 0.5, street())[0] < 1.0


@given(st.floats(-6, 6), st.floats(-6, 6), st.floats(-3.1, 3.1), st.floats(-3.1, 3.1))
def test_cars_meet_where_their_rectangles_do(x_m: float, y_m: float, yaw_rad: float, other_rad: float) -> None:
    def rectangle(x: float, y: float, yaw: float) -> shapely.Polygon:
        box = shapely.box(-CAR_M[0] / 2, -CAR_M[1] / 2, CAR_M[0] / 2, CAR_M[1] / 2)
        turned = shapely.affinity.rotate(box, yaw, origin=(0, 0), use_radians=True)
        return shapely.affinity.translate(turned, x, y)

    meets = meets_others([motion(x_m, y_m, yaw_rad)], CAR_M, 0.0, cars([(0.0, 0.0, other_rad, 0.0)]))
    overlap_m2 = rectangle(x_m, y_m, yaw_rad).intersection(rectangle(0, 0, other_rad)).area
    if overlap_m2 > 1e-6:
        assert meets[0]
    elif rectangle(x_m, y_m, yaw_rad).distance(rectangle(0, 0, other_rad)) > 1e-6:
        assert not meets[0]


def test_others_are_met_where_they_will_be() -> None:
    own = [motion(0.5 * step, 0.0) for step in range(1, 41)]
    oncoming = cars([(40.0, 0.4, np.pi, 5.0)])
    meets = meets_others(own, CAR_M, 0.3, oncoming)
    assert not meets[:30].any()
    assert meets[37]
    assert not meets_others(own, CAR_M, 0.3, cars([(40.0, 3.5, np.pi, 5.0)])).any()
    assert not meets_others(own, CAR_M, 0.3, cars([])).any()
