"""KITTI tracking's files: read by TrackEval, and projected as KITTI's devkit projects."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyncity_sim.domain.frames import inverse, poses_from_planar, transform_points
from dyncity_sim.domain.ground_truth import Box3D
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.sensors import CameraSensor, SensorRig
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.groundtruth.formats.kitti_boxes import kitti_box
from dyncity_sim.groundtruth.formats.write_kitti import open_kitti, oxts_packets

EGO_FROM_CAMERA = np.array([[0.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
CAMERA = CameraSensor(400, 200, (200.0, 200.0), (200.0, 100.0), pose_ego_from_sensor=EGO_FROM_CAMERA)


@pytest.fixture(scope="module")
def folder(street, write, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kitti-tracking") / "export"
    write(open_kitti, folder, street)
    return folder


def label_lines(folder: Path) -> list[list[str]]:
    return [line.split() for line in (folder / "label_02" / "0000.txt").read_text().splitlines()]


def calibration(folder: Path) -> dict[str, np.ndarray]:
    """As devkits read it: with and without a colon after the name."""
    lines = (line.split(maxsplit=1) for line in (folder / "calib" / "0000.txt").read_text().splitlines())
    return {name.rstrip(":"): np.array(values.split(), float).reshape(3, -1) for name, values in lines}


def devkit_corners(line: list[str]) -> np.ndarray:
    """Corners of a label's box in the camera's frame (KITTI's devkit, ``computeBox3D.m``)."""
    height, width, length, x, y, z, ry = (float(v) for v in line[10:17])
    turn = np.array([[np.cos(ry), 0, np.sin(ry)], [0, 1, 0], [-np.sin(ry), 0, np.cos(ry)]])
    xs = np.array([1, 1, -1, -1, 1, 1, -1, -1]) * length / 2
    ys = np.array([0, 0, 0, 0, -1, -1, -1, -1]) * height
    zs = np.array([1, -1, -1, 1, 1, -1, -1, 1]) * width / 2
    return (turn @ np.array([xs, ys, zs])).T + np.array([x, y, z])


def test_the_rectangle_is_the_projection_of_the_box_within_the_image(folder):
    matrix = calibration(folder)["P2"]
    compared = 0
    for line in label_lines(folder):
        corners = devkit_corners(line)
        if corners[:, 2].min() < 0.2:
            continue
        pixels = np.column_stack([corners, np.ones(8)]) @ matrix.T
        pixels = pixels[:, :2] / pixels[:, 2:]
        expected = np.clip([pixels.min(axis=0), pixels.max(axis=0)], 0, [319, 179])
        np.testing.assert_allclose(np.array(line[6:10], float), expected.ravel(), atol=2e-3)
        assert float(line[5]) == pytest.approx(
            (float(line[16]) - np.arctan2(float(line[13]), float(line[15])) + np.pi) % (2 * np.pi) - np.pi, abs=1e-5
        )
        compared += 1
    assert compared > 15


def test_boxes_in_the_camera_are_those_of_the_frames(street, folder):
    _, drive, frames = street
    camera = drive.rig.cameras[0]
    lines = {(int(line[0]), int(line[1])): line for line in label_lines(folder)}
    for number, frame in enumerate(frames):
        for box in frame.boxes:
            if (number, box.track_id) not in lines:
                continue
            line = lines[number, box.track_id]
            assert line[2] == {
                "car": "Car",
                "bicycle": "Cyclist",
                "pedestrian": "Pedestrian",
                "motorcycle": "Misc",
            }.get(box.kind.value)
            corners = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)]) * box.size_m
            ours = transform_points(inverse(camera.pose_ego_from_sensor) @ box.pose_ego_from_actor, corners)
            gaps = np.linalg.norm(devkit_corners(line)[:, None] - ours[None], axis=-1)
            assert gaps.min(axis=1).max() < 1e-4
            # The front: KITTI's length runs along the heading.
            heading = np.array([np.cos(float(line[16])), 0, -np.sin(float(line[16]))])
            forward = inverse(camera.pose_ego_from_sensor)[:3, :3] @ box.pose_ego_from_actor[:3, 0]
            np.testing.assert_allclose(heading, forward, atol=1e-5)


