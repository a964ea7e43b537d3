"""What goes wrong with a CARLA server ends in a message that helps, and leaves nothing behind."""

import time

from dyncity_carla.recorder import DRIVE_FRAMES

from dyncity_sim.cosim.server_process import ServerProcess
from dyncity_sim.dataset.store import Recording

BRIEF = ("--minutes", "0.02")


def test_a_server_that_dies_is_told_of_within_the_timeout(loopback, recording, finished):
    process = recording("--timeout", "6")
    loopback.inspector.fault("die", in_ticks=1)
    began = time.monotonic()
    code, _, complained = finished(process)
    assert time.monotonic() - began < 120
    assert code == 1
    last = complained.strip().splitlines()[-1]
    assert last.startswith("dyncity: error: ")
    assert f"127.0.0.1:{loopback.port} did not answer within 6 s" in last
    assert "Traceback" not in complained


def test_a_stall_longer_than_the_timeout_ends_the_run_and_leaves_nothing(loopback, recording, finished, is_untouched):
    process = recording("--timeout", "6")
    loopback.inspector.fault("stall", seconds=10)
    code, _, complained = finished(process)
    assert code == 1
    assert "did not answer within 6 s" in complained
    assert "--timeout" in complained
    assert is_untouched()


def test_a_connection_that_is_cut_ends_the_run_and_leaves_nothing(loopback, recording, finished, is_untouched):
    process = recording("--timeout", "5")
    loopback.inspector.fault("drop", channel="rpc")
    code, _, complained = finished(process)
    assert code == 1
    assert "did not answer within 5 s" in complained.strip().splitlines()[-1]
    assert is_untouched()


def test_a_stall_shorter_than_the_timeout_is_waited_out(loopback, finished, record, is_untouched, wait_until):
    process = record("--minutes", "0.1", "--timeout", "60")
    wait_until(lambda: loopback.inspector.world()["settings"]["synchronous_mode"])
    loopback.inspector.fault("stall", seconds=4)
    code, _, complained = finished(process)
    assert code == 0, complained
    assert is_untouched()


def test_a_lost_measurement_ends_the_recording_and_says_which(loopback, recording, finished, tmp_path, is_untouched):
    process = recording("--timeout", "6")
    loopback.inspector.fault("lose-sensor-frames", count=1)
    code, _, complained = finished(process)
    assert code == 1
    assert "lidar0 " in complained.strip().splitlines()[-1]
    assert "tick" in complained.strip().splitlines()[-1]
    assert is_untouched()
    assert not (tmp_path / "recording").exists()


def test_drives_that_were_whole_when_the_server_failed_are_kept_and_say_what_ended_them(
    loopback, recording, finished, tmp_path, is_untouched, wait_until
):
    process = recording("--timeout", "6")
    begin = loopback.inspector.world()["frame"]
    wait_until(lambda: loopback.inspector.world()["frame"] > begin + DRIVE_FRAMES)
    loopback.inspector.fault("lose-sensor-frames", count=1)
    code, _, complained = finished(process)
    assert code == 1
    assert "lidar0 " in complained.strip().splitlines()[-1]
    kept = Recording.open(tmp_path / "recording")
    assert len(kept) > 0
    assert len(kept) % DRIVE_FRAMES == 0
    assert f"{len(kept)} frames in" in complained
    assert "lidar0 " in kept.meta.options["ended"]
    assert is_untouched()


def test_a_world_without_room_for_an_ego_says_so(loopback, finished, record, is_untouched):
    loopback.inspector.fault("refuse-spawns")
    code, _, complained = finished(record())
    assert code == 1
    assert "has room for an ego" in complained
    assert "--ego" in complained
    assert is_untouched()


def test_a_server_of_another_version_is_refused_with_what_mends_it(loopback, finished, tmp_path, record):
    loopback.inspector.fault("version", text="0.9.15")
    code, _, complained = finished(record(*BRIEF))
    assert code == 1
    assert "start CARLA 0.9.16 there" in complained
    assert "--allow-version-mismatch" in complained
    assert loopback.inspector.counts().get("set_episode_settings", 0) == 0
    code, _, complained = finished(record(*BRIEF, "--allow-version-mismatch"))
    assert code == 0, complained
    assert Recording.open(tmp_path / "recording").meta.simulator == "CARLA 0.9.15"


def test_an_empty_road_network_is_no_place_to_drive(loopback, finished, record, is_untouched):
    loopback.inspector.fault("empty-opendrive", on=1)
    code, _, complained = finished(record())
    assert code == 2
    assert complained.strip().splitlines()[-1].startswith("dyncity: error: map: ")
    assert is_untouched()


def test_a_server_that_is_not_there_is_named(dyncity, finished, tmp_path):
    arguments = ["--out", str(tmp_path / "recording"), "--carla-port", "1", "--timeout", "2"]
    code, _, complained = finished(dyncity("record", *arguments))
    assert code == 1
    assert "No CARLA server answers at 127.0.0.1:1" in complained
    assert "--carla-port" in complained


def test_a_port_of_another_service_ends_with_a_message(dyncity, finished, tmp_path):
    with ServerProcess(["--backend", "null"], tmp_path / "server.log") as server:
        arguments = ["--carla-port", server.target.rpartition(":")[2], "--out", str(tmp_path / "recording")]
        code, _, complained = finished(dyncity("record", *arguments))
    assert code == 1
    assert f"What answers at {server.target} is no CARLA server" in complained
