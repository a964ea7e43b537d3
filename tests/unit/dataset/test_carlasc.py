"""Claims about CarlaSC folders, checked by a reader that knows nothing of ours: plain NumPy."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dyncity_sim.dataset.carlasc import CarlaScFolder, export_carlasc, read_carlasc, write_carlasc
from dyncity_sim.dataset.store import Recording, RecordingMeta, RecordingWriter
from dyncity_sim.domain.frames import poses_from_planar
from dyncity_sim.domain.grid import CARLASC_GRID, Grid
from dyncity_sim.domain.recording import ActorKind, ActorState, RecordedFrame
from dyncity_sim.domain.taxonomy import CARLASC_RAW
from dyncity_sim.errors import InvalidInputError, StorageError

VEHICLE, ROAD = CARLASC_RAW.index("vehicle"), CARLASC_RAW.index("road")


def drawn_frames(seed: int, count: int) -> list[RecordedFrame]:
    rng = np.random.default_rng(seed)
    planar = np.cumsum(rng.normal(0, [1, 1, 0.2], (count, 3)), axis=0) + np.array([200, -80, 2])
    return [
        RecordedFrame(
            rng.integers(0, 23, CARLASC_GRID.shape).astype(np.uint8),
            np.maximum(rng.integers(-3, 5, CARLASC_GRID.shape), 0).astype(np.float32),
            rng.integers(0, 9, CARLASC_GRID.shape).astype(np.uint16),
            (),
            poses_from_planar(planar[frame], 1.8),
            300_000 + frame * 100_000,
            CARLASC_GRID,
        )
        for frame in range(count)
    ]


def published_frame(sequence: Path, frame: int) -> tuple[np.ndarray, np.ndarray]:
    """Label and count grid as files hold them."""
    stem = sequence / "cartesian" / "evaluation" / f"{frame:06d}"
    shape = json.loads((sequence / "cartesian" / "params.json").read_text())["grid_size"]
    labels = np.fromfile(f"{stem}.label", dtype=np.uint32).reshape(shape)
    return labels, np.fromfile(f"{stem}.bin", dtype=np.float32).reshape(shape)


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_a_sequence_comes_back_as_it_was_seen(tmp_path_factory: pytest.TempPathFactory, seed: int, count: int) -> None:
    frames = drawn_frames(seed, count)
    folder = tmp_path_factory.mktemp("c") / "seq"
    write_carlasc(frames, folder)
    back = read_carlasc(folder)
    for number, frame in enumerate(frames):
        assert np.array_equal(back.occupancy.labels[number], np.where(frame.counts > 0, frame.labels, 0))
        assert np.array_equal(back.counts[number], frame.counts)
        assert back.instances is not None
        assert np.array_equal(back.instances[number], frame.instances)
        assert back.occupancy.poses_world_from_ego[number] == pytest.approx(frame.pose_world_from_ego, abs=1e-9)
        assert back.occupancy.times_us[number] == frame.time_us
    assert np.array_equal(back.occupancy.observed, back.counts > 0)


def test_files_are_left_handed_so_that_a_left_turn_and_a_left_car_are_mirrored(tmp_path: Path) -> None:
    labels = np.zeros(CARLASC_GRID.shape, np.uint8)
    labels[70, 100, 3] = VEHICLE  # 14.6 m to the left
    actor = ActorState(5, ActorKind.CAR, poses_from_planar(np.array([2.6, 14.6, 0.5]), 1.0), (4.5, 1.8, 1.5), 3.0)
    frames = [
        RecordedFrame(
            labels,
            np.ones(CARLASC_GRID.shape, np.float32),
            np.zeros(CARLASC_GRID.shape, np.uint16),
            (actor,),
            poses_from_planar(np.array([0.8 * frame, 0.1 * frame**2, 0.2 * frame]), 1.8),
            (frame + 1) * 100_000,
            CARLASC_GRID,
        )
        for frame in range(4)
    ]
    write_carlasc(frames, tmp_path / "seq")
    published, _ = published_frame(tmp_path / "seq", 0)
    assert np.argwhere(published == VEHICLE).tolist() == [[70, 127 - 100, 3]]
    rows = np.loadtxt(tmp_path / "seq" / "cartesian" / "poses.txt").reshape(-1, 3, 4)
    assert rows[0] == pytest.approx(np.eye(4)[:3])
    assert rows[3, 1, 3] == pytest.approx(-0.9)
    assert np.arctan2(rows[3, 1, 0], rows[3, 0, 0]) == pytest.approx(-0.6)
    box = json.loads((tmp_path / "seq" / "cartesian" / "boxes.json").read_text())[0][0]
    assert box["centre_m"] == pytest.approx([2.6, -14.6, -0.8])
    assert box["yaw_rad"] == pytest.approx(-0.5)
    params = json.loads((tmp_path / "seq" / "cartesian" / "params.json").read_text())
    assert params["handedness"] == "left"
    assert params["min_bound"] == [-25.6, -25.6, -2.0]
    assert params["max_bound"] == [25.6, 25.6, 1.0]


def test_cells_and_points_of_a_grid_that_reaches_farther_to_one_side_are_at_their_place(tmp_path: Path) -> None:
    grid = Grid((10, 20, 2), (0.0, -2.0, -2.0), (1.0, 1.0, 1.0))
    labels = np.zeros(grid.shape, np.uint8)
    labels[3, 15, 0] = VEHICLE
    ones, nobody = np.ones(grid.shape, np.float32), np.zeros(grid.shape, np.uint16)
    write_carlasc([RecordedFrame(labels, ones, nobody, (), np.eye(4), 0, grid)], tmp_path / "seq")
    ((x, y, _),) = np.argwhere(published_frame(tmp_path / "seq", 0)[0])
    params = json.loads((tmp_path / "seq" / "cartesian" / "params.json").read_text())
    # 13.5 m to the left of the ego, where y grows to the right.
    assert (params["min_bound"][0] + x + 0.5, params["min_bound"][1] + y + 0.5) == (3.5, -13.5)
    back = read_carlasc(tmp_path / "seq").occupancy
    assert back.grid == grid
    np.testing.assert_array_equal(back.labels[0], labels)


def test_static_cells_warped_by_the_files_own_poses_agree(tmp_path: Path) -> None:
    """A published loader warps by poses.txt in the files' own frame: grid and poses must be mirrored alike."""
    x, y = np.meshgrid(CARLASC_GRID.centres(0), CARLASC_GRID.centres(1), indexing="ij")

    def world_frame(planar: np.ndarray) -> RecordedFrame:
        pose = poses_from_planar(planar, 1.8)
        world = np.stack([x, y], -1) @ pose[:2, :2].T + pose[:2, 3]
        labels = np.zeros(CARLASC_GRID.shape, np.uint8)
        labels[:, :, 0] = np.where(world[..., 1] - 0.4 * world[..., 0] > 3, ROAD, CARLASC_RAW.index("sidewalk"))
        counts = np.ones(CARLASC_GRID.shape, np.float32)
        empty = np.zeros(CARLASC_GRID.shape, np.uint16)
        return RecordedFrame(labels, counts, empty, (), pose, int(planar[0] * 100_000) + 1, CARLASC_GRID)

    write_carlasc([world_frame(np.array([0.0, 0, 0.3])), world_frame(np.array([5.0, 3, 0.9]))], tmp_path / "seq")
    first, second = (published_frame(tmp_path / "seq", frame)[0][:, :, 0] for frame in (0, 1))
    second_pose = np.vstack(
        [np.loadtxt(tmp_path / "seq" / "cartesian" / "poses.txt").reshape(-1, 3, 4)[1], [0, 0, 0, 1]]
    )
    points = np.stack([x, y, np.zeros_like(x), np.ones_like(x)], -1) @ second_pose.T
    cell = np.floor((points[..., :2] + 25.6) / 0.4).astype(int)
    inside = ((cell >= 0) & (cell < 128)).all(axis=-1)
    warped = first[cell[inside][:, 0], cell[inside][:, 1]]
    assert (warped == second[inside]).mean() > 0.97
    assert (first[inside] == second[inside]).mean() < 0.9


