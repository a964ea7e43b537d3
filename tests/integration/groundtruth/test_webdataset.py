"""Written shards, read back by the webdataset library."""

import gc
import io
import json
import sys
import tarfile
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image

from dyncity_sim.errors import InvalidInputError, MissingExtraError
from dyncity_sim.groundtruth.flow import occupancy_flow
from dyncity_sim.groundtruth.formats.write_webdataset import open_webdataset

SHARD_BYTES = 2_000_000


@pytest.fixture(scope="module")
def dataset(labelled, tmp_path_factory) -> Path:
    # A percent sign is a number to the library's pattern of names.
    return labelled.write(open_webdataset, tmp_path_factory.mktemp("100%d") / "data", shard_bytes=SHARD_BYTES)


def read_samples(folder):
    about = json.loads((folder / "dataset.json").read_text())
    shards = [str(folder / shard["file"]) for shard in about["shards"]]
    with warnings.catch_warnings():
        # The library leaves its files to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        samples = list(webdataset.WebDataset(shards, shardshuffle=False, nodesplitter=None).decode())
        gc.collect()
    return samples


@pytest.fixture(scope="module")
def samples(dataset):
    return read_samples(dataset)


def test_there_is_one_sample_a_frame_in_order(samples, labelled):
    assert [s["__key__"] for s in samples] == [f"street-1_{n:06d}" for n in range(len(labelled.frames))]
    for number, (sample, frame) in enumerate(zip(samples, labelled.frames, strict=True)):
        meta = sample["meta.json"]
        assert (meta["frame"], meta["time_us"], meta["drive"]) == (number, frame.time_us, "street-1")
        assert meta["attribution"] == "(c) map makers"
        np.testing.assert_array_equal(meta["pose_world_from_ego"], frame.pose_world_from_ego)


def test_cells_come_back_equal(samples, labelled):
    for sample, frame in zip(samples, labelled.frames, strict=True):
        cells = sample["occupancy.npz"]
        assert set(cells) == {"labels", "instances", "flow", "observed", "seen_by_lidar", "seen_by_camera"}
        flow = cells.pop("flow")
        tracks = {track.id: track for track in labelled.drive.tracks}
        expected = occupancy_flow(frame, tracks, labelled.drive.grid, labelled.drive.taxonomy)
        np.testing.assert_array_equal(flow, expected)
        assert np.nanmax(np.abs(flow)) > 5
        for name, array in cells.items():
            np.testing.assert_array_equal(array, getattr(frame, name))
            assert array.dtype == getattr(frame, name).dtype


def test_points_come_back_equal(samples, labelled):
    for sample, frame in zip(samples, labelled.frames, strict=True):
        for lidar, sweep in zip(labelled.drive.rig.lidars, frame.sweeps, strict=True):
            points = sample[f"lidar.{lidar.name}.npz"]
            assert set(points) == set(vars(sweep))
            for name, array in points.items():
                np.testing.assert_array_equal(array, getattr(sweep, name))
                assert array.dtype == getattr(sweep, name).dtype


def test_pictures_come_back_equal(samples, labelled):
    for sample, frame in zip(samples, labelled.frames, strict=True):
        images = frame.images[0]
        np.testing.assert_array_equal(sample["camera.cam_front.depth.npy"], images.depth_m)
        for name in ("labels", "instances"):
            with Image.open(io.BytesIO(sample[f"camera.cam_front.{name}.png"])) as picture:
                np.testing.assert_array_equal(np.array(picture), getattr(images, name))


def test_boxes_come_back_equal(samples, labelled):
    for sample, frame in zip(samples, labelled.frames, strict=True):
        assert [b["track_id"] for b in sample["boxes.json"]] == [b.track_id for b in frame.boxes]
        for found, box in zip(sample["boxes.json"], frame.boxes, strict=True):
            np.testing.assert_array_equal(found["pose_ego_from_actor"], box.pose_ego_from_actor)
            np.testing.assert_array_equal(found["size_m"], box.size_m)
            np.testing.assert_array_equal(found["velocity_ego_mps"], box.velocity_ego_mps)
            expected = (box.kind.value, box.lidar_points, box.visibility)
            assert (found["kind"], found["lidar_points"], found["visibility"]) == expected


