"""Claims about what folders are taken for, and about recordings and CarlaSC as data sets."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dyncity_sim.dataset.carlasc import export_carlasc, write_carlasc
from dyncity_sim.dataset.open import open_dataset
from dyncity_sim.dataset.store import Recording, RecordingMeta, RecordingWriter
from dyncity_sim.domain.frames import poses_from_planar
from dyncity_sim.domain.grid import CARLASC_GRID, Grid
from dyncity_sim.domain.recording import RecordedFrame
from dyncity_sim.errors import InvalidInputError


def drawn_frames(count: int, grid: Grid = CARLASC_GRID) -> list[RecordedFrame]:
    rng = np.random.default_rng(count)
    return [
        RecordedFrame(
            rng.integers(0, 23, grid.shape).astype(np.uint8),
            rng.integers(0, 2, grid.shape).astype(np.float32),
            np.zeros(grid.shape, np.uint16),
            (),
            poses_from_planar(np.array([0.8 * frame, 0.0, 0.1 * frame]), 1.8),
            100_000 * (frame + 1),
            grid,
        )
        for frame in range(count)
    ]


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A recording of two drives, of 3 and 1 frames."""
    folder = tmp_path / "rec"
    with RecordingWriter(folder, RecordingMeta("m", 0, CARLASC_GRID, "(c) someone", "s")) as writer:
        writer.write_drive(drawn_frames(3))
        writer.write_drive(drawn_frames(1))
    return folder


def test_a_recording_is_dense_with_what_sensors_saw_as_a_mask(recording: Path) -> None:
    dataset = open_dataset(recording)
    assert (dataset.name, dataset.dense, dataset.rate_hz, dataset.attribution) == ("recording", True, 10, "(c) someone")
    assert [(s.name, len(s)) for s in dataset.sequences] == [("drive_00000", 3), ("drive_00001", 1)]
    made = drawn_frames(3)
    frames = dataset.sequences[0].frames(1, 3)
    assert np.array_equal(frames.labels, [f.labels for f in made[1:]])
    assert np.array_equal(frames.observed, [f.counts > 0 for f in made[1:]])
    poses, times_us = dataset.sequences[0].poses_world_from_ego, dataset.sequences[0].times_us
    assert poses is not None
    assert times_us is not None
    assert np.array_equal(poses, [f.pose_world_from_ego for f in made])
    assert times_us.tolist() == [100_000, 200_000, 300_000]


def test_a_carlasc_export_gives_the_frames_of_its_recording_where_they_were_observed(
    recording: Path, tmp_path: Path
) -> None:
    export_carlasc(Recording.open(recording), tmp_path / "sc")
    ours, theirs = open_dataset(recording), open_dataset(tmp_path / "sc")
    assert (theirs.name, theirs.dense, theirs.grid, theirs.attribution) == (
        "CarlaSC",
        False,
        ours.grid,
        "(c) someone",
    )
    for mine, other in zip(ours.sequences, theirs.sequences, strict=True):
        frames, back = mine.frames(0, len(mine)), other.frames(0, len(other))
        assert np.array_equal(frames.observed, back.observed)
        assert np.array_equal(frames.labels[frames.observed], back.labels[back.observed])
        assert mine.poses_world_from_ego == pytest.approx(other.poses_world_from_ego, abs=1e-9)


@pytest.mark.parametrize(
    ("folder", "names"),
    [
        ("", ["Train/Town01_Light", "Val/Town02_Heavy"]),
        ("Train", ["Town01_Light"]),
        ("Train/Town01_Light", ["Town01_Light"]),
        ("Train/Town01_Light/cartesian", ["Town01_Light"]),
    ],
)
def test_published_carlasc_opens_from_root_split_sequence_and_cartesian(
    tmp_path: Path, published_carlasc: Callable[..., Path], folder: str, names: list[str]
) -> None:
    for sequence in ("Train/Town01_Light", "Val/Town02_Heavy"):
        published_carlasc(tmp_path / sequence)
    dataset = open_dataset(tmp_path / folder)
    assert [s.name for s in dataset.sequences] == names
    assert dataset.grid == CARLASC_GRID
    assert "CarlaSC" in dataset.attribution


@pytest.mark.parametrize(
    ("folder", "path"), [("", "."), ("cartesian", "."), ("cartesian", ".."), ("cartesian", "../cartesian")]
)
def test_a_sequence_has_the_name_of_its_folder_from_within_it_too(
    tmp_path: Path, published_carlasc: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, folder: str, path: str
) -> None:
    monkeypatch.chdir(published_carlasc(tmp_path / "Town01_Light") / folder)
    assert [s.name for s in open_dataset(Path(path)).sequences] == ["Town01_Light"]


def test_sequences_of_carlasc_are_found_however_deep_and_none_is_left_out(
    tmp_path: Path, published_carlasc: Callable[..., Path]
) -> None:
    names = ["Cartesian/Test_Cartesian/Test/Town10_Heavy", "Cartesian/Train/Town01_Light", "Town99"]
    for name in names:
        published_carlasc(tmp_path / name)
    assert [s.name for s in open_dataset(tmp_path).sequences] == names


def test_finer_carlasc_is_on_the_grid_that_its_evaluation_says(
    tmp_path: Path, published_carlasc: Callable[..., Path]
) -> None:
    dataset = open_dataset(published_carlasc(tmp_path / "Town10_Heavy", (256, 256, 16)))
    assert dataset.grid == Grid((256, 256, 16), (-25.6, -25.6, -2.0), (0.2, 0.2, 0.1875))
    frames = dataset.sequences[0].frames(2, 3)
    building = dataset.taxonomy.index("building")
    # To the left, where y of the ego frame is large.
    assert (frames.labels[0, :, -32:, 1:] == building).all()
    assert not (frames.labels[0, :, :-32] == building).any()