def test_trackeval_reads_every_line_and_finds_the_tracks_perfect(folder, tmp_path):
    trackeval = pytest.importorskip("trackeval")
    results = tmp_path / "results" / "ours" / "data"
    results.mkdir(parents=True)
    lines = (folder / "label_02" / "0000.txt").read_text().splitlines()
    (results / "0000.txt").write_text("".join(f"{line} 1.0\n" for line in lines))
    dataset = trackeval.datasets.Kitti2DBox(
        {
            "GT_FOLDER": str(folder),
            "TRACKERS_FOLDER": str(tmp_path / "results"),
            "CLASSES_TO_EVAL": ["car", "pedestrian"],
            "PRINT_CONFIG": False,
        }
    )
    raw = dataset.get_raw_seq_data("ours", "0000")
    kinds = {"Car": 1, "Pedestrian": 4, "Cyclist": 6}
    for frame in range(8):
        own = [line for line in label_lines(folder) if int(line[0]) == frame]
        np.testing.assert_array_equal(raw["gt_ids"][frame], [int(line[1]) for line in own])
        np.testing.assert_array_equal(raw["gt_classes"][frame], [kinds[line[2]] for line in own])
        np.testing.assert_allclose(raw["gt_dets"][frame], [[float(v) for v in line[6:10]] for line in own])
    data = dataset.get_preprocessed_seq_data(raw, "car")
    clear = trackeval.metrics.CLEAR({"PRINT_CONFIG": False}).eval_sequence(data)
    assert (clear["MOTA"], clear["CLR_FN"], clear["CLR_FP"], clear["IDSW"]) == (1.0, 0, 0, 0)
    assert clear["CLR_TP"] > 10


def test_what_the_camera_shows_of_an_actor_lies_in_its_rectangle(street, folder):
    """Pictures are cast through the cells, rectangles are projected: a cell and a box's error apart, they agree."""
    _, drive, frames = street
    rectangles = {(int(line[0]), int(line[1])): np.array(line[6:10], float) for line in label_lines(folder)}
    shapes, inside = 0, 0
    for number, frame in enumerate(frames):
        shown = frame.images[0].instances
        for track in set(np.unique(shown).tolist()) - {0}:
            left, top, right, bottom = rectangles[number, track]
            rows, columns = np.nonzero(shown == track)
            box = next(box for box in frame.boxes if box.track_id == track)
            margin_px = 0.5 * drive.rig.cameras[0].focal_px[0] / max(box.pose_ego_from_actor[0, 3] - 3.0, 1.0)
            within = (columns > left - margin_px) & (columns < right + margin_px)
            within &= (rows > top - margin_px) & (rows < bottom + margin_px)
            assert within.mean() > 0.97
            assert columns.max() - columns.min() > 0.6 * (right - left)
            inside += int(within.sum())
            shapes += 1
    assert inside > 10_000
    assert shapes >= 16


def test_scans_come_into_the_camera_by_the_calibration(street, folder):
    _, drive, frames = street
    matrices = calibration(folder)
    points = np.fromfile(folder / "velodyne" / "0000" / "000003.bin", np.float32).reshape(-1, 4)[:, :3]
    in_camera = points @ matrices["Tr_velo_cam"][:, :3].T + matrices["Tr_velo_cam"][:, 3]
    expected = transform_points(inverse(drive.rig.cameras[0].pose_ego_from_sensor), frames[3].sweeps[0].points_ego_m)
    np.testing.assert_allclose(in_camera, expected, atol=1e-4)
    ego = transform_points(inverse(np.vstack([matrices["Tr_imu_velo"], [0, 0, 0, 1]])), points)
    np.testing.assert_allclose(ego, frames[3].sweeps[0].points_ego_m, atol=1e-4)
    np.testing.assert_array_equal(matrices["R_rect"], np.eye(3))


def devkit_places(packets: np.ndarray) -> np.ndarray:
    """x, y, z of packets (KITTI's devkit, ``convertOxtsToPose.m``)."""
    lat, lon, alt = packets[:, :3].T
    radius, scale = 6378137.0, np.cos(packets[0, 0] * np.pi / 180)
    mercator = scale * lon * np.pi * radius / 180, scale * radius * np.log(np.tan((90 + lat) * np.pi / 360))
    return np.column_stack([*mercator, alt])


def test_oxts_give_poses_and_speeds_back_through_the_devkits_mercator_formula(street, folder):
    occupancy = street[0]
    packets = np.loadtxt(folder / "oxts" / "0000.txt")
    assert packets.shape == (8, 30)
    origin_m = json.loads((folder / "dyncity.json").read_text())["oxts_origin_world_m"]
    np.testing.assert_allclose(
        devkit_places(packets) + origin_m, occupancy.poses_world_from_ego[:, :3, 3], rtol=0, atol=1e-5
    )
    for packet, pose in zip(packets, occupancy.poses_world_from_ego, strict=True):
        roll, pitch, yaw = packet[3:6]
        rx = np.array([[1, 0, 0], [0, np.cos(roll), -np.sin(roll)], [0, np.sin(roll), np.cos(roll)]])
        ry = np.array([[np.cos(pitch), 0, np.sin(pitch)], [0, 1, 0], [-np.sin(pitch), 0, np.cos(pitch)]])
        rz = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
        np.testing.assert_allclose(rz @ ry @ rx, pose[:3, :3], atol=1e-9)
    np.testing.assert_allclose(packets[:, 8], 8.0, atol=0.05)
    assert np.hypot(packets[:, 6], packets[:, 7]) == pytest.approx(8.0, abs=0.05)
    assert np.isnan(packets[:, 11:25]).all()


