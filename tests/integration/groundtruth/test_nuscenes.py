"""A written nuScenes data set, read back by nuscenes-devkit in an environment of its own."""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dyncity_sim.domain.base_frame import pose_ego_from_base
from dyncity_sim.domain.frames import transform_points
from dyncity_sim.domain.grid import CARLASC_GRID, OCC3D_GRID
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.sensors import SensorRig
from dyncity_sim.domain.taxonomy import SemanticClass, Taxonomy
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.groundtruth.formats.nuscenes_classes import (
    CATEGORIES,
    CATEGORY_OF_CLASS,
    CATEGORY_OF_KIND,
    attribute,
    visibility_token,
)
from dyncity_sim.groundtruth.formats.nuscenes_layout import sample_frames
from dyncity_sim.groundtruth.formats.write_nuscenes import open_nuscenes

SAMPLES = (0, 5, 10)


@pytest.fixture(scope="session")
def dataset(labelled, tmp_path_factory) -> Path:
    return labelled.write(open_nuscenes, tmp_path_factory.mktemp("nuscenes") / "data")


@pytest.fixture(scope="session")
def read(devkit, dataset, tmp_path_factory) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What nuscenes-devkit says of it: tables, and arrays."""
    return run_reader(devkit, dataset, tmp_path_factory.mktemp("read") / "read")


def run_reader(devkit, dataset, out):
    reader = Path(__file__).with_name("nuscenes_reader.py")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"MPLBACKEND": "Agg"}
    subprocess.run([devkit, reader, dataset, out], env=environment, check=True, stdout=subprocess.DEVNULL, timeout=200)
    with np.load(f"{out}.npz", allow_pickle=False) as arrays:
        return json.loads(Path(f"{out}.json").read_text()), dict(arrays)


def offset_m(dataset):
    return np.array(json.loads((dataset / "dyncity.json").read_text())["global_from_world_m"])


@pytest.mark.slow
def test_the_devkit_lists_every_frame_of_every_channel_in_order(read, labelled):
    tables, _ = read
    assert set(tables["channels"]) == {"LIDAR_TOP", "LIDAR_LEFT", "CAM_FRONT"}
    for records in tables["channels"].values():
        assert [r["timestamp"] for r in records] == labelled.drive.times_us.tolist()
        assert [n for n, r in enumerate(records) if r["is_key_frame"]] == list(SAMPLES)
        assert all(r["exists"] for r in records)
        assert [r["sample"] for r in records] == [0] + 5 * [1] + 6 * [2]
    assert [s["timestamp"] for s in tables["samples"]] == [0, 500_000, 1_000_000]
    assert tables["counts"]["sample_data"] == 3 * len(labelled.frames)
    assert tables["counts"]["lidarseg"] == 2 * len(SAMPLES)
    assert tables["split"] == ["street-1"]
    assert "(c) map makers" in tables["scene"]["description"]


@pytest.mark.slow
def test_the_devkit_finds_every_point_where_it_lies_in_the_world(read, labelled, dataset):
    for channel, number in (("LIDAR_TOP", 0), ("LIDAR_LEFT", 1)):
        for n, frame in enumerate(labelled.frames):
            sweep = frame.sweeps[number]
            world = transform_points(frame.pose_world_from_ego, sweep.points_ego_m.astype(float)) + offset_m(dataset)
            got = read[1][f"{channel}_{n}"]
            np.testing.assert_allclose(got[:, :3], world, atol=2e-5)
            np.testing.assert_allclose(got[:, 3], sweep.intensity * 255, rtol=1e-6)


@pytest.mark.slow
def test_lidarseg_labels_are_the_categories_of_the_points(read, labelled):
    tables, arrays = read
    for sample, number in enumerate(SAMPLES):
        frame, sweep = labelled.frames[number], labelled.frames[number].sweeps[0]
        kinds = {box.track_id: box.kind for box in frame.boxes}
        expected = [
            CATEGORY_OF_KIND[kinds[track]] if track else CATEGORY_OF_CLASS[labelled.drive.taxonomy.names[label]]
            for track, label in zip(sweep.instances.tolist(), sweep.labels.tolist(), strict=True)
        ]
        assert [tables["names"][k] for k in arrays[f"indices_{sample}"].tolist()] == expected
    assert {"vehicle.car", "vehicle.bicycle", "human.pedestrian.adult", "flat.driveable_surface"} <= set(expected)


@pytest.mark.slow
def test_the_devkit_has_our_names_and_colours(read):
    assert read[0]["names"] == [name for name, _ in CATEGORIES]
    np.testing.assert_array_equal(read[1]["palette"], [colour for _, colour in CATEGORIES])


@pytest.mark.slow
def test_boxes_hold_the_points_that_carry_their_id(read, labelled):
    for sample, number in zip(read[0]["samples"], SAMPLES, strict=True):
        frame = labelled.frames[number]
        assert len(sample["boxes"]) == len(frame.boxes) == 4
        for found, box in zip(sample["boxes"], frame.boxes, strict=True):
            own = np.nonzero(frame.sweeps[0].instances == box.track_id)[0]
            assert len(own) > 5
            assert np.isin(own, found["inside"]).mean() > 0.95
            assert found["num_lidar_pts"] == box.lidar_points
            assert found["category"] == CATEGORY_OF_KIND[box.kind]


@pytest.mark.slow
def test_velocities_attributes_and_visibility_are_those_of_the_actors(read, labelled):
    for sample, number in zip(read[0]["samples"], SAMPLES, strict=True):
        frame = labelled.frames[number]
        for found, box in zip(sample["boxes"], frame.boxes, strict=True):
            velocity = frame.pose_world_from_ego[:3, :3] @ np.array(box.velocity_ego_mps)
            np.testing.assert_allclose(found["velocity"], velocity, atol=0.4)
            speed = np.linalg.norm(velocity)
            assert (
                found["attributes"]
                == {
                    "vehicle.car": ["vehicle.moving" if speed > 0.5 else "vehicle.parked"],
                    "vehicle.bicycle": ["cycle.with_rider"],
                    "human.pedestrian.adult": ["pedestrian.moving"],
                }[found["category"]]
            )
        assert [b["visibility"] for b in sample["boxes"]] == ["v0-40", "v40-60", "v60-80", "v80-100"]


@pytest.mark.slow
def test_between_samples_the_devkit_interpolates_to_where_actors_are(read, labelled, dataset):
    records = read[0]["channels"]["LIDAR_TOP"]
    for number in (3, 7):
        frame = labelled.frames[number]
        bicycle = next(b for b in frame.boxes if b.kind.value == "bicycle")
        centre = (frame.pose_world_from_ego @ bicycle.pose_ego_from_actor)[:3, 3] + offset_m(dataset)
        np.testing.assert_allclose(records[number]["boxes"]["vehicle.bicycle"], centre, atol=0.3)


@pytest.mark.slow
def test_sweeps_add_up_to_one_cloud_over_still_ground(read, labelled):
    cloud, lag_s = read[1]["multisweep"], read[1]["multisweep_lag_s"]
    np.testing.assert_allclose(np.unique(lag_s), np.arange(5) * 0.1, atol=1e-6)
    counts = [len(labelled.frames[n].sweeps[0]) for n in range(6, 11)]
    assert sum(counts) * 0.95 < len(cloud) <= sum(counts)
    # The street is level, and the ground's cells reach up to 0.175 m over the road.
    assert np.percentile(cloud[:, 2], 50) == pytest.approx(0.175, abs=0.02)


@pytest.mark.slow
def test_pixels_of_a_camera_lie_on_what_they_show(read, labelled, dataset):
    tables, arrays = read
    camera = labelled.drive.rig.cameras[0]
    for sample, number in enumerate(SAMPLES):
        frame, images = labelled.frames[number], labelled.frames[number].images[0]
        picture = arrays[f"image_{sample}"]
        np.testing.assert_array_equal(arrays[f"colours_{sample}"], arrays["palette"][picture])
        name = f"{labelled.drive.name}__CAM_FRONT__{frame.time_us}.png"
        with Image.open(dataset / "depth" / "CAM_FRONT" / name) as file:
            depth_m = np.array(file) / 256.0
        seen = np.isfinite(images.depth_m)
        np.testing.assert_array_equal(depth_m > 0, seen)
        np.testing.assert_allclose(depth_m[seen], images.depth_m[seen], atol=1 / 512 + 1e-6)
        with Image.open(dataset / "instances" / "CAM_FRONT" / name) as file:
            np.testing.assert_array_equal(np.array(file), images.instances)
        rows, columns = np.nonzero(seen)
        rays = np.stack([columns, rows, np.ones_like(rows)], -1) @ np.linalg.inv(arrays[f"intrinsic_{sample}"]).T
        points = transform_points(arrays[f"global_from_camera_{sample}"], rays * images.depth_m[seen][:, None])
        ego = transform_points(np.linalg.inv(frame.pose_world_from_ego), points - offset_m(dataset))
        # A step along the view leads off the face into the cell.
        view = rays @ camera.pose_ego_from_sensor[:3, :3].T * 1e-3
        cells = labelled.drive.grid.indices(ego + view)
        inside = labelled.drive.grid.contains(cells)
        assert inside.mean() > 0.99
        classes = frame.labels[tuple(cells[inside].T)]
        assert (classes == images.labels[seen][inside]).mean() > 0.99
        still = images.instances[seen] == 0
        expected = [CATEGORY_OF_CLASS[labelled.drive.taxonomy.names[k]] for k in images.labels[seen][still]]
        assert [tables["names"][k] for k in picture[seen][still]] == expected


@pytest.mark.slow
def test_boxes_stand_around_the_pixels_of_their_actors(read, labelled):
    corners = read[0]["samples"][0]["in_image"]
    for kind, category in (("pedestrian", "human.pedestrian.adult"), ("car", "vehicle.car")):
        boxes = [b for b in labelled.frames[0].boxes if b.kind.value == kind]
        shown = [np.nonzero(labelled.frames[0].images[0].instances == b.track_id) for b in boxes]
        assert len(corners[category]) == len(boxes)
        for (rows, columns), (left, upper, right, lower) in zip(shown, corners[category], strict=True):
            assert left - 3 < columns.min() < columns.max() < right + 3
            assert upper - 3 < rows.min() < rows.max() < lower + 3


@pytest.mark.slow
def test_the_map_shows_road_and_sidewalk_and_nothing_else(read, labelled, dataset):
    _, arrays = read
    world = np.stack([arrays["map_x"], arrays["map_y"], np.zeros_like(arrays["map_x"])], -1) - offset_m(dataset)
    expected = np.zeros(len(world), bool)
    flat = [labelled.drive.taxonomy.index(name) for name in ("road", "sidewalk")]
    for frame in labelled.frames:
        ego = transform_points(np.linalg.inv(frame.pose_world_from_ego), world)
        ego[:, 2] = labelled.drive.grid.lower_m[2] + 0.1
        cells = labelled.drive.grid.indices(ego)
        inside = labelled.drive.grid.contains(cells)
        seen = np.where(frame.observed, frame.labels, 0)
        expected[inside] |= np.isin(seen[tuple(cells[inside].T)], flat)
    assert expected.mean() > 0.02
    assert (arrays["on_map"] == expected).mean() > 0.9999


def test_cells_that_nobody_saw_are_not_on_the_map(labelled, tmp_path):
    unseen = tuple(replace(frame, observed=np.zeros_like(frame.observed)) for frame in labelled.frames)
    data = replace(labelled, frames=unseen).write(open_nuscenes, tmp_path / "data")
    (file,) = (data / "maps").iterdir()
    with Image.open(file) as picture:
        assert not np.asarray(picture).any()


@pytest.mark.slow
def test_the_devkit_reads_an_empty_drive_without_cameras(devkit, bare, tmp_path):
    data = bare.write(open_nuscenes, tmp_path / "data")
    code = f"from nuscenes.nuscenes import NuScenes as N; print(len(N('v1.0-trainval', {str(data)!r}).sample_data))"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    said = subprocess.run(
        [devkit, "-c", code], env=environment, check=True, capture_output=True, text=True, timeout=100
    )
    assert said.stdout.endswith("\n3\n")


def test_scans_are_x_right_y_forward_as_those_of_nuscenes_with_rings_from_the_lowest_beam_up(labelled, dataset):
    for lidar, sweep, channel in zip(
        labelled.drive.rig.lidars, labelled.frames[3].sweeps, ("LIDAR_TOP", "LIDAR_LEFT"), strict=True
    ):
        file = dataset / "sweeps" / channel / f"street-1__{channel}__300000.pcd.bin"
        x, y, z, _, ring = np.fromfile(file, "<f4").reshape(-1, 5).T
        ours = transform_points(np.linalg.inv(lidar.pose_ego_from_sensor), sweep.points_ego_m.astype(float))
        np.testing.assert_allclose(np.stack([y, -x, z], axis=-1), ours, atol=1e-5)
        upwards = np.sort(lidar.elevations_rad)
        np.testing.assert_allclose(np.arctan2(z, np.hypot(x, y)), upwards[ring.astype(int)], atol=1e-3)


def test_nothing_is_said_of_where_a_drive_without_a_model_was_recorded(bare, tmp_path):
    (scene,) = json.loads((bare.write(open_nuscenes, tmp_path / "data") / "v1.0-trainval" / "scene.json").read_text())
    assert scene["description"] == "Recorded."


def test_the_ego_stands_on_the_road_at_its_rear_axle(dataset):
    tables = dataset / "v1.0-trainval"
    first = json.loads((tables / "ego_pose.json").read_text())[0]
    assert first["translation"] == pytest.approx(offset_m(dataset) - [0.9, 0.0, 0.0])
    sensors = {r["token"]: r["channel"] for r in json.loads((tables / "sensor.json").read_text())}
    calibrated = json.loads((tables / "calibrated_sensor.json").read_text())
    mounts = {sensors[r["sensor_token"]]: r["translation"] for r in calibrated}
    assert mounts["LIDAR_TOP"] == pytest.approx([0.6, 0.1, 2.0])
    assert mounts["CAM_FRONT"] == pytest.approx([2.1, 0.0, 1.5])


def test_the_same_drive_gives_the_same_bytes(labelled, dataset, tmp_path):
    again = labelled.write(open_nuscenes, tmp_path / "again")
    files = sorted(f.relative_to(dataset) for f in dataset.rglob("*") if f.is_file())
    assert files == sorted(f.relative_to(again) for f in again.rglob("*") if f.is_file())
    assert len(files) == 15 + 3 * 12 + 2 * 12 + 2 * 3 + 2
    for file in files:
        assert (again / file).read_bytes() == (dataset / file).read_bytes(), file


def test_two_drives_share_tokens_of_categories_and_sensors_alone(bare, dataset, tmp_path):
    other = bare.write(open_nuscenes, tmp_path / "other")

    def tokens(folder, table):
        return {record["token"] for record in json.loads((folder / "v1.0-trainval" / f"{table}.json").read_text())}

    for table in ("category", "attribute", "visibility"):
        assert tokens(dataset, table) == tokens(other, table)
    assert tokens(dataset, "sensor") > tokens(other, "sensor")
    for table in ("scene", "sample", "sample_data", "ego_pose", "log", "map", "calibrated_sensor"):
        assert not tokens(dataset, table) & tokens(other, table)


def test_samples_are_the_first_frames_of_half_seconds_whatever_the_rate():
    assert sample_frames(np.arange(12) * 100_000).tolist() == [0, 5, 10]
    assert sample_frames(7 + np.arange(4) * 500_000).tolist() == [0, 1, 2, 3]
    assert sample_frames(np.array([0, 100_000, 499_500, 990_000, 1_000_000])).tolist() == [0, 2, 4]
    assert sample_frames(np.arange(3) * 2_000_000).tolist() == [0, 1, 2]


@given(st.lists(st.integers(-30_000, 30_000), min_size=2, max_size=40))
def test_every_frame_of_a_source_of_2_hz_is_a_sample_however_its_clock_shakes(shaken_us):
    times_us = 1_532_402_927_647_951 + 500_000 * np.arange(len(shaken_us)) + np.array(shaken_us)
    np.testing.assert_array_equal(sample_frames(times_us), np.arange(len(times_us)))


def test_drives_of_occ3d_have_the_ego_frame_of_nuscenes_already():
    np.testing.assert_array_equal(pose_ego_from_base(OCC3D_GRID), np.eye(4))
    np.testing.assert_allclose(pose_ego_from_base(CARLASC_GRID)[:3, 3], [-0.9, 0.0, -1.8])


def test_what_no_ray_meets_has_the_lowest_visibility_and_borders_belong_to_the_level_below():
    shares = (None, 0.0, 0.4, 0.41, 0.6, 0.8, 0.81, 1.0)
    assert [visibility_token(share) for share in shares] == ["1", "1", "1", "2", "2", "3", "4", "4"]


def test_vehicles_that_stand_are_parked_or_stopped_and_two_wheelers_stand_with_or_without_riders():
    car, bicycle, walker = ActorKind.CAR, ActorKind.BICYCLE, ActorKind.PEDESTRIAN
    assert attribute(car, 0.0, moves_ever=True, ridden=False) == "vehicle.stopped"
    assert attribute(car, 0.0, moves_ever=False, ridden=False) == "vehicle.parked"
    assert attribute(bicycle, 0.0, moves_ever=True, ridden=True) == "cycle.with_rider"
    assert attribute(bicycle, 0.0, moves_ever=True, ridden=False) == "cycle.without_rider"
    assert attribute(walker, 0.1, moves_ever=True, ridden=False) == "pedestrian.standing"


def test_a_class_that_nuscenes_lacks_is_refused_before_anything_is_written(labelled, tmp_path):
    classes = (SemanticClass("free", (255, 255, 255)), SemanticClass("volcano", (9, 9, 9)))
    drive = replace(labelled.drive, taxonomy=Taxonomy("odd", classes))
    with pytest.raises(InvalidInputError, match="volcano"), open_nuscenes(tmp_path / "out", drive):
        pass
    assert list(tmp_path.iterdir()) == []


def test_sensors_of_one_channel_are_refused(labelled, tmp_path):
    first = labelled.drive.rig.lidars[0]
    drive = replace(labelled.drive, rig=SensorRig("two", (first, replace(first, name="lidar_top"))))
    with pytest.raises(InvalidInputError, match="LIDAR_TOP"), open_nuscenes(tmp_path / "out", drive):
        pass


def test_a_camera_beyond_the_depth_of_pictures_is_refused(labelled, tmp_path):
    far = replace(labelled.drive.rig.cameras[0], max_range_m=300.0)
    drive = replace(labelled.drive, rig=SensorRig("far", labelled.drive.rig.lidars, (far,)))
    with pytest.raises(InvalidInputError, match="depth pictures"), open_nuscenes(tmp_path / "out", drive):
        pass


def test_a_drive_across_a_country_is_refused(labelled, tmp_path):
    poses = labelled.drive.poses_world_from_ego.copy()
    poses[-1, 0, 3] = 3e5
    poses[-1, 1, 3] = 3e5
    drive = replace(labelled.drive, poses_world_from_ego=poses)
    with pytest.raises(InvalidInputError, match="in parts"), open_nuscenes(tmp_path / "out", drive):
        pass


def test_nanoseconds_in_the_place_of_microseconds_are_refused_before_any_frame(labelled, tmp_path):
    drive = replace(labelled.drive, times_us=labelled.drive.times_us + 1_532_402_927_647_951_000)
    frames = iter(labelled.frames)
    with (
        pytest.raises(InvalidInputError, match="microseconds"),
        open_nuscenes(tmp_path / "out", drive) as writer,
    ):
        writer.add(next(frames))
    assert len(list(frames)) == len(labelled.frames)
    assert list(tmp_path.iterdir()) == []


def test_frames_that_are_missing_or_another_drives_leave_nothing(labelled, tmp_path):
    with (
        pytest.raises(InvalidInputError, match="all 12 of the drive"),
        open_nuscenes(tmp_path / "out", labelled.drive) as writer,
    ):
        writer.add(labelled.frames[0])
    with (
        pytest.raises(InvalidInputError, match="time_us"),
        open_nuscenes(tmp_path / "out", labelled.drive) as writer,
    ):
        writer.add(labelled.frames[1])
    assert list(tmp_path.iterdir()) == []