def test_a_recording_exports_every_drive(tmp_path: Path) -> None:
    frames = drawn_frames(1, 2)
    with RecordingWriter(tmp_path / "rec", RecordingMeta("m", 0, CARLASC_GRID, "(c) x", "s")) as writer:
        writer.write_drive(frames)
        writer.write_drive(frames[:1])
    export_carlasc(Recording.open(tmp_path / "rec"), tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["drive_00000", "drive_00001"]
    labels, counts = published_frame(tmp_path / "out" / "drive_00000", 1)
    assert np.array_equal(labels[:, ::-1], np.where(frames[1].counts > 0, frames[1].labels, 0))
    assert np.array_equal(counts > 0, frames[1].counts[:, ::-1] > 0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "rec"]


def test_a_published_sequence_has_no_instances_and_starts_at_the_origin(
    tmp_path: Path, published_carlasc: Callable[..., Path]
) -> None:
    back = read_carlasc(published_carlasc(tmp_path / "seq"))
    assert back.instances is None
    assert back.occupancy.grid == CARLASC_GRID
    assert back.occupancy.poses_world_from_ego[0] == pytest.approx(np.eye(4))
    assert back.occupancy.poses_world_from_ego[:, 0, 3] == pytest.approx([0, 0.8, 1.6])
    assert back.occupancy.times_us.tolist() == [0, 100_000, 200_000]


def test_what_evaluation_says_of_ours_is_known_where_only_that_was_copied(tmp_path: Path) -> None:
    frames = drawn_frames(3, 2)
    write_carlasc(frames, tmp_path / "seq", "(c) someone")
    (tmp_path / "seq" / "cartesian" / "params.json").unlink()
    folder = CarlaScFolder(tmp_path / "seq")
    assert folder.attribution == "(c) someone"
    assert folder.poses_world_from_ego[1] == pytest.approx(frames[1].pose_world_from_ego, abs=1e-9)


def test_hidden_files_of_an_archive_are_no_frames(tmp_path: Path, published_carlasc: Callable[..., Path]) -> None:
    sequence = published_carlasc(tmp_path / "seq")
    for frame in range(3):
        (sequence / "cartesian" / "evaluation" / f"._{frame:06d}.label").write_bytes(b"Mac OS X")
    assert len(CarlaScFolder(sequence)) == 3


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"min_bound": [0.0, -25.6, -2.0], "max_bound": [51.2, 25.6, 1.0]}, None),
        (
            {"coordinates": "cylindrical"},
            r"evaluation/params\.json coordinates: got 'cylindrical', expected 'cartesian'",
        ),
        ({"grid_size": [128.5, 128, 8]}, r"params\.json grid_size: got \[128\.5, 128, 8\]"),
        ({"grid_size": [float("inf"), 128, 8]}, r"params\.json: got OverflowError"),
        ({"grid_size": [-128, -128, 8]}, r"params\.json grid_size: got \[-128, -128, 8\]"),
        ({"grid_size": [1e9, 1e9, 8]}, r"000000\.bin: got 524288 bytes, expected 32000000000000000000"),
        ({"min_bound": [float("nan"), -25.6, -2.0]}, r"params\.json grid\.lower_m: got \(nan"),
        ({"min_bound": [51.2, -25.6, -2.0]}, r"params\.json grid\.voxel_size_m"),
        ({"grid_size": [128, 1024]}, r"params\.json: got ValueError"),
    ],
)
def test_the_grid_is_what_evaluation_says_or_an_error_that_names_its_file(
    tmp_path: Path, published_carlasc: Callable[..., Path], changed: dict[str, object], said: str | None
) -> None:
    sequence = published_carlasc(tmp_path / "seq", **changed)
    if said is None:
        assert read_carlasc(sequence).occupancy.grid == Grid((128, 128, 8), (0.0, -25.6, -2.0), (0.4, 0.4, 0.375))
    else:
        with pytest.raises(InvalidInputError, match=said):
            read_carlasc(sequence)