def test_a_sequence_of_ours_is_not_credited_to_the_makers_of_carlasc(tmp_path: Path) -> None:
    write_carlasc(drawn_frames(1), tmp_path / "seq")
    assert open_dataset(tmp_path / "seq").attribution == ""


def test_an_unknown_label_in_carlasc_is_named_with_its_file_and_number_of_cells(tmp_path: Path) -> None:
    write_carlasc(drawn_frames(3), tmp_path / "seq")
    file = tmp_path / "seq" / "cartesian" / "evaluation" / "000001.label"
    cells = np.fromfile(file, np.uint32)
    cells[:7] = 256 + 7
    cells.tofile(file)
    sequence = open_dataset(tmp_path / "seq").sequences[0]
    with pytest.raises(InvalidInputError, match=r"000001\.label: got unknown label 263 \(7 cells\).*0 to 22"):
        sequence.frames(0, 3)
    assert len(sequence.frames(2, 3)) == 1


def test_sequences_of_several_grids_are_not_one_data_set(tmp_path: Path) -> None:
    write_carlasc(drawn_frames(1), tmp_path / "all" / "a")
    write_carlasc(drawn_frames(1, Grid((10, 10, 4), (-2, -2, -1), (0.4, 0.4, 0.4))), tmp_path / "all" / "b")
    with pytest.raises(InvalidInputError, match=r"grid of b.*\(10, 10, 4\).*that of a"):
        open_dataset(tmp_path / "all")


@pytest.mark.parametrize(
    ("times", "rate_hz"),
    [("0 0.5 1", 2), ("0 0.497 0.996", 2), ("0 0.101 0.202", 10), ("0 0.08 0.16", 12.5), ("0 10 20", 0.1)],
)
def test_the_rate_of_carlasc_is_that_of_its_times(
    tmp_path: Path, published_carlasc: Callable[..., Path], times: str, rate_hz: float
) -> None:
    (published_carlasc(tmp_path / "a") / "cartesian" / "times.txt").write_text(times.replace(" ", "\n"))
    assert open_dataset(tmp_path).rate_hz == rate_hz


def test_sequences_of_several_rates_are_not_one_data_set(
    tmp_path: Path, published_carlasc: Callable[..., Path]
) -> None:
    for name in ("a", "b"):
        published_carlasc(tmp_path / name)
    (tmp_path / "b" / "cartesian" / "times.txt").write_text("0\n0.5\n1\n")
    with pytest.raises(InvalidInputError, match=r"rate_hz of b: got 2, expected 10, that of a\. Open them apart"):
        open_dataset(tmp_path)


def test_cells_of_another_grid_than_params_say_are_an_error(tmp_path: Path) -> None:
    write_carlasc(drawn_frames(1), tmp_path / "seq")
    np.zeros((200, 200, 16), np.uint32).tofile(tmp_path / "seq" / "cartesian" / "evaluation" / "000000.label")
    sequence = open_dataset(tmp_path / "seq").sequences[0]
    with pytest.raises(InvalidInputError, match=r"000000\.label: got 2560000 bytes.*128 x 128 x 8 cells"):
        sequence.frames(0, 1)


def test_a_grid_that_params_leave_half_said_is_an_error(tmp_path: Path) -> None:
    write_carlasc(drawn_frames(1), tmp_path / "seq")
    (tmp_path / "seq" / "cartesian" / "params.json").write_text('{"grid_size": [128, 128, 8]}')
    with pytest.raises(InvalidInputError, match=r"params\.json.*min_bound"):
        open_dataset(tmp_path / "seq")


def test_captures_are_named_with_the_command_that_renders_them(tmp_path: Path) -> None:
    (tmp_path / "captures.json").write_text("{}")
    with pytest.raises(InvalidInputError, match=rf"captures.*dyncity render {tmp_path} --out"):
        open_dataset(tmp_path)


def test_what_is_no_data_set_is_told_what_would_be_one(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"recording\.json.*CarlaSC.*Occ3D-nuScenes.*Occ3D-Waymo"):
        open_dataset(tmp_path)
    with pytest.raises(InvalidInputError, match="no folder"):
        open_dataset(tmp_path / "nothing")


def test_bytes_of_a_drive_that_are_turned_over_are_an_error_or_harmless(recording: Path) -> None:
    file = recording / "drive_00001.npz"
    content = file.read_bytes()
    before = open_dataset(recording).sequences[1].frames(0, 1)
    refused = 0
    for place in range(0, len(content), len(content) // 50):
        file.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            assert np.array_equal(open_dataset(recording).sequences[1].frames(0, 1).labels, before.labels)
        except InvalidInputError:
            refused += 1
    assert refused > 30


def test_a_drive_that_is_shorter_than_listed_is_named(recording: Path) -> None:
    file = recording / "recording.json"
    file.write_text(file.read_text().replace('"frames": 3', '"frames": 4'))
    sequence = open_dataset(recording).sequences[0]
    with pytest.raises(InvalidInputError, match=r"drive_00000\.npz"):
        sequence.frames(3, 4)
    with pytest.raises(InvalidInputError, match=r"drive_00000\.npz with 3 frames, expected 4"):
        _ = sequence.times_us
