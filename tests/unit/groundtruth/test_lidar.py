"""An instant of a semantic LiDAR: hand-made worlds, and the voxels that points were measured on."""

from dataclasses import fields, replace

import numpy as np
import pytest

from dyncity_sim.domain.frames import poses_from_planar
from dyncity_sim.domain.grid import CARLASC_GRID, Grid
from dyncity_sim.domain.sensors import REFLECTIVITY, Dropout, LidarSensor
from dyncity_sim.domain.taxonomy import CARLASC, CARLASC_RAW
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.groundtruth.sensors.lidar import lidar_sweep, ray_directions
from dyncity_sim.groundtruth.sensors.motion import Motion
from dyncity_sim.groundtruth.sensors.rays import Surroundings
from dyncity_sim.groundtruth.sensors.rig import read_rig

AHEAD = LidarSensor((0.0,), 4)
HDL64 = read_rig("hdl64").lidars[0]


def around(labels, instances=None, grid=CARLASC_GRID):
    none = np.zeros(grid.shape, dtype=np.uint16)
    return Surroundings(labels, none if instances is None else instances, grid, CARLASC)


def sweep_of(labels, sensor=HDL64, instances=None, motions=None, seed=0, grid=CARLASC_GRID):
    rng = np.random.default_rng(seed)
    return lidar_sweep(around(labels, instances, grid), sensor, motions or {}, rng)[0]


def seen_by(labels, sensor, seed=0):
    return lidar_sweep(around(labels), sensor, {}, np.random.default_rng(seed))[1]


def empty_world():
    return np.zeros(CARLASC_GRID.shape, dtype=np.uint8)


def wall(column=100, label=1):
    labels = empty_world()
    labels[column] = label
    return labels


def test_every_point_lies_in_a_voxel_of_its_class(build_street, street_actor):
    drive = build_street(frames=1, actors=[street_actor(8, -3), street_actor(-6, 5, 0.4)], curvature_per_m=1 / 40)
    sweep = sweep_of(drive.labels[0])
    assert len(sweep) > 50_000
    cells = CARLASC_GRID.indices(sweep.points_ego_m)
    np.testing.assert_array_equal(drive.labels[0][tuple(cells.T)], sweep.labels)
    assert {1, 6, 8, 10} <= set(sweep.labels.tolist())


def test_points_lie_on_their_rays(build_street):
    sweep = sweep_of(build_street(frames=1).labels[0])
    points = sweep.points_ego_m.astype(float)
    rays = ray_directions(HDL64).reshape(64, HDL64.azimuth_steps, 3)[sweep.beams, sweep.firings]
    along = np.sum(points * rays, axis=1)
    assert np.abs(points - along[:, None] * rays).max() < 3e-4


def test_a_wall_is_measured_at_its_distance_and_hides_what_is_behind():
    labels = wall()
    labels[110] = 9
    sweep = sweep_of(labels, AHEAD)
    assert sweep.firings.tolist() == [0]
    np.testing.assert_allclose(sweep.points_ego_m, [[14.4, 0, 0]], atol=2e-4)
    assert sweep.labels.tolist() == [1]
    assert sweep.incidence.tolist() == [1.0]


def test_hits_out_of_range_are_dropped():
    assert len(sweep_of(wall(), replace(AHEAD, max_range_m=14.0))) == 0
    assert len(sweep_of(wall(), replace(AHEAD, min_range_m=15.0))) == 0
    assert len(sweep_of(wall(), replace(AHEAD, min_range_m=14.0, max_range_m=15.0))) == 1


def test_cells_up_to_the_wall_are_seen_and_none_behind_it():
    seen = seen_by(wall(), replace(AHEAD, azimuth_steps=1)).cells
    assert np.flatnonzero(seen.any(axis=(1, 2))).tolist() == list(range(64, 101))


def test_a_hit_that_gives_no_point_shows_no_cell():
    lost = replace(AHEAD, azimuth_steps=1, dropout=Dropout(always=1.0))
    assert not seen_by(wall(), lost).cells.any()
    assert not seen_by(wall(), replace(AHEAD, azimuth_steps=1, min_range_m=20.0)).cells.any()
    assert seen_by(empty_world(), lost).cells.any()


def test_intensity_is_reflectivity_times_cosine():
    slanted = replace(AHEAD, azimuth_steps=8, elevations_rad=(0.0,))
    labels = wall(100, CARLASC.index("vegetation"))
    sweep = sweep_of(labels, slanted)
    cosines = dict(zip(sweep.firings.tolist(), sweep.intensity.tolist(), strict=True))
    assert cosines[0] == pytest.approx(REFLECTIVITY["vegetation"])
    assert cosines[1] == pytest.approx(REFLECTIVITY["vegetation"] * np.sqrt(0.5), rel=1e-6)
    brighter = replace(slanted, reflectivity={**REFLECTIVITY, "vegetation": 1.0})
    np.testing.assert_allclose(sweep_of(labels, brighter).intensity, sweep.incidence, rtol=1e-6)


def test_intensity_falls_with_the_square_of_the_range_from_where_the_sensor_says():
    near = sweep_of(wall(), replace(AHEAD, falloff_m=30.0)).intensity
    far = sweep_of(wall(), replace(AHEAD, falloff_m=7.2)).intensity
    assert near.tolist() == sweep_of(wall(), AHEAD).intensity.tolist()
    np.testing.assert_allclose(far, near / 4, rtol=1e-5)


