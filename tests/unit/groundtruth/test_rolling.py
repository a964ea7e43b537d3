"""A LiDAR that takes its time: the ego and the actors move while it turns."""

from dataclasses import fields, replace

import numpy as np
import pytest

from dyncity_sim.domain.frames import inverse, poses_from_planar, transform_points
from dyncity_sim.domain.grid import CARLASC_GRID, LIDAR_HEIGHT_M
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.scene import Provenance, Track
from dyncity_sim.domain.sensors import Scan, SensorRig
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.groundtruth.build import labelled_drive, labelled_frames
from dyncity_sim.groundtruth.sensors.motion import motion_of, poses_at, turn_of
from dyncity_sim.groundtruth.sensors.rig import read_rig

INSTANT = read_rig("hdl32").lidars[0]
ROLLING = replace(INSTANT, scan=Scan.ROLLING, period_s=0.1)
CAR_SIZE_M = (4.5, 1.8, 1.5)


def track_of(occupancy, actor, number=1):
    """The street's actor as a track with poses at all frames."""
    frames = range(len(occupancy))
    planar = np.array([[*actor.centre_m(frame), actor.yaw_rad] for frame in frames])
    heading = np.array([np.cos(actor.yaw_rad), np.sin(actor.yaw_rad), 0.0])
    poses = poses_from_planar(planar, z_m=actor.size_m[2] / 2)
    velocities = np.tile(actor.speed_mps * heading, (len(occupancy), 1))
    return Track(number, ActorKind.CAR, actor.size_m, poses, occupancy.times_us, velocities)


def frames_of(occupancy, lidar, tracks=()):
    provenance = Provenance(None, (), "", CARLASC.id)
    drive = labelled_drive(occupancy, tuple(tracks), provenance, SensorRig("one", (lidar,)))
    return list(labelled_frames(occupancy, drive, threads=1))


def test_a_still_world_is_measured_alike_in_a_turn_and_in_an_instant(build_street, street_actor):
    actor = street_actor(8, -3)
    drive = build_street(frames=2, ego_speed_mps=0.0, actors=[actor])
    tracks = [track_of(drive, actor)]
    for instant, rolling in zip(frames_of(drive, INSTANT, tracks), frames_of(drive, ROLLING, tracks), strict=True):
        for part in fields(instant.sweeps[0]):
            if part.name != "time_offsets_us":
                np.testing.assert_array_equal(
                    getattr(instant.sweeps[0], part.name), getattr(rolling.sweeps[0], part.name)
                )
        np.testing.assert_array_equal(instant.seen_by_lidar, rolling.seen_by_lidar)
        assert [box.visibility for box in instant.boxes] == [box.visibility for box in rolling.boxes] == [1.0]


def test_firings_are_spread_over_the_period_and_end_at_the_frame(build_street):
    drive = build_street(frames=2)
    sweep = frames_of(drive, ROLLING)[1].sweeps[0]
    expected = np.rint(((sweep.firings + 1) / ROLLING.azimuth_steps - 1) * 1e5)
    np.testing.assert_array_equal(sweep.time_offsets_us, expected)
    assert sweep.time_offsets_us.max() == 0
    assert sweep.time_offsets_us.min() < -99_000
    assert not frames_of(drive, INSTANT)[1].sweeps[0].time_offsets_us.any()


@pytest.mark.parametrize("curvature_per_m", [0.0, 1 / 40])
def test_the_motion_of_the_ego_is_taken_out_of_still_things(build_street, curvature_per_m):
    drive = build_street(frames=3, ego_speed_mps=10.0, curvature_per_m=curvature_per_m)
    for number, frame in enumerate(frames_of(drive, ROLLING)):
        sweep = frame.sweeps[0]
        cells = CARLASC_GRID.indices(sweep.points_ego_m)
        np.testing.assert_array_equal(drive.labels[number][tuple(cells.T)], sweep.labels)


def test_rays_start_where_the_ego_was(build_street):
    drive = build_street(frames=2, ego_speed_mps=10.0)
    sweep = frames_of(drive, ROLLING)[1].sweeps[0]
    origins = np.stack([10.0 * sweep.time_offsets_us * 1e-6, 0 * sweep.firings, 0 * sweep.firings], axis=1)
    azimuth = 2 * np.pi * sweep.firings / ROLLING.azimuth_steps
    towards = sweep.points_ego_m - origins
    flat = np.linalg.norm(towards[:, :2], axis=1)
    np.testing.assert_allclose(towards[:, 0] / flat, np.cos(azimuth), atol=2e-3)
    np.testing.assert_allclose(towards[:, 1] / flat, np.sin(azimuth), atol=2e-3)


