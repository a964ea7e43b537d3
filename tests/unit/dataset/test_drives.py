"""Drives are opened out of any folder, whole, in part, or not at all."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from dyncity_sim.dataset.carlasc import export_carlasc
from dyncity_sim.dataset.drives import list_drives, open_drive
from dyncity_sim.dataset.recorded_tracks import recorded_tracks
from dyncity_sim.dataset.store import Recording, RecordingMeta, RecordingWriter
from dyncity_sim.domain.conditions import Command
from dyncity_sim.domain.frames import poses_from_planar
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.recording import ActorKind, ActorState, RecordedFrame
from dyncity_sim.domain.taxonomy import CARLASC, CARLASC_RAW
from dyncity_sim.errors import InvalidInputError

CAR = CARLASC_RAW.index("vehicle")


def recorded_frame(number: int, with_cells: bool = True) -> RecordedFrame:
    labels = np.zeros(CARLASC_GRID.shape, np.uint8)
    labels[..., 0] = CARLASC_RAW.index("road")
    instances = np.zeros(CARLASC_GRID.shape, np.uint16)
    if with_cells:
        labels[90:100, 60:64, 1:4] = CAR
        instances[90:100, 60:64, 1:4] = 7
    pose = poses_from_planar(np.array([15.0 + number, -1.0, 0.0]), 0.7)
    return RecordedFrame(
        labels,
        np.ones(CARLASC_GRID.shape, np.float32),
        instances,
        (ActorState(7, ActorKind.VAN, pose, (4.0, 1.6, 1.5), 10.0),),
        poses_from_planar(np.array([number, 0.0, 0.0]), 1.8),
        100_000 * number,
        CARLASC_GRID,
    )


@pytest.fixture
def recording(tmp_path) -> Path:
    folder = tmp_path / "recording"
    with RecordingWriter(folder, RecordingMeta("m", 0, CARLASC_GRID, "(c) makers", "s")) as writer:
        writer.write_drive([recorded_frame(n) for n in range(6)])
    return folder


def test_a_recording_is_a_dense_drive_of_merged_classes_with_its_true_tracks(recording):
    drive = open_drive(recording, start=2, frames=3)
    assert drive.occupancy.taxonomy is CARLASC
    assert drive.occupancy.observed is None
    assert drive.occupancy.times_us.tolist() == [200_000, 300_000, 400_000]
    assert set(np.unique(drive.occupancy.labels)) == {0, CARLASC.index("road"), CARLASC.index("vehicle")}
    (track,) = drive.tracks
    assert (track.id, track.kind) == (7, ActorKind.VAN)
    assert track.size_m == pytest.approx((4.0, 1.6, 1.5), abs=1e-6)
    assert track.times_us.tolist() == drive.occupancy.times_us.tolist()
    np.testing.assert_allclose(track.velocities_world_mps, [[10.0, 0.0, 0.0]] * 3)
    assert drive.provenance.model_id is None
    assert drive.provenance.attribution == "(c) makers"


def test_a_long_recording_is_opened_and_exported_in_the_memory_of_few_frames(tmp_path):
    with RecordingWriter(tmp_path / "long", RecordingMeta("m", 0, CARLASC_GRID, "", "s")) as writer:
        writer.write_drive([recorded_frame(n) for n in range(96)])
    opened = peak_bytes(lambda: open_drive(tmp_path / "long"))
    exported = peak_bytes(lambda: export_carlasc(Recording.open(tmp_path / "long"), tmp_path / "sc"))
    cells = 96 * CARLASC_GRID.cells
    assert opened < 4 * cells
    assert exported < cells


def peak_bytes(work) -> int:
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_actors_without_a_cell_in_the_grid_have_no_pose_at_that_time():
    (track,) = recorded_tracks([recorded_frame(0), recorded_frame(1, with_cells=False), recorded_frame(2)])
    assert track.times_us.tolist() == [0, 200_000]


def test_frames_and_sequences_that_are_not_there_are_refused(recording):
    with pytest.raises(InvalidInputError, match=r"\[4, 8\).*\[0, 6\).*--continuous"):
        open_drive(recording, start=4, frames=4)
    with pytest.raises(InvalidInputError, match="sequence: got 1, expected 0 to 0"):
        open_drive(recording, sequence=1)


def generation(folder: Path, length: int = 2) -> Path:
    folder.mkdir()
    grid = CARLASC_GRID
    chunks = []
    for number in range(length):
        poses = poses_from_planar(np.stack([np.arange(4.0) + 4 * number, np.zeros(4), np.zeros(4)], -1), 1.8)
        labels = np.full((4, *grid.shape), number, np.uint8)
        times_us = 100_000 * (np.arange(4) + 4 * number)
        np.savez_compressed(
            folder / f"chunk_{number:04d}.npz", labels=labels, poses_world_from_ego=poses, times_us=times_us
        )
        chunks.append({"seed": number, "command": "left" if number else None, "conditions": ["plan", "command"]})
    described = {
        "format": "dyncity-generation",
        "version": 1,
        "attribution": "(c) makers",
        "model": {"id": "model-1", "family": "anchored"},
        "grid": {"shape": grid.shape, "lower_m": grid.lower_m, "voxel_size_m": grid.voxel_size_m},
        "taxonomy": {"id": CARLASC.id},
        "chunks": chunks,
    }
    (folder / "generation.json").write_text(json.dumps(described))
    return folder


def test_a_generation_keeps_seeds_model_and_captions(tmp_path):
    drive = open_drive(generation(tmp_path / "dream"), start=3, frames=2)
    assert drive.name == "dream"
    assert drive.provenance.seeds == (0, 1)
    assert open_drive(tmp_path / "dream", start=4).provenance.seeds == (1,)
    assert drive.provenance.model_id == "model-1"
    assert drive.provenance.commands == (None, Command.LEFT)
    assert drive.provenance.conditions == (("plan", "command"),) * 2
    assert drive.captions == ("chunk 1", "chunk 2, left")
    assert drive.occupancy.labels[:, 0, 0, 0].tolist() == [0, 1]
    assert drive.tracks is None
    assert drive.recorded is None


def test_a_drive_has_the_name_of_its_folder_from_within_it_too(tmp_path, monkeypatch):
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(generation(tmp_path / "demo" / "occupancy"))
    assert [open_drive(Path(path)).name for path in (".", "..", "../occupancy")] == ["demo"] * 3


def test_a_part_of_a_long_generation_takes_the_memory_of_its_chunks(tmp_path):
    folder = generation(tmp_path / "dream", length=12)
    parts = []
    assert peak_bytes(lambda: parts.append(open_drive(folder, start=42, frames=3))) < 12 * 4 * CARLASC_GRID.cells
    (part,) = parts
    assert part.occupancy.labels[:, 0, 0, 0].tolist() == [10, 10, 11]
    assert part.occupancy.times_us.tolist() == [4_200_000, 4_300_000, 4_400_000]
    assert part.captions == ("chunk 11, left", "chunk 11, left", "chunk 12, left")
    assert (part.provenance.seeds, part.frames_per_chunk) == ((10, 11), 4)


def test_a_damaged_chunk_and_another_version_are_laid_to_their_file(tmp_path):
    folder = generation(tmp_path / "dream")
    (folder / "chunk_0001.npz").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(InvalidInputError, match=r"chunk_0001.npz: got BadZipFile"):
        open_drive(folder)
    described = json.loads((folder / "generation.json").read_text())
    (folder / "generation.json").write_text(json.dumps(described | {"version": 9}))
    with pytest.raises(InvalidInputError, match="version 9, expected dyncity-generation version 1"):
        open_drive(folder)


def test_a_bit_that_is_turned_over_in_a_chunk_is_laid_to_its_file_or_harmless(tmp_path):
    folder = generation(tmp_path / "dream")
    labels = np.random.default_rng(0).integers(0, 2, (4, *CARLASC_GRID.shape), dtype=np.uint8)
    with np.load(folder / "chunk_0000.npz") as arrays:
        np.savez_compressed(folder / "chunk_0000.npz", **{**arrays, "labels": labels})
    content, blamed = (folder / "chunk_0000.npz").read_bytes(), []
    for place in range(60, len(content), len(content) // 80):
        for bit in (0, 7):
            turned = content[place] ^ 1 << bit
            (folder / "chunk_0000.npz").write_bytes(content[:place] + bytes([turned]) + content[place + 1 :])
            try:
                open_drive(folder)
            except InvalidInputError as error:
                blamed.append(error.field)
    assert len(blamed) > 100
    assert set(blamed) == {str(folder / "chunk_0000.npz")}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"chunks": {"a": 1}}, "dream: got AttributeError"),
        ({"chunks": ["a", "b"]}, "dream: got AttributeError"),
        ({"chunks": 3}, "dream: got TypeError"),
        ({"rate_hz": "fast"}, r"generation.json: got ValueError: could not convert"),
        ({"rate_hz": 0}, r"generation.json: got ValueError: rate_hz of 0.0, not 0.01 to 1000"),
        ({"rate_hz": float("nan")}, "rate_hz of nan"),
        ({"rate_hz": [10]}, "generation.json: got TypeError"),
        ({"attribution": None}, "provenance.attribution: got None, expected text"),
        ({"model": {"id": 5}}, "provenance.model_id: got 5, expected text"),
        ({"chunks": [{"seed": n, "conditions": "plan"} for n in range(2)]}, "provenance.conditions: got 'a', 'l'"),
        ({"chunks": [{"seed": n, "conditions": [[]]} for n in range(2)]}, r"provenance.conditions: got \[\]"),
    ],
)
def test_a_description_with_something_else_in_the_place_of_a_value_is_refused(tmp_path, changes, told):
    folder = generation(tmp_path / "dream")
    described = json.loads((folder / "generation.json").read_text())
    (folder / "generation.json").write_text(json.dumps(described | changes))
    with pytest.raises(InvalidInputError, match=told):
        open_drive(folder)


def test_a_recording_beside_some_of_the_chunks_is_refused(tmp_path):
    folder = generation(tmp_path / "dream")
    with np.load(folder / "chunk_0001.npz") as arrays:
        labels = arrays["labels"]
        observed = np.packbits(np.ones(labels.shape, np.bool_))
        np.savez(folder / "chunk_0001.npz", recorded_labels=labels, recorded_observed=observed, **arrays)
    with pytest.raises(InvalidInputError, match="1 of 2 chunks hold what was recorded"):
        open_drive(folder)


def test_a_folder_of_nothing_known_is_refused(tmp_path):
    with pytest.raises(
        InvalidInputError, match=r"nothing that is known, expected a drive \(.*generation\.json\), a recording"
    ):
        open_drive(tmp_path)


def test_a_recording_without_drives_is_refused(recording, tmp_path):
    described = json.loads((recording / "recording.json").read_text()) | {"drives": []}
    (tmp_path / "recording.json").write_text(json.dumps(described))
    with pytest.raises(InvalidInputError, match="a data set without drives"):
        open_drive(tmp_path)


def test_the_true_tracks_are_those_of_the_recorded_actors(recording):
    frames = Recording.open(recording).drives[0].frames()
    (track,) = recorded_tracks(frames)
    np.testing.assert_allclose(
        track.poses_world_from_actor, [frame.actors[0].pose_world_from_actor for frame in frames], atol=1e-9
    )


def test_all_drives_are_listed_with_their_lengths_and_read_when_they_are_opened(tmp_path):
    folder = tmp_path / "recording"
    with RecordingWriter(folder, RecordingMeta("m", 0, CARLASC_GRID, "(c) makers", "s")) as writer:
        for length in (3, 2):
            writer.write_drive([recorded_frame(n) for n in range(length)])
    (folder / "drive_00001.npz").write_bytes(b"no drive")
    drives = list_drives(folder, start=1)
    assert [(drive.name, drive.frames) for drive in drives] == [("drive_00000", 2), ("drive_00001", 1)]
    assert drives[0].open().occupancy.times_us.tolist() == [100_000, 200_000]
    with pytest.raises(InvalidInputError, match="drive_00001"):
        drives[1].open()
    assert [drive.name for drive in list_drives(folder, (1, 0))] == ["drive_00001", "drive_00000"]


def test_a_generated_folder_is_listed_as_its_one_drive(tmp_path):
    folder = generation(tmp_path / "dream")
    (drive,) = list_drives(folder)
    loaded = drive.open()
    assert (drive.name, drive.frames) == (loaded.name, len(loaded.occupancy))
    with pytest.raises(InvalidInputError, match="got 2, expected 0"):
        list_drives(folder, (0, 2))
