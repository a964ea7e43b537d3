"""``dyncity export``: one pass, many formats, whole or not at all."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dyncity_sim.cli.main import main
from dyncity_sim.dataset.drives import LoadedDrive, open_drive
from dyncity_sim.dataset.open import open_dataset
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.sensors import CameraSensor, LidarSensor, SensorRig
from dyncity_sim.domain.taxonomy import CARLASC, CARLASC_RAW
from dyncity_sim.errors import InvalidInputError, MissingExtraError, StorageError
from dyncity_sim.export.plan import ExportPlan
from dyncity_sim.export.run import export_drive
from dyncity_sim.groundtruth.formats.table import FORMATS

EGO_FROM_CAMERA = np.array([[0.0, 0.0, 1.0, 0.5], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
LIDAR = LidarSensor(tuple(np.deg2rad([0.0, -5.0, -12.0])), 180)
RIG = SensorRig("small", (LIDAR,), (CameraSensor(64, 32, (30.0, 30.0), (32.0, 16.0), "front", EGO_FROM_CAMERA),))
BLIND = SensorRig("blind", (LIDAR,))
OURS = ("carlasc", "occ3d", "semantickitti")
FRAMES = 3


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def write_generation(folder: Path, labels: np.ndarray, poses: np.ndarray, taxonomy: str = CARLASC.id) -> Path:
    """A folder as ``dyncity generate`` writes it."""
    folder.mkdir()
    np.savez_compressed(
        folder / "chunk_0000.npz",
        labels=labels,
        poses_world_from_ego=poses,
        times_us=100_000 * np.arange(len(labels)),
    )
    grid = CARLASC_GRID
    described = {
        "format": "dyncity-generation",
        "version": 1,
        "attribution": "(c) makers",
        "model": {"id": "model-1", "family": "anchored"},
        "grid": {"shape": grid.shape, "lower_m": grid.lower_m, "voxel_size_m": grid.voxel_size_m},
        "taxonomy": {"id": taxonomy},
        "chunks": [{"seed": 4, "command": None}],
    }
    (folder / "generation.json").write_text(json.dumps(described))
    return folder


@pytest.fixture(scope="module")
def generation(tmp_path_factory, build_street, street_actor) -> Path:
    occupancy = build_street(frames=FRAMES, actors=[street_actor(8, -3, 0, 6), street_actor(12, 3, np.pi)])
    return write_generation(
        tmp_path_factory.mktemp("source") / "dream", occupancy.labels, occupancy.poses_world_from_ego
    )


@pytest.fixture(scope="module")
def loaded(generation) -> LoadedDrive:
    return open_drive(generation)


@pytest.fixture
def recording(tmp_path: Path, write_recording: Callable[..., Path]) -> Path:
    labels = np.zeros(CARLASC_GRID.shape, np.uint8)
    labels[:, :, 0] = CARLASC_RAW.index("road")
    labels[100:, :, :] = CARLASC_RAW.index("wall")
    counts = np.ones(CARLASC_GRID.shape, np.float32)
    return write_recording(tmp_path / "rec", labels, counts, 4, lengths=(2,))


def test_one_pass_writes_every_format_beside_the_others(loaded, tmp_path):
    told: list[int] = []
    report = export_drive(loaded, ExportPlan(OURS, rig=BLIND), tmp_path / "out", told.append)
    assert told == [1, 2, 3]
    assert sorted(entry.name for entry in (tmp_path / "out").iterdir()) == sorted(OURS)
    assert [form.name for form in report.formats] == list(OURS)
    for form in report.formats:
        files = contents(form.place)
        assert (form.files, form.size_bytes) == (len(files), sum(map(len, files.values())))
        assert form.seconds > 0
    assert report.points > 500
    assert report.boxes == 2 * FRAMES


def test_the_same_drive_gives_the_same_bytes_in_every_format(loaded, tmp_path):
    for name in ("a", "b"):
        export_drive(loaded, ExportPlan(OURS, rig=BLIND), tmp_path / name)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_all_formats_hold_the_same_frames(loaded, tmp_path):
    export_drive(loaded, ExportPlan(OURS, rig=BLIND), tmp_path / "out")
    carlasc = open_dataset(tmp_path / "out" / "carlasc")
    read = carlasc.label_map.to_carlasc(carlasc.sequences[0].frames(0, FRAMES).labels)
    np.testing.assert_array_equal(read, loaded.occupancy.labels)
    for number in range(FRAMES):
        voxels = tmp_path / "out" / "semantickitti" / "sequences" / "00" / "voxels" / f"{number:06d}.label"
        kitti = np.fromfile(voxels, np.uint16).reshape(CARLASC_GRID.shape)
        np.testing.assert_array_equal(kitti > 0, loaded.occupancy.labels[number] > 0)
    infos = json.loads((tmp_path / "out" / "occ3d" / "annotations.json").read_text())["scene_infos"]["dream"]
    assert [info["timestamp"] for info in sorted(infos.values(), key=lambda i: int(i["timestamp"]))] == [
        "0", "100000", "200000",
    ]  # fmt: skip


def test_a_format_that_cannot_hold_the_rig_is_refused_before_anything_is_written(loaded, tmp_path):
    told: list[int] = []
    with pytest.raises(InvalidInputError, match=r"without a camera.*--sensors"):
        export_drive(loaded, ExportPlan(("carlasc", "kitti"), rig=BLIND), tmp_path / "out", told.append)
    assert told == []
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_half_way_leaves_nothing_of_any_format(loaded, tmp_path):
    def interrupt(frames: int) -> None:
        if frames == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_drive(loaded, ExportPlan(OURS, rig=BLIND), tmp_path / "out", interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_taken_meanwhile_leaves_no_format_at_all(loaded, tmp_path):
    taken = tmp_path / "out" / "semantickitti" / "mine"

    def take(frames: int) -> None:
        if frames == FRAMES:
            taken.mkdir(parents=True)

    with pytest.raises(StorageError, match="could not be written to"):
        export_drive(loaded, ExportPlan(OURS, RIG), tmp_path / "out", take)
    assert [entry.relative_to(tmp_path / "out") for entry in (tmp_path / "out").iterdir()] == [Path("semantickitti")]
    assert list(taken.parent.iterdir()) == [taken]


def test_a_full_disk_is_an_error_that_names_the_place_asked_for_and_leaves_nothing(loaded, tmp_path, fill_disk):
    fill_disk()
    with pytest.raises(StorageError, match=rf"^{tmp_path}/out/carlasc could not be written: File too large"):
        export_drive(loaded, ExportPlan(("semantickitti", "carlasc"), rig=BLIND), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_of_the_same_number_left_is_in_nobodys_way(loaded, tmp_path):
    left = tmp_path / "out" / f".export.{os.getpid()}.part" / "carlasc" / "half"
    left.mkdir(parents=True)
    export_drive(loaded, ExportPlan(("carlasc",), rig=BLIND), tmp_path / "out")
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["carlasc"]
    assert [entry.name for entry in (tmp_path / "out" / "carlasc").iterdir()] == ["dream"]


def test_a_taken_place_is_refused_before_sensors_and_actors_are_looked_at(loaded, tmp_path):
    (tmp_path / "out" / "occ3d").mkdir(parents=True)
    afar = SensorRig("afar", (replace(LIDAR, pose_ego_from_sensor=np.eye(4) + 900 * np.eye(4, k=3)),))
    with pytest.raises(InvalidInputError, match=r"occ3d, which exists"):
        export_drive(loaded, ExportPlan(("occ3d",), rig=afar), tmp_path / "out")


def test_a_taken_place_is_refused_and_other_formats_may_join_later(loaded, tmp_path):
    export_drive(loaded, ExportPlan(("carlasc",), rig=BLIND), tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(InvalidInputError, match=r"carlasc, which exists.*Name another --out"):
        export_drive(loaded, ExportPlan(("occ3d", "carlasc"), rig=BLIND), tmp_path / "out")
    assert contents(tmp_path / "out") == before
    export_drive(loaded, ExportPlan(("occ3d",), rig=BLIND), tmp_path / "out")
    assert sorted(entry.name for entry in (tmp_path / "out").iterdir()) == ["carlasc", "occ3d"]


def test_a_class_that_one_format_cannot_hold_stops_all(tmp_path, build_street):
    street = build_street(frames=2)
    labels = street.labels.copy()
    labels[1, 3, 3, 7] = CARLASC.index("unused")
    folder = write_generation(tmp_path / "odd", labels, street.poses_world_from_ego)
    with pytest.raises(InvalidInputError, match=r"cells or points of 'unused'"):
        export_drive(open_drive(folder), ExportPlan(("occ3d", "carlasc"), rig=BLIND), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_resampling_is_for_formats_with_a_grid_of_their_own(loaded, tmp_path):
    with pytest.raises(InvalidInputError, match="these formats take any grid"):
        export_drive(loaded, ExportPlan(("carlasc",), resample=True, rig=BLIND), tmp_path / "out")
    export_drive(loaded, ExportPlan(("carlasc", "occ3d"), resample=True, rig=BLIND), tmp_path / "out")
    described = {
        name: json.loads(file.read_text())
        for name, file in (
            ("carlasc", tmp_path / "out" / "carlasc" / "dream" / "dyncity.json"),
            ("occ3d", tmp_path / "out" / "occ3d" / "dyncity.json"),
        )
    }
    assert described["carlasc"]["resampled"] is None
    assert described["occ3d"]["resampled"]["method"] == "nearest"


def test_drives_of_occ3d_are_seen_from_the_same_place_over_the_road(loaded, tmp_path):
    export_drive(loaded, ExportPlan(("occ3d",), resample=True, rig=RIG), tmp_path / "out")
    again = open_drive(tmp_path / "out" / "occ3d")
    export_drive(again, ExportPlan(("semantickitti",), rig=RIG), tmp_path / "again")
    rig = json.loads((tmp_path / "again" / "semantickitti" / "dyncity.json").read_text())["rig"]
    for sensor, described in zip(RIG.sensors, (*rig["lidars"], *rig["cameras"]), strict=True):
        moved = np.array(described["pose_ego_from_sensor"]) - sensor.pose_ego_from_sensor
        np.testing.assert_allclose(moved, [[0, 0, 0, 0.9], [0] * 4, [0, 0, 0, 1.8], [0] * 4], atol=1e-9)
    points = np.fromfile(tmp_path / "again/semantickitti/sequences/00/velodyne/000000.bin", np.float32).reshape(-1, 4)
    # Points lie on what a level road 1.8 m below the LiDAR is made of: cells of 0.4 m.
    assert len(points) > 100
    assert np.percentile(points[:, 2], 10) == pytest.approx(-1.8, abs=0.25)


def test_the_command_exports_a_part_of_a_recordings_sequence(recording, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["export", str(recording), "--to", "carlasc, semantickitti", "--out", str(out), "--start", "1"]
    assert main([*words, "--frames", "2"]) == 0
    said = capsys.readouterr().out
    for word in ("carlasc", "semantickitti", "labelling", "drive_00000, 2 frames", "LiDAR points, 0 boxes"):
        assert word in said
    (sequence,) = open_dataset(out / "carlasc").sequences
    assert sequence.times_us.tolist() == [100_000, 200_000]
    described = json.loads((out / "semantickitti" / "dyncity.json").read_text())
    assert described["provenance"]["attribution"] == "(c) map [makers]"
    assert described["provenance"]["model_id"] is None


def bad(tmp_path: Path, generation: Path, build_street, case: str) -> tuple[list[str], str]:
    """Words of a command that must fail, and what is said."""
    street = build_street(frames=2)
    poses = street.poses_world_from_ego.copy()
    match case:
        case "raw taxonomy":
            folder = write_generation(tmp_path / "raw", street.labels, poses, CARLASC_RAW.id)
            return [str(folder), "--to", "occ3d"], "'carlasc-raw', expected 'carlasc'"
        case "labels out of the taxonomy":
            folder = write_generation(tmp_path / "odd", np.full_like(street.labels, 12), poses)
            return [str(folder), "--to", "occ3d"], "label 12"
        case "poses that are not rigid":
            poses[1, 0, 0] = 2.0
            folder = write_generation(tmp_path / "bent", street.labels, poses)
            return [str(folder), "--to", "occ3d"], "frame 1 that is not a rigid transform"
        case "no frames":
            folder = write_generation(tmp_path / "none", street.labels[:0], poses[:0])
            return [str(folder), "--to", "occ3d"], "at least 1"
        case "no poses":
            frame = tmp_path / "occ" / "gts" / "scene-1" / "aa"
            frame.mkdir(parents=True)
            arrays = {name: np.zeros((200, 200, 16), np.uint8) for name in ("semantics", "mask_lidar", "mask_camera")}
            np.savez_compressed(frame / "labels.npz", **arrays)
            return [str(tmp_path / "occ"), "--to", "carlasc"], "frames without poses or times"
        case "frames that are not there":
            return [str(generation), "--to", "occ3d", "--start", "3"], "a range within [0, 3)"
        case "a wall around the sensor":
            folder = write_generation(tmp_path / "wall", np.full_like(street.labels, 1), poses)
            return [str(folder), "--to", "occ3d"], "of class 'building', expected a free cell"
        case "an unknown format":
            return [str(generation), "--to", "occ3d,rosbag"], "'rosbag', expected each of carlasc, occ3d"
        case "a format twice":
            return [str(generation), "--to", "occ3d,occ3d"], "at most once"
        case "no format":
            return [str(generation), "--to", ","], "format: got none"
        case "no drive":
            return [str(tmp_path), "--to", "occ3d"], "nothing that is known"
    raise AssertionError(case)


@pytest.mark.parametrize(
    "case",
    [
        "raw taxonomy",
        "labels out of the taxonomy",
        "poses that are not rigid",
        "no frames",
        "no poses",
        "frames that are not there",
        "a wall around the sensor",
        "an unknown format",
        "a format twice",
        "no format",
        "no drive",
    ],
)
def test_bad_input_is_one_clear_line_and_leaves_nothing(tmp_path, generation, build_street, capsys, case):
    words, said = bad(tmp_path, generation, build_street, case)
    out = tmp_path / "labels" / "out"
    assert main(["export", *words, "--out", str(out)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("dyncity: error: ")
    assert said in error
    assert not out.exists()


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_of_the_table_can_be_opened(name, loaded, tmp_path):
    export_drive(loaded, ExportPlan((name,), RIG), tmp_path / "out")
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == [name]


@pytest.mark.parametrize(("name", "package"), [("mcap", "foxglove"), ("webdataset", "webdataset")])
def test_a_missing_package_is_named_with_its_extra_before_anything_is_written(
    name, package, loaded, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"dyncity_sim.groundtruth.formats.write_{name}", raising=False)
    with pytest.raises(MissingExtraError, match=r"'\.\[export\]"):
        export_drive(loaded, ExportPlan(("carlasc", name), RIG), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_help_shows_formats_and_examples(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["export", "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    for word in (*FORMATS, "examples:", "--resample nearest", "256 x 256 x 32"):
        assert word in said