@given(st.floats(-5e6, 5e6), st.floats(-5e6, 5e6))
def test_oxts_keep_distances_wherever_the_world_lies(east_m, north_m):
    driven_m = np.stack([10.0 * np.arange(11), 10.0 * np.arange(11), np.zeros(11)], axis=-1)
    packets = oxts_packets(poses_from_planar(driven_m + np.array([east_m, north_m, 0.0]), 1.8), np.arange(11.0))
    places_m = devkit_places(packets)
    np.testing.assert_allclose(places_m - places_m[0], driven_m, atol=1e-5)


def box_at(x_m: float, y_m: float, yaw_rad: float = 0.0, visibility: float | None = None) -> Box3D:
    pose = poses_from_planar(np.array([x_m, y_m, yaw_rad]), 0.0)
    return Box3D(1, ActorKind.CAR, pose, (4.0, 2.0, 1.6), (0.0, 0.0, 0.0), visibility=visibility)


def test_a_car_ahead_has_a_rectangle_in_the_middle_and_looks_away():
    seen = kitti_box(box_at(12.0, 0.0), CAMERA)
    assert seen is not None
    # Its rear is 10 m away: 2 m x 1.6 m are 40 x 32 pixels.
    assert seen.rectangle_px == pytest.approx((179.5, 83.5, 219.5, 115.5))
    assert seen.location_m == pytest.approx((0.0, 0.8, 12.0))
    assert seen.rotation_y_rad == pytest.approx(-np.pi / 2)
    assert seen.alpha_rad == pytest.approx(-np.pi / 2)
    assert (seen.truncated, seen.occluded) == (0, 3)


def test_cars_leave_the_image_by_levels_and_are_then_gone():
    offsets_m = np.arange(0.0, 20.0, 0.25)
    levels = [None if (seen := kitti_box(box_at(8.0, y), CAMERA)) is None else seen.truncated for y in offsets_m]
    assert levels[0] == 0
    changes = [level for level, before in zip(levels, [object(), *levels], strict=False) if level != before]
    assert changes == [0, 1, 2, None]
    assert kitti_box(box_at(-8.0, 0.0), CAMERA) is None
    assert kitti_box(box_at(130.0, 0.0), CAMERA) is None


def test_a_car_beside_the_camera_is_cut_at_its_plane():
    seen = kitti_box(box_at(0.5, 2.5), CAMERA)
    assert seen is not None
    left, top, right, bottom = seen.rectangle_px
    assert (left, top, bottom) == (0.0, 0.0, 199.0)
    assert 0 < right < 200
    assert seen.truncated == 2


@pytest.mark.parametrize(("visibility", "level"), [(1.0, 0), (0.8, 0), (0.5, 1), (0.1, 2), (0.0, 2), (None, 3)])
def test_occlusion_follows_visibility(visibility, level):
    seen = kitti_box(box_at(12.0, 0.0, visibility=visibility), CAMERA)
    assert seen is not None
    assert seen.occluded == level


def test_a_rig_without_a_camera_or_with_a_tilted_one_is_refused_before_anything_is_written(street, tmp_path):
    _, drive, _ = street
    blind = SensorRig("blind", drive.rig.lidars)
    tilt = np.eye(4)
    tilt[:3, :3] = [[np.cos(0.2), 0, np.sin(0.2)], [0, 1, 0], [-np.sin(0.2), 0, np.cos(0.2)]]
    down = replace(drive.rig.cameras[0], pose_ego_from_sensor=tilt @ EGO_FROM_CAMERA)
    for rig, said in ((blind, "Name another rig: --sensors"), (replace(blind, cameras=(down,)), "tilted by 11.5")):
        with pytest.raises(InvalidInputError, match=said), open_kitti(tmp_path / "x", replace(drive, rig=rig)):
            pass
    assert list(tmp_path.iterdir()) == []


def test_metadata_holds_what_the_format_does_not(folder):
    described = json.loads((folder / "dyncity.json").read_text())
    assert described["image_size"] == [320, 180]
    assert described["times_us"] == list(range(0, 800_000, 100_000))
    assert described["actor_table"]["bus"] == "Misc"
    assert described["provenance"]["seeds"] == [3]


def test_the_same_frames_give_the_same_bytes(street, folder, write, tmp_path):
    write(open_kitti, tmp_path / "again", street)
    files = [file.relative_to(folder) for file in folder.rglob("*") if file.is_file()]
    assert len(files) == 8 + 5
    assert all((tmp_path / "again" / file).read_bytes() == (folder / file).read_bytes() for file in files)
