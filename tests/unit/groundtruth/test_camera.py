"""Cameras in hand-made worlds, and beside a LiDAR at the same place."""

from dataclasses import replace

import numpy as np
import pytest

from dyncity_sim.domain.frames import inverse, transform_points
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.sensors import CameraSensor, LidarSensor
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.groundtruth.sensors.camera import camera_images, camera_rays
from dyncity_sim.groundtruth.sensors.lidar import lidar_sweep
from dyncity_sim.groundtruth.sensors.rays import Surroundings
from dyncity_sim.groundtruth.sensors.rig import ROTATION_BODY_FROM_CAMERA, read_rig

VEHICLE, BUILDING = CARLASC.index("vehicle"), CARLASC.index("building")


def looking_ahead(width=201, height=101, focal=100.0, position=(0.0, 0.0, 0.0), max_range_m=120.0):
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = ROTATION_BODY_FROM_CAMERA, position
    return CameraSensor(
        width, height, (focal, focal), (width / 2, height / 2), pose_ego_from_sensor=pose, max_range_m=max_range_m
    )


def around(labels, instances=None):
    none = np.zeros(CARLASC_GRID.shape, dtype=np.uint16)
    return Surroundings(labels, none if instances is None else instances, CARLASC_GRID, CARLASC)


def box_world():
    """A box of vehicle cells: x from 6.4 to 8.0 m, y from 0.8 to 2.4 m (left), z from -0.5 to 0.25 m."""
    labels, instances = (np.zeros(CARLASC_GRID.shape, dtype=d) for d in (np.uint8, np.uint16))
    labels[80:84, 66:70, 4:6] = VEHICLE
    instances[80:84, 66:70, 4:6] = 9
    return labels, instances


def test_a_box_at_a_known_depth_fills_the_pixels_it_projects_to():
    labels, instances = box_world()
    camera = looking_ahead()
    images, _ = camera_images(around(labels, instances), camera)
    front = images.depth_m == np.float32(6.4)
    u, v = np.meshgrid(np.arange(201) + 0.5, np.arange(101) + 0.5)
    left, right = 100.5 - 100 * 2.4 / 6.4, 100.5 - 100 * 0.8 / 6.4
    top, bottom = 50.5 - 100 * 0.25 / 6.4, 50.5 + 100 * 0.5 / 6.4
    np.testing.assert_array_equal(front, (u > left) & (u < right) & (v > top) & (v < bottom))
    assert (images.labels[front] == VEHICLE).all()
    assert (images.instances[front] == 9).all()
    # The right side of the box is seen too, foreshortened and deeper.
    side = (images.labels == VEHICLE) & ~front
    assert images.depth_m[side].min() > 6.4
    assert images.depth_m[side].max() <= 8.0


def test_where_nothing_is_depth_is_infinite_and_labels_are_free():
    images, _ = camera_images(around(*box_world()), looking_ahead())
    sky = ~np.isfinite(images.depth_m)
    assert sky.any()
    assert not images.labels[sky].any()
    assert not images.instances[sky].any()
    assert images.labels[~sky].all()


def test_depth_is_along_the_view_and_not_along_the_ray():
    labels = np.zeros(CARLASC_GRID.shape, dtype=np.uint8)
    labels[80] = BUILDING
    images, _ = camera_images(around(labels), looking_ahead(height=11))
    assert set(images.depth_m.ravel().tolist()) == {np.float32(6.4).item()}


def test_nothing_is_seen_beyond_the_greatest_depth():
    images, seen = camera_images(around(*box_world()), looking_ahead(max_range_m=6.3))
    assert not np.isfinite(images.depth_m).any()
    assert not seen.cells[81:].any()
    assert seen.cells.any()


def test_a_camera_sees_cells_in_its_view_up_to_what_it_hits():
    labels, instances = box_world()
    camera = looking_ahead()
    _, seen = camera_images(around(labels, instances), camera)
    assert not seen.cells[:64].any()
    assert seen.cells[80, 66:70, 4:6].all()
    assert not seen.cells[82:84, 67:70, 4:6].any()
    centres = np.stack(np.meshgrid(*(CARLASC_GRID.centres(axis) for axis in range(3)), indexing="ij"), axis=-1)
    local = transform_points(inverse(camera.pose_ego_from_sensor), centres[seen.cells])
    ahead = local[local[:, 2] > 2]
    assert (np.abs(ahead[:, 0]) / ahead[:, 2] < 1.005 + 0.6 / ahead[:, 2]).all()


def test_lidar_points_fall_on_the_depth_that_the_camera_sees(build_street, street_actor):
    labels = build_street(frames=1, actors=[street_actor(8, -3), street_actor(10, 3, 0.4)]).labels[0]
    camera = looking_ahead(801, 401, 400.0, (0.02, 0.03, 0.01))
    lidar = LidarSensor(
        tuple(np.deg2rad(np.linspace(5, -25, 31))), 1440, pose_ego_from_sensor=np.eye(4) + _shift(0.02, 0.03, 0.01)
    )
    sweep, _ = lidar_sweep(around(labels), lidar, {}, np.random.default_rng(0))
    images, _ = camera_images(around(labels), camera)
    local = transform_points(inverse(camera.pose_ego_from_sensor), sweep.points_ego_m.astype(float))
    pixels = local @ camera.intrinsics.T
    u, v = np.floor(pixels[:, :2] / pixels[:, 2:]).astype(int).T
    inside = (local[:, 2] > 0.5) & (u >= 0) & (u < 801) & (v >= 0) & (v < 401)
    depth, label = images.depth_m[v[inside], u[inside]], images.labels[v[inside], u[inside]]
    close = np.abs(depth - local[inside, 2]) < 0.4
    assert inside.sum() > 5000
    # A pixel's middle and the point beside it may lie on either side of an edge.
    assert close.mean() > 0.97
    assert (label[close] == sweep.labels[inside][close]).mean() > 0.98


def _shift(*by):
    matrix = np.zeros((4, 4))
    matrix[:3, 3] = by
    return matrix


def test_rays_go_through_the_middle_of_pixels():
    camera = read_rig("nuscenes").cameras[1]
    rays = camera_rays(camera)
    local = transform_points(inverse(camera.pose_ego_from_sensor), rays.at(np.full(len(rays), 7.0)))
    np.testing.assert_allclose(local[:, 2], 7.0)
    pixels = local @ camera.intrinsics.T / 7.0
    np.testing.assert_allclose(pixels[401, :2], [1.5, 1.5])


def test_the_same_frame_gives_the_same_bytes():
    first, again = (camera_images(around(*box_world()), looking_ahead())[0] for _ in range(2))
    for name in ("depth_m", "labels", "instances"):
        assert getattr(first, name).tobytes() == getattr(again, name).tobytes()


def test_a_camera_inside_a_wall_is_refused():
    full = around(np.ones(CARLASC_GRID.shape, dtype=np.uint8))
    with pytest.raises(InvalidInputError, match=r"cam_front\.position_m.*inside cell"):
        camera_images(full, replace(looking_ahead(), name="cam_front"))
