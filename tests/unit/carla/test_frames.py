"""CARLA's frames and ours, held against the matrices of the real client library."""

import numpy as np
import pytest
from dyncity_carla.frames import CarlaTransform, carla_from_pose, mirrored_points, pose_from_carla
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from dyncity_sim.domain.conditions import Command, EgoPlan
from dyncity_sim.domain.frames import check_poses, mirrored_poses, poses_from_planar, transform_points

metres = st.floats(-2000, 2000)
degrees = st.floats(-180, 180)
transforms = st.builds(CarlaTransform, metres, metres, metres, st.floats(-89, 89), degrees, degrees)
rotations = st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1)


def pose_of(quaternion, location):
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_quat(quaternion).as_matrix()
    pose[:3, 3] = location
    return pose


@given(transforms)
def test_a_transform_comes_back_from_our_frame_unchanged(transform):
    np.testing.assert_allclose(carla_from_pose(pose_from_carla(transform)).matrix, transform.matrix, atol=1e-9)


@given(rotations, st.tuples(metres, metres, metres))
def test_a_pose_comes_back_from_carla_s_frame_unchanged(quaternion, location):
    pose = pose_of(quaternion, location)
    np.testing.assert_allclose(pose_from_carla(carla_from_pose(pose)), pose, atol=1e-7)


@given(transforms)
def test_what_leaves_carla_is_right_handed(transform):
    check_poses(pose_from_carla(transform)[None], "pose")


@given(transforms, transforms)
def test_poses_compose_alike_in_both_frames(first, second):
    ours = pose_from_carla(first) @ pose_from_carla(second)
    np.testing.assert_allclose(mirrored_poses(first.matrix @ second.matrix), ours, atol=1e-7)


@given(transforms, st.tuples(metres, metres, metres))
def test_a_point_of_a_thing_lies_at_the_same_place_in_both_frames(transform, point):
    in_carla = transform_points(transform.matrix, np.array([point]))
    ours = transform_points(pose_from_carla(transform), mirrored_points(np.array([point])))
    np.testing.assert_allclose(mirrored_points(in_carla), ours, atol=1e-6)


@pytest.mark.parametrize("pitch_deg", [90.0, -90.0])
@given(yaw_deg=degrees, roll_deg=degrees)
def test_a_thing_that_looks_straight_up_or_down_keeps_its_orientation(pitch_deg, yaw_deg, roll_deg):
    transform = CarlaTransform(1, 2, 3, pitch_deg, yaw_deg, roll_deg)
    np.testing.assert_allclose(carla_from_pose(pose_from_carla(transform)).matrix, transform.matrix, atol=1e-7)


@given(transforms)
def test_the_matrix_is_the_client_library_s_own(transform):
    carla = pytest.importorskip("carla", reason="CARLA's client (extra carla) is not installed")
    theirs = carla.Transform(
        carla.Location(transform.x_m, transform.y_m, transform.z_m),
        carla.Rotation(pitch=transform.pitch_deg, yaw=transform.yaw_deg, roll=transform.roll_deg),
    )
    # The client computes in single precision.
    np.testing.assert_allclose(np.array(theirs.get_matrix()), transform.matrix, atol=2e-4)


@given(metres, metres, degrees)
def test_left_of_a_car_stays_left_of_it_in_carla(x_m, y_m, yaw_deg):
    ego = CarlaTransform(x_m, y_m, 0.0, 0.0, yaw_deg, 0.0)
    ahead_left = pose_from_carla(ego) @ poses_from_planar(np.array([10.0, 3.0, 0.0]))
    offset = np.linalg.inv(ego.matrix) @ carla_from_pose(ahead_left).matrix
    np.testing.assert_allclose(offset[:3, 3], [10.0, -3.0, 0.0], atol=1e-6)


def test_a_plan_to_the_left_turns_to_carla_s_left():
    yaws = np.linspace(0, np.deg2rad(40), 16)
    steps = 0.6 * np.column_stack([np.cos(yaws), np.sin(yaws)])
    poses = poses_from_planar(np.column_stack([np.cumsum(steps, axis=0), yaws]))
    assert EgoPlan(poses, np.arange(16) * 100_000).command is Command.LEFT
    first, last = carla_from_pose(poses[0]), carla_from_pose(poses[-1])
    assert last.yaw_deg == pytest.approx(first.yaw_deg - 40)
    assert last.y_m < first.y_m
