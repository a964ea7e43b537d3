"""Claims about Occ3D folders, fabricated in the exact form they are published in."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyquaternion import Quaternion

from dyncity_sim.dataset.labelled import OccupancyDataset
from dyncity_sim.dataset.occ3d import open_occ3d_nuscenes, open_occ3d_waymo
from dyncity_sim.dataset.open import open_dataset
from dyncity_sim.domain.frames import planar_from_poses
from dyncity_sim.errors import InvalidInputError

SHAPE = (200, 200, 16)
CAR, ROAD = 4, 11
FIRST_US = 1_532_402_927_612_460
# As nuScenes' tokens, in an order that is not that of time.
TOKENS = ["ca9a282c9e77460f8360f564131a8af5", "39586f9d59004284a7114a68825e8eec", "356d81f38dd9473ba590f39e266f54e5"]


def nuscenes_arrays() -> dict[str, np.ndarray]:
    """A car 10.2 m ahead and 20.2 m to the left, of which nothing lower was seen."""
    semantics = np.full(SHAPE, 17, np.uint8)
    semantics[:, :, 2] = ROAD
    semantics[125, 150, 3] = CAR
    mask = np.ones(SHAPE, np.uint8)
    mask[125, 150, :3] = 0
    return {"semantics": semantics, "mask_lidar": mask, "mask_camera": np.zeros(SHAPE, np.uint8)}


def nuscenes_info(frame: int) -> dict[str, Any]:
    """One entry of annotations.json; the ego turns left."""
    return {
        "timestamp": str(FIRST_US + 500_000 * frame),
        "camera_sensor": {},
        "ego_pose": {
            "translation": [411.3 + 4 * frame, 1180.9, 0.0],
            "rotation": list(Quaternion(axis=[0, 0, 1], radians=0.2 * frame)),
        },
        "gt_path": f"gts/scene-0061/{TOKENS[frame]}/labels.npz",
        "prev": TOKENS[frame - 1] if frame else "EOF",
        "next": TOKENS[frame + 1] if frame < 2 else "EOF",
    }


def write_nuscenes(root: Path, infos: dict[str, Any] | None = None, **changed: np.ndarray) -> Path:
    for token in TOKENS:
        frame = root / "gts" / "scene-0061" / token
        frame.mkdir(parents=True)
        np.savez_compressed(frame / "labels.npz", **{**nuscenes_arrays(), **changed})
    scene = {token: nuscenes_info(frame) for frame, token in enumerate(TOKENS)} if infos is None else infos
    annotations = {"train_split": ["scene-0061"], "val_split": [], "scene_infos": {"scene-0061": scene}}
    (root / "annotations.json").write_text(json.dumps(annotations))
    return root


def waymo_arrays(free: int = 23) -> dict[str, np.ndarray]:
    label = np.full(SHAPE, free, np.uint8)
    label[:, :, 2] = 13
    seen = np.zeros(SHAPE, np.uint8)
    seen[:100] = 1
    return {
        "voxel_label": label,
        "origin_voxel_state": seen,
        "final_voxel_state": np.zeros(SHAPE, np.uint8),
        "infov": np.ones(SHAPE, np.bool_),
    }


def write_waymo(root: Path, frames: tuple[int, ...] = (0, 1, 2), **changed: np.ndarray) -> Path:
    scene = root / "validation" / "007"
    scene.mkdir(parents=True)
    for frame in frames:
        np.savez_compressed(scene / f"{frame:03d}_04.npz", **{**waymo_arrays(), **changed})
        # The fine grid, 1600 x 1600 x 64, lies beside it.
        (scene / f"{frame:03d}.npz").write_bytes(b"not read")
    return root


def only_sequence(dataset: OccupancyDataset | None) -> Any:
    assert dataset is not None
    (sequence,) = dataset.sequences
    return sequence


def test_nuscenes_comes_with_grid_rate_classes_and_terms(tmp_path: Path) -> None:
    dataset = open_dataset(write_nuscenes(tmp_path))
    assert (dataset.name, dataset.rate_hz, dataset.dense, len(dataset)) == ("Occ3D-nuScenes", 2, False, 3)
    assert dataset.grid.shape == SHAPE
    assert dataset.grid.lower_m == (-40.0, -40.0, -1.0)
    assert dataset.grid.upper_m == pytest.approx((40.0, 40.0, 5.4))
    assert "nuScenes" in dataset.attribution


def test_nuscenes_frames_keep_what_the_lidar_did_not_see_as_a_mask(tmp_path: Path) -> None:
    dataset = open_dataset(write_nuscenes(tmp_path))
    frames = dataset.sequences[0].frames(1, 3)
    taxonomy = dataset.taxonomy
    assert frames.labels.shape == (2, *SHAPE)
    assert frames.labels[0, 125, 150, 3] == taxonomy.index("car")
    assert frames.labels[0, 0, 0, 2] == taxonomy.index("driveable_surface")
    assert frames.labels[0, 0, 0, 3] == 0
    assert np.argwhere(~frames.observed[1]).tolist() == [[125, 150, z] for z in range(3)]


def test_nuscenes_poses_and_times_are_those_of_the_annotations_in_order_of_time(tmp_path: Path) -> None:
    backwards = {token: nuscenes_info(frame) for frame, token in reversed(list(enumerate(TOKENS)))}
    sequence = only_sequence(open_occ3d_nuscenes(write_nuscenes(tmp_path, backwards)))
    assert sequence.times_us.tolist() == [FIRST_US, FIRST_US + 500_000, FIRST_US + 1_000_000]
    planar = planar_from_poses(sequence.poses_world_from_ego)
    assert planar[:, 0] == pytest.approx([411.3, 415.3, 419.3])
    assert planar[:, 2] == pytest.approx([0.0, 0.2, 0.4])


def test_nuscenes_timestamps_that_are_tokens_leave_frames_as_listed_half_a_second_apart(tmp_path: Path) -> None:
    infos = {token: nuscenes_info(frame) | {"timestamp": token} for frame, token in enumerate(TOKENS)}
    sequence = only_sequence(open_occ3d_nuscenes(write_nuscenes(tmp_path, infos)))
    assert sequence.times_us.tolist() == [0, 500_000, 1_000_000]
    assert sequence.poses_world_from_ego[2, 0, 3] == pytest.approx(419.3)


def test_nuscenes_without_annotations_has_neither_order_nor_poses(tmp_path: Path) -> None:
    (write_nuscenes(tmp_path) / "annotations.json").unlink()
    sequence = only_sequence(open_dataset(tmp_path / "gts"))
    assert len(sequence) == 3
    assert sequence.times_us is None
    assert sequence.poses_world_from_ego is None


def test_nuscenes_frames_that_the_annotations_do_not_list_are_an_error(tmp_path: Path) -> None:
    write_nuscenes(tmp_path, {token: nuscenes_info(frame) for frame, token in enumerate(TOKENS[:2])})
    with pytest.raises(InvalidInputError, match=rf"scene-0061.*1 not listed.*{TOKENS[2]}"):
        open_occ3d_nuscenes(tmp_path)


def posed(**changed: object) -> dict[str, Any]:
    return {"ego_pose": {"translation": [0.0, 0.0, 0.0], "rotation": [1, 0, 0, 0]} | changed}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ({"timestamp": "1"}, "timestamps: got frame 1 not later"),
        ({"timestamp": 1532402927.61}, r"timestamp: got 1532402927\.61, expected microseconds, or a token"),
        ({"timestamp": None}, "timestamp: got None"),
        ({"timestamp": "9" * 30}, "timestamps: got .*too large"),
        ({"timestamp": "9" * 5000}, "timestamps: got Exceeds the limit"),
        ({"ego_pose": None}, "ego_pose: got None"),
        (posed(translation=[0, 0]), r"translation: got \[0, 0\], expected 3 numbers"),
        (posed(translation=[400.0]), r"translation: got \[400\.0\], expected 3 numbers"),
        (posed(translation="400"), "translation: got '400', expected 3 numbers"),
        (posed(translation=["4", 0, 0]), r"translation: got \['4', 0, 0\], expected 3 numbers"),
        (posed(translation=[float("nan"), 0, 0]), "ego_pose: got a value that is not finite in frame 0"),
        (posed(translation=[10**400, 0, 0]), "translation: got int too large"),
        (posed(rotation=1.0), r"rotation: got 1\.0, expected 4 numbers"),
        (posed(rotation="1000"), "rotation: got '1000', expected 4 numbers"),
        (posed(rotation=[0, 0, 0, 0]), "rotation: got .*unit quaternion"),
        (posed(rotation=[2, 0, 0, 0.1]), r"rotation: got \[2\.0, 0\.0, 0\.0, 0\.1\], expected a unit quaternion"),
    ],
)
def test_nuscenes_annotations_that_make_no_sense_are_named(tmp_path: Path, damage: dict[str, Any], said: str) -> None:
    infos = {token: nuscenes_info(frame) | damage for frame, token in enumerate(TOKENS)}
    with pytest.raises(InvalidInputError, match=rf"annotations\.json scene_infos\['scene-0061'\].*{said}"):
        open_occ3d_nuscenes(write_nuscenes(tmp_path, infos))


def test_a_nuscenes_timestamp_that_is_a_word_among_numbers_is_an_error(tmp_path: Path) -> None:
    infos = {token: nuscenes_info(frame) for frame, token in enumerate(TOKENS)}
    infos[TOKENS[1]]["timestamp"] = "soon"
    with pytest.raises(InvalidInputError, match=rf"{TOKENS[1]}'\] timestamp: got 'soon', .*, as others"):
        open_occ3d_nuscenes(write_nuscenes(tmp_path, infos))


def test_annotations_that_a_link_has_lost_are_named(tmp_path: Path) -> None:
    file = write_nuscenes(tmp_path) / "annotations.json"
    file.unlink()
    file.symlink_to("elsewhere.json")
    with pytest.raises(InvalidInputError, match=r"annotations\.json: got FileNotFoundError"):
        open_dataset(tmp_path)


def test_folders_without_frames_are_no_scenes_unless_they_are_listed(tmp_path: Path) -> None:
    annotations = write_nuscenes(tmp_path) / "annotations.json"
    (tmp_path / "gts" / "empty").mkdir()
    assert [scene.name for scene in open_dataset(tmp_path).sequences] == ["scene-0061"]
    described = json.loads(annotations.read_text())
    described["scene_infos"]["empty"] = {"aa": nuscenes_info(0)}
    annotations.write_text(json.dumps(described))
    with pytest.raises(InvalidInputError, match=r"gts/empty: got 1 listed frames missing \['aa'\]"):
        open_dataset(tmp_path)


def test_annotations_that_are_cut_short_are_named(tmp_path: Path) -> None:
    file = write_nuscenes(tmp_path) / "annotations.json"
    file.write_text(file.read_text()[:-40])
    with pytest.raises(InvalidInputError, match=r"annotations\.json"):
        open_dataset(tmp_path)


def test_annotations_without_end_are_named(tmp_path: Path) -> None:
    (write_nuscenes(tmp_path) / "annotations.json").write_text("[" * 100_000)
    with pytest.raises(InvalidInputError, match=r"annotations\.json"):
        open_dataset(tmp_path)


def test_two_waymo_files_of_one_frame_are_named(tmp_path: Path) -> None:
    scene = write_waymo(tmp_path) / "validation" / "007"
    (scene / "1_04.npz").write_bytes((scene / "001_04.npz").read_bytes())
    with pytest.raises(InvalidInputError, match=r"1_04\.npz: got frame 1 twice"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("folder", ["", "validation", "validation/007"])
def test_waymo_opens_from_root_split_and_scene(tmp_path: Path, folder: str) -> None:
    dataset = open_dataset(write_waymo(tmp_path) / folder)
    assert (dataset.name, dataset.rate_hz, dataset.grid.shape, len(dataset)) == ("Occ3D-Waymo", 10, SHAPE, 3)
    assert dataset.sequences[0].name == ("validation/007" if not folder else "007")


@pytest.mark.parametrize("free", [15, 23])
def test_waymo_free_space_is_15_as_published_and_23_as_stored(tmp_path: Path, free: int) -> None:
    dataset = open_dataset(write_waymo(tmp_path, **waymo_arrays(free)))
    frames = dataset.sequences[0].frames(0, 1)
    assert frames.labels[0, 0, 0].tolist() == [0, 0, dataset.taxonomy.index("road"), *[0] * 13]
    assert frames.observed[0, :100].all()
    assert not frames.observed[0, 100:].any()


def test_waymo_times_follow_the_numbers_of_the_files(tmp_path: Path) -> None:
    sequence = only_sequence(open_occ3d_waymo(write_waymo(tmp_path, (3, 4, 7))))
    assert sequence.times_us.tolist() == [300_000, 400_000, 700_000]
    assert sequence.poses_world_from_ego is None


def test_waymo_poses_are_known_where_the_files_hold_them(tmp_path: Path) -> None:
    pose = np.eye(4)
    pose[:3, 3] = 7.0, -2.0, 0.5
    sequence = only_sequence(open_occ3d_waymo(write_waymo(tmp_path, ego2global=pose)))
    assert np.array_equal(sequence.poses_world_from_ego, np.stack([pose] * 3))


@pytest.mark.parametrize("lacking", [0, 1, 2])
def test_a_waymo_frame_without_the_pose_that_others_of_its_scene_have_is_named(tmp_path: Path, lacking: int) -> None:
    write_waymo(tmp_path, ego2global=np.eye(4))
    np.savez_compressed(tmp_path / "validation" / "007" / f"00{lacking}_04.npz", **waymo_arrays())
    sequence = open_dataset(tmp_path).sequences[0]
    with pytest.raises(InvalidInputError, match=rf"00{lacking}_04\.npz: got no ego2global in 1 of 3 files"):
        _ = sequence.poses_world_from_ego


@pytest.mark.parametrize("pose", [np.full((4, 4), "a"), np.eye(4) * 1j, np.eye(4).ravel(), np.full((4, 4), np.nan)])
def test_a_waymo_pose_that_is_none_is_named(tmp_path: Path, pose: np.ndarray) -> None:
    sequence = open_dataset(write_waymo(tmp_path, ego2global=pose)).sequences[0]
    with pytest.raises(InvalidInputError, match=r"validation/007.*ego2global: got (shape|a value that is not finite)"):
        _ = sequence.poses_world_from_ego


@pytest.mark.parametrize("digits", [7, 18, 60])
def test_a_waymo_frame_that_is_later_than_any_drive_is_named(tmp_path: Path, digits: int) -> None:
    scene = write_waymo(tmp_path) / "validation" / "007"
    (scene / "002_04.npz").rename(scene / ("9" * digits + "_04.npz"))
    with pytest.raises(InvalidInputError, match=rf"{'9' * digits}_04\.npz: got frame 9+, .* up to 1000000"):
        open_dataset(tmp_path)


def test_waymo_scenes_are_found_however_deep_and_none_is_left_out(tmp_path: Path) -> None:
    scene = write_waymo(tmp_path / "Occ3D-Waymo") / "validation" / "007"
    for elsewhere in (scene.parent, tmp_path / "008"):
        elsewhere.mkdir(exist_ok=True)
        (elsewhere / "000_04.npz").write_bytes((scene / "000_04.npz").read_bytes())
    dataset = open_dataset(tmp_path)
    assert [s.name for s in dataset.sequences] == ["008", "Occ3D-Waymo/validation", "Occ3D-Waymo/validation/007"]
    assert len(dataset) == 5


WRONG = {
    "a hundred times the cells": (
        {"semantics": np.broadcast_to(np.uint8(17), (101, *SHAPE))},
        r"semantics: got 646401\d\d bytes, expected at most 64000000",
    ),
    "unknown label": ({"semantics": np.full(SHAPE, 18, np.uint8)}, r"semantics: got unknown label 18 \(640000 cells\)"),
    "another grid": ({"semantics": np.full((512, 512, 40), 17, np.uint8)}, r"shape \(512, 512, 40\).*\(200, 200, 16\)"),
    "mask of another grid": ({"mask_camera": np.ones((200, 200), np.uint8)}, r"mask_camera: got shape \(200, 200\)"),
    "mask of three values": ({"mask_lidar": np.full(SHAPE, 2, np.uint8)}, r"mask_lidar: got values from 2 to 2"),
    "mask of words": ({"mask_lidar": np.full(SHAPE, "1")}, r"mask_lidar: got values of type .*U1, expected 0"),
    "objects": ({"semantics": np.array([{}])}, r"labels\.npz.*allow_pickle"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_file_with_wrong_content_is_named_with_what_was_expected(tmp_path: Path, case: str) -> None:
    changed, said = WRONG[case]
    sequence = only_sequence(open_occ3d_nuscenes(write_nuscenes(tmp_path, **changed)))
    with pytest.raises(InvalidInputError, match=said) as error:
        sequence.frames(0, 1)
    assert TOKENS[0] in str(error.value)


@pytest.mark.parametrize("keep", [0, 40, 0.5, 0.98])
def test_a_file_that_is_cut_short_is_named(tmp_path: Path, keep: float) -> None:
    sequence = only_sequence(open_occ3d_waymo(write_waymo(tmp_path)))
    file = tmp_path / "validation" / "007" / "001_04.npz"
    content = file.read_bytes()
    file.write_bytes(content[: int(keep if keep > 1 else keep * len(content))])
    with pytest.raises(InvalidInputError, match=r"001_04\.npz.*whole \.npz file"):
        sequence.frames(0, 3)


def test_bytes_that_are_turned_over_are_an_error_or_harmless(tmp_path: Path) -> None:
    sequence = only_sequence(open_occ3d_waymo(write_waymo(tmp_path)))
    file = tmp_path / "validation" / "007" / "000_04.npz"
    content = file.read_bytes()
    before = sequence.frames(0, 1)
    refused = 0
    for place in range(0, len(content), max(1, len(content) // 60)):
        file.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            assert np.array_equal(sequence.frames(0, 1).labels, before.labels)
        except InvalidInputError:
            refused += 1
    assert refused > 30


def test_a_missing_array_is_named(tmp_path: Path) -> None:
    sequence = only_sequence(open_occ3d_waymo(write_waymo(tmp_path)))
    arrays = waymo_arrays()
    del arrays["infov"]
    np.savez(tmp_path / "validation" / "007" / "000_04.npz", **arrays)
    with pytest.raises(InvalidInputError, match="infov is missing"):
        sequence.frames(0, 1)


@pytest.mark.parametrize(("start", "stop"), [(0, 4), (2, 2), (-1, 1)])
def test_frames_that_are_not_there_are_refused(tmp_path: Path, start: int, stop: int) -> None:
    sequence = only_sequence(open_occ3d_waymo(write_waymo(tmp_path)))
    with pytest.raises(InvalidInputError, match=r"within \[0, 3\) of validation/007"):
        sequence.frames(start, stop)
