"""Occ3D files, read with plain NumPy and, in the published grid, with the data set's reader."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dyncity_sim.dataset.label_maps import OCC3D_NUSCENES_LABELS
from dyncity_sim.dataset.occ3d import open_occ3d_nuscenes
from dyncity_sim.domain.grid import CARLASC_GRID, OCC3D_GRID, Grid
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.groundtruth.formats.write_nuscenes import open_nuscenes
from dyncity_sim.groundtruth.formats.write_occ3d import NUMBER_OF_CLASS, NUMBER_OF_KIND, open_occ3d

STATIC = [name for name in CARLASC.names if name not in ("pedestrian", "vehicle")]
INSET = (slice(38, 166), slice(36, 164))
"""Where CarlaSC's columns lie in Occ3D's grid, whose origin is 0.9 m (2.25 columns) behind ours."""


@pytest.fixture(scope="module")
def own(street, write, tmp_path_factory):
    folder = tmp_path_factory.mktemp("occ3d") / "own"
    write(open_occ3d, folder, street)
    return folder


@pytest.fixture(scope="module")
def resampled(street, write, tmp_path_factory):
    folder = tmp_path_factory.mktemp("occ3d") / "resampled"
    write(open_occ3d, folder, street, resample=True)
    return folder


def tokens(folder: Path) -> list[str]:
    infos = json.loads((folder / "annotations.json").read_text())["scene_infos"]["street"]
    return sorted(infos, key=lambda token: int(infos[token]["timestamp"]))


def frame(folder: Path, number: int, kind: str = "gts") -> dict[str, np.ndarray]:
    token = tokens(folder)[number]
    file = folder / kind / "street" / (f"{token}/labels.npz" if kind == "gts" else f"{token}.npz")
    with np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def test_semantics_and_masks_in_the_own_grid_are_the_frames(street, own):
    occupancy, _, frames = street
    table = np.array([NUMBER_OF_CLASS[name] for name in CARLASC.names])
    for number, labelled in enumerate(frames):
        read = frame(own, number)
        assert {array.dtype for name, array in read.items() if name in ("semantics", "mask_lidar", "mask_camera")} == {
            np.dtype(np.uint8)
        }
        static = labelled.instances == 0
        np.testing.assert_array_equal(read["semantics"][static], table[occupancy.labels[number]][static])
        np.testing.assert_array_equal(read["mask_lidar"], labelled.seen_by_lidar)
        np.testing.assert_array_equal(read["mask_camera"], labelled.seen_by_camera)
        np.testing.assert_array_equal(read["instances"], labelled.instances)


def test_cells_of_actors_have_the_number_of_their_kind(street, own):
    _, _, frames = street
    read = frame(own, 4)
    kinds = {box.track_id: box.kind for box in frames[4].boxes}
    assert {ActorKind.CAR, ActorKind.PEDESTRIAN} < set(kinds.values())
    for track, kind in kinds.items():
        assert (read["semantics"][frames[4].instances == track] == NUMBER_OF_KIND[kind]).all()


def test_the_tables_use_numbers_of_the_published_classes_by_their_names():
    names = {
        number: name
        for name, (number, *_) in zip(OCC3D_NUSCENES_LABELS.taxonomy.names, OCC3D_NUSCENES_LABELS.numbers, strict=True)
    }
    assert {name: names[NUMBER_OF_CLASS[name]] for name in STATIC} == {
        "free": "free",
        "building": "manmade",
        "barrier": "manmade",
        "other": "others",
        "pole": "manmade",
        "road": "driveable_surface",
        "ground": "terrain",
        "sidewalk": "sidewalk",
        "vegetation": "vegetation",
        "unused": "others",
    }
    assert [names[NUMBER_OF_KIND[kind]] for kind in ActorKind] == [
        "car", "car", "bus", "truck", "motorcycle", "bicycle", "pedestrian",
    ]  # fmt: skip


def test_flow_is_that_of_the_boxes_and_zero_where_nothing_moves(street, own):
    _, _, frames = street
    read, labelled = frame(own, 3), frames[3]
    assert read["flow"].shape == (*CARLASC_GRID.shape, 2)
    for box in labelled.boxes:
        flow = read["flow"][labelled.instances == box.track_id].astype(float)
        np.testing.assert_allclose(flow.mean(axis=0), box.velocity_ego_mps[:2], atol=0.3)
    assert (read["flow"][~np.isin(labelled.labels, CARLASC.moving_labels)] == 0).all()


def test_bev_shows_what_stands_on_the_road_and_where_it_is_free(street, own):
    _, _, frames = street
    read = frame(own, 3, "bev")
    columns = (frames[3].instances > 0).any(axis=2)
    np.testing.assert_array_equal(read["instances"] > 0, columns)
    assert (read["labels"] == NUMBER_OF_CLASS["road"]).sum() > 2_000
    assert not (read["drivable"] & columns).any()
    assert (read["drivable"] <= (read["labels"] == NUMBER_OF_CLASS["road"])).all()
    assert 0.2 < read["visible"].mean() < 1
    assert read["height_m"][read["drivable"]] == pytest.approx(-2.0 + 0.375)


def test_the_reader_of_the_published_data_set_opens_what_was_resampled(street, resampled):
    occupancy, _, frames = street
    (sequence,) = open_occ3d_nuscenes(resampled).sequences
    np.testing.assert_array_equal(sequence.times_us, occupancy.times_us)
    under_the_axle = occupancy.poses_world_from_ego.copy()
    under_the_axle[:, 2, 3] -= 1.8
    under_the_axle[:, :3, 3] -= 0.9 * occupancy.poses_world_from_ego[:, :3, 0]
    np.testing.assert_allclose(sequence.poses_world_from_ego, under_the_axle, atol=1e-6)
    read = sequence.frames(0, len(occupancy))
    merged = OCC3D_NUSCENES_LABELS.to_carlasc(read.labels)
    for number in (0, 5):
        # Occ3D's layers of 0.4 m from -1 m, of which CarlaSC's of 0.375 m reach over [-0.2, 2.8] m.
        centres = -1.0 + 0.4 * (np.arange(16) + 0.5) + 0.2
        layers = np.floor(centres / 0.375).astype(int)
        inside = (layers >= 0) & (layers < 8)
        theirs = merged[number][INSET][..., inside]
        ours = occupancy.labels[number][..., layers[inside]]
        manmade = np.isin(ours, [CARLASC.index("building"), CARLASC.index("barrier"), CARLASC.index("pole")])
        # A bicycle's rider counts to it in nuScenes.
        moving = np.isin(ours, CARLASC.moving_labels)
        assert moving.sum() > 30
        np.testing.assert_array_equal(theirs[~manmade & ~moving], ours[~manmade & ~moving])
        assert np.isin(theirs[moving], CARLASC.moving_labels).all()
        seen = read.observed[number]
        np.testing.assert_array_equal(seen[INSET][..., inside], frames[number].seen_by_lidar[..., layers[inside]])
        seen[INSET[0], INSET[1], np.flatnonzero(inside)[0] : np.flatnonzero(inside)[-1] + 1] = False
        assert not seen.any()


def test_what_was_resampled_keeps_its_credit_and_its_rate(resampled):
    dataset = open_occ3d_nuscenes(resampled)
    assert (dataset.attribution, dataset.rate_hz) == ("(c) makers", 10)


def test_a_damaged_description_of_what_was_resampled_is_named(resampled, tmp_path):
    shutil.copytree(resampled, tmp_path / "copy")
    (tmp_path / "copy" / "dyncity.json").write_text('{"provenance": []}')
    with pytest.raises(InvalidInputError, match=r"dyncity\.json: got .*expected .*provenance"):
        open_occ3d_nuscenes(tmp_path / "copy")


def test_outside_the_own_grid_nothing_is_known_in_either_mask(resampled):
    read = frame(resampled, 2)
    outside = np.ones(OCC3D_GRID.shape, bool)
    outside[INSET] = False
    for mask in ("mask_lidar", "mask_camera", "instances"):
        assert not read[mask][outside].any()
    assert (read["semantics"][outside] == 17).all()
    assert np.isnan(read["flow"][outside].astype(float)).all()


def test_metadata_says_which_grid_cells_stand_in(own, resampled):
    kept, taken = (json.loads((folder / "dyncity.json").read_text()) for folder in (own, resampled))
    assert (kept["stored_grid"]["shape"], kept["resampled"]) == ([128, 128, 8], None)
    assert taken["stored_grid"]["shape"] == [200, 200, 16]
    assert taken["resampled"]["from"] == kept["stored_grid"]
    assert kept["class_table"] == NUMBER_OF_CLASS


def test_the_reader_of_the_published_data_set_refuses_the_own_grid(own):
    (sequence,) = open_occ3d_nuscenes(own).sequences
    with pytest.raises(InvalidInputError, match="Grids are never resampled silently"):
        sequence.frames(0, 1)


def test_a_grid_of_which_nobody_knows_the_road_is_not_resampled(street, tmp_path):
    other = replace(street[1], grid=Grid((10, 10, 4), (-2.0, -2.0, -1.0), (0.4, 0.4, 0.4)))
    with (
        pytest.raises(InvalidInputError, match=r"where its road is.*Export without --resample"),
        open_occ3d(tmp_path / "x", other, resample=True),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_same_frames_give_the_same_bytes(street, own, write, tmp_path):
    write(open_occ3d, tmp_path / "again", street)
    files = [file.relative_to(own) for file in own.rglob("*") if file.is_file()]
    assert len(files) == 2 * 8 + 2
    assert all((tmp_path / "again" / file).read_bytes() == (own / file).read_bytes() for file in files)


def test_samples_of_nuscenes_tables_have_the_same_token_here(street, write, own, tmp_path):
    write(open_nuscenes, tmp_path / "nuscenes", street)
    samples = json.loads((tmp_path / "nuscenes" / "v1.0-trainval" / "sample.json").read_text())
    assert [sample["token"] for sample in samples] == [tokens(own)[0], tokens(own)[5]]
    assert len(set(tokens(own))) == 8