@pytest.mark.parametrize("said", ['{"min_bound": [0, -25.6, -2], "max_bound": [51.2, 25.6, 1]}', "{}"])
def test_two_descriptions_that_differ_in_the_grid_are_an_error(
    tmp_path: Path, published_carlasc: Callable[..., Path], said: str
) -> None:
    cartesian = published_carlasc(tmp_path / "seq", (256, 256, 16)) / "cartesian"
    (cartesian / "params.json").write_text(said)
    with pytest.raises(InvalidInputError, match=r"cartesian/params\.json: got .*(grid_size|128)"):
        read_carlasc(tmp_path / "seq")


@pytest.mark.parametrize("damage", ["truncate", "label", "missing", "poses"])
def test_damage_is_named(tmp_path: Path, damage: str) -> None:
    write_carlasc(drawn_frames(1, 2), tmp_path / "seq")
    cartesian = tmp_path / "seq" / "cartesian"
    file = cartesian / "evaluation" / "000001.label"
    if damage == "truncate":
        file.write_bytes(file.read_bytes()[:-4])
    elif damage == "label":
        file.write_bytes(np.full(CARLASC_GRID.cells, 300, np.uint32).tobytes())
    elif damage == "missing":
        file.unlink()
    else:
        (cartesian / "poses.txt").write_text("1 2 three\n")
    with pytest.raises(InvalidInputError, match=r"300|000001|poses\.txt"):
        read_carlasc(tmp_path / "seq")


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "a frame without a pose": (
        lambda c: (c / "evaluation" / "000002.label").write_bytes((c / "evaluation" / "000001.label").read_bytes()),
        r"evaluation: got 3 frames, expected 2, one for each line of poses\.txt",
    ),
    "counts that are none": (
        lambda c: np.full(CARLASC_GRID.cells, np.nan, "<f4").tofile(c / "evaluation" / "000001.bin"),
        r"000001\.bin: got .*nan",
    ),
    "counts below 0": (
        lambda c: np.full(CARLASC_GRID.cells, -1, "<f4").tofile(c / "evaluation" / "000001.bin"),
        r"000001\.bin: got .*-1",
    ),
    "counts without end": (
        lambda c: np.full(CARLASC_GRID.cells, np.inf, "<f4").tofile(c / "evaluation" / "000001.bin"),
        r"000001\.bin: got .*inf",
    ),
    "a line that is cut short": (
        lambda c: (c / "poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n1 0 0\n"),
        r"poses\.txt: got 3 words in line 2, expected 12 numbers in each line",
    ),
    "no times": (lambda c: (c / "times.txt").unlink(), r"no .*times\.txt.*finer grids come without"),
    "a description that a link has lost": (
        lambda c: ((c / "params.json").unlink(), (c / "params.json").symlink_to("elsewhere.json")),
        r"params\.json: got .*a link to nothing",
    ),
    "an infinite pose": (
        lambda c: (c / "poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n1 0 0 inf 0 1 0 0 0 0 1 0\n"),
        r"poses\.txt: got inf in line 2",
    ),
    "a time that is none": (lambda c: (c / "times.txt").write_text("0\nnan\n"), r"times\.txt: got nan in line 2"),
    "a time beyond all clocks": (
        lambda c: (c / "times.txt").write_text("0\n1e30\n"),
        r"times\.txt: got 1e\+30 in line 2",
    ),
    "a grid without cells": (
        lambda c: (c / "params.json").write_text(
            '{"grid_size": [0, 1, 1], "min_bound": [0, 0, 0], "max_bound": [1, 1, 1]}'
        ),
        r"grid\.shape: got \(0, 1, 1\)|params\.json",
    ),
    "a description without end": (lambda c: (c / "params.json").write_text("[" * 100_000), r"params\.json.*JSON"),
}


@pytest.mark.parametrize("case", WRONG)
def test_values_that_mean_nothing_are_named_and_never_read_as_something_else(tmp_path: Path, case: str) -> None:
    write_carlasc(drawn_frames(1, 2), tmp_path / "seq")
    damage, said = WRONG[case]
    damage(tmp_path / "seq" / "cartesian")
    with pytest.raises(InvalidInputError, match=said):
        read_carlasc(tmp_path / "seq")


def test_a_write_that_the_system_refuses_is_a_storage_error_and_leaves_nothing_behind(
    tmp_path: Path, fill_disk: Callable[..., None]
) -> None:
    fill_disk()
    with pytest.raises(StorageError, match=rf"{tmp_path}/seq could not be written: File too large"):
        write_carlasc(drawn_frames(1, 1), tmp_path / "seq")
    assert list(tmp_path.iterdir()) == []
