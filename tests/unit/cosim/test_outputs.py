import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dyncity_sim.cli.main import main
from dyncity_sim.cosim.loop import run_drive
from dyncity_sim.cosim.outputs import check_outputs, write_data
from dyncity_sim.domain.frames import poses_from_planar
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.scene import Track
from dyncity_sim.scene.actors.find import find_tracks
from dyncity_sim.scene.package.read import read_scene

Build = Callable[..., Any]


def _shown(times_us: np.ndarray) -> Track:
    """An actor that is nowhere in the occupancy."""
    poses = poses_from_planar(np.column_stack([np.linspace(5, 9, len(times_us)), np.full((len(times_us), 2), 2.0)]))
    return Track(7, ActorKind.CAR, (4.0, 2.0, 1.5), poses, times_us, np.zeros((len(times_us), 3)))


def test_the_scene_of_a_drive_that_was_shown_holds_the_tracks_that_were_shown(
    scripted_street: Build, in_process_generator: Build, tmp_path: Path
) -> None:
    street = scripted_street()
    street.shown_tracks = (_shown(np.arange(1, 17) * 100_000),)
    drive = run_drive(street, in_process_generator(), chunks=1, seed=3)
    derived = write_data(drive, tmp_path, lambda *_: None)
    (read,) = read_scene(tmp_path / "scene").tracks
    assert derived.scene.tracks == street.shown_tracks
    assert read.id == 7
    np.testing.assert_allclose(read.poses_world_from_actor, street.shown_tracks[0].poses_world_from_actor, atol=2e-6)


def test_the_scene_of_a_drive_that_was_not_shown_holds_what_is_found_in_the_whole_of_it(
    scripted_street: Build, in_process_generator: Build, tmp_path: Path
) -> None:
    drive = run_drive(scripted_street(), in_process_generator(), chunks=2, seed=3)
    derived = write_data(drive, tmp_path, lambda *_: None)
    assert drive.shown_tracks is None
    found = find_tracks(drive.generated)
    assert len(found) > 0
    assert len(derived.scene.tracks) == len(found)
    for track, expected in zip(derived.scene.tracks, found, strict=True):
        np.testing.assert_array_equal(track.poses_world_from_actor, expected.poses_world_from_actor)


@pytest.mark.parametrize("command", [["cosim", "--server", "127.0.0.1:1"], ["demo", "--backend", "null"]])
def test_a_package_that_outputs_need_is_missed_before_the_drive(
    command: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "trimesh", None)
    assert main([*command, "--outputs", "scene", "--out", str(tmp_path / "drive")]) == 1
    assert "'trimesh', which is not installed. Install it with: pip install '.[scene]'" in capsys.readouterr().err
    assert not (tmp_path / "drive").exists()


def test_occupancy_alone_needs_no_package_of_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trimesh", None)
    check_outputs(frozenset())
