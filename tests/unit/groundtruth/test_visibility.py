"""Masks of seen cells, shares of actors that can be seen, and what a whole rig labels in a frame."""

from dataclasses import fields, replace

import numpy as np
import pytest

from dyncity_sim.domain.frames import poses_from_planar
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.scene import Provenance, Track
from dyncity_sim.domain.sensors import Dropout, LidarSensor, Scan, SensorRig
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.groundtruth.build import labelled_drive, labelled_frames
from dyncity_sim.groundtruth.sensors.rig import read_rig

PROVENANCE = Provenance(None, (), "", CARLASC.id)
PEDESTRIAN_M = (0.6, 0.6, 1.75)
BUS_M = (12.0, 2.5, 2.8)


def track_of(occupancy, actor, number, kind):
    planar = np.array([[*actor.centre_m(frame), actor.yaw_rad] for frame in range(len(occupancy))])
    poses = poses_from_planar(planar, z_m=actor.size_m[2] / 2)
    return Track(number, kind, actor.size_m, poses, occupancy.times_us, np.zeros((len(occupancy), 3)))


def label(occupancy, tracks=(), rig="nuscenes", seed=0, threads=None):
    rig = read_rig(rig) if isinstance(rig, str) else rig
    drive = labelled_drive(occupancy, tuple(tracks), PROVENANCE, rig, seed=seed)
    return list(labelled_frames(occupancy, drive, threads))


def behind_a_bus(build_street, street_actor, walker_x):
    """A bus to the left of the ego, and a pedestrian beyond it."""
    bus = street_actor(6, 3, 0.0, 0.0, BUS_M)
    walker = street_actor(walker_x, 6.2, 0.0, 0.0, PEDESTRIAN_M, CARLASC.index("pedestrian"))
    drive = build_street(frames=1, actors=[bus, walker])
    tracks = [track_of(drive, bus, 1, ActorKind.BUS), track_of(drive, walker, 2, ActorKind.PEDESTRIAN)]
    return label(drive, tracks)[0]


def test_a_pedestrian_behind_a_bus_is_not_visible_and_the_bus_is(build_street, street_actor):
    frame = behind_a_bus(build_street, street_actor, walker_x=6.0)
    bus, walker = frame.boxes
    assert bus.visibility == 1.0
    assert bus.lidar_points > 500
    assert walker.visibility == 0.0
    assert walker.lidar_points == 0
    assert not (frame.seen_by_lidar | frame.seen_by_camera)[frame.instances == 2].any()


def test_a_pedestrian_who_steps_out_from_behind_a_bus_comes_into_view(build_street, street_actor):
    shares = [behind_a_bus(build_street, street_actor, x).boxes[1].visibility for x in (6.0, 0.0, -0.4, -3.0)]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert any(0 < share < 1 for share in shares)


def test_an_actor_that_no_ray_can_meet_has_no_visibility(build_street, street_actor):
    car = street_actor(10, 0)
    drive = build_street(frames=1, actors=[car])
    upwards = SensorRig("up", (LidarSensor((0.5,), 8),))
    assert label(drive, [track_of(drive, car, 1, ActorKind.CAR)], upwards)[0].boxes[0].visibility is None


def test_drop_out_takes_points_and_leaves_visibility(build_street, street_actor):
    car = street_actor(10, 0)
    drive = build_street(frames=1, actors=[car])
    blind = SensorRig("blind", (replace(read_rig("hdl64").lidars[0], dropout=Dropout(always=1.0)),))
    box = label(drive, [track_of(drive, car, 1, ActorKind.CAR)], blind)[0].boxes[0]
    assert (box.lidar_points, box.visibility) == (0, 1.0)


def test_masks_hold_what_points_and_pixels_lie_on_and_nothing_within_walls(build_street):
    frame = label(build_street(frames=1))[0]
    cells = CARLASC_GRID.indices(frame.sweeps[0].points_ego_m)
    assert frame.seen_by_lidar[tuple(cells.T)].all()
    building = frame.labels == CARLASC.index("building")
    inside = building & np.roll(building, 3, axis=1) & np.roll(building, -3, axis=1)
    assert not frame.seen_by_lidar[inside].any()
    assert not frame.seen_by_camera[inside].any()
    assert frame.seen_by_camera[building].any()
    assert frame.seen_by_camera[frame.labels == 0].mean() > 0.3


def test_a_rig_without_cameras_has_no_camera_mask_and_no_images(build_street):
    frame = label(build_street(frames=1), rig="hdl32")[0]
    assert frame.seen_by_camera is None
    assert frame.images == ()


def test_images_and_sweeps_come_in_the_order_of_the_rig(build_street):
    rig = read_rig("nuscenes")
    two = SensorRig("two", (rig.lidars[0], replace(rig.lidars[0], name="sparse", azimuth_steps=90)), rig.cameras)
    frame = label(build_street(frames=1), rig=two)[0]
    assert len(frame.sweeps[0]) > 5 * len(frame.sweeps[1])
    assert [image.labels.shape for image in frame.images] == [(225, 400)] * 6


def all_bytes(frame):
    arrays = [frame.seen_by_lidar, frame.seen_by_camera]
    for part in (*frame.sweeps, *frame.images):
        arrays.extend(getattr(part, f.name) for f in fields(part))
    return [array.tobytes() for array in arrays]


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_threads(build_street, street_actor):
    car = street_actor(12, -3, 0.0, 6.0)
    drive = build_street(frames=2, actors=[car])
    rig = read_rig("nuscenes")
    lidar = replace(rig.lidars[0], scan=Scan.ROLLING, dropout=Dropout(0.1, 0.2, 0.2, 0.1), range_noise_m=0.02)
    rig = SensorRig("noisy", (lidar, replace(lidar, name="second")), rig.cameras[:2])
    tracks = [track_of(drive, car, 1, ActorKind.CAR)]
    one, many, other = (label(drive, tracks, rig, **o) for o in ({"threads": 1}, {"threads": 3}, {"seed": 1}))
    assert [all_bytes(frame) for frame in one] == [all_bytes(frame) for frame in many]
    assert all_bytes(one[1]) != all_bytes(other[1])
    assert len(one[0].sweeps[0]) != len(one[0].sweeps[1])


def test_a_sensor_outside_the_grid_is_refused_before_the_first_frame(build_street):
    far = LidarSensor((0.0,), 4, pose_ego_from_sensor=poses_from_planar(np.array([40.0, 0, 0])))
    with pytest.raises(InvalidInputError, match=r"lidar\.position_m.*outside the grid"):
        labelled_drive(build_street(frames=1), (), PROVENANCE, SensorRig("far", (far,)))


def test_a_sensor_in_a_wall_is_refused_with_the_frame(build_street, street_actor):
    block = street_actor(3.2, 0, 0.0, 0.0, (2.0, 2.0, 3.0), CARLASC.index("building"))
    drive = build_street(frames=4, ego_speed_mps=10.0, actors=[block], empty=True)
    with pytest.raises(InvalidInputError, match=r"frame 3, inside cell \(64, 64, 5\) of class 'building'"):
        label(drive, rig="hdl32")
