"""Claims about ``dyncity view``."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageSequence

from dyncity_sim.cli.main import main
from dyncity_sim.dataset.chunk_files import FORMAT_VERSION, GENERATION, arrays_of, chunk_name
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.scene import Provenance, Track
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.groundtruth.formats.describe import grid_json
from dyncity_sim.scene.build import build_scene
from dyncity_sim.scene.package.write import write_scene

ROAD, VEHICLE = 7, 10


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory, write_recording: Callable[..., Path]) -> Path:
    """A drive of 5 frames over a road with a box on it, and one of 2."""
    labels = np.zeros(CARLASC_GRID.shape, np.uint8)
    labels[:, 40:80, 0] = ROAD
    labels[80:90, 60:65, 1:4] = VEHICLE
    folder = tmp_path_factory.mktemp("view") / "rec"
    return write_recording(folder, labels, np.ones(labels.shape, np.float32), 5, 30.0, lengths=(2,))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, build_street: Callable[..., Any], street_actor: Any) -> Path:
    street = build_street(frames=4, actors=[street_actor(12.0, 2.0, speed_mps=5.0)])
    folder = tmp_path_factory.mktemp("view") / "drive" / "scene"
    write_scene(build_scene(street), folder, Provenance("m", (1,), "Map by someone", CARLASC.id))
    return folder


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_drive(occupancy: OccupancySequence, folder: Path) -> None:
    """One chunk as ``dyncity generate`` writes it."""
    folder.mkdir()
    np.savez(folder / chunk_name(0), **arrays_of(occupancy))
    described = {
        "format": GENERATION,
        "version": FORMAT_VERSION,
        "grid": grid_json(occupancy.grid),
        "taxonomy": {"id": occupancy.taxonomy.id},
        "model": {"id": "m"},
        "attribution": "",
        "chunks": [{"seed": 1, "conditions": []}],
    }
    (folder / "generation.json").write_text(json.dumps(described))


def _duration_ms(frame: Image.Image) -> int:
    frame.load()
    return int(frame.info.get("duration", 0))


def page_data(file: Path) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="drive">(.*?)</script>', file.read_text(), re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def test_without_options_a_page_takes_the_name_of_the_folder(recording: Path, tmp_path: Path) -> None:
    assert main(["view", str(recording)]) == 0
    data = page_data(tmp_path / "rec.html")
    assert len(data["times_us"]) == 5
    assert data["attribution"] == "(c) map [makers]"
    assert data["points"] is None
    assert [path.name for path in tmp_path.iterdir()] == ["rec.html"]


def test_a_part_of_a_sequence_is_shown_with_lidar(recording: Path, tmp_path: Path) -> None:
    words = ["view", str(recording), "--sequence", "1", "--start", "1", "--frames", "1", "--lidar"]
    assert main([*words, "--out", "a/b.html"]) == 0
    data = page_data(tmp_path / "a" / "b.html")
    assert data["facts"][1] == ["frames", "1 to 1, 10 Hz"]
    assert [count > 1000 for count in data["points"]["counts"]] == [True]


def test_a_lidar_of_one_firing_is_shown(recording: Path, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("lidars: [{elevations_deg: [-10], azimuth_steps: 1}]")
    assert main(["view", str(recording), "--frames", "1", "--lidar", "r.yaml", "--out", "a.html"]) == 0
    assert page_data(tmp_path / "a.html")["points"]["counts"] == [1]


def test_all_formats_come_from_one_call(recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    imageio_ffmpeg, rerun = pytest.importorskip("imageio_ffmpeg"), pytest.importorskip("rerun")
    suffixes = {"png": "png", "gif": "gif", "webp": "webp", "mp4": "mp4", "rerun": "rrd"}
    files = {option: tmp_path / f"x.{suffix}" for option, suffix in suffixes.items()}
    options = [word for option, file in files.items() for word in (f"--{option}", str(file))]
    assert main(["view", str(recording), *options, "--frame", "1", "--width", "300"]) == 0
    assert sorted(tmp_path.iterdir()) == sorted(files.values())
    said = capsys.readouterr().out
    assert all(str(file) in said for file in files.values())
    sizes = set()
    for option, shown_ms in (("png", 0), ("gif", 500), ("webp", 500)):
        with Image.open(files[option]) as opened:
            # Frames that are alike are written once and shown for longer.
            assert sum(_duration_ms(frame) for frame in ImageSequence.Iterator(opened)) == shown_ms
            sizes.add(opened.size)
    assert len(sizes) == 1
    assert imageio_ffmpeg.count_frames_and_secs(str(files["mp4"]))[0] == 5
    entities = {chunk.entity_path for chunk in rerun.chunk.RrdReader(files["rerun"]).stream()}
    assert {"/world/ego/voxels", "/world/tracks", "/world/ego"} <= entities


def test_a_scene_has_a_page_and_pictures(scene: Path, tmp_path: Path) -> None:
    assert main(["view", str(scene), "--out", "s.html", "--png", "s.png", "--frame", "0"]) == 0
    data = page_data(tmp_path / "s.html")
    assert data["title"] == "drive scene"
    assert data["fixed"]
    assert data["attribution"] == "Map by someone"
    assert len(data["tracks"]) == 1
    assert len(data["lanes"]) >= 3
    with Image.open(tmp_path / "s.png") as picture:
        red, _, blue = np.asarray(picture.convert("RGB")).astype(int).transpose(2, 0, 1)
    assert (blue > red + 100).sum() > 100


def test_a_picture_of_a_scene_is_the_same_alone_and_beside_a_film(scene: Path, tmp_path: Path) -> None:
    words = ["view", str(scene), "--frame", "2", "--width", "120"]
    assert main([*words, "--png", "a.png"]) == 0
    assert main([*words, "--png", "b.png", "--gif", "b.gif"]) == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("opened", [".", "occupancy"])
def test_actors_are_those_of_the_scene_beside_the_drive_at_the_times_of_its_frames(
    tmp_path: Path, build_street: Callable[..., Any], opened: str
) -> None:
    """A car that is there all the time, under a number that none would be found by, and one from frame 2 on."""
    street = build_street(frames=4)
    tracks = tuple(
        Track(
            number,
            ActorKind.CAR,
            (4.0, 2.0, 1.5),
            np.stack([np.eye(4)] * (4 - since)),
            street.times_us[since:],
            np.zeros((4 - since, 3)),
        )
        for number, since in ((41, 0), (42, 2))
    )
    write_scene(build_scene(street, tracks=tracks), tmp_path / "d" / "scene", Provenance("m", (1,), "", CARLASC.id))
    write_drive(street, tmp_path / "d" / "occupancy")
    assert main(["view", str(tmp_path / "d" / opened), "--frames", "2", "--out", "p.html"]) == 0
    data = page_data(tmp_path / "p.html")
    assert [track["id"] for track in data["tracks"]] == [41]
    assert ["actors", "1"] in data["facts"]


def test_a_file_that_exists_is_kept_unless_forced(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.png").write_text("mine")
    words = ["view", str(recording), "--png", "x.png", "--out", "x.html", "--width", "200"]
    assert main(words) == 2
    assert "--force" in capsys.readouterr().err
    assert (tmp_path / "x.png").read_text() == "mine"
    assert not (tmp_path / "x.html").exists()
    assert main([*words, "--force"]) == 0
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.format == "PNG"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{rec}", "--png", "x.jpg"], "--png: got x.jpg, expected a name ending in .png"),
        (["{rec}", "--gif", "x.GIF"], "--gif: got x.GIF, expected a name ending in .gif"),
        (["{rec}", "--out", "x"], "--out: got x, expected a name ending in .html"),
        (["{rec}", "--frame", "1"], "--png FILE with it"),
        (["{rec}", "--png", "x.png", "--frame", "5"], "--frame: got 5, expected 0 to 4"),
        (["{rec}", "--out", "a/x.html", "--png", "x.png", "--frame", "5"], "--frame: got 5, expected 0 to 4"),
        (["{rec}", "--out", "x.html", "--png", "x.png", "--width", "9"], "--width: got 9, expected 64 to 8192"),
        (["{rec}", "--width", "100"], "--width: got 100, expected a picture or film with it"),
        (["{rec}", "--png", "x.png", "--lidar"], "--lidar: got neither page nor --rerun"),
        (["{rec}", "--frames", "6"], "a range within [0, 5)"),
        (["{rec}", "--sequence", "2"], "sequence: got 2, expected 0 to 1"),
        (["{scene}", "--start", "1"], "none of --sequence, --start, --frames, --lidar"),
        (["nowhere"], "nowhere"),
    ],
)
def test_wrong_input_ends_with_2_and_one_line_and_writes_nothing(
    recording: Path, scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    given = [word.replace("{rec}", str(recording)).replace("{scene}", str(scene)) for word in words]
    assert main(["view", *given]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.splitlines()[-1].startswith("dyncity: error: ")
    assert not list(tmp_path.iterdir())


def test_a_width_that_is_too_small_is_refused_before_any_point_is_computed(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "far.yaml").write_text("lidars: [{elevations_deg: [-10], azimuth_steps: 0}]")
    words = ["view", str(recording), "--lidar", "far.yaml", "--out", "x.html", "--png", "x.png"]
    assert main([*words, "--width", "9"]) == 2
    assert "--width: got 9" in capsys.readouterr().err


def test_an_output_that_cannot_be_written_leaves_none_of_the_others(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "x.html").write_text("mine")
    for last in ("--png file/x.png", "--gif file/x.gif", "--mp4 file/x.mp4", "--rerun file/x.rrd"):
        words = ["view", str(recording), "--out", "x.html", "--webp", "x.webp", *last.split(), "--width", "90"]
        assert main([*words, "--force"]) == 1
        assert f"{last.split()[1]} could not be written" in capsys.readouterr().err
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "x.html"]
        assert (tmp_path / "x.html").read_text() == "mine"


def test_an_interruption_between_outputs_leaves_none(
    recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dyncity_sim.cli.view.write_png", interrupt)
    assert main(["view", str(recording), "--out", "x.html", "--png", "x.png", "--width", "90"]) == 130
    assert not list(tmp_path.iterdir())
