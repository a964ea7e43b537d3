"""Claims about rendering captures: the recording is the one that recording would have made."""

import argparse
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dyncity_sumo import commands
from dyncity_sumo.captures import Captures
from dyncity_sumo.commands import RECORDER
from dyncity_sumo.record_options import RecordOptions
from dyncity_sumo.render_command import register_render
from dyncity_sumo.shots import Capture
from dyncity_sumo.town import Town

from dyncity_sim.dataset.store import Recording
from dyncity_sim.errors import DyncityError, InvalidInputError, SimulatorError

TWO_TOWNS = ("--minutes", "0.2", "--town-minutes", "0.1", "--egos", "3", "--burst", "20", "--seed", "6")

BLOCKER = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("sumo", "libsumo", "sumolib", "traci"):
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Blocked())
"""
"""As a sitecustomize module: neither this process nor one it starts finds a simulator."""


def run_record(*arguments: str) -> None:
    parser = argparse.ArgumentParser()
    RECORDER.add_arguments(parser)
    assert RECORDER.run(parser.parse_args(arguments)) == 0


def run_render(*arguments: str) -> None:
    parser = argparse.ArgumentParser()
    register_render(parser.add_subparsers())
    args = parser.parse_args(["render", *arguments])
    assert args.run(args) == 0


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture(scope="module")
def recorded(small_net: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of two towns, seen by sensors."""
    out = tmp_path_factory.mktemp("recorded") / "recording"
    run_record("--map", str(small_net), *TWO_TOWNS, "--out", str(out))
    return out


