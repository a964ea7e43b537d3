"""Claims about recordings on disk: what goes in comes out, whole or not at all."""

import json
import pickle
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dyncity_sim.dataset.drive_file import MOST_COUNTS, Drive, write_drive_file
from dyncity_sim.dataset.store import Recording, RecordingMeta, RecordingWriter
from dyncity_sim.domain.frames import poses_from_planar
from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.recording import ActorKind, ActorState, RecordedFrame
from dyncity_sim.errors import InvalidInputError, StorageError

GRID = Grid((6, 5, 3), (-3.0, -2.5, -2.0), (1.0, 1.0, 1.0))
META = RecordingMeta("generated:grid", 4, GRID, "(c) somebody", "SUMO 1", {"burst": 3})


def drawn_frames(seed: int, count: int) -> list[RecordedFrame]:
    rng = np.random.default_rng(seed)
    frames = []
    for number in range(count):
        actors = tuple(
            ActorState(
                int(100 * (k + 1) + rng.integers(100)),
                list(ActorKind)[rng.integers(len(ActorKind))],
                poses_from_planar(rng.normal(0, 20, 3), float(rng.normal())),
                (float(np.float32(rng.uniform(1, 5))), 2.0, 1.5),
                float(np.float32(rng.normal())),
            )
            for k in range(rng.integers(0, 5))
        )
        frames.append(
            RecordedFrame(
                rng.integers(0, 23, GRID.shape).astype(np.uint8),
                np.maximum(rng.integers(-50, 400, GRID.shape), 0).astype(np.float32),
                rng.integers(0, 2**16, GRID.shape).astype(np.uint16),
                actors,
                poses_from_planar(rng.normal(0, 50, 3), 1.8),
                (number + 1) * 100_000,
                GRID,
            )
        )
    return frames


def recorded(folder: Path, *drives: list[RecordedFrame]) -> Recording:
    with RecordingWriter(folder, META) as writer:
        for frames in drives:
            writer.write_drive(frames, {"ego": "own"})
    return Recording.open(folder)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_frames_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, seed: int, count: int) -> None:
    frames = drawn_frames(seed, count)
    drive = recorded(tmp_path_factory.mktemp("r") / "rec", frames).drives[0]
    for before, after in zip(frames, drive.frames(), strict=True):
        assert np.array_equal(before.labels, after.labels)
        assert np.array_equal(before.instances, after.instances)
        assert np.array_equal(before.pose_world_from_ego, after.pose_world_from_ego)
        assert before.time_us == after.time_us
        for one, other in zip(before.actors, after.actors, strict=True):
            assert (one.id, one.kind, one.size_m, one.speed_mps) == (
                other.id,
                other.kind,
                other.size_m,
                other.speed_mps,
            )
            assert one.pose_world_from_actor == pytest.approx(other.pose_world_from_actor, abs=1e-12)


def test_counts_keep_zero_and_lose_less_than_half(tmp_path: Path) -> None:
    frames = drawn_frames(1, 4)
    _, counts = recorded(tmp_path / "rec", frames).drives[0].arrays()
    before = np.stack([frame.counts for frame in frames])
    assert np.array_equal(counts > 0, before > 0)
    below = (before > 0) & (before < MOST_COUNTS)
    assert (counts[below] <= before[below]).all()
    assert (counts[below] * 2 > before[below]).all()
    assert (counts[before >= MOST_COUNTS] == MOST_COUNTS).all()


def test_what_a_drive_forgets_is_read_again(tmp_path: Path) -> None:
    drive = recorded(tmp_path / "rec", drawn_frames(2, 3)).drives[0]
    drive.forget()
    before = drive.labels()
    assert "_arrays" in vars(drive)
    drive.forget()
    assert "_arrays" not in vars(drive)
    assert np.array_equal(drive.labels(), before)


def test_any_range_of_frames_can_be_read_alone(tmp_path: Path) -> None:
    frames = drawn_frames(2, 6)
    drive = recorded(tmp_path / "rec", frames).drives[0]
    labels, _ = drive.arrays(2, 5)
    assert np.array_equal(labels, np.stack([frame.labels for frame in frames[2:5]]))
    assert np.array_equal(drive.instances(5, 6)[0], frames[5].instances)
    assert [f.time_us for f in drive.frames(1, 3)] == [200_000, 300_000]
    for start, stop in ((3, 3), (-1, 2), (0, 7)):
        with pytest.raises(InvalidInputError, match="frames"):
            drive.arrays(start, stop)


def test_what_is_said_of_a_recording_comes_back(tmp_path: Path) -> None:
    recording = recorded(tmp_path / "rec", drawn_frames(1, 2), drawn_frames(2, 3))
    assert recording.meta == META
    assert [len(drive) for drive in recording.drives] == [2, 3]
    assert len(recording) == 5
    assert recording.drives[0].notes["ego"] == "own"


