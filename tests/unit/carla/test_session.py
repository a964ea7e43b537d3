"""Journals, runs, versions and mailboxes: what a run remembers and what it refuses."""

import os
import socket
import subprocess
import sys
import weakref
from dataclasses import replace

import pytest
from dyncity_carla.journal import Journal, Run, journal_folder, journals_in, remove_journal, run_of
from dyncity_carla.mailbox import KEPT, Mailbox
from dyncity_carla.newest import Newest
from dyncity_carla.ports import ActorInfo
from dyncity_carla.settings import put_back, still_applied, synchronous
from dyncity_carla.versions import check_versions
from dyncity_carla.world import import_carla

from dyncity_sim.errors import MissingExtraError, SimulatorError

SETTINGS = {
    "synchronous_mode": False,
    "fixed_delta_seconds": None,
    "max_substep_delta_time": 0.01,
    "max_substeps": 10,
    "tile_stream_distance": 3000.0,
}


def test_a_run_is_known_by_its_role_names():
    run = Run.current()
    assert run_of(run.role("lidar3")) == run
    assert Run.parse(run.id) == run


@pytest.mark.parametrize("role", ["hero", "", "dyncity", "dyncity:x", "dyncity:x-y-z:track1", "autopilot:a-1-2:b"])
def test_role_names_of_others_are_no_run_s(role):
    assert run_of(role) is None


def test_this_process_is_alive_and_one_that_ended_is_not():
    assert Run.current().is_alive
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    code = f"from dyncity_carla.journal import _start_of; print(_start_of({child.pid}))"
    started = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    run = Run(Run.current().host, child.pid, started)
    assert run.is_alive
    child.kill()
    child.communicate()
    assert not run.is_alive


def test_another_process_of_the_same_number_is_another_run():
    current = Run.current()
    assert not Run(current.host, os.getpid(), current.started + 1).is_alive


def test_a_run_of_another_machine_is_not_judged():
    run = Run("elsewhere", os.getpid(), 1)
    assert not run.is_here
    assert not run.is_dead


def test_a_run_in_another_container_of_the_same_name_is_not_judged():
    here, namespace = Run.current(), str(os.stat("/proc/self/ns/pid").st_ino)
    assert here.host == f"{socket.gethostname()}-{namespace}"
    assert here.is_here
    elsewhere = replace(here, host=here.host.removesuffix(namespace) + "1", started=0)
    assert not elsewhere.is_here
    assert not elsewhere.is_dead
    assert replace(here, started=0).is_dead


def test_a_journal_comes_back_as_it_was_written(tmp_path):
    ego, borrowed = ActorInfo(7, "vehicle.audi.tt", "hero"), ActorInfo(8, "vehicle.audi.a2", "theirs")
    journal = Journal(Run("here", 12, 34), SETTINGS, synchronous(SETTINGS), 3, ego, borrowed)
    file = tmp_path / "journals" / "one.json"
    journal.write(file)
    assert journals_in(tmp_path / "journals") == [(file, journal)]
    remove_journal(file)
    remove_journal(file)
    assert journals_in(tmp_path / "journals") == []


def test_a_damaged_journal_counts_as_none(tmp_path):
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "other.json").write_text("[]")
    assert journals_in(tmp_path) == []


def test_journals_lie_in_the_user_s_state_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert journal_folder("host:2000") == tmp_path / "dyncity" / "carla" / "host_2000"


def test_journals_of_a_server_lie_together_whether_it_is_called_by_name_or_by_number():
    assert journal_folder("localhost:2000") == journal_folder("127.0.0.1:2000")


def test_a_synchronous_world_ticks_once_a_frame_and_keeps_everything_else():
    assert synchronous(SETTINGS) == {**SETTINGS, "synchronous_mode": True, "fixed_delta_seconds": 0.1}


def test_physics_gets_as_many_substeps_as_a_frame_needs():
    changed = synchronous({**SETTINGS, "max_substep_delta_time": 0.01, "max_substeps": 1})
    assert changed["max_substep_delta_time"] * changed["max_substeps"] == pytest.approx(0.1)


