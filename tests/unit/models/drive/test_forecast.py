from dataclasses import replace

import numpy as np
import pytest
from dyncity_models.drive.forecast import Forecast
from dyncity_models.drive.one_frame import SPEEDS_MPS, forecast
from dyncity_models.drive.ways import along_arc
from hypothesis import given
from hypothesis import strategies as st

from dyncity_sim.domain.frames import planar_from_poses
from dyncity_sim.domain.taxonomy import CARLASC

VEHICLE, ROAD, SIDEWALK = (CARLASC.index(name) for name in ("vehicle", "road", "sidewalk"))
SECONDS = np.arange(16) * 0.1


def drawn(street, seed=0, frame=0):
    planar = planar_from_poses(street.poses_world_from_ego)
    return forecast(street, frame, planar, np.random.default_rng(seed)), planar


def middle_m(cells):
    """Middle of the columns that hold something, metres in the ego frame."""
    return (np.argwhere(cells.any(axis=-1)).mean(axis=0) + 0.5) * 0.4 - 25.6


def test_vehicles_are_seen_in_their_own_frame_cell_for_cell(build_street, street_actor):
    street = build_street(16, 6.0, [street_actor(12.0, 3.6), street_actor(8.0, -2.0, 0.3)])
    coming, planar = drawn(street)
    assert len(coming.cells) == 2
    seen = coming.seen_from(planar, SECONDS)
    assert np.array_equal(seen[0], street.labels[0] == VEHICLE)


def test_a_vehicle_in_the_egos_lane_drives_as_fast_as_the_ego(build_street, street_actor):
    street = build_street(16, 6.0, [street_actor(12.0, -1.0, 0.0, 6.0)])
    coming, planar = drawn(street)
    assert coming.speeds_mps == pytest.approx([6.0], abs=1e-6)
    seen = coming.seen_from(planar, SECONDS)
    true = street.labels == VEHICLE
    for frame in range(16):
        assert middle_m(seen[frame]) == pytest.approx(middle_m(true[frame]), abs=0.5)


def test_nobody_drives_towards_an_ego_that_reverses(build_street, street_actor):
    coming, _ = drawn(build_street(16, -3.0, [street_actor(-12.0, -1.0)]))
    assert coming.speeds_mps.tolist() == [0.0]


def test_a_vehicle_ahead_of_a_standing_ego_stands(build_street, street_actor):
    coming, _ = drawn(build_street(16, 0.0, [street_actor(12.0, -1.0)]))
    assert coming.speeds_mps.tolist() == [0.0]
    assert not coming.leaving.any()


def test_a_vehicle_at_the_kerb_stands_where_it_is_while_the_ego_drives(build_street, street_actor):
    street = build_street(16, 6.0, [street_actor(12.0, 4.3)])
    for seed in range(8):
        coming, planar = drawn(street, seed)
        assert coming.speeds_mps.tolist() == [0.0]
    seen, true = coming.seen_from(planar, SECONDS), street.labels == VEHICLE
    assert all(middle_m(seen[f]) == pytest.approx(middle_m(true[f]), abs=0.3) for f in range(12))


def test_oncoming_vehicles_drive_the_other_way_at_speeds_that_the_seed_draws_and_some_stand(build_street, street_actor):
    street = build_street(16, 6.0, [street_actor(20.0, 2.6, np.pi)])
    futures = [drawn(street, seed)[0] for seed in range(40)]
    speeds = np.concatenate([coming.speeds_mps for coming in futures])
    assert 3 < np.count_nonzero(speeds == 0) < 25
    driving = speeds[speeds > 0]
    assert ((driving >= SPEEDS_MPS[0]) & (driving <= SPEEDS_MPS[1])).all()
    assert np.ptp(driving) > 2
    again, planar = drawn(street, 3)
    assert np.array_equal(again.speeds_mps, futures[3].speeds_mps)
    fast = futures[int(speeds.argmax())].seen_from(planar[[0, 0]], np.array([0.0, 1.0]))
    moved_m = middle_m(fast[1]) - middle_m(fast[0])
    assert moved_m[0] == pytest.approx(-speeds.max(), abs=0.5)


def test_a_vehicle_follows_a_bend_of_the_road(build_street, street_actor):
    # The centre of the bend is 25 m to the left, the car in the outer lane, turned as the road is there.
    radius_m, lane_m, way_rad = 25.0, 2.4, 0.4
    outer_m = radius_m + lane_m
    car = street_actor(outer_m * np.sin(way_rad), radius_m - outer_m * np.cos(way_rad), way_rad)
    coming, _ = drawn(build_street(16, 8.0, [car], curvature_per_m=1 / radius_m))
    assert coming.curvatures_per_m[0] > 0
    assert coming.speeds_mps[0] > 4


