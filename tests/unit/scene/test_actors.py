"""Actors out of voxels, on streets whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dyncity_sim.domain.frames import planar_from_poses, wrap_angle
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.scene.actors.find import find_tracks
from dyncity_sim.scene.actors.headings import MOST_YAW_RATE_RADPS
from dyncity_sim.scene.actors.motion import MOST_ACCELERATION_MPS2, most_acceleration_mps2

PEDESTRIAN = CARLASC.index("pedestrian")
BUILDING = CARLASC.index("building")


def errors(track, actor):
    """Largest centre error (metres) and yaw error (radians) of a track against its actor."""
    planar = planar_from_poses(track.poses_world_from_actor)
    truth = np.array([actor.centre_m(frame) for frame in track.times_us // 100_000])
    centre_m = np.linalg.norm(planar[:, :2] - truth, axis=1).max()
    return centre_m, np.abs(wrap_angle(planar[:, 2] - actor.yaw_rad)).max()


def along(street_actor, planar, size_m=(4.5, 1.8, 1.5)):
    """An actor that is at ``planar[frame]`` (x, y, yaw) in each frame, as one that is shown for each of them."""
    frames = frozenset(range(len(planar)))
    return [street_actor(x, y, yaw, size_m=size_m, absent=frames - {frame}) for frame, (x, y, yaw) in enumerate(planar)]


def assert_a_vehicle_can(track):
    """Speeds, accelerations, yaw rates and slip of the track are those that a vehicle can have."""
    planar = planar_from_poses(track.poses_world_from_actor)
    steps_s = np.diff(track.times_us) * 1e-6
    moved = np.diff(planar[:, :2], axis=0) / steps_s[:, None]
    turned = wrap_angle(np.diff(planar[:, 2]))
    yaws = planar[:-1, 2] + turned / 2
    sideways = np.abs(moved[:, 1] * np.cos(yaws) - moved[:, 0] * np.sin(yaws))
    asked = most_acceleration_mps2(planar[:, :2], track.velocities_world_mps[:, :2], steps_s)
    assert asked <= MOST_ACCELERATION_MPS2[True] + 1e-6
    assert (np.abs(turned) <= MOST_YAW_RATE_RADPS * steps_s + 1e-6).all()
    assert np.linalg.norm(moved, axis=1).max() < 30
    assert sideways.max() < 1.5


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


@pytest.mark.parametrize("speed_mps", [0.0, 7.0])
def test_a_car_that_leaves_sight_and_comes_back_where_its_motion_leads_keeps_its_id(
    build_street, street_actor, speed_mps
):
    car = street_actor(-10, -1.7, 0, speed_mps, absent=frozenset(range(10, 30)))
    other = street_actor(9, 3, np.pi, 0)
    tracks = find_tracks(build_street(frames=40, ego_speed_mps=0.5, actors=[car, other]))
    assert sorted(len(t) for t in tracks) == [20, 40]
    (track,) = (t for t in tracks if len(t) == 20)
    assert (track.times_us // 100_000).tolist() == [*range(10), *range(30, 40)]
    assert errors(track, car)[0] < 0.4


def test_a_car_that_comes_back_somewhere_else_or_much_later_is_another(build_street, street_actor):
    first = street_actor(-12, -1.7, 0, 5, absent=frozenset(range(10, 60)))
    elsewhere = street_actor(-20, 3, 0, 5, absent=frozenset({*range(22), *range(40, 60)}))
    later = street_actor(6, -1.7, 0, 0, absent=frozenset(range(45)))
    tracks = find_tracks(build_street(frames=60, ego_speed_mps=0.5, actors=[first, elsewhere, later]))
    assert [len(t) for t in tracks] == [10, 18, 15]


def test_a_pedestrian_behind_a_bus_goes_on_as_the_same_one(build_street, street_actor):
    bus = street_actor(-14, 3, 0, 9, size_m=(11.5, 2.5, 2.7))
    x_m, speed_mps = 8.0, 1.3
    # The ego at y = 0 does not see over y = 6.5 what the bus between them hides.
    hidden = frozenset(
        frame
        for frame in range(48)
        if abs((x_m + speed_mps * frame / 10 - 0.05 * frame) * 3 / 6.5 + 0.05 * frame - bus.centre_m(frame)[0]) < 5.75
    )
    person = street_actor(x_m, 6.5, 0, speed_mps, size_m=(0.5, 0.5, 1.75), label=PEDESTRIAN, absent=hidden)
    assert 8 < len(hidden) < 25
    tracks = find_tracks(build_street(frames=48, ego_speed_mps=0.5, actors=[bus, person]))
    assert sorted(t.kind.value for t in tracks) == ["bus", "pedestrian"]
    (track,) = (t for t in tracks if t.kind is ActorKind.PEDESTRIAN)
    assert len(track) == 48 - len(hidden)
    assert errors(track, person)[0] < 0.3


def test_a_turn_at_a_junction_is_followed(build_street, street_actor):
    radius_m, speed_mps = 7.0, 5.0
    way_m = np.arange(45) * speed_mps / 10
    turned = np.clip((way_m - 6) / radius_m, 0, np.pi / 2)
    ahead_m = np.minimum(way_m, 6) + radius_m * np.sin(turned)
    aside_m = radius_m * (1 - np.cos(turned)) + np.maximum(way_m - 6 - radius_m * np.pi / 2, 0)
    planar = np.column_stack([ahead_m - 4, aside_m - 8, turned])
    (track,) = find_tracks(build_street(frames=45, ego_speed_mps=0.5, actors=along(street_actor, planar)))
    found = planar_from_poses(track.poses_world_from_actor)
    assert len(track) == 45
    assert np.linalg.norm(found[:, :2] - planar[:, :2], axis=1).max() < 0.4
    assert np.abs(wrap_angle(found[:, 2] - planar[:, 2])).max() < np.deg2rad(10)
    np.testing.assert_allclose(np.linalg.norm(track.velocities_world_mps, axis=1), speed_mps, atol=0.7)
    assert_a_vehicle_can(track)


@pytest.mark.parametrize("seed", range(4))
def test_noisy_cells_in_fragments_make_one_car_that_moves_as_a_car_can(build_street, street_actor, seed):
    rng = np.random.default_rng(seed)
    planar = np.column_stack([np.arange(48) * 0.6 - 14, np.full(48, -2.0), np.zeros(48)])
    shaken = planar + rng.normal(0, (0.3, 0.3, np.deg2rad(8)), planar.shape)
    drive = build_street(frames=48, ego_speed_mps=0.5, actors=along(street_actor, shaken))
    vehicle = drive.labels == CARLASC.index("vehicle")
    drive.labels[vehicle & (rng.random(drive.labels.shape[:3]) < 0.15)[..., None]] = 0
    (track,) = find_tracks(drive)
    assert len(track) > 42
    assert track.kind is ActorKind.CAR
    assert_a_vehicle_can(track)
    off_m = planar_from_poses(track.poses_world_from_actor)[:, :2] - planar[track.times_us // 100_000, :2]
    assert np.median(np.linalg.norm(off_m, axis=1)) < 0.25


def test_a_car_that_climbs_has_the_velocity_of_its_slope(build_street, street_actor):
    drive = build_street(frames=24, actors=[street_actor(8, -1.7, 0, 8)])
    slope_rad = np.deg2rad(5)
    pitch = np.eye(4)
    pitch[:3, :3] = Rotation.from_euler("y", -slope_rad).as_matrix()
    (track,) = find_tracks(replace(drive, poses_world_from_ego=pitch @ drive.poses_world_from_ego))
    climbed_m = track.poses_world_from_actor[-1, 2, 3] - track.poses_world_from_actor[0, 2, 3]
    seconds = (track.times_us[-1] - track.times_us[0]) * 1e-6
    assert climbed_m == pytest.approx(8 * np.sin(slope_rad) * seconds, abs=0.4)
    assert np.median(track.velocities_world_mps[:, 2]) == pytest.approx(8 * np.sin(slope_rad), abs=0.1)


def test_a_parked_car_stands_still_while_the_ego_passes(build_street, street_actor):
    car = street_actor(10, -7, 0.2, 0)
    (track,) = find_tracks(build_street(frames=48, ego_speed_mps=4, actors=[car]))
    assert len(track) == 48
    assert not track.velocities_world_mps.any()
    assert np.ptp(track.poses_world_from_actor, axis=0).max() == 0
    centre_m, yaw_rad = errors(track, car)
    assert centre_m < 0.1
    assert yaw_rad < np.deg2rad(2)


@pytest.mark.parametrize("yaw_rad", [0.0, np.pi])
@pytest.mark.parametrize("y_m", [-4.2, 4.2])
def test_a_parked_car_faces_where_its_bonnet_is(build_street, street_actor, yaw_rad, y_m):
    body = street_actor(10, y_m, yaw_rad, size_m=(4.5, 1.8, 0.95))
    cabin = street_actor(10 - 0.5 * np.cos(yaw_rad), y_m, yaw_rad, size_m=(2.6, 1.8, 1.5))
    (track,) = find_tracks(build_street(frames=8, ego_speed_mps=2, actors=[body, cabin]))
    assert errors(track, body)[1] < np.deg2rad(4)


def test_a_truck_of_two_parts_is_one(build_street, street_actor):
    load = street_actor(-10, -2, 0, 6, size_m=(5.6, 2.4, 2.8))
    cab = street_actor(-5.75, -2, 0, 6, size_m=(1.9, 2.3, 2.4))
    (track,) = find_tracks(build_street(frames=24, ego_speed_mps=4, actors=[load, cab]))
    assert track.kind is ActorKind.TRUCK
    assert track.kind_confidence > 0.5
    assert track.size_m[0] == pytest.approx(7.75, abs=0.4)


def test_a_car_whose_end_alone_is_ever_seen_has_the_length_of_a_car(build_street, street_actor):
    car = street_actor(26.6, -1.7, 0, 0)
    (track,) = find_tracks(build_street(frames=10, ego_speed_mps=0, actors=[car]))
    assert track.kind is ActorKind.CAR
    assert track.size_m[0] > 4
    assert errors(track, car)[0] < 0.6


def test_flicker_of_two_frames_is_no_actor(build_street, street_actor):
    ghost = street_actor(8, -1.7, absent=frozenset(range(16)) - {5, 6})
    assert find_tracks(build_street(frames=16, actors=[ghost])) == ()


@pytest.mark.parametrize("frames", [1, 2])
def test_a_drive_shorter_than_flicker_has_the_actors_that_it_shows(build_street, street_actor, frames):
    car = street_actor(8, -1.7)
    (track,) = find_tracks(build_street(frames=frames, actors=[car]))
    assert len(track) == frames
    assert errors(track, car)[0] < 0.3


@pytest.mark.parametrize("step_s", [0.6, 1.0, 2.5])
def test_actors_are_followed_from_frame_to_frame_however_far_apart_these_are(build_street, street_actor, step_s):
    drive = build_street(frames=8, actors=[street_actor(x, -4.2, 0, 0) for x in (8.0, 16.0)])
    slow = replace(drive, times_us=drive.times_us * round(step_s * 10))
    assert [len(track) for track in find_tracks(slow)] == [8, 8]


def test_cells_that_nobody_observed_hold_no_actor_whatever_their_label(build_street, street_actor):
    drive = build_street(frames=4, actors=[street_actor(8, -1.7)])
    assert find_tracks(replace(drive, observed=np.zeros(drive.labels.shape, dtype=np.bool_))) == ()


def test_what_fills_the_highest_layer_alone_is_a_box_there(build_street):
    drive = build_street(frames=4, empty=True, ego_speed_mps=0.0)
    drive.labels[:, 80:90, 60:65, -1] = CARLASC.index("vehicle")
    (track,) = find_tracks(drive)
    top_m = track.poses_world_from_actor[0, 2, 3] + track.size_m[2] / 2
    layer_m = drive.grid.voxel_size_m[2]
    assert top_m == pytest.approx(drive.poses_world_from_ego[0, 2, 3] + drive.grid.upper_m[2], abs=layer_m + 1e-9)


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


def test_a_scene_that_is_all_building_has_no_actors(build_street):
    drive = build_street(frames=4)
    drive.labels[:] = BUILDING
    assert find_tracks(drive) == ()


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