def test_shards_close_at_their_size_and_are_listed(dataset, labelled):
    about = json.loads((dataset / "dataset.json").read_text())
    assert len(about["shards"]) > 2
    assert [s["file"] for s in about["shards"]] == sorted(f.name for f in dataset.glob("*.tar"))
    first = 0
    for shard in about["shards"]:
        with tarfile.open(dataset / shard["file"]) as archive:
            members = archive.getmembers()
        keys = sorted({member.name.split(".")[0] for member in members})
        assert keys == [f"street-1_{n:06d}" for n in range(first, first + shard["frames"])]
        assert shard["first_frame"] == first
        assert {(m.mtime, m.uname, m.uid, m.mode) for m in members} == {(0, "dyncity", 0, 0o644)}
        last = sum(m.size for m in members if m.name.startswith(keys[-1]))
        assert sum(m.size for m in members) - last < SHARD_BYTES
        first += shard["frames"]
    assert first == len(labelled.frames) == about["frames"]
    assert [c["name"] for c in about["taxonomy"]["classes"]] == list(labelled.drive.taxonomy.names)
    assert about["provenance"]["model_id"] == "model-1"


def test_one_shard_holds_all_by_default_and_unknown_masks_are_absent(bare, tmp_path):
    (shard,) = json.loads((bare.write(open_webdataset, tmp_path / "b") / "dataset.json").read_text())["shards"]
    assert shard == {"file": "000000.tar", "first_frame": 0, "frames": 3}
    for sample in read_samples(tmp_path / "b"):
        assert set(sample["occupancy.npz"]) == {"labels", "instances", "flow", "seen_by_lidar"}
        assert sample["lidar.roof.npz"]["points_ego_m"].shape == (0, 3)
        assert sample["boxes.json"] == []


def test_the_same_drive_gives_the_same_bytes(labelled, dataset, tmp_path):
    again = labelled.write(open_webdataset, tmp_path / "again", shard_bytes=SHARD_BYTES)
    for file in dataset.iterdir():
        assert (again / file.name).read_bytes() == file.read_bytes(), file.name


def test_long_names_are_kept(bare, tmp_path):
    drive = replace(bare.drive, name="a" * 120)
    with open_webdataset(tmp_path / "out", drive) as writer:
        for frame in bare.frames:
            writer.add(frame)
    assert [s["__key__"] for s in read_samples(tmp_path / "out")] == [f"{'a' * 120}_{n:06d}" for n in range(3)]


def test_a_dot_in_the_name_of_a_drive_does_not_end_its_keys(bare, tmp_path):
    drive = replace(bare.drive, name="drive.1")
    with open_webdataset(tmp_path / "out", drive) as writer:
        for frame in bare.frames:
            writer.add(frame)
    samples = read_samples(tmp_path / "out")
    assert [s["__key__"] for s in samples] == [f"drive-1_{n:06d}" for n in range(3)]
    assert {s["meta.json"]["drive"] for s in samples} == {"drive.1"}


def test_a_shard_of_no_size_is_refused(bare, tmp_path):
    with pytest.raises(InvalidInputError, match="shard_bytes"), open_webdataset(tmp_path / "o", bare.drive, 0):
        pass


def test_missing_frames_leave_nothing(labelled, tmp_path):
    with (
        pytest.raises(InvalidInputError, match="all 12 of the drive"),
        open_webdataset(tmp_path / "out", labelled.drive) as writer,
    ):
        writer.add(labelled.frames[0])
    assert list(tmp_path.iterdir()) == []


def test_without_the_library_the_error_says_what_to_install(labelled, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(MissingExtraError, match=r"'\.\[export\]"), open_webdataset(tmp_path, labelled.drive):
        pass