def test_a_vehicle_stops_short_of_one_that_stands_across_its_way(build_street, street_actor):
    cars = [street_actor(6.0, -1.0), street_actor(16.0, 0.0, np.pi / 2, size_m=(9.5, 2.4, 2.6))]
    street = build_street(16, 12.0, cars)
    coming, _ = drawn(street)
    behind = int(coming.poses[:, 0].argmin())
    assert coming.speeds_mps[1 - behind] == 0
    gap_m = 16.0 - 1.2 - (6.0 + 2.25)
    assert coming.speeds_mps[behind] * 1.5 < gap_m


def test_vehicles_were_on_their_way_before_the_frame_that_is_known(build_street, street_actor):
    street = build_street(16, 6.0, [street_actor(8.0, -1.0, 0.0, 6.0)])
    coming, planar = drawn(street, frame=5)
    seen = coming.seen_from(planar[[5, 5]], np.array([-0.5, 0.0]))
    assert (middle_m(seen[1]) - middle_m(seen[0]))[0] == pytest.approx(3.0, abs=0.4)


@given(st.integers(0, 2**32 - 1))
def test_cells_are_seen_where_looking_at_every_cell_of_the_grid_finds_them(seed):
    """A grid of 32 x 32 columns of 0.4 m, some cells outside of it, from poses all around."""
    rng = np.random.default_rng(seed)
    count, frames, half_m = 3, 4, 6.4
    cells = rng.random((count, 32, 32, 2)) < rng.choice([0.002, 0.02], size=(count, 1, 1, 1))
    poses, ego = rng.normal(0, [4, 4, 2], (count, 3)), rng.normal(0, [100, 100, 2])
    still = np.zeros(count)
    coming = Forecast(-1, ego, cells, poses, still, rng.uniform(0, 8, count), still, still > 0, half_m)
    planar, seconds = ego + rng.normal(0, [4, 4, 2], (frames, 3)), rng.uniform(-0.5, 1.6, frames)
    middle_m = (np.arange(32) + 0.5) * 0.4 - half_m
    every = np.stack([*np.meshgrid(middle_m, middle_m, indexing="ij"), np.ones((32, 32))], axis=-1)
    found = coming.seen_from(planar, seconds)
    for frame in range(frames):
        expected = np.zeros((32, 32, 2), dtype=np.bool_)
        for n in range(count):
            moved = matrix([coming.speeds_mps[n] * seconds[frame], 0, 0])
            back = matrix(poses[n]) @ np.linalg.inv(matrix(poses[n]) @ moved)
            source_m = every @ (back @ np.linalg.inv(matrix(ego)) @ matrix(planar[frame])).T
            column = np.floor((source_m[..., :2] + half_m) / 0.4).astype(int)
            inside = ((column >= 0) & (column < 32)).all(axis=-1)
            expected[inside] |= cells[n][tuple(column[inside].T)]
        assert np.array_equal(found[frame], expected)


def matrix(planar):
    x_m, y_m, yaw_rad = planar
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    return np.array([[cos, -sin, x_m], [sin, cos, y_m], [0.0, 0.0, 1.0]])


def test_a_frame_without_vehicles_forecasts_none(build_street):
    coming, planar = drawn(build_street(16, 6.0))
    assert coming.cells.shape == (0, 128, 128, 8)
    assert not coming.seen_from(planar, SECONDS).any()


def test_pedestrians_are_no_part_of_a_forecast(build_street, street_actor):
    walker = replace(street_actor(9.0, -2.0), size_m=(0.6, 0.6, 1.7), label=CARLASC.index("pedestrian"))
    coming, _ = drawn(build_street(16, 6.0, [walker]))
    assert not coming.cells.any()


@given(
    x=st.floats(-20, 20),
    y=st.floats(-20, 20),
    yaw=st.floats(-3, 3),
    curvature=st.floats(-0.1, 0.1),
    first=st.floats(0, 10),
    second=st.floats(0, 10),
)
def test_an_arc_goes_on_from_where_it_was(x, y, yaw, curvature, first, second):
    pose = np.array([x, y, yaw])
    (there,) = along_arc(pose, curvature, np.array([first]))
    (onward,) = along_arc(there, curvature, np.array([second]))
    (at_once,) = along_arc(pose, curvature, np.array([first + second]))
    assert onward == pytest.approx(at_once, abs=1e-6)
