"""SemanticKITTI files, read back by the format's definition and by nothing of ours."""

import json
import sys

import numpy as np
import pytest

from dyncity_sim.domain.frames import inverse, transform_points
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.scene import Provenance
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import InvalidInputError, MissingExtraError
from dyncity_sim.groundtruth.build import labelled_drive, labelled_frames
from dyncity_sim.groundtruth.formats.semantickitti_classes import NAMES, STATIC_IDS
from dyncity_sim.groundtruth.formats.write_semantickitti import open_semantickitti
from dyncity_sim.scene.actors.find import find_tracks


def labelled(occupancy):
    return labelled_drive(occupancy, find_tracks(occupancy), Provenance(None, (), "credit", CARLASC.id))


def write_semantickitti(frames, folder, drive):
    with open_semantickitti(folder, drive) as writer:
        for frame in frames:
            writer.add(frame)


@pytest.fixture(scope="module")
def drive(build_street, street_actor):
    actors = [
        street_actor(8, -1.7, 0, 9),
        street_actor(14, 3.5, np.pi, 0),
        street_actor(4, -3.4, 0, 8, size_m=(1.7, 0.6, 1.75), rider_label=4),
        street_actor(6, 6.5, 0.0, 1.3, size_m=(0.5, 0.5, 1.75), label=4),
    ]
    return build_street(frames=8, actors=actors, curvature_per_m=1 / 60)


@pytest.fixture(scope="module")
def frames(drive):
    return list(labelled_frames(drive, labelled(drive)))


