"""Claims about ``dyncity inspect``."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from dyncity_sim.cli.main import main
from dyncity_sim.domain.grid import CARLASC_GRID

ROAD, VEHICLE = 7, 10


@pytest.fixture
def recording(tmp_path: Path, write_recording: Callable[..., Path]) -> Path:
    """A drive of 17 frames to the left over a road of which half is seen, and one frame more."""
    labels = np.zeros(CARLASC_GRID.shape, np.uint8)
    labels[:, :, 0] = ROAD
    labels[80:90, 60:65, 1:4] = VEHICLE
    counts = np.ones(CARLASC_GRID.shape, np.float32)
    counts[:64] = 0
    return write_recording(tmp_path / "rec", labels, counts, 17, 8.0, 0.3, lengths=(1,))


@pytest.fixture
def occ3d(tmp_path: Path) -> Path:
    """Two frames of Occ3D-nuScenes without annotations."""
    for token in ("aa", "bb"):
        frame = tmp_path / "occ" / "gts" / "scene-0001" / token
        frame.mkdir(parents=True)
        semantics = np.full((200, 200, 16), 17, np.uint8)
        semantics[:, :, 2] = 11
        mask = np.zeros(semantics.shape, np.uint8)
        mask[:50] = 1
        np.savez_compressed(frame / "labels.npz", semantics=semantics, mask_lidar=mask, mask_camera=mask)
    return tmp_path / "occ"


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """What was printed, lines of a table joined."""
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_it_says_what_a_recording_is_and_holds(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(recording)]) == 0
    out = said(capsys)
    for words in (
        "data set recording",
        "128 x 128 x 8 cells of 0.4 x 0.4 x 0.375 m",
        "carlasc-raw, 23 classes; files hold 0 to 22",
        "sequences 2: drive_00000, drive_00001",
        "frames 18, 1 to 17 to a sequence, 1.8 s",
        "rate 10 Hz",
        "unobserved 50.0% of cells",
        "STATIC 0, FORWARD 0, LEFT 1, RIGHT 0",
        "counted all 18 frames",
        "attribution (c) map [makers]",
        # Of the half that is seen, an eighth is road; 150 of 65,536 cells are vehicle.
        "7 road road 12.500 98.202 12.500",
        "10 vehicle vehicle 0.229 1.798 0.114",
    ):
        assert words in out


def test_cells_that_no_sensor_saw_are_not_counted_as_free(occ3d: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(occ3d)]) == 0
    out = said(capsys)
    assert "data set Occ3D-nuScenes" in out
    assert "unobserved 75.0% of cells" in out
    assert "11 driveable_surface road 6.250 100.000" in out
    assert "17 free free 93.750" in out
    assert "commands none" in out
    assert "dense" not in out


def test_a_sample_says_that_it_is_one(
    recording: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dyncity_sim.cli.inspect.SAMPLED_FRAMES", 5)
    assert main(["inspect", str(recording)]) == 0
    assert "counted a sample of 5 frames" in said(capsys)
    assert main(["inspect", str(recording), "--all"]) == 0
    assert "counted all 18 frames" in said(capsys)


def test_frames_that_are_missing_and_an_order_that_is_unknown_are_told(
    occ3d: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(occ3d)]) == 0
    assert "gaps unknown: files do not say in which order" in said(capsys)
    shape = (200, 200, 16)
    for frame in (0, 1, 4):
        (tmp_path / "way" / "007").mkdir(parents=True, exist_ok=True)
        np.savez_compressed(
            tmp_path / "way" / "007" / f"{frame:03d}_04.npz",
            voxel_label=np.full(shape, 23, np.uint8),
            **{name: np.ones(shape, np.bool_) for name in ("origin_voxel_state", "final_voxel_state", "infov")},
        )
    assert main(["inspect", str(tmp_path / "way")]) == 0
    assert "gaps 1: 0.3 s after frame 1 of 007" in said(capsys)


def test_nothing_is_drawn_unless_asked_and_then_one_picture(recording: Path, occ3d: Path, tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    assert main(["inspect", str(recording)]) == 0
    assert set(tmp_path.iterdir()) == before
    for number, path in enumerate((recording, occ3d)):
        file = tmp_path / f"{number}.png"
        assert main(["inspect", str(path), "--png", str(file), "--frame", "1"]) == 0
        with PillowImage.open(file) as picture:
            assert picture.width > 1000
            assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 100


def test_a_picture_that_exists_is_kept(recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.png").write_text("mine")
    assert main(["inspect", str(recording), "--png", str(tmp_path / "mine.png")]) == 2
    assert "mine.png, which exists, expected a name that is free" in capsys.readouterr().err
    assert (tmp_path / "mine.png").read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rec", "--frame", "3"], "--frame: got 3, expected --png FILE"),
        (["rec", "--png", "{tmp}/x.png", "--frame", "18"], "frame: got 18, expected 0 to 17"),
        (["rec", "--png", "{tmp}/x.jpg"], "ending in .png"),
        (["nothing"], "nothing: got no folder"),
        (["."], "expected a recording (recording.json), CarlaSC"),
    ],
)
def test_wrong_input_ends_with_2_and_one_line(
    recording: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    path, *options = (word.replace("{tmp}", str(recording.parent)) for word in words)
    assert main(["inspect", str(recording.parent / path), *options]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.splitlines()[-1].startswith("dyncity: error: ")


def test_a_damaged_frame_ends_with_2_and_its_name(occ3d: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (occ3d / "gts" / "scene-0001" / "bb" / "labels.npz").write_bytes(b"PK")
    assert main(["inspect", str(occ3d)]) == 2
    assert "bb/labels.npz" in capsys.readouterr().err


def test_the_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["inspect", "--help"])
    assert ended.value.code == 0
    assert "dyncity inspect data/grid" in capsys.readouterr().out
