import json
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dyncity_sim.cli.main import main
from dyncity_sim.cosim import server_process
from dyncity_sim.cosim.drive import Drive
from dyncity_sim.cosim.write import DriveFolder
from dyncity_sim.dataset.drives import open_drive
from dyncity_sim.domain.conditions import Conditions, SamplingOptions
from dyncity_sim.domain.generation import GeneratedChunk
from dyncity_sim.engine.backend import Checkpoint
from dyncity_sim.engine.null import NullBackend
from dyncity_sim.errors import SimulatorError
from dyncity_sim.server.background import serving

Build = Callable[..., Any]


@pytest.fixture
def on_the_scripted_street(monkeypatch: pytest.MonkeyPatch, scripted_street: Build) -> None:
    class Streets:
        default_map = "berlin"

        def add_arguments(self, parser: ArgumentParser) -> None:
            pass

        def open(self, map_spec: str, seed: int, options: Namespace) -> Any:
            return scripted_street()

    monkeypatch.setattr("dyncity_sim.cli.cosim.find_simulator", lambda name: Streets())


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every server process that was started."""
    started: list[Any] = []

    class Popen(server_process.subprocess.Popen):  # type: ignore[type-arg, misc, name-defined]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            started.append(self)

    monkeypatch.setattr(server_process.subprocess, "Popen", Popen)
    return started


@pytest.mark.slow
@pytest.mark.usefixtures("on_the_scripted_street")
def test_the_demo_serves_drives_and_writes_everything(
    tmp_path: Path, servers: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    assert main(["demo", "--backend", "null", "--chunks", "2", "--seed", "5", "--out", str(out)]) == 0

    (server,) = servers
    assert server.returncode is not None
    assert "SERVING" in (out / "server.log").read_text()
    description = json.loads((out / "occupancy" / "drive.json").read_text())
    assert [chunk["seed"] for chunk in description["chunks"]] == [5, 6]
    drive = open_drive(out)
    generated, recorded = drive.occupancy, drive.recorded
    assert len(generated) == len(recorded) == 32
    np.testing.assert_array_equal(generated.times_us, recorded.times_us)
    assert json.loads((out / "scene" / "scene.json").read_text())["frames"] == 32
    assert len(list((out / "ground_truth" / "sequences" / "00" / "velodyne").glob("*.bin"))) == 32
    with Image.open(out / "drive.webp") as film:
        assert film.n_frames > 8
    assert (out / "ATTRIBUTION.txt").read_text() == "Map by the test's author\n"
    for file in ("index.html", "scene/provenance.json", "occupancy/drive.json"):
        assert "Map by the test's author" in (out / file).read_text(), file
    printed = capsys.readouterr().out
    for word in ("32 frames in 2 chunks", "s per chunk", "LiDAR points", "waypoints", "Map by the test's author"):
        assert word in printed


@pytest.mark.slow
@pytest.mark.usefixtures("on_the_scripted_street")
@pytest.mark.parametrize(
    "arguments", [["--server", "{nobody},{there}"], ["--server", "{nobody}", "--server", "{there}"]]
)
def test_cosim_drives_against_the_first_of_its_servers_that_is_there_and_tells_which_is_not(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "drive"
    with serving(NullBackend) as there:
        servers = [argument.format(nobody="127.0.0.1:1", there=there) for argument in arguments]
        options = ["--chunks", "1", "--start", "plan", "--outputs", "none", "--out", str(out)]
        assert main(["cosim", *servers, *options]) == 0
    generated = open_drive(out / "occupancy").occupancy
    assert len(generated) == 16
    assert capsys.readouterr().out.count("127.0.0.1:1: no server answers there.") == 1


@pytest.mark.slow
@pytest.mark.usefixtures("on_the_scripted_street")
@pytest.mark.parametrize(
    ("outputs", "made"),
    [
        ("none", set()),
        ("scene", {"scene"}),
        ("ground_truth", {"ground_truth"}),
        ("scene,pictures", {"scene", "drive.png", "drive.webp", "index.html"}),
    ],
)
def test_only_the_outputs_that_are_named_are_made_of_the_occupancy_and_told_of(
    outputs: str, made: set[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scene").mkdir()
    with serving(NullBackend) as there:
        options = ["--chunks", "1", "--start", "plan", "--outputs", outputs, "--out", str(tmp_path)]
        assert main(["cosim", "--server", there, *options]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"occupancy", "ATTRIBUTION.txt"} | made
    printed = capsys.readouterr().out
    for word, output in (("LiDAR points", "ground_truth"), ("watch", "index.html")):
        assert (word in printed) == (output in made)


@pytest.mark.slow
@pytest.mark.usefixtures("on_the_scripted_street")
def test_what_was_driven_before_a_failure_is_written_and_the_failure_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Breaking(NullBackend):
        def generate(self, conditions: Conditions, options: SamplingOptions, checkpoint: Checkpoint) -> GeneratedChunk:
            if options.seed == 7:
                raise ZeroDivisionError
            return super().generate(conditions, options, checkpoint)

    with serving(Breaking) as there:
        options = ["--chunks", "9", "--seed", "5", "--start", "plan", "--outputs", "none", "--out", str(tmp_path)]
        assert main(["cosim", "--server", there, *options]) == 1
    assert len(open_drive(tmp_path / "occupancy").occupancy) == 32
    printed = capsys.readouterr()
    assert "ended early" in printed.out
    assert "incident" in printed.err


@pytest.mark.usefixtures("on_the_scripted_street")
def test_words_in_brackets_are_told_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, scripted_street: Build
) -> None:
    monkeypatch.setattr(scripted_street, "attribution", "(c) map [makers]")
    with serving(NullBackend) as there:
        options = ["--chunks", "1", "--start", "plan", "--outputs", "none", "--out", str(tmp_path)]
        assert main(["cosim", "--server", there, *options]) == 0
    assert "(c) map [makers]" in capsys.readouterr().out


@pytest.mark.usefixtures("on_the_scripted_street")
def test_chunks_that_were_driven_before_ctrl_c_are_whole_and_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = DriveFolder.keep

    def interrupted(folder: DriveFolder, drive: Drive) -> Drive:
        if len(drive.chunks) == 3:
            raise KeyboardInterrupt
        return keep(folder, drive)

    monkeypatch.setattr(DriveFolder, "keep", interrupted)
    with serving(NullBackend) as there:
        assert main(["cosim", "--server", there, "--start", "plan", "--out", str(tmp_path)]) == 130
    assert f"2 chunks are whole and kept in {tmp_path / 'occupancy'}" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["occupancy"]
    assert len(open_drive(tmp_path).occupancy) == 32


@pytest.mark.usefixtures("on_the_scripted_street")
def test_an_earlier_drive_stays_until_there_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any, **__: Any) -> None:
        raise SimulatorError("broken down")

    monkeypatch.setattr("dyncity_sim.cli.cosim.run_drive", failing)
    (tmp_path / "index.html").write_text("an earlier drive")
    with serving(NullBackend) as there:
        assert main(["cosim", "--server", there, "--out", str(tmp_path)]) == 1
    assert (tmp_path / "index.html").read_text() == "an earlier drive"


def test_an_output_that_is_not_known_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(["cosim", "--server", "localhost:1", "--outputs", "scene,film", "--out", str(tmp_path)])
    assert "'film' is none of scene, ground_truth, pictures, none" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["cosim", "--server", "localhost:1", "--outputs", "none,scene", "--out", str(tmp_path)])
    assert "'none,scene' asks for outputs and for none" in capsys.readouterr().err


def test_an_empty_address_among_servers_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(["cosim", "--server", "localhost:1,,localhost:2", "--out", str(tmp_path)])
    assert "'' is no address: expected host:port" in capsys.readouterr().err


@pytest.mark.usefixtures("on_the_scripted_street")
def test_a_server_that_cannot_load_its_backend_is_shown_with_its_reason(
    tmp_path: Path, servers: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    assert main(["demo", "--backend", "no-such-backend", "--out", str(out)]) == 1
    assert "no-such-backend" in (out / "server.log").read_text()
    message = capsys.readouterr().err
    assert "server.log" in message
    assert "'no-such-backend'" in message
    assert servers[0].returncode is not None


@pytest.mark.usefixtures("on_the_scripted_street")
def test_an_earlier_demo_stays_where_the_server_does_not_start(tmp_path: Path, servers: list[Any]) -> None:
    (tmp_path / "index.html").write_text("an earlier drive")
    assert main(["demo", "--backend", "no-such-backend", "--out", str(tmp_path)]) == 1
    assert servers
    assert (tmp_path / "index.html").read_text() == "an earlier drive"


def test_the_server_is_stopped_when_the_simulator_cannot_be_opened(tmp_path: Path, servers: list[Any]) -> None:
    arguments = ["demo", "--backend", "null", "--map", "no-such-map", "--out", str(tmp_path / "demo")]
    assert main(arguments) == 2
    assert servers[0].returncode is not None


def test_no_server_is_started_for_a_simulator_that_there_is_not(tmp_path: Path, servers: list[Any]) -> None:
    assert main(["demo", "--sim", "no-such-simulator", "--out", str(tmp_path / "demo")]) == 2
    assert not servers


@pytest.mark.usefixtures("on_the_scripted_street")
def test_the_server_is_stopped_when_the_drive_is_interrupted(
    tmp_path: Path, servers: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        assert servers[0].poll() is None
        raise KeyboardInterrupt

    monkeypatch.setattr("dyncity_sim.cli.cosim.run_drive", interrupted)
    assert main(["demo", "--backend", "null", "--out", str(tmp_path / "demo")]) == 130
    assert servers[0].returncode is not None


def test_a_folder_of_somebody_else_is_refused_before_anything_starts(tmp_path: Path, servers: list[Any]) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    assert main(["demo", "--backend", "null", "--out", str(tmp_path)]) == 2
    assert not servers