@pytest.fixture(scope="module")
def sequence(frames, drive, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kitti") / "export"
    write_semantickitti(frames, folder, labelled(drive))
    return folder / "sequences" / "00"


def read_scan(sequence, number):
    scan = np.fromfile(sequence / "velodyne" / f"{number:06d}.bin", dtype=np.float32).reshape(-1, 4)
    label = np.fromfile(sequence / "labels" / f"{number:06d}.label", dtype=np.uint32)
    return scan, label & 0xFFFF, label >> 16


def test_points_and_labels_come_back_as_the_voxels_they_came_from(sequence, drive):
    of_class = np.array([STATIC_IDS[name] for name in CARLASC.names])
    for number in range(len(drive)):
        scan, semantic, instance = read_scan(sequence, number)
        assert len(scan) == len(semantic) > 10_000
        classes = drive.labels[number][tuple(CARLASC_GRID.indices(scan[:, :3]).T)]
        still = instance == 0
        np.testing.assert_array_equal(semantic[still], of_class[classes[still]])
        assert np.isin(classes[~still], CARLASC.moving_labels).all()
        assert ((scan[:, 3] >= 0) & (scan[:, 3] <= 1)).all()


def test_all_points_of_moving_things_carry_an_instance(sequence, drive):
    scan, _, instance = read_scan(sequence, 4)
    classes = drive.labels[4][tuple(CARLASC_GRID.indices(scan[:, :3]).T)]
    assert (instance[np.isin(classes, CARLASC.moving_labels)] > 0).all()
    assert len(set(instance.tolist()) - {0}) == 4


def test_classes_tell_moving_from_standing_and_riders_from_walkers(sequence):
    _, semantic, _ = read_scan(sequence, 4)
    assert {252, 10, 253, 254} <= set(semantic.tolist())
    assert set(semantic.tolist()) <= set(NAMES)


def test_camera_poses_carry_static_points_from_scan_to_scan(sequence, drive):
    calibration = dict(line.split(":") for line in (sequence / "calib.txt").read_text().splitlines())
    camera_from_lidar = np.eye(4)
    camera_from_lidar[:3] = np.array(calibration["Tr"].split(), dtype=float).reshape(3, 4)
    rows = np.loadtxt(sequence / "poses.txt").reshape(-1, 3, 4)
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    poses[:, :3] = rows
    np.testing.assert_allclose(poses[0], np.eye(4), atol=1e-9)
    lidar_poses = np.linalg.inv(camera_from_lidar) @ poses @ camera_from_lidar
    expected = inverse(drive.poses_world_from_ego[0]) @ drive.poses_world_from_ego
    np.testing.assert_allclose(lidar_poses, expected, atol=1e-7)
    # The camera looks forward: driving moves it along its own z axis.
    assert poses[-1, 2, 3] > 4


def test_the_calibration_has_what_readers_of_kitti_odometry_ask_for(sequence):
    rows = (line.split(":", 1) for line in (sequence / "calib.txt").read_text().splitlines())
    calibration = {name: np.array(values.split(), dtype=float).reshape(3, 4) for name, values in rows}
    assert list(calibration) == ["P0", "P1", "P2", "P3", "Tr"]
    camera_from_lidar = np.vstack([calibration["Tr"], [0, 0, 0, 1]])
    for name in ("P0", "P1", "P2", "P3"):
        # 10 m ahead, 2 m to the right, 1 m up.
        right, down, depth_m = calibration[name] @ camera_from_lidar @ [10.0, -2.0, 1.0, 1.0]
        assert (right / depth_m, down / depth_m, depth_m) == pytest.approx((0.2, -0.1, 10.0))


def test_times_are_seconds_since_the_first_scan(sequence):
    np.testing.assert_allclose(np.loadtxt(sequence / "times.txt"), np.arange(8) * 0.1)


def test_boxes_hold_the_points_that_carry_their_id(sequence):
    scan, _, instance = read_scan(sequence, 4)
    boxes = json.loads((sequence / "boxes" / "000004.json").read_text())
    assert len(boxes) == 4
    for box in boxes:
        w, _, _, z = box["orientation_wxyz"]
        yaw = 2 * np.arctan2(z, w)
        own = scan[instance == box["track_id"], :3].astype(float)
        assert len(own) == box["lidar_points"] > 0
        pose = np.eye(4)
        pose[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
        pose[:3, 3] = box["centre_m"]
        outside_m = np.abs(transform_points(inverse(pose), own)) - np.array(box["size_m"]) / 2
        assert outside_m.max() < 0.85


def test_names_beside_the_labels_cover_every_class_and_give_credit(sequence):
    described = json.loads((sequence.parent.parent / "dyncity.json").read_text())
    assert set(described["class_table"]) == set(CARLASC.names)
    assert {str(i) for i in described["class_table"].values()} <= set(described["names"])
    assert described["provenance"]["attribution"] == "credit"
    assert described["resampled"] is None


def test_the_same_frames_give_the_same_bytes(frames, drive, sequence, tmp_path):
    write_semantickitti(frames, tmp_path / "again", labelled(drive))
    files = [f for f in sequence.parent.parent.rglob("*") if f.is_file()]
    assert len(files) == 7 * 8 + 4
    for file in files:
        assert (tmp_path / "again" / file.relative_to(sequence.parent.parent)).read_bytes() == file.read_bytes()


def test_no_frames_leave_no_folder(drive, tmp_path):
    with pytest.raises(InvalidInputError, match="all 8 of the drive"):
        write_semantickitti([], tmp_path / "none", labelled(drive))
    assert list(tmp_path.iterdir()) == []


def test_a_failure_half_way_leaves_no_folder(frames, drive, tmp_path):
    def broken():
        yield frames[0]
        raise InvalidInputError("frame", "nothing", "something")

    with pytest.raises(InvalidInputError):
        write_semantickitti(broken(), tmp_path / "half", labelled(drive))
    assert list(tmp_path.iterdir()) == []


def test_a_scene_of_another_drive_is_refused(drive, build_street):
    with pytest.raises(InvalidInputError, match="8 frames of occupancy"):
        next(labelled_frames(drive, labelled(build_street(frames=3))))


def test_without_numba_the_error_says_what_to_install(frames, drive, monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "dyncity_sim.groundtruth.sensors.traversal")
    with pytest.raises(MissingExtraError, match=r"'\.\[scene\]"):
        next(labelled_frames(drive, labelled(drive)))