def test_a_class_without_reflectivity_is_refused():
    with pytest.raises(InvalidInputError, match=r"lidar\.reflectivity.*nothing for barrier"):
        sweep_of(wall(), replace(AHEAD, reflectivity={n: 0.5 for n in CARLASC.names if n != "barrier"}))


def test_every_class_of_our_taxonomies_has_a_reflectivity():
    assert {*CARLASC.names[1:], *CARLASC_RAW.names[1:]} == set(REFLECTIVITY)


@pytest.mark.parametrize("cause", [part.name for part in fields(Dropout)])
def test_each_cause_of_dropout_takes_about_its_share(build_street, cause):
    labels = build_street(frames=1).labels[0]
    sensor = replace(HDL64, max_range_m=36.0)
    whole = sweep_of(labels, sensor)
    chance = {
        "always": np.full(len(whole), 0.5),
        "at_max_range": 0.5 * (np.linalg.norm(whole.points_ego_m, axis=1) / 36.0) ** 2,
        "at_grazing": 0.5 * (1 - whole.incidence),
        "at_dark": 0.5 * (1 - whole.intensity),
    }[cause]
    left = sweep_of(labels, replace(sensor, dropout=Dropout(**{cause: 0.5})))
    lost = len(whole) - len(left)
    deviation = float(np.sqrt((chance * (1 - chance)).sum()))
    assert lost == pytest.approx(float(chance.sum()), abs=5 * deviation)


def test_what_is_not_dropped_is_what_there_was_without_dropout(build_street):
    labels = build_street(frames=1).labels[0]
    whole = sweep_of(labels)
    left = sweep_of(labels, replace(HDL64, dropout=Dropout(always=0.3)))
    rays = whole.beams.astype(int) * HDL64.azimuth_steps + whole.firings
    kept = np.isin(rays, left.beams.astype(int) * HDL64.azimuth_steps + left.firings)
    for part in fields(left):
        np.testing.assert_array_equal(getattr(whole, part.name)[kept], getattr(left, part.name))


def test_noise_moves_points_along_their_rays_by_its_deviation():
    noisy = LidarSensor((0.0,), 20_000, range_noise_m=0.05)
    labels = wall()
    true = np.linalg.norm(sweep_of(labels, replace(noisy, range_noise_m=0.0)).points_ego_m, axis=1)
    measured = np.linalg.norm(sweep_of(labels, noisy).points_ego_m, axis=1)
    error = measured - true
    assert abs(error.mean()) < 0.005
    assert error.std() == pytest.approx(0.05, rel=0.05)


def test_the_same_seed_gives_the_same_points_and_another_gives_others(build_street):
    labels = build_street(frames=1).labels[0]
    sensor = replace(HDL64, range_noise_m=0.02, dropout=Dropout(0.1, 0.2, 0.3, 0.1))
    first, again, other = (sweep_of(labels, sensor, seed=seed) for seed in (1, 1, 2))
    for part in fields(first):
        assert getattr(first, part.name).tobytes() == getattr(again, part.name).tobytes()
    assert len(first) != len(other) or (first.points_ego_m != other.points_ego_m).any()


def test_points_move_with_the_body_they_lie_on():
    labels, instances = wall(100, CARLASC.index("vehicle")), np.zeros(CARLASC_GRID.shape, dtype=np.uint16)
    instances[100, 64:] = 5
    motion = Motion(np.array([16.4, 0.0, 0.0]), np.array([3.0, 0.0, 0.0]), np.array([0.0, 0.0, 0.5]))
    sweep = sweep_of(labels, replace(AHEAD, azimuth_steps=64), instances, {5: motion})
    own = sweep.instances == 5
    assert 0 < own.sum() < len(sweep)
    points = sweep.points_ego_m[own]
    expected = np.stack([3.0 - 0.5 * points[:, 1], 0.5 * (points[:, 0] - 16.4), 0 * points[:, 0]], axis=1)
    np.testing.assert_allclose(sweep.velocities_ego_mps[own], expected, atol=1e-4)
    assert not sweep.velocities_ego_mps[~own].any()


def test_a_sensor_inside_a_wall_is_refused_with_its_name_frame_and_cell():
    inside = replace(around(np.ones(CARLASC_GRID.shape, dtype=np.uint8)), frame=7)
    with pytest.raises(InvalidInputError, match=r"roof\.position_m.*frame 7, inside cell \(64, 64, 5\).*'building'"):
        lidar_sweep(inside, replace(AHEAD, name="roof"), {}, np.random.default_rng(0))


def test_a_sensor_outside_the_grid_is_refused():
    outside = replace(AHEAD, pose_ego_from_sensor=poses_from_planar(np.zeros(3), 5.0))
    with pytest.raises(InvalidInputError, match=r"lidar\.position_m.*outside the grid"):
        sweep_of(empty_world(), outside)


def test_an_empty_world_gives_no_points():
    grid = Grid((8, 8, 8), (-4.0, -4.0, -4.0), (1.0, 1.0, 1.0))
    assert len(sweep_of(np.zeros(grid.shape, dtype=np.uint8), grid=grid)) == 0
