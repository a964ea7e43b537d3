"""Actors out of voxels, on streets whose truth is known."""

import numpy as np
import pytest

from dyncity_sim.domain.frames import planar_from_poses, wrap_angle
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.scene.actors import find_tracks

PEDESTRIAN = 4


def errors(track, actor):
    """Largest centre error (metres) and yaw error (radians) of a track against its actor."""
    planar = planar_from_poses(track.poses_world_from_actor)
    truth = np.array([actor.centre_m(frame) for frame in track.times_us // 100_000])
    centre_m = np.linalg.norm(planar[:, :2] - truth, axis=1).max()
    return centre_m, np.abs(wrap_angle(planar[:, 2] - actor.yaw_rad)).max()


def test_two_cars_side_by_side_stay_two(build_street, street_actor):
    cars = [street_actor(12, -1.5, 0, 6), street_actor(12, -4.5, 0, 6)]
    tracks = find_tracks(build_street(frames=12, actors=cars))
    assert [t.kind for t in tracks] == [ActorKind.CAR, ActorKind.CAR]
    assert {len(t) for t in tracks} == {12}


def test_parked_cars_that_touch_in_the_grid_are_split(build_street, street_actor):
    row = [street_actor(x, -9, 0, 0) for x in (10.0, 14.9, 19.8)]
    tracks = find_tracks(build_street(frames=10, ego_speed_mps=0.3, actors=row))
    assert len(tracks) == 3
    for track, car in zip(sorted(tracks, key=lambda t: t.poses_world_from_actor[0, 0, 3]), row, strict=True):
        assert errors(track, car)[0] < 0.6


def test_a_moving_car_keeps_one_id_across_chunk_borders(build_street, street_actor):
    car = street_actor(6, -1.7, 0, 9)
    tracks = find_tracks(build_street(frames=48, actors=[car], ego_speed_mps=8))
    assert [t.id for t in tracks] == [1]
    assert len(tracks[0]) == 48
    centre_m, yaw_rad = errors(tracks[0], car)
    assert centre_m < 0.4
    assert yaw_rad < np.deg2rad(5)
    np.testing.assert_allclose(tracks[0].velocities_world_mps.mean(axis=0), [9, 0, 0], atol=0.3)


@pytest.mark.parametrize("yaw_deg", [0, 30, 90, 135, 200])
def test_boxes_have_the_size_and_heading_of_the_car_at_any_angle(build_street, street_actor, yaw_deg):
    car = street_actor(4, 3, np.deg2rad(yaw_deg), 5, size_m=(4.6, 1.9, 1.5))
    (track,) = find_tracks(build_street(frames=16, ego_speed_mps=0.7, actors=[car]))
    np.testing.assert_allclose(track.size_m, car.size_m, atol=0.4)
    centre_m, yaw_rad = errors(track, car)
    assert centre_m < 0.35
    assert yaw_rad < np.deg2rad(6)


def test_a_gap_of_four_frames_is_bridged_under_the_same_id(build_street, street_actor):
    car = street_actor(8, -1.7, 0, 8, absent=frozenset({6, 7, 8, 9}))
    (track,) = find_tracks(build_street(frames=20, actors=[car]))
    assert (track.times_us // 100_000).tolist() == [*range(6), *range(10, 20)]


def test_flicker_of_two_frames_is_no_actor(build_street, street_actor):
    ghost = street_actor(8, -1.7, absent=frozenset(range(16)) - {5, 6})
    assert find_tracks(build_street(frames=16, actors=[ghost])) == ()


def test_a_pedestrian_walks_and_looks_where_it_walks(build_street, street_actor):
    person = street_actor(6, 6.5, 0.5, 1.3, size_m=(0.5, 0.5, 1.75), label=PEDESTRIAN)
    (track,) = find_tracks(build_street(frames=32, ego_speed_mps=2, actors=[person]))
    assert track.kind is ActorKind.PEDESTRIAN
    centre_m, yaw_rad = errors(track, person)
    assert centre_m < 0.3
    assert yaw_rad < np.deg2rad(20)
    assert 1.4 < track.size_m[2] < 2.0


def test_a_rider_belongs_to_the_bicycle(build_street, street_actor):
    bicycle = street_actor(5, -3, 0, 4.5, size_m=(1.7, 0.6, 1.75), rider_label=PEDESTRIAN)
    (track,) = find_tracks(build_street(frames=16, actors=[bicycle], ego_speed_mps=4))
    assert track.kind is ActorKind.BICYCLE
    assert track.size_m[2] > 1.4


def test_a_bus_that_enters_through_the_border_has_its_whole_size_and_place(build_street, street_actor):
    bus = street_actor(33, 2.2, np.pi, 9, size_m=(11.5, 2.5, 2.7))
    (track,) = find_tracks(build_street(frames=32, ego_speed_mps=4, actors=[bus]))
    assert track.kind is ActorKind.BUS
    assert track.size_m[0] == pytest.approx(11.5, abs=0.4)
    assert errors(track, bus)[0] < 0.8


def test_parked_cars_face_along_the_ego_on_its_right_and_against_it_on_its_left(build_street, street_actor):
    right, left = street_actor(10, -4.2, 0, 0), street_actor(10, 4.2, np.pi, 0)
    tracks = find_tracks(build_street(frames=8, actors=[right, left], ego_speed_mps=2))
    for track in tracks:
        actor = right if track.poses_world_from_actor[0, 1, 3] < 0 else left
        assert errors(track, actor)[1] < np.deg2rad(4)


@pytest.mark.parametrize("empty", [True, False])
def test_a_street_without_traffic_has_no_actors(build_street, empty):
    assert find_tracks(build_street(frames=4, empty=empty)) == ()


def test_the_same_drive_gives_the_same_tracks(build_street, street_actor):
    drive = build_street(frames=12, actors=[street_actor(6, -1.7, 0, 9), street_actor(20, 2, np.pi, 7)])
    first, second = find_tracks(drive), find_tracks(drive)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.poses_world_from_actor, b.poses_world_from_actor)
        assert a.size_m == b.size_m


def test_poses_that_are_not_rigid_are_refused_before_anything_is_built(build_street):
    drive = build_street(frames=2)
    mirrored = drive.poses_world_from_ego * np.array([1, -1, 1, 1])[:, None]
    with pytest.raises(InvalidInputError, match="not a rigid transform"):
        OccupancySequence(drive.labels, mirrored, drive.times_us, drive.grid, drive.taxonomy)