def test_a_car_is_met_where_it_was_when_the_ray_was_cast(build_street, street_actor):
    # It comes from the right behind, where the scanner looks late, to the left ahead, where it looks early.
    cars = [street_actor(8, 3, 0.0, 12.0), street_actor(-8, -3, 0.0, 12.0)]
    drive = build_street(frames=3, ego_speed_mps=0.0, actors=cars)
    tracks = [track_of(drive, car, number) for number, car in enumerate(cars, start=1)]
    frame = frames_of(drive, ROLLING, tracks)[2]
    sweep = frame.sweeps[0]
    for box, track in zip(frame.boxes, tracks, strict=True):
        own = sweep.instances == track.id
        assert own.sum() > 100
        moved_m = 12.0 * sweep.time_offsets_us[own] * 1e-6
        now = sweep.points_ego_m[own] - moved_m[:, None] * np.array([1.0, 0, 0])
        cells = CARLASC_GRID.indices(now)
        assert (frame.instances[tuple(cells.T)] == track.id).all()
        local = transform_points(inverse(box.pose_ego_from_actor), now)
        assert (np.abs(local) <= np.array(CAR_SIZE_M) / 2 + 0.41).all()
        np.testing.assert_allclose(sweep.velocities_ego_mps[own], np.tile([12.0, 0, 0], (own.sum(), 1)), atol=1e-5)
    early, late = (sweep.time_offsets_us[sweep.instances == number].mean() for number in (1, 2))
    assert early < -75_000 < -45_000 < late


def test_a_moving_car_hides_and_shows_what_it_hid_and_showed_then(build_street, street_actor):
    # The car ends to the right of the scanner, which looks there a quarter of a turn before: 0.75 m earlier.
    wall = street_actor(0, -8, 0.0, 0.0, (16.0, 1.0, 3.0), CARLASC.index("building"))
    car = street_actor(-3.0, -4.0, 0.0, 30.0)
    drive = build_street(frames=2, ego_speed_mps=0.0, actors=[wall, car], empty=True)

    def rays_by_label(lidar):
        sweep = frames_of(drive, lidar, [track_of(drive, car)])[1].sweeps[0]
        rays = list(zip(sweep.beams.tolist(), sweep.firings.tolist(), strict=True))
        return [
            {r for r, on in zip(rays, sweep.labels == CARLASC.index(name), strict=True) if on}
            for name in ("vehicle", "building")
        ]

    (car_now, wall_now), (car_then, wall_then) = rays_by_label(INSTANT), rays_by_label(ROLLING)
    shown = [firing / ROLLING.azimuth_steps for _, firing in car_now & wall_then]
    hidden = [firing / ROLLING.azimuth_steps for _, firing in car_then & wall_now]
    assert len(shown) > 20
    assert len(hidden) > 20
    # Azimuth grows to the left: what the car shows lies before its front, what it hides behind its rear.
    assert min(shown) > 0.75 > max(hidden)


def test_poses_between_frames_follow_the_arc_and_go_on_before_the_first(build_street):
    drive = build_street(frames=4, ego_speed_mps=10.0, curvature_per_m=1 / 30)
    poses, times_us = drive.poses_world_from_ego, drive.times_us
    np.testing.assert_allclose(poses_at(poses, times_us, times_us), poses, atol=1e-12)
    between = poses_at(poses, times_us, np.array([-50_000, 150_000]))
    yaw = np.arctan2(between[:, 1, 0], between[:, 0, 0])
    np.testing.assert_allclose(yaw, [-0.5 / 30, 1.5 / 30], atol=1e-9)
    assert between[0, 0, 3] == pytest.approx(-0.5, abs=0.01)
    np.testing.assert_allclose(between[:, 2, 3], LIDAR_HEIGHT_M)


def test_a_track_that_turns_spins():
    planar = np.stack([np.zeros(3), np.zeros(3), [0.0, 0.1, 0.2]], axis=1)
    times_us = np.arange(3) * 100_000
    track = Track(1, ActorKind.CAR, CAR_SIZE_M, poses_from_planar(planar), times_us, np.zeros((3, 3)))
    ego = poses_from_planar(np.array([5.0, 0.0, 0.7]))
    motion = motion_of(track, 100_000, ego)
    np.testing.assert_allclose(motion.spin_ego_radps, [0, 0, 1.0], atol=1e-9)
    one_metre_ahead = inverse(ego) @ np.array([np.cos(0.1), np.sin(0.1), 0, 1])
    speed = motion.velocities(one_metre_ahead[None, :3])[0]
    np.testing.assert_allclose(ego[:3, :3] @ speed, [-np.sin(0.1), np.cos(0.1), 0], atol=1e-9)


def test_a_track_of_one_pose_moves_with_its_velocity(build_street):
    drive = build_street(frames=1)
    pose = poses_from_planar(np.array([[8.0, 0.0, 0.0]]))
    track = Track(4, ActorKind.CAR, CAR_SIZE_M, pose, drive.times_us, np.array([[10.0, 0.0, 0.0]]))
    turn = turn_of(ROLLING, 0, drive.poses_world_from_ego, drive.times_us, [track])
    travelled = turn.pose_then_from_now[4][:, 0, 3]
    np.testing.assert_allclose(travelled, 10.0 * turn.offsets_us * 1e-6, atol=1e-9)
