"""LiDAR rays, against exact rational arithmetic and against the voxels they hit."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyncity_sim.domain.frames import poses_from_planar
from dyncity_sim.domain.grid import CARLASC_GRID, Grid
from dyncity_sim.domain.sensors import LidarSensor
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.groundtruth.lidar import HDL64, lidar_sweep, ray_directions
from dyncity_sim.groundtruth.traversal import first_hits


def exact_first_hit(labels, origin, direction):
    """First occupied cell by visiting all border crossings in order of their exact distances."""
    start = [Fraction(float(o)) for o in origin]
    crossings = []
    for axis in range(3):
        slope = Fraction(float(direction[axis]))
        if slope == 0:
            continue
        step = 1 if slope > 0 else -1
        border = int(np.floor(origin[axis])) + (1 if step > 0 else 0)
        borders = range(border, border + step * (labels.shape[axis] + 2), step)
        crossings.extend(((b - start[axis]) / slope, axis, step) for b in borders)
    cell = [int(np.floor(o)) for o in origin]
    entered = Fraction(0)
    for distance, axis, step in [*sorted(crossings), (None, 0, 0)]:
        if not all(0 <= c < n for c, n in zip(cell, labels.shape, strict=True)):
            return None, None
        if labels[tuple(cell)]:
            return tuple(cell), float(entered)
        cell[axis] += step
        entered = distance
    return None, None


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_first_hit_is_that_of_exact_arithmetic(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 12, size=3))
    labels = (rng.random(shape) < rng.choice([0.02, 0.1, 0.3])).astype(np.uint8)
    origin = rng.random(3) * shape
    directions = rng.normal(size=(20, 3))
    directions[:4] = np.eye(3)[rng.integers(0, 3, size=4)] * rng.choice([-1, 1], size=(4, 1))
    if seed % 3 == 0:
        origin = np.floor(origin)
    cells, distances, _ = first_hits(labels, origin, directions)
    for cell, distance, direction in zip(cells, distances, directions, strict=True):
        expected, expected_distance = exact_first_hit(labels, origin, direction)
        if expected is None:
            assert cell == -1
        else:
            assert np.unravel_index(cell, shape) == expected
            assert distance == pytest.approx(expected_distance, rel=1e-12)


def test_every_point_lies_in_a_voxel_of_its_class(build_street, street_actor):
    drive = build_street(frames=1, actors=[street_actor(8, -3), street_actor(-6, 5, 0.4)], curvature_per_m=1 / 40)
    instances = np.zeros(CARLASC_GRID.shape, dtype=np.uint16)
    sweep = lidar_sweep(drive.labels[0], instances, {}, CARLASC_GRID)
    assert len(sweep) > 50_000
    cells = CARLASC_GRID.indices(sweep.points_ego_m)
    np.testing.assert_array_equal(drive.labels[0][tuple(cells.T)], sweep.labels)
    assert {1, 6, 8, 10} <= set(sweep.labels.tolist())


def test_points_lie_on_their_rays(build_street):
    drive = build_street(frames=1)
    sweep = lidar_sweep(drive.labels[0], np.zeros(CARLASC_GRID.shape, dtype=np.uint16), {}, CARLASC_GRID)
    points = sweep.points_ego_m.astype(float)
    rays = ray_directions(HDL64).reshape(64, 1800, 3)[sweep.beams, sweep.firings]
    along = np.sum(points * rays, axis=1)
    assert np.abs(points - along[:, None] * rays).max() < 3e-4


def test_a_wall_is_measured_at_its_distance_and_hides_what_is_behind():
    labels = np.zeros(CARLASC_GRID.shape, dtype=np.uint8)
    labels[100] = 1
    labels[110] = 9
    ahead = LidarSensor((0.0,), 4)
    sweep = lidar_sweep(labels, np.zeros(labels.shape, dtype=np.uint16), {}, CARLASC_GRID, ahead)
    assert sweep.firings.tolist() == [0]
    np.testing.assert_allclose(sweep.points_ego_m, [[14.4, 0, 0]], atol=2e-4)
    assert sweep.labels.tolist() == [1]
    assert sweep.incidence.tolist() == [1.0]


def test_hits_beyond_the_range_are_dropped():
    labels = np.zeros(CARLASC_GRID.shape, dtype=np.uint8)
    labels[100] = 1
    sensor = LidarSensor((0.0,), 4, max_range_m=14.0)
    assert len(lidar_sweep(labels, np.zeros(labels.shape, dtype=np.uint16), {}, CARLASC_GRID, sensor)) == 0


def test_the_beams_are_those_of_the_hdl64e():
    degrees = np.rad2deg(HDL64.elevations_rad)
    assert len(degrees) == 64
    assert degrees[0] == pytest.approx(2.0)
    assert degrees[-1] == pytest.approx(-24.333, abs=1e-3)
    assert (np.diff(degrees) < 0).all()


def test_a_sensor_inside_a_wall_or_outside_the_grid_is_refused():
    instances = np.zeros(CARLASC_GRID.shape, dtype=np.uint16)
    with pytest.raises(InvalidInputError, match="inside a cell of class 1"):
        lidar_sweep(np.ones(CARLASC_GRID.shape, dtype=np.uint8), instances, {}, CARLASC_GRID)
    outside = LidarSensor((0.0,), 4, pose_ego_from_sensor=poses_from_planar(np.zeros(3), 5.0))
    with pytest.raises(InvalidInputError, match="inside the grid"):
        lidar_sweep(np.zeros(CARLASC_GRID.shape, dtype=np.uint8), instances, {}, CARLASC_GRID, outside)


def test_an_empty_world_gives_no_points():
    grid = Grid((8, 8, 8), (-4.0, -4.0, -4.0), (1.0, 1.0, 1.0))
    labels = np.zeros(grid.shape, dtype=np.uint8)
    assert len(lidar_sweep(labels, np.zeros(grid.shape, dtype=np.uint16), {}, grid)) == 0
