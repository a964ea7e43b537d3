"""Completion voxels, unpacked as semantic-kitti-api unpacks them, from a LiDAR that is mounted askew."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dyncity_sim.domain.frames import transform_points
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.taxonomy import CARLASC, CARLASC_RAW
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.groundtruth.formats.semantickitti_classes import STATIC_IDS
from dyncity_sim.groundtruth.formats.write_semantickitti import open_semantickitti

MOVING_FORM = {252: 10, 253: 31, 254: 30, 255: 32, 257: 13, 258: 18, 259: 20}
OF_CLASS = np.array([STATIC_IDS[name] for name in CARLASC.names])


def unpack(file: Path) -> np.ndarray:
    """Bits of a file, the first in the highest place of a byte."""
    packed = np.fromfile(file, np.uint8)
    return (packed[:, None] >> np.arange(7, -1, -1) & 1).astype(bool).reshape(-1)


def voxels(folder: Path, frame: int, shape: tuple[int, int, int]) -> dict[str, np.ndarray]:
    stem = folder / "sequences" / "00" / "voxels" / f"{frame:06d}"
    bits = {name: unpack(stem.with_suffix(f".{name}")).reshape(shape) for name in ("bin", "invalid", "occluded")}
    return bits | {"label": np.fromfile(stem.with_suffix(".label"), np.uint16).reshape(shape)}


def scan(folder: Path, frame: int) -> tuple[np.ndarray, np.ndarray]:
    sequence = folder / "sequences" / "00"
    points = np.fromfile(sequence / "velodyne" / f"{frame:06d}.bin", np.float32).reshape(-1, 4)[:, :3]
    return points, np.fromfile(sequence / "labels" / f"{frame:06d}.label", np.uint32) & 0xFFFF


@pytest.fixture(scope="module")
def own(street, write, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ssc") / "own"
    write(open_semantickitti, folder, street)
    return folder


@pytest.fixture(scope="module")
def resampled(street, write, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ssc") / "resampled"
    write(open_semantickitti, folder, street, resample=True)
    return folder


def test_every_returned_point_lies_in_a_voxel_of_its_class(street, own):
    ego_from_lidar = street[1].rig.lidars[0].pose_ego_from_sensor
    for number in range(len(street[2])):
        read = voxels(own, number, CARLASC_GRID.shape)
        points, ids = scan(own, number)
        cells = CARLASC_GRID.indices(transform_points(ego_from_lidar, points.astype(float)))
        assert len(points) > 5_000
        np.testing.assert_array_equal(read["label"][tuple(cells.T)], ids)
        hit = np.zeros(CARLASC_GRID.shape, bool)
        hit[tuple(cells.T)] = True
        np.testing.assert_array_equal(read["bin"], hit)


def test_voxels_are_the_occupancy_and_occluded_is_what_no_ray_reached(street, own):
    occupancy, _, frames = street
    for number, frame in enumerate(frames):
        read = voxels(own, number, CARLASC_GRID.shape)
        np.testing.assert_array_equal(read["label"] > 0, occupancy.labels[number] > 0)
        static = ~np.isin(occupancy.labels[number], CARLASC.moving_labels)
        np.testing.assert_array_equal(read["label"][static], OF_CLASS[occupancy.labels[number]][static])
        np.testing.assert_array_equal(read["occluded"], ~frame.seen_by_lidar)
        assert not read["invalid"].any()


def test_resampled_voxels_have_the_published_form_and_hold_the_cell_around_their_middle(street, resampled):
    occupancy, drive, _ = street
    read = voxels(resampled, 2, (256, 256, 32))
    centres = np.stack(np.meshgrid(np.arange(256), np.arange(256), np.arange(32), indexing="ij"), axis=-1) * 0.2 + 0.1
    centres += np.array([0.0, -25.6, -2.0])
    pose = drive.rig.lidars[0].pose_ego_from_sensor
    cells = CARLASC_GRID.indices(transform_points(pose, centres.reshape(-1, 3))).reshape(*centres.shape)
    inside = CARLASC_GRID.contains(cells)
    np.testing.assert_array_equal(read["invalid"], ~inside)
    assert (read["label"][~inside] == 0).all()
    assert read["occluded"][~inside].all()
    labels = occupancy.labels[2][tuple(cells[inside].T)]
    ids = read["label"][inside]
    ids = np.array([MOVING_FORM.get(int(i), int(i)) for i in range(300)])[ids]
    static = ~np.isin(labels, CARLASC.moving_labels)
    np.testing.assert_array_equal(ids[static], OF_CLASS[labels][static])
    assert np.isin(ids[~static], [10, 11, 30, 31]).all()
    assert read["bin"].sum() > 5_000
    assert (read["label"][read["bin"]] > 0).all()


def test_metadata_says_from_which_grid_and_into_which_frame(own, resampled):
    kept, taken = (json.loads((folder / "dyncity.json").read_text()) for folder in (own, resampled))
    assert kept["stored_grid"]["shape"] == [128, 128, 8]
    assert (kept["stored_frame"], kept["resampled"]) == ("ego", None)
    assert taken["stored_grid"] == {
        "shape": [256, 256, 32],
        "lower_m": [0.0, -25.6, -2.0],
        "voxel_size_m": [0.2, 0.2, 0.2],
    }
    assert taken["resampled"] == {"from": kept["stored_grid"], "method": "nearest"}
    assert taken["rig"]["name"] == "test-rig"


def test_cells_that_the_source_does_not_know_are_invalid_and_hold_no_label(street, write, tmp_path):
    occupancy, drive, frames = street
    observed = np.random.default_rng(4).random(CARLASC_GRID.shape) < 0.6
    sparse = (occupancy, drive, [replace(frame, observed=observed) for frame in frames])
    write(open_semantickitti, tmp_path / "sparse", sparse)
    read = voxels(tmp_path / "sparse", 1, CARLASC_GRID.shape)
    np.testing.assert_array_equal(read["invalid"], ~observed)
    assert (read["label"][~observed] == 0).all()
    np.testing.assert_array_equal(read["label"][observed] > 0, occupancy.labels[1][observed] > 0)


def test_raw_classes_and_frames_of_another_drive_are_refused_and_nothing_is_left(street, write, tmp_path):
    occupancy, drive, frames = street
    with pytest.raises(InvalidInputError, match=r"carlasc-raw.*Merge raw classes"):
        write(open_semantickitti, tmp_path / "raw", (occupancy, replace(drive, taxonomy=CARLASC_RAW), frames))
    with pytest.raises(InvalidInputError, match=r"frame 0 time_us"):
        write(open_semantickitti, tmp_path / "late", (occupancy, drive, frames[1:]))
    assert list(tmp_path.iterdir()) == []
