import os
from pathlib import Path

import pytest

pytest.importorskip("carla")

from dyncity_sim.cli.main import main


def test_the_first_line_of_help_says_what_it_is_not(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["carla-loopback", "--help"])
    first, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith("Not CARLA: no Unreal, no rendering, no physics.")


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["--map", "nowhere.xodr"], "--map: got nowhere.xodr"),
        (["--map", "nowhere.xodr", "--fault", "earthquake"], "fault: got 'earthquake'"),
    ],
)
def test_what_cannot_be_started_is_said(arguments: list[str], wrong: str, capsys: pytest.CaptureFixture[str]):
    assert main(["carla-loopback", *arguments]) == 2
    assert wrong in capsys.readouterr().err


@pytest.mark.parametrize("words", [("--port", "70000"), ("--inspect-port", "-1"), ("--streaming-port", "65536")])
def test_a_port_that_is_none_is_refused(words: tuple[str, str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["carla-loopback", "--map", "nowhere.xodr", *words])
    assert f"argument {words[0]}: {words[1]} is not in 0 to 65535" in capsys.readouterr().err


def test_a_map_whose_name_cannot_be_told_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pytestconfig: pytest.Config
):
    unreadable = tmp_path / os.fsdecode(b"ring\xff.xodr")
    unreadable.write_bytes((pytestconfig.rootpath / "tests" / "data" / "ring_road.xodr").read_bytes())
    assert main(["carla-loopback", "--map", str(unreadable)]) == 2
    assert "expected a file with a name in UTF-8" in capsys.readouterr().err


def test_more_traffic_than_fits_is_refused(capsys: pytest.CaptureFixture[str], pytestconfig: pytest.Config):
    ring_road = pytestconfig.rootpath / "tests" / "data" / "ring_road.xodr"
    assert main(["carla-loopback", "--map", str(ring_road), "--traffic", "1000"]) == 2
    assert "which fit on this map" in capsys.readouterr().err