def test_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        recorded(tmp_path / name, drawn_frames(3, 3))
    for file in ("recording.json", "drive_00000.npz"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_drives_that_others_write_side_by_side_make_the_same_recording(tmp_path: Path) -> None:
    drives = [drawn_frames(seed, 2) for seed in (1, 2)]
    recorded(tmp_path / "a", *drives)
    with RecordingWriter(tmp_path / "b", META) as writer:
        for number in (1, 0):
            write_drive_file(drives[number], writer.drive_file(number))
        for drive in drives:
            writer.list_drive(len(drive), {"ego": "own"})
    for file in (tmp_path / "a").iterdir():
        assert (tmp_path / "b" / file.name).read_bytes() == file.read_bytes()


def test_a_recording_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail() -> None:
        with RecordingWriter(tmp_path / "rec", META) as writer:
            writer.write_drive(drawn_frames(1, 2))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_recording_is_written_where_a_link_leads(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(Path("elsewhere") / "rec")
    assert len(recorded(tmp_path / "link", drawn_frames(1, 2))) == 2
    assert len(Recording.open(tmp_path / "elsewhere" / "rec")) == 2


RECORDER = """
import pickle, sys
from dyncity_sim.dataset.store import RecordingWriter

folder, meta, frames = pickle.load(sys.stdin.buffer)
with RecordingWriter(folder, meta) as writer:
    writer.write_drive(frames)
    writer.write_drive(frames)
"""
"""A recorder is a process of its own."""


def test_two_recorders_to_one_folder_do_not_mix(tmp_path: Path) -> None:
    frames = drawn_frames(1, 2)
    with RecordingWriter(tmp_path / "rec", META) as writer:
        writer.write_drive(frames)
        subprocess.run(
            [sys.executable, "-c", RECORDER], input=pickle.dumps((tmp_path / "rec", META, frames)), check=True
        )
        (tmp_path / "rec").rename(tmp_path / "other")
        writer.write_drive(frames)
        writer.write_drive(frames)
    assert [len(Recording.open(tmp_path / name).drives) for name in ("other", "rec")] == [2, 3]


def test_a_full_disk_is_a_storage_error_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    def write() -> None:
        with RecordingWriter(tmp_path / "rec", META) as writer:
            monkeypatch.setattr(np, "savez", full)
            writer.write_drive(drawn_frames(1, 2))

    with pytest.raises(StorageError, match="No space left"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "rec").mkdir()
    with pytest.raises(InvalidInputError, match="exists"):
        RecordingWriter(tmp_path / "rec", META)


def test_frames_of_another_grid_are_refused(tmp_path: Path) -> None:
    other = Grid((6, 5, 3), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    with RecordingWriter(tmp_path / "rec", RecordingMeta("m", 0, other, "", "s")) as writer:
        with pytest.raises(InvalidInputError, match="grid"):
            writer.write_drive(drawn_frames(1, 1))
        with pytest.raises(InvalidInputError, match="no frame"):
            writer.write_drive([])


def test_a_damaged_drive_is_named(tmp_path: Path) -> None:
    recorded(tmp_path / "rec", drawn_frames(1, 2))
    file = tmp_path / "rec" / "drive_00000.npz"
    file.write_bytes(file.read_bytes()[:-300])
    with pytest.raises(InvalidInputError, match="drive_00000"):
        Recording.open(tmp_path / "rec").drives[0].arrays()


def test_a_damaged_stream_is_named(tmp_path: Path) -> None:
    drive = recorded(tmp_path / "rec", drawn_frames(1, 2)).drives[0]
    drive.arrays()
    offset = int(drive._arrays["labels_offsets"][1])
    drive._arrays["labels"][offset : offset + 8] = 0
    with pytest.raises(InvalidInputError, match=r"labels\[1\]"):
        drive.arrays(1, 2)


def test_what_follows_a_stream_is_refused(tmp_path: Path) -> None:
    drive = recorded(tmp_path / "rec", drawn_frames(1, 1)).drives[0]
    drive.labels()
    drive._arrays["labels"] = np.append(drive._arrays["labels"], np.uint8(0))
    drive._arrays["labels_offsets"] = drive._arrays["labels_offsets"] + np.array([0, 1])
    with pytest.raises(InvalidInputError, match=r"labels\[0\]: got damaged zstd data"):
        drive.labels()


def test_a_stream_that_claims_more_than_a_frame_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    drive = recorded(tmp_path / "rec", drawn_frames(1, 1)).drives[0]
    bomb = zstandard.compress(bytes(64 * 2**20))
    drive._arrays["labels"] = np.frombuffer(bomb, np.uint8)
    drive._arrays["labels_offsets"] = np.array([0, len(bomb)])
    tracemalloc.start()
    with pytest.raises(InvalidInputError, match=r"labels\[0\]: got 67108864 bytes"):
        drive.labels()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize("frames", [1, 3, 40])
def test_a_drive_of_another_length_than_the_recording_says_is_named(tmp_path: Path, frames: int) -> None:
    recorded(tmp_path / "rec", drawn_frames(1, 2))
    _say_of_first_drive(tmp_path / "rec", frames=frames)
    with pytest.raises(InvalidInputError, match=f"drive_00000.npz with 2 frames, expected {frames}"):
        Recording.open(tmp_path / "rec").drives[0].arrays()


HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "no labels": ({"labels": None}, r"drive_00000\.npz: got no labels, expected a whole drive"),
    "no offsets": ({"counts_offsets": None}, r"drive_00000\.npz: got no counts_offsets"),
    "no poses": ({"poses_world_from_ego": None}, r"drive_00000\.npz: got no poses_world_from_ego"),
    "poses that are none": ({"poses_world_from_ego": np.full((2, 4, 4), np.nan)}, "poses_world_from_ego: got .*finite"),
    "poses of words": ({"poses_world_from_ego": np.full((2, 4, 4), "1")}, "poses_world_from_ego: got type <U1"),
    "a pose too few": ({"poses_world_from_ego": np.eye(4)[None]}, r"poses_world_from_ego: got shape \(1, 4, 4\)"),
    "times that run back": ({"times_us": np.array([5, 4])}, "times_us: got frame 1 not later"),
    "offsets of fractions": ({"labels_offsets": np.array([0.0, 1.0, 2.0])}, "labels_offsets: got float64"),
    "offsets too few": ({"instances_offsets": np.array([0, 1])}, r"instances_offsets: got int64 of shape \(2,\)"),
    "offsets past the end": ({"labels_offsets": np.array([0, 1, 10**9])}, "labels_offsets: got .*rise from 0"),
    "offsets below 0": ({"labels_offsets": np.array([0, -7, 1])}, "labels_offsets: got .*rise from 0"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_arrays_that_make_no_drive_are_named_however_it_is_read(tmp_path: Path, case: str) -> None:
    changed, said = HOSTILE[case]
    recorded(tmp_path / "rec", drawn_frames(1, 2))
    file = tmp_path / "rec" / "drive_00000.npz"
    arrays = {**np.load(file), **changed}
    np.savez(file, **{name: array for name, array in arrays.items() if array is not None})
    reads: list[Callable[[Drive], object]] = [Drive.arrays, Drive.frames, lambda d: d.poses_world_from_ego]
    for read in reads:
        with pytest.raises(InvalidInputError, match=said):
            read(Recording.open(tmp_path / "rec").drives[0])


def test_actors_that_are_none_are_laid_to_their_file_and_frame(tmp_path: Path) -> None:
    recorded(tmp_path / "rec", drawn_frames(1, 2))
    file = tmp_path / "rec" / "drive_00000.npz"
    arrays = dict(np.load(file))
    del arrays["actor_id"]
    np.savez(file, **arrays)
    with pytest.raises(InvalidInputError, match=r"drive_00000\.npz actors of frame 0: got KeyError\('actor_id'\)"):
        Recording.open(tmp_path / "rec").drives[0].frames()


@pytest.mark.parametrize("frames", [0, -1, "many", None, "2", 2.9, True, float("inf")])
def test_a_drive_without_a_length_makes_no_recording(tmp_path: Path, frames: object) -> None:
    recorded(tmp_path / "rec", drawn_frames(1, 2))
    _say_of_first_drive(tmp_path / "rec", frames=frames)
    with pytest.raises(InvalidInputError, match=r"recording\.json"):
        Recording.open(tmp_path / "rec")


def _say_of_first_drive(folder: Path, **notes: object) -> None:
    described = json.loads((folder / "recording.json").read_text())
    described["drives"][0] |= notes
    (folder / "recording.json").write_text(json.dumps(described))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("version", 99),
        ("format", "something"),
        ("drives", None),
        ("drives", [{"file": "../elsewhere.npz", "frames": 2}]),
        ("drives", [{"file": "/tmp/elsewhere.npz", "frames": 2}]),
        ("rate_hz", 2),
        ("taxonomy", "carlasc"),
        ("attribution", None),
        ("grid", {"shape": [128.5, 128, 8], "lower_m": [0, 0, 0], "voxel_size_m": [1, 1, 1]}),
    ],
)
def test_a_foreign_description_is_refused(tmp_path: Path, key: str, value: object) -> None:
    recorded(tmp_path / "rec", drawn_frames(1, 2))
    file = tmp_path / "rec" / "recording.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    with pytest.raises(InvalidInputError, match="recording"):
        Recording.open(tmp_path / "rec")


def test_a_description_without_end_is_refused(tmp_path: Path) -> None:
    recorded(tmp_path / "rec", drawn_frames(1, 1))
    (tmp_path / "rec" / "recording.json").write_text("[" * 100_000)
    with pytest.raises(InvalidInputError, match=r"recording\.json"):
        Recording.open(tmp_path / "rec")


def test_a_folder_without_a_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"recording\.json"):
        Recording.open(tmp_path)