def test_what_a_run_changed_is_put_back_and_what_another_client_changed_since_stays():
    applied = synchronous(SETTINGS)
    now = {**applied, "tile_stream_distance": 500.0}
    assert put_back(now, applied, SETTINGS) == {**SETTINGS, "tile_stream_distance": 500.0}


@pytest.mark.parametrize(
    ("changes", "still"),
    [
        ({}, True),
        ({"fixed_delta_seconds": 0.10000000149}, True),
        ({"tile_stream_distance": 2999.0}, True),
        ({"synchronous_mode": False}, False),
        ({"fixed_delta_seconds": None}, False),
        ({"fixed_delta_seconds": 0.05}, False),
    ],
)
def test_settings_are_those_of_a_run_while_what_it_changed_is_the_same_up_to_single_precision(changes, still):
    applied = synchronous(SETTINGS)
    assert still_applied({**applied, **changes}, applied, SETTINGS) is still


@pytest.mark.parametrize(("client", "server"), [("0.9.16", "0.9.16"), ("0.9.16", "0.9.16-dirty"), ("abc", "abc")])
def test_versions_that_belong_together_are_accepted(client, server):
    check_versions(client, server, "here:2000")


def test_a_client_library_of_another_version_than_its_server_is_refused_with_the_command_that_mends_it():
    with pytest.raises(SimulatorError, match=r"pip install carla==0\.9\.16.*--allow-version-mismatch"):
        check_versions("0.9.17", "0.9.16", "here:2000")


@pytest.mark.parametrize("server", ["0.9.15", "0.10.0", "1f2e3d4"])
def test_a_server_whose_client_library_cannot_be_installed_here_is_refused_with_the_server_that_can_be_used(server):
    with pytest.raises(SimulatorError, match=r"start CARLA 0\.9\.16 there.*--allow-version-mismatch") as refused:
        check_versions("0.9.16", server, "here:2000")
    assert "pip install" not in str(refused.value)


def test_without_the_client_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "carla", None)
    with pytest.raises(MissingExtraError, match=r"pip install .\.\[carla\]"):
        import_carla()


def test_measurements_come_out_by_tick_and_older_ones_are_dropped():
    mailbox = Mailbox("LiDAR x")
    for frame in (3, 4, 5):
        mailbox.put(frame, f"sweep {frame}")
    assert mailbox.take(4, 1.0) == "sweep 4"
    assert mailbox.take(5, 1.0) == "sweep 5"


def test_a_lost_measurement_is_named_and_the_next_one_kept():
    mailbox = Mailbox("LiDAR x")
    mailbox.put(7, "late")
    with pytest.raises(SimulatorError, match=r"LiDAR x lost its measurement of tick 6.*tick 7"):
        mailbox.take(6, 1.0)
    assert mailbox.take(7, 1.0) == "late"


class Sweep:
    """A measurement that can be seen to be let go."""


def test_measurements_that_nobody_takes_do_not_pile_up():
    mailbox, alive = Mailbox("LiDAR x"), weakref.WeakSet()
    for frame in range(5 * KEPT):
        sweep = Sweep()
        alive.add(sweep)
        mailbox.put(frame, sweep)
    del sweep
    assert len(alive) == KEPT
    assert mailbox.take(4 * KEPT + 1, 1.0) in alive


def test_the_newest_come_out_in_the_order_in_which_they_came():
    queue = Newest(3)
    for item in range(5):
        queue.put(item)
    assert [queue.get(1.0) for _ in range(3)] == [2, 3, 4]
    assert queue.get(0.01) is None
    queue.put(5)
    queue.clear()
    assert len(queue) == 0


def test_a_measurement_that_does_not_come_is_waited_for_and_then_named():
    with pytest.raises(SimulatorError, match=r"tick 6 within 0\.05 s"):
        Mailbox("LiDAR x").take(6, 0.05)
