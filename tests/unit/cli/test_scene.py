"""Claims about ``dyncity scene``."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dyncity_sim.cli.main import main
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.scene import Provenance
from dyncity_sim.domain.taxonomy import CARLASC_RAW
from dyncity_sim.scene.build import build_scene
from dyncity_sim.scene.package.write import write_scene


@pytest.fixture
def scene(build_street: Callable[..., Any], street_actor: Callable[..., Any], tmp_path: Path) -> Path:
    street = build_street(frames=6, actors=[street_actor(8, -1.7, 0, 9)])
    write_scene(build_scene(street), tmp_path / "scene", Provenance("null-2", (5,), "(c) map [makers]", "carlasc"))
    return tmp_path / "scene"


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """What was printed, lines of a table joined."""
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_a_valid_scene_ends_with_0_and_a_row_for_each_check(scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scene", "validate", str(scene)]) == 0
    out = said(capsys)
    assert "provenance.json passed null-2; (c) map [makers]" in out
    assert "failed" not in out


def test_a_spoilt_scene_ends_with_1_and_says_where(scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (scene / "static.glb").unlink()
    assert main(["scene", "validate", str(scene)]) == 1
    assert "files failed static.glb is missing" in said(capsys)


@pytest.mark.parametrize("spoilt", [False, True])
def test_json_says_the_same_to_a_program(scene: Path, capsys: pytest.CaptureFixture[str], spoilt: bool) -> None:
    if spoilt:
        (scene / "mine.txt").write_text("hello")
    assert main(["scene", "validate", str(scene), "--json"]) == int(spoilt)
    report = json.loads(capsys.readouterr().out)
    assert report["valid"] is not spoilt
    outcomes = {row["check"]: row["outcome"] for row in report["checks"]}
    assert outcomes["files"] == ("failed" if spoilt else "passed")
    assert outcomes["checksums"] == "passed"


def test_json_whose_reader_is_gone_ends_quietly(scene: Path) -> None:
    command = [sys.executable, "-m", "dyncity_sim.cli.main", "scene", "validate", str(scene), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


def test_a_road_that_was_cut_off_is_named(scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    road = scene / "map.xodr"
    road.write_bytes(road.read_bytes()[:200])
    assert main(["scene", "show", str(scene)]) == 2
    assert "OpenDRIVE: got" in capsys.readouterr().err


def test_show_says_what_is_in_it(scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scene", "show", str(scene)]) == 0
    out = said(capsys)
    for words in ("drive 6 frames over 0.5 s, 4 m", "tracks 1 car", "made by null-2", "seeds 5", "(c) map [makers]"):
        assert words in out


@pytest.mark.parametrize("content", ["{", "{}", "[]"])
def test_a_damaged_provenance_is_named(scene: Path, capsys: pytest.CaptureFixture[str], content: str) -> None:
    (scene / "provenance.json").write_text(content)
    assert main(["scene", "show", str(scene)]) == 2
    assert "provenance.json: got" in capsys.readouterr().err


@pytest.mark.parametrize("taken", [True, False])
def test_a_place_that_is_not_free_is_refused_before_the_drive_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("hello")
    assert main(["scene", "build", "no such drive", "--out", "taken" if taken else "."]) == 2
    assert "dyncity: error: folder: got" in capsys.readouterr().err


def test_what_is_no_scene_is_wrong_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scene", "validate", str(tmp_path / "nothing")]) == 2
    assert main(["scene", "show", str(tmp_path)]) == 2
    assert "scene.json" in capsys.readouterr().err


def test_a_scene_is_built_of_a_part_of_a_recording(
    write_recording: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = np.zeros(CARLASC_GRID.shape, np.uint8)
    labels[..., 0] = CARLASC_RAW.index("road")
    recording = write_recording(tmp_path / "town", labels, np.ones(labels.shape, np.float32), 12)
    out = tmp_path / "scene"
    words = ["scene", "build", str(recording), "--start", "2", "--frames", "8", "--out", str(out)]
    assert main(words) == 0
    assert "drive 8 frames over 0.7 s" in said(capsys)
    assert main(["scene", "validate", str(out)]) == 0
    smooth = tmp_path / "smooth"
    assert main([*words[:-1], str(smooth), "--smooth"]) == 0
    assert main(["scene", "validate", str(smooth)]) == 0
    assert (smooth / "static.glb").stat().st_size > (out / "static.glb").stat().st_size
    assert main(words) == 2
    assert "a name that is free" in capsys.readouterr().err