@pytest.fixture(scope="module")
def captured(small_net: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Captures of the same."""
    out = tmp_path_factory.mktemp("captured") / "captures"
    run_record("--map", str(small_net), *TWO_TOWNS, "--captures", "--out", str(out))
    return out


@pytest.mark.parametrize(("barren", "kept"), [({1}, [0, 2]), ({1, 2, 3}, None), ({0}, None)])
def test_a_town_that_gives_nothing_is_passed_over_but_not_several_in_a_row(
    small_net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, barren: set[int], kept: list[int] | None
) -> None:
    crew_captures = commands._captures

    def captures(options: RecordOptions, town: Town, until_us: int, wanted: int) -> Iterator[Capture]:
        return crew_captures(options, town, 0 if town.seed in barren else until_us, wanted)

    monkeypatch.setattr(commands, "_captures", captures)
    out = tmp_path / "captures"
    size = ("--minutes", "0.2", "--town-minutes", "0.1", "--egos", "3", "--burst", "20", "--seed", "0")
    arguments = ("--map", str(small_net), *size, "--captures", "--out", str(out))
    if kept is None:
        with pytest.raises(SimulatorError, match=f"in town {max(barren) + 1}"):
            run_record(*arguments)
        assert not out.exists()
    else:
        run_record(*arguments)
        assert [town.seed for town in Captures.open(out).towns] == kept


def test_there_is_traffic_for_longer_than_a_burst(small_net: Path, tmp_path: Path) -> None:
    size = ("--minutes", "0.01", "--egos", "4", "--burst", "1000", "--seed", "0")
    run_record("--map", str(small_net), *size, "--captures", "--out", str(tmp_path / "captures"))
    assert len(Captures.open(tmp_path / "captures")) == 1000


def test_captures_hold_what_is_recorded_and_no_cells(captured: Path, recorded: Path) -> None:
    captures, recording = Captures.open(captured), Recording.open(recorded)
    assert [d.frames for town in captures.towns for d in town.drives] == [len(drive) for drive in recording.drives]
    assert len(captures.towns) == 2
    assert captures.meta.attribution == recording.meta.attribution
    assert sum(len(file) for file in content(captured).values()) < 20_000


def test_a_town_is_captured_the_same_way_twice(captured: Path, small_net: Path, tmp_path: Path) -> None:
    run_record("--map", str(small_net), *TWO_TOWNS, "--captures", "--out", str(tmp_path / "again"))
    assert content(tmp_path / "again") == content(captured)


def test_what_is_rendered_elsewhere_without_a_simulator_is_what_is_recorded_byte_for_byte(
    captured: Path, recorded: Path, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCKER)
    command = [sys.executable, "-m", "dyncity_sim.cli.main", "render", str(captured), "--out", str(tmp_path / "r")]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    probe = subprocess.run([sys.executable, "-c", "import sumo"], env=environment, capture_output=True, check=False)
    assert probe.returncode != 0
    done = subprocess.run([*command, "--workers", "2"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "grew differently" not in done.stderr
    assert content(tmp_path / "r") == content(recorded)


def test_the_first_drives_are_those_of_the_whole_recording_however_many_workers_share_a_town(
    captured: Path, recorded: Path, tmp_path: Path
) -> None:
    run_render(str(captured), "--first", "2", "--workers", "2", "--out", str(tmp_path / "r"))
    first, whole = Recording.open(tmp_path / "r"), Recording.open(recorded)
    assert [drive.notes for drive in first.drives] == [drive.notes for drive in whole.drives[:2]]
    for drive, same in zip(first.drives, whole.drives, strict=False):
        assert drive.file.read_bytes() == same.file.read_bytes()


def test_blind_rendering_is_blind_recording(
    captured: Path, small_net: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_render(str(captured), "--blind", "--first", "1", "--workers", "1", "--out", str(tmp_path / "r"))
    said = " ".join(capsys.readouterr().err.split())
    assert "of which no sensor saw anything" in said
    assert "% of seen occupied cells" not in said
    run_record("--map", str(small_net), *TWO_TOWNS, "--blind", "--out", str(tmp_path / "blind"))
    drive, same = Recording.open(tmp_path / "r").drives[0], Recording.open(tmp_path / "blind").drives[0]
    assert drive.file.read_bytes() == same.file.read_bytes()
    assert not drive.arrays()[1].any()
    assert Recording.open(tmp_path / "r").meta.options["blind"] is True


def test_a_town_that_grows_differently_is_told_of(
    captured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(captured, tmp_path / "c")
    file = tmp_path / "c" / "captures.json"
    crc = Captures.open(captured).towns[0].scenery_crc32
    file.write_text(file.read_text().replace(str(crc), str(crc ^ 1)))
    run_render(str(tmp_path / "c"), "--blind", "--first", "1", "--workers", "1", "--out", str(tmp_path / "r"))
    assert "1 drives lead through towns that grew differently" in " ".join(capsys.readouterr().err.split())


def test_damage_is_found_before_anything_is_rendered(captured: Path, tmp_path: Path) -> None:
    shutil.copytree(captured, tmp_path / "c")
    file = tmp_path / "c" / "town_00001.npz.xz"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(InvalidInputError, match=r"town_00001\.npz\.xz"):
        run_render(str(tmp_path / "c"), "--out", str(tmp_path / "r"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["c"]


def test_what_a_process_runs_into_is_raised_and_nothing_is_left(
    captured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(captured, tmp_path / "c")
    next((tmp_path / "c").glob("network_*")).unlink()
    monkeypatch.setattr("dyncity_sumo.captures.CapturedTown.check", lambda self: None)
    with pytest.raises(InvalidInputError, match=r"network: got .*No such file"):
        run_render(str(tmp_path / "c"), "--out", str(tmp_path / "r"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["c"]


def test_a_process_that_dies_is_noticed(captured: Path, tmp_path: Path) -> None:
    shutil.copytree(captured, tmp_path / "c")
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\nif 'spawn_main' in ' '.join(sys.orig_argv):\n    os._exit(9)\n"
    )
    command = [sys.executable, "-m", "dyncity_sim.cli.main", "render", str(captured), "--out", str(tmp_path / "r")]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ended with exit code 9" in done.stderr
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(("option", "value"), [("--workers", "0"), ("--workers", "-1"), ("--first", "0")])
def test_impossible_options_of_rendering_are_refused(captured: Path, tmp_path: Path, option: str, value: str) -> None:
    with pytest.raises(InvalidInputError, match=f"{option}: got {value}, expected at least 1"):
        run_render(str(captured), option, value, "--out", str(tmp_path / "r"))


def test_an_output_that_exists_is_refused(captured: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"--out: got .*which exists, expected a new folder\. Choose"):
        run_render(str(captured), "--out", str(tmp_path))
    with pytest.raises(InvalidInputError, match="--out"):
        run_record("--captures", "--out", str(tmp_path))


def test_a_recording_is_no_captures(recorded: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"captures\.json.*dyncity record --captures"):
        run_render(str(recorded), "--out", str(tmp_path / "r"))


@pytest.mark.parametrize(("options", "reason"), [(["--blind"], "see nothing"), (["--format", "carlasc"], "no cells")])
def test_captures_are_neither_blind_nor_carlasc(tmp_path: Path, options: list[str], reason: str) -> None:
    with pytest.raises(InvalidInputError, match=f"{options[0]}: .*--captures.*{reason}"):
        run_record("--captures", *options, "--out", str(tmp_path / "c"))
    assert list(tmp_path.iterdir()) == []


def test_errors_cross_the_border_between_processes() -> None:
    error = InvalidInputError("field", 3, "2", "Mend it.")
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, DyncityError)
    assert (str(again), again.field, again.got) == (str(error), "field", 3)
