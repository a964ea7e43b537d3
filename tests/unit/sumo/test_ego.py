"""Claims about the driver: it keeps to its line, stops in time, errs by its seed, and predicts what it would do."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
from dyncity_sumo.actors import KIND_CODES, ActorTable, no_actors
from dyncity_sumo.ego import Driver, Flaws, Motion, Obstacle, car_of_ego, ego_pose, obstacles_ahead
from dyncity_sumo.routes import GuideLine, guide_line
from hypothesis import given
from hypothesis import strategies as st

from dyncity_sim.domain.grid import LIDAR_HEIGHT_M
from dyncity_sim.domain.recording import ActorKind

CAR_M = (4.5, 1.8, 1.5)


class NoFlaws(Flaws):
    """An ideal driver."""

    def __init__(self) -> None:
        super().__init__(np.random.default_rng(0))
        self.pace = 1.0
        self.late_s = 0.0

    def step(self) -> tuple[float, float]:
        return 0.0, 0.0


def corner(radius_m: float = 9.0) -> GuideLine:
    """100 m east, a left turn as a coarse polyline with kinks, 100 m north."""
    angles = np.linspace(-np.pi / 2, 0, 7)
    turn = np.stack([100 + radius_m * np.cos(angles), radius_m + radius_m * np.sin(angles)], axis=1)
    points = np.concatenate([[[0.0, 0.0]], turn, [[100 + radius_m, radius_m + 100.0]]])
    return guide_line(np.column_stack([points, np.zeros(len(points))]), np.full(len(points), 13.9))


def drive(driver: Driver, line: GuideLine, steps: int, seen: Callable[[Motion], list[Obstacle]]) -> list[Motion]:
    return [driver.step(line, seen(driver.motion)) for _ in range(steps)]


def driver_at(speed_mps: float = 8.0, flaws: Flaws | None = None) -> Driver:
    return Driver(Motion(0.0, 0.0, 0.0, speed_mps, 0.0, 0.0), CAR_M[0], flaws or NoFlaws())


def clear(motion: Motion) -> list[Obstacle]:
    return []


def test_an_ideal_driver_takes_a_corner_close_to_its_line() -> None:
    line = corner()
    motions = drive(driver_at(), line, 260, clear)
    assert motions[-1].s_m > 150
    off_m = [np.linalg.norm(line.at(m.s_m)[0][:2] - m.xy_m) for m in motions]
    assert max(off_m) < 0.75
    assert off_m[-1] < 0.2


def test_curves_are_taken_at_a_comfortable_speed() -> None:
    motions = drive(driver_at(), corner(), 260, clear)
    yaws = np.unwrap([m.yaw_rad for m in motions])
    lateral = np.abs(np.diff(yaws)) * 10 * np.array([m.speed_mps for m in motions[1:]])
    assert lateral.max() < 3.2
    assert max(m.speed_mps for m in motions) > 11


def test_the_smoothed_line_has_no_kinks() -> None:
    assert np.abs(np.diff(corner(6.0).yaws_rad)).max() < 0.12


@pytest.mark.parametrize("speed_mps", [3.0, 8.0, 13.0])
def test_the_car_stops_before_a_standing_obstacle(speed_mps: float) -> None:
    wall_m = 60.0
    motions = drive(driver_at(speed_mps), corner(), 300, lambda m: [Obstacle(wall_m - m.s_m - CAR_M[0] / 2, 0.0)])
    front_m = [m.s_m + CAR_M[0] / 2 for m in motions]
    assert max(front_m) < wall_m
    assert front_m[-1] > wall_m - 4
    assert motions[-1].speed_mps < 0.1


def test_a_steady_leader_is_followed_at_its_speed_and_a_distance() -> None:
    line = guide_line(np.array([[0.0, 0, 0], [600.0, 0, 0]]), np.full(2, 13.9))
    driver, leader_m, gap_m = driver_at(10.0), 30.0, 0.0
    for _ in range(300):
        gap_m = leader_m - driver.motion.s_m - CAR_M[0]
        driver.step(line, [Obstacle(gap_m, 6.0)])
        leader_m += 0.6
    assert driver.motion.speed_mps == pytest.approx(6.0, abs=0.3)
    assert 5 < gap_m < 20


def test_a_prediction_is_what_the_driver_then_does_and_changes_nothing() -> None:
    driver = driver_at(flaws=Flaws(np.random.default_rng(11)))
    line = corner()
    before = copy.deepcopy(driver.motion)
    predicted = driver.predict(line, [], 40)
    assert driver.motion == before
    assert drive(driver, line, 40, clear) == predicted


def test_a_prediction_may_begin_where_another_ends() -> None:
    driver, line = driver_at(), corner()
    whole = driver.predict(line, [], 40)
    assert driver.predict(line, [], 25, whole[14]) == whole[15:]


def test_a_seed_decides_the_flaws() -> None:
    def path(seed: int) -> list[Motion]:
        return drive(driver_at(flaws=Flaws(np.random.default_rng(seed))), corner(), 120, clear)

    assert path(1) == path(1)
    assert path(1) != path(2)


def test_a_flawed_driver_leaves_the_ideal_line_but_not_the_lane_for_long() -> None:
    off_m = []
    line = corner()
    for seed in range(12):
        motions = drive(driver_at(flaws=Flaws(np.random.default_rng(seed))), line, 250, clear)
        off_m += [np.linalg.norm(line.at(m.s_m)[0][:2] - m.xy_m) for m in motions]
    assert 0.1 < np.median(off_m) < 0.5
    assert np.percentile(off_m, 99) < 1.6


def table(rows: list[tuple[float, float, float, float]]) -> ActorTable:
    """Cars by x, y, yaw, speed."""
    count = len(rows)
    xy_yaw_speed = np.array(rows).reshape(count, 4)
    return ActorTable(
        np.arange(1, count + 1, dtype=np.uint16),
        np.full(count, KIND_CODES[ActorKind.CAR], np.uint8),
        np.column_stack([xy_yaw_speed[:, :2], np.full(count, 0.75)]),
        xy_yaw_speed[:, 2],
        np.tile(CAR_M, (count, 1)),
        xy_yaw_speed[:, 3],
    )


def test_only_what_is_in_the_way_is_an_obstacle() -> None:
    line, motion = corner(), Motion(20.0, 0.0, 0.0, 8.0, 0.0, 20.0)
    ahead, beside, behind, far = (45.0, 0.2, 0.0, 5.0), (40.0, 3.3, np.pi, 9.0), (10.0, 0.0, 0.0, 9.0), (95, 0, 0, 0)
    found = obstacles_ahead(line, motion, CAR_M, table([ahead, beside, behind, far]))
    assert found == [Obstacle(pytest.approx(25 - 4.5, abs=0.5), 5.0)]
    assert obstacles_ahead(line, motion, CAR_M, no_actors()) == []


def test_who_drives_over_a_bridge_is_no_obstacle_to_those_below_it_nor_they_to_them() -> None:
    line, motion = corner(), Motion(20.0, 0.0, 0.0, 8.0, 0.0, 20.0)
    above, below = table([(40.0, 1.0, np.pi / 2, 7.0)]), table([(40.0, 1.0, np.pi / 2, 7.0)])
    above.centres_m[:, 2] += 6.0
    below.centres_m[:, 2] -= 6.0
    assert obstacles_ahead(line, motion, CAR_M, above) == []
    assert obstacles_ahead(line, motion, CAR_M, below) == []


def test_a_road_that_climbs_hides_no_obstacle() -> None:
    line = guide_line(np.array([[0.0, 0, 0], [100.0, 0, 10]]), np.full(2, 13.9))
    ahead = table([(55.0, 0.0, 0.0, 0.0)])
    ahead.centres_m[:, 2] += 5.5
    assert len(obstacles_ahead(line, Motion(20.0, 0.0, 0.0, 8.0, 0.0, 20.0), CAR_M, ahead)) == 1


def test_actors_move_on_straight_at_their_speed() -> None:
    later = table([(1.0, 2.0, 0.0, 5.0), (0.0, 0.0, np.pi / 2, 3.0)]).moved_on(2.0)
    assert later.centres_m[:, :2] == pytest.approx(np.array([[11.0, 2.0], [0.0, 6.0]]))
    assert later.centres_m[:, 2] == pytest.approx([0.75, 0.75])


def test_crossing_traffic_counts_as_standing() -> None:
    found = obstacles_ahead(corner(), Motion(20.0, 0.0, 0.0, 8.0, 0.0, 20.0), CAR_M, table([(40, 1, np.pi / 2, 7)]))
    assert [o.speed_mps for o in found] == [pytest.approx(0.0, abs=1e-6)]


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), st.floats(-3.1, 3.1), st.floats(-20, 100))
def test_the_ego_frame_and_its_car_convert_both_ways(x_m: float, y_m: float, yaw_rad: float, road_m: float) -> None:
    pose = ego_pose(np.array([x_m, y_m]), yaw_rad, road_m)
    centre_m, yaw_back = car_of_ego(pose)
    assert centre_m == pytest.approx([x_m, y_m], abs=1e-9)
    assert yaw_back == pytest.approx(yaw_rad, abs=1e-9)
    assert pose[2, 3] == pytest.approx(road_m + LIDAR_HEIGHT_M)
    ahead_of_lidar = pose[:2, :2].T @ (centre_m - pose[:2, 3])
    assert ahead_of_lidar == pytest.approx([0.5, 0.0], abs=1e-9)
