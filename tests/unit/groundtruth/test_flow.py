"""Flow against the motion it describes: where cells are a moment later."""

from dataclasses import replace

import numpy as np
import pytest

from dyncity_sim.domain.frames import inverse, poses_from_planar, transform_points
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.ground_truth import LabelledFrame
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.scene import Track
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.groundtruth.boxes import boxes_in_frame, instance_cells
from dyncity_sim.groundtruth.flow import occupancy_flow

VEHICLE = CARLASC.index("vehicle")
STEP_US = 10_000


def turning_track(turn_rate_radps: float, frames: int = 3) -> Track:
    """A car at 10 m/s on a circle."""
    seconds = np.arange(frames) * STEP_US * 1e-6
    yaws = 0.3 + turn_rate_radps * seconds
    forward = np.stack([np.cos(yaws), np.sin(yaws), 0 * yaws], axis=-1)
    places = np.array([8.0, 3.0]) + 10 * seconds[:, None] * forward[len(yaws) // 2, :2]
    poses = poses_from_planar(np.column_stack([places, yaws]), 0.8)
    return Track(5, ActorKind.CAR, (4.4, 1.8, 1.5), poses, np.arange(frames) * STEP_US, 10 * forward)


def frame_of(track: Track, step: int, pose_world_from_ego: np.ndarray) -> LabelledFrame:
    boxes = boxes_in_frame([track], pose_world_from_ego, int(track.times_us[step]), CARLASC_GRID)
    labels = np.zeros(CARLASC_GRID.shape, np.uint8)
    labels[..., 0] = CARLASC.index("road")
    centres = np.stack(np.meshgrid(*(CARLASC_GRID.centres(axis) for axis in range(3)), indexing="ij"), axis=-1)
    local = transform_points(inverse(boxes[0].pose_ego_from_actor), centres.reshape(-1, 3))
    inside = (np.abs(local) <= np.array(track.size_m) / 2).all(axis=1).reshape(labels.shape)
    labels[inside] = VEHICLE
    labels[10, 10, 3] = VEHICLE
    instances = instance_cells(labels, boxes, CARLASC_GRID, CARLASC)
    return LabelledFrame(
        labels, None, instances, labels > 0, None, (), (), boxes, pose_world_from_ego, int(track.times_us[step])
    )


@pytest.mark.parametrize("turn_rate_radps", [0.0, 0.5, -0.8])
def test_cells_of_a_turning_car_go_where_its_body_goes(turn_rate_radps):
    track, ego = turning_track(turn_rate_radps), poses_from_planar(np.array([1.0, -2.0, 0.9]), 1.8)
    frame = frame_of(track, 1, ego)
    flow = occupancy_flow(frame, {5: track}, CARLASC_GRID, CARLASC)
    cells = np.argwhere(frame.instances == 5)
    centres = np.asarray(CARLASC_GRID.lower_m) + (cells + 0.5) * np.asarray(CARLASC_GRID.voxel_size_m)
    body = transform_points(inverse(frame.boxes[0].pose_ego_from_actor), centres)
    before, after = (transform_points(inverse(ego) @ track.poses_world_from_actor[s], body) for s in (0, 2))
    assert len(cells) > 80
    np.testing.assert_allclose(flow[tuple(cells.T)], (after - before) / (2 * STEP_US * 1e-6), atol=1e-3)
    if turn_rate_radps:
        assert np.ptp(flow[tuple(cells.T)], axis=0).max() > 0.5


def test_static_and_free_cells_stand_still_and_nobody_knows_of_cells_without_a_track():
    track = turning_track(0.2)
    frame = frame_of(track, 1, poses_from_planar(np.array([0.0, 0.0, 0.0]), 1.8))
    flow = occupancy_flow(frame, {5: track}, CARLASC_GRID, CARLASC)
    assert np.isnan(flow[10, 10, 3]).all()
    assert int(np.isnan(flow).any(axis=-1).sum()) == 1
    assert (flow[(frame.labels != VEHICLE)] == 0).all()


def test_nobody_knows_how_cells_move_that_nobody_saw():
    track = turning_track(0.2)
    whole = frame_of(track, 1, poses_from_planar(np.array([0.0, 0.0, 0.0]), 1.8))
    observed = np.ones(whole.labels.shape, np.bool_)
    unseen = (whole.instances == 5) | (np.arange(8) == 7)
    observed[unseen] = False
    flow = occupancy_flow(replace(whole, observed=observed), {5: track}, CARLASC_GRID, CARLASC)
    assert np.isnan(flow[unseen]).all()
    expected = occupancy_flow(whole, {5: track}, CARLASC_GRID, CARLASC)
    np.testing.assert_array_equal(flow[observed], expected[observed])


def test_points_of_a_lidar_move_as_the_cells_that_they_lie_in(street):
    _, drive, frames = street
    tracks = {track.id: track for track in drive.tracks}
    flow = occupancy_flow(frames[4], tracks, CARLASC_GRID, CARLASC)
    sweep = frames[4].sweeps[0]
    of_points = flow[tuple(CARLASC_GRID.indices(sweep.points_ego_m).T)]
    assert (np.linalg.norm(of_points, axis=1) > 1).sum() > 100
    # A cell's middle is at most 0.34 m from what is measured in it, and cars here turn at 0.15 rad/s.
    np.testing.assert_allclose(sweep.velocities_ego_mps, of_points, atol=0.1)
