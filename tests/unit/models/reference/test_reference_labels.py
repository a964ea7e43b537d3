import numpy as np
from dyncity_models.reference.labels import (
    FORWARD,
    LEFT,
    OFFICIAL_THRESHOLDS,
    RIGHT,
    STATIC,
    VEHICLE,
    command_of,
    layout_of,
    trajectory_of,
    turns,
)

from dyncity_sim.domain.frames import poses_from_planar


def track(speed_m=0.0, yaw_rate=0.0, yaw=0.0, frames=16):
    yaws = yaw + yaw_rate * np.arange(frames)
    steps = speed_m * np.stack([np.cos(yaws), np.sin(yaws)], axis=1)
    return poses_from_planar(np.column_stack([np.cumsum(steps, axis=0), yaws]))


def test_trajectories_stand_in_world_axes_with_an_absolute_yaw():
    trajectory = trajectory_of(track(1.0, yaw=np.pi / 2))
    np.testing.assert_allclose(trajectory[5], [0.0, 5.0, np.pi / 2], atol=1e-12)
    np.testing.assert_array_equal(trajectory, trajectory_of(track(1.0, yaw=np.pi / 2)[:, :3].reshape(16, 12)))


def test_commands_follow_the_first_threshold_that_is_passed():
    tracks = track(), track(1), track(1, 0.01), track(1, -0.01)
    assert [command_of(trajectory_of(poses)) for poses in tracks] == [STATIC, FORWARD, LEFT, RIGHT]


def test_the_official_thresholds_do_not_grow_with_the_chunk():
    drift = trajectory_of(track(1.0, 0.0026 / 15))
    assert command_of(drift) == LEFT
    assert command_of(drift, OFFICIAL_THRESHOLDS.over(16)) == FORWARD


def test_a_left_turn_over_west_is_one_and_jitter_there_is_a_turn_flag_only():
    assert command_of(trajectory_of(track(1.0, 0.02, np.pi - 0.1))) == LEFT
    jitter = trajectory_of(track(1.0, 0.0, np.pi))
    jitter[:, 2] = np.pi - 1e-3
    jitter[-1, 2] = -np.pi + 1e-3
    assert command_of(jitter) == FORWARD
    assert turns(jitter)


def test_layouts_drop_incomplete_blocks_and_all_but_vehicles():
    labels = np.zeros((2, 5, 4, 3), dtype=np.uint8)
    labels[0, 1, 2, 1] = VEHICLE
    labels[0, 4, 0, 0] = VEHICLE
    labels[1, 0, 0, 0] = VEHICLE - 1
    layout = layout_of(labels, 2)
    assert layout.shape == (2, 2, 2)
    assert np.argwhere(layout).tolist() == [[0, 0, 1]]
