"""CarlaSC files out of labelled frames: what published loaders do with them, and the data set's reader."""

import json
from dataclasses import replace

import numpy as np
import pytest

from dyncity_sim.dataset.open import open_dataset
from dyncity_sim.domain.frames import inverse
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.taxonomy import CARLASC, CARLASC_RAW, merged_labels
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.groundtruth.formats.write_carlasc import RAW_OF_MERGED, open_carlasc


@pytest.fixture(scope="module")
def folder(street, write, tmp_path_factory):
    folder = tmp_path_factory.mktemp("carlasc") / "export"
    write(open_carlasc, folder, street)
    return folder


def test_the_data_set_reader_gives_occupancy_poses_and_times_back(street, folder):
    occupancy, drive, _ = street
    dataset = open_dataset(folder)
    (sequence,) = dataset.sequences
    assert (dataset.name, sequence.name, dataset.grid) == ("CarlaSC", "street", CARLASC_GRID)
    read = sequence.frames(0, len(drive))
    np.testing.assert_array_equal(dataset.label_map.to_carlasc(read.labels), occupancy.labels)
    assert read.observed.all()
    np.testing.assert_allclose(sequence.poses_world_from_ego, occupancy.poses_world_from_ego, atol=1e-9)
    np.testing.assert_array_equal(sequence.times_us, occupancy.times_us)
    assert "(c) makers" in dataset.attribution


def test_published_loaders_find_points_in_cells_of_their_class(street, folder):
    """As 3DMapping's loader voxelises: bounds from evaluation/params.json, no mirror anywhere."""
    scene = folder / "street" / "cartesian"
    assert [entry.name for entry in folder.iterdir()] == ["street"]
    params = json.loads((scene / "evaluation" / "params.json").read_text())
    lower, upper = np.array(params["min_bound"]), np.array(params["max_bound"])
    size = (upper - lower) / np.array(params["grid_size"])
    for number in range(len(street[2])):
        points = np.fromfile(scene / "velodyne" / f"{number:06d}.bin", np.float32).reshape(-1, 4)[:, :3]
        of_points = np.fromfile(scene / "labels" / f"{number:06d}.label", np.uint32)
        of_cells = np.fromfile(scene / "evaluation" / f"{number:06d}.label", np.uint32).reshape(params["grid_size"])
        cells = np.floor((points - lower) / size).astype(int)
        assert len(points) > 5_000
        np.testing.assert_array_equal(of_cells[tuple(cells.T)], of_points)


def test_the_files_are_left_handed(street, folder):
    occupancy, _, frames = street
    scene = folder / "street" / "cartesian"
    stored = np.fromfile(scene / "evaluation" / "000004.label", np.uint32).reshape(CARLASC_GRID.shape)
    np.testing.assert_array_equal(merged_labels(stored[:, ::-1].astype(np.uint8)), occupancy.labels[4])
    # The street bends to the left, which is towards smaller y there.
    rows = np.loadtxt(scene / "poses.txt").reshape(-1, 3, 4)
    assert rows[-1, 1, 3] < -0.1
    assert (inverse(occupancy.poses_world_from_ego[0]) @ occupancy.poses_world_from_ego[-1])[1, 3] > 0.1
    boxes = json.loads((scene / "boxes.json").read_text())[4]
    for stored_box, box in zip(boxes, frames[4].boxes, strict=True):
        assert stored_box["centre_m"] == pytest.approx(box.pose_ego_from_actor[:3, 3] * [1, -1, 1])


def test_each_merged_class_is_stored_as_one_that_published_tables_merge_back():
    raw = np.array([CARLASC_RAW.index(RAW_OF_MERGED[name]) for name in CARLASC.names[:-1]], np.uint8)
    assert merged_labels(raw).tolist() == list(range(11))


def test_cells_that_nobody_knows_have_no_count(street, write, tmp_path):
    occupancy, drive, frames = street
    observed = np.random.default_rng(4).random(CARLASC_GRID.shape) < 0.6
    write(open_carlasc, tmp_path / "sparse", (occupancy, drive, [replace(f, observed=observed) for f in frames]))
    read = open_dataset(tmp_path / "sparse").sequences[0].frames(2, 3)
    np.testing.assert_array_equal(read.observed[0], observed)
    assert (read.labels[0][~observed] == 0).all()


def test_a_class_that_carlasc_does_not_have_is_refused_with_the_mend_and_nothing_is_left(street, write, tmp_path):
    occupancy, drive, frames = street
    labels = frames[3].labels.copy()
    labels[5, 5, 5:7] = CARLASC.index("unused")
    bad = [*frames[:3], replace(frames[3], labels=labels), *frames[4:]]
    with pytest.raises(InvalidInputError, match=r"frame 3 labels: got 2 cells or points of 'unused'.*Relabel"):
        write(open_carlasc, tmp_path / "bad", (occupancy, drive, bad))
    assert list(tmp_path.iterdir()) == []


def test_the_same_frames_give_the_same_bytes(street, folder, write, tmp_path):
    write(open_carlasc, tmp_path / "again", street)
    files = [file.relative_to(folder) for file in folder.rglob("*") if file.is_file()]
    assert len(files) == 5 * 8 + 6
    assert all((tmp_path / "again" / file).read_bytes() == (folder / file).read_bytes() for file in files)
