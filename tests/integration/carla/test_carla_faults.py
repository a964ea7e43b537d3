"""What goes wrong with a CARLA server ends in a message that helps, and leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import msgpack
import pytest
from dyncity_carla.connection import connect
from dyncity_carla.journal import Journal, Run, journal_folder
from dyncity_carla.options import ServerOptions
from dyncity_carla.recorder import DRIVE_FRAMES
from dyncity_carla.session import Session
from dyncity_carla.simulator import CarlaSimulator

from dyncity_sim.cosim.server_process import ServerProcess
from dyncity_sim.dataset.store import Recording
from dyncity_sim.errors import SimulatorError

RECORD = ("--minutes", "5", "--lidars", "1", "--lidar-points", "1000", "--seed", "1")


def wait_until(condition, limit_s=120.0):
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "nothing came of it"
        time.sleep(0.1)


@pytest.fixture
def recording(loopback, dyncity, tmp_path):
    """Starts a long recording; returns its process once it drives."""
    started = []

    def is_driving():
        return loopback.inspector.actors("sensor.") and loopback.inspector.counts().get("apply_batch", 0) > 5

    def start(*arguments):
        process = dyncity("record", *RECORD, "--out", str(tmp_path / "recording"), *arguments)
        started.append(process)
        wait_until(lambda: process.poll() is not None or is_driving())
        assert process.poll() is None, process.communicate()
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def is_untouched(loopback):
    settings = loopback.inspector.world()["settings"]
    return (
        loopback.inspector.actors() == []
        and settings["synchronous_mode"] is False
        and settings["fixed_delta_seconds"] is None
    )


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_gives_everything_back(loopback, recording, finished, tmp_path, number, expected):
    process = recording()
    assert loopback.inspector.world()["settings"]["synchronous_mode"] is True
    process.send_signal(number)
    code, _, complained = finished(process)
    assert code == expected, complained
    assert "Traceback" not in complained
    assert is_untouched(loopback)
    assert not (tmp_path / "recording").exists()


def test_what_a_killed_run_left_is_swept_by_the_next_one(
    loopback, recording, dyncity, finished, tmp_path, state_folder
):
    process = recording()
    process.kill()
    process.communicate()
    left = loopback.inspector.actors()
    assert {actor["type"].split(".")[0] for actor in left} == {"vehicle", "sensor"}
    assert loopback.inspector.world()["settings"]["synchronous_mode"] is True
    assert list(state_folder.rglob("*.json"))
    arguments = ["--minutes", "0.02", "--lidars", "1", "--lidar-points", "1000", "--out", str(tmp_path / "next")]
    code, _, complained = finished(dyncity("record", *arguments))
    assert code == 0, complained
    assert "Cleared away" in complained
    assert is_untouched(loopback)
    assert not list(state_folder.rglob("*.json"))


@pytest.fixture
def spawn_theirs(loopback):
    """Another client's vehicle above a lane, by its role name."""
    import carla

    def spawn(role, lift_m):
        client = carla.Client("127.0.0.1", loopback.port)
        client.set_timeout(60.0)
        world = client.get_world()
        blueprint = world.get_blueprint_library().find("vehicle.audi.tt")
        blueprint.set_attribute("role_name", role)
        place = world.get_map().generate_waypoints(30.0)[7].transform
        place.location.z += lift_m
        assert world.try_spawn_actor(blueprint, place) is not None

    return spawn


def test_an_ego_that_a_killed_run_took_over_gets_its_physics_back_from_the_next_one(
    loopback, recording, dyncity, finished, tmp_path, spawn_theirs
):
    spawn_theirs("hero", 0.3)
    process = recording()
    process.kill()
    process.communicate()
    (hero,) = loopback.inspector.actors("vehicle.")
    assert hero["simulates_physics"] is False
    arguments = ["--minutes", "0.02", "--lidars", "1", "--lidar-points", "1000", "--out", str(tmp_path / "next")]
    code, _, complained = finished(dyncity("record", *arguments, "--ego", "mine"))
    assert code == 0, complained
    (left,) = loopback.inspector.actors()
    assert (left["id"], left["simulates_physics"]) == (hero["id"], True)


FORWARDER = """
import socket, sys, threading
listening = socket.create_server(("127.0.0.1", int(sys.argv[2])))
print(listening.getsockname()[1], flush=True)
def pump(source, sink):
    while data := source.recv(65536):
        sink.sendall(data)
while True:
    near, _ = listening.accept()
    far = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    for ends in ((near, far), (far, near)):
        threading.Thread(target=pump, args=ends, daemon=True).start()
"""


@pytest.fixture
def network(loopback):
    """Starts a network to the server, at a free port or a given one, as a process that can be ended."""
    started = []

    def start(port=0):
        command = [sys.executable, "-c", FORWARDER, str(loopback.port), str(port)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        started.append(process)
        return process, int(process.stdout.readline())

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_what_a_network_that_failed_kept_from_being_given_back_is_given_back_by_the_next_run(
    loopback, drive_options, network, spawn_theirs, state_folder
):
    spawn_theirs("hero", 0.3)
    cable, port = network()
    simulator = CarlaSimulator(drive_options(server=ServerOptions("127.0.0.1", port, 5.0)), "", 5)
    frames = simulator.follow(simulator.plan(16))
    next(frames)
    cable.kill()
    cable.wait()
    with pytest.raises(SimulatorError, match="did not answer"):
        next(frames)
    simulator.close()
    assert loopback.inspector.world()["settings"]["synchronous_mode"] is True
    (file,) = state_folder.rglob("*.json")
    # This process lives on: what it left is another's once it has ended.
    journal = Journal.read(file)
    replace(journal, run=replace(journal.run, started=journal.run.started + 1)).write(file)
    network(port)
    with Session(connect("127.0.0.1", port, 60.0), "own"):
        pass
    (hero,) = loopback.inspector.actors()
    assert hero["simulates_physics"] is True
    assert loopback.inspector.world()["settings"]["synchronous_mode"] is False
    assert not list(state_folder.rglob("*.json"))


def test_a_journal_of_another_machine_is_left_alone(loopback, state_folder):
    address = f"127.0.0.1:{loopback.port}"
    file = journal_folder(address) / "elsewhere-1-2.json"
    world = connect("127.0.0.1", loopback.port, 60.0)
    Journal(Run("elsewhere", 1, 2), world.settings(), world.settings()).write(file)
    with Session(world, "own"):
        pass
    assert file.exists()


def test_actors_of_others_survive_a_sweep(loopback, recording, dyncity, finished, tmp_path, spawn_theirs):
    process = recording()
    spawn_theirs("theirs", 40.0)
    process.kill()
    process.communicate()
    arguments = ["--minutes", "0.02", "--lidars", "1", "--lidar-points", "1000", "--out", str(tmp_path / "next")]
    code, _, complained = finished(dyncity("record", *arguments))
    assert code == 0, complained
    (left,) = loopback.inspector.actors()
    assert left["attributes"]["role_name"] == "theirs"


def test_a_server_that_dies_is_told_of_within_the_timeout(loopback, recording, finished):
    process = recording("--timeout", "15")
    loopback.inspector.fault("die", in_ticks=1)
    began = time.monotonic()
    code, _, complained = finished(process)
    assert time.monotonic() - began < 120
    assert code == 1
    last = complained.strip().splitlines()[-1]
    assert last.startswith("dyncity: error: ")
    assert f"127.0.0.1:{loopback.port} did not answer within 15 s" in last
    assert "Traceback" not in complained


def test_a_stall_longer_than_the_timeout_ends_the_run_and_leaves_nothing(loopback, recording, finished):
    process = recording("--timeout", "15")
    loopback.inspector.fault("stall", seconds=25)
    code, _, complained = finished(process)
    assert code == 1
    assert "did not answer within 15 s" in complained
    assert "--timeout" in complained
    assert is_untouched(loopback)


def test_a_connection_that_is_cut_ends_the_run_and_leaves_nothing(loopback, recording, finished):
    process = recording("--timeout", "5")
    loopback.inspector.fault("drop", channel="rpc")
    code, _, complained = finished(process)
    assert code == 1
    assert "did not answer within 5 s" in complained.strip().splitlines()[-1]
    assert is_untouched(loopback)


def test_a_stall_shorter_than_the_timeout_is_waited_out(loopback, dyncity, finished, tmp_path):
    arguments = ["--minutes", "0.1", "--lidars", "1", "--lidar-points", "1000", "--timeout", "60"]
    process = dyncity("record", *arguments, "--out", str(tmp_path / "recording"))
    wait_until(lambda: loopback.inspector.world()["settings"]["synchronous_mode"])
    loopback.inspector.fault("stall", seconds=10)
    code, _, complained = finished(process)
    assert code == 0, complained
    assert is_untouched(loopback)


TRAFFIC = ("--traffic", "3", "--timeout", "5")
HELD_UP_S = 5 + 10
"""The time-out, and what is spared for a tick beyond it."""


def call_manager(port, method):
    with socket.create_connection(("127.0.0.1", port), timeout=10.0) as connection:
        connection.sendall(msgpack.packb([0, 1, method, []]))
        assert msgpack.unpackb(connection.recv(4096)) == [1, 1, None, None]


def child_of(process):
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return Path("/proc") / child


@pytest.mark.slow
def test_a_traffic_manager_that_never_wakes_ends_the_run_and_leaves_nothing(loopback, recording, finished, free_port):
    process = recording(*TRAFFIC, "--traffic-port", str(free_port))
    manager = child_of(process)
    # Its thread ends, and the next tick waits for it for good.
    call_manager(free_port, "shut_down")
    began = time.monotonic()
    code, _, complained = finished(process)
    assert HELD_UP_S - 1 < time.monotonic() - began < HELD_UP_S + 60
    assert code == 1
    assert complained.strip().splitlines()[-1].startswith("dyncity: error: CARLA's traffic manager held the world of")
    assert is_untouched(loopback)
    assert not manager.exists()


@pytest.mark.slow
def test_a_stall_that_the_traffic_manager_does_not_survive_is_told_like_any_other(
    loopback, recording, finished, free_port
):
    process = recording(*TRAFFIC, "--traffic-port", str(free_port))
    loopback.inspector.fault("stall", seconds=12)
    code, _, complained = finished(process)
    assert code == 1
    assert "did not answer within 5 s" in complained.strip().splitlines()[-1]
    assert is_untouched(loopback)


def test_a_traffic_manager_that_dies_ends_the_run_and_leaves_nothing(loopback, recording, finished, free_port):
    process = recording(*TRAFFIC, "--traffic-port", str(free_port))
    os.kill(int(child_of(process).name), signal.SIGKILL)
    code, _, complained = finished(process)
    assert code == 1
    assert "CARLA's traffic manager" in complained.strip().splitlines()[-1]
    assert "ended with status -9" in complained.strip().splitlines()[-1]
    assert is_untouched(loopback)


def test_a_traffic_manager_does_not_outlive_a_killed_run(loopback, recording, free_port):
    process = recording(*TRAFFIC, "--traffic-port", str(free_port))
    manager = child_of(process)
    process.kill()
    process.communicate()
    wait_until(lambda: not manager.exists())


THEIR_TRAFFIC = """
import sys, time
import carla
client = carla.Client("127.0.0.1", int(sys.argv[1]))
client.set_timeout(60.0)
world, manager = client.get_world(), client.get_trafficmanager(int(sys.argv[2]))
blueprint = world.get_blueprint_library().find("vehicle.audi.tt")
blueprint.set_attribute("role_name", "theirs")
vehicle = world.spawn_actor(blueprint, world.get_map().get_spawn_points()[0])
vehicle.set_autopilot(True, int(sys.argv[2]))
print("DRIVING", flush=True)
time.sleep(600)
"""


def test_another_client_s_traffic_manager_is_left_alone(loopback, dyncity, finished, free_port, tmp_path):
    def place():
        (vehicle,) = loopback.inspector.actors("vehicle.", "theirs")
        return vehicle["transform"][:2]

    command = [sys.executable, "-c", THEIR_TRAFFIC, str(loopback.port), str(free_port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as theirs:
        assert theirs.stdout.readline() == "DRIVING\n"
        arguments = ["--minutes", "0.02", "--lidars", "1", "--lidar-points", "500", "--traffic", "1"]
        arguments += ["--traffic-port", str(free_port), "--out", str(tmp_path / "recording")]
        code, _, complained = finished(dyncity("record", *arguments))
        stood = place()
        wait_until(lambda: place() != stood)
        theirs.kill()
    assert code == 1
    assert f"refused a traffic manager on port {free_port} (--traffic-port names another)" in complained
    assert "that of another client is there" in complained


@pytest.mark.slow
def test_a_traffic_manager_without_a_free_port_is_refused(loopback, dyncity, finished, tmp_path):
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        arguments = [*RECORD, *TRAFFIC, "--traffic-port", str(port), "--out", str(tmp_path / "recording")]
        code, _, complained = finished(dyncity("record", *arguments))
    assert code == 1
    assert f"a traffic manager on port {port}" in complained.strip().splitlines()[-1]
    assert is_untouched(loopback)


def test_a_lost_measurement_ends_the_recording_and_says_which(loopback, recording, finished, tmp_path):
    process = recording("--timeout", "20")
    loopback.inspector.fault("lose-sensor-frames", count=1)
    code, _, complained = finished(process)
    assert code == 1
    assert "lidar0 " in complained.strip().splitlines()[-1]
    assert "tick" in complained.strip().splitlines()[-1]
    assert is_untouched(loopback)
    assert not (tmp_path / "recording").exists()


def test_drives_that_were_whole_when_the_server_failed_are_kept_and_say_what_ended_them(
    loopback, recording, finished, tmp_path
):
    process = recording("--timeout", "20")
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
    assert is_untouched(loopback)


def test_a_world_without_room_for_an_ego_says_so(loopback, dyncity, finished, tmp_path):
    loopback.inspector.fault("refuse-spawns")
    code, _, complained = finished(dyncity("record", *RECORD, "--out", str(tmp_path / "recording")))
    assert code == 1
    assert "has room for an ego" in complained
    assert "--ego" in complained
    assert is_untouched(loopback)


def test_a_server_of_another_version_is_refused_with_what_mends_it(loopback, dyncity, finished, tmp_path):
    loopback.inspector.fault("version", text="0.9.15")
    short = ["--minutes", "0.02", "--lidars", "1", "--lidar-points", "500", "--out", str(tmp_path / "recording")]
    code, _, complained = finished(dyncity("record", *short))
    assert code == 1
    assert "start CARLA 0.9.16 there" in complained
    assert "--allow-version-mismatch" in complained
    assert loopback.inspector.counts().get("set_episode_settings", 0) == 0
    code, _, complained = finished(dyncity("record", *short, "--allow-version-mismatch"))
    assert code == 0, complained
    assert Recording.open(tmp_path / "recording").meta.simulator == "CARLA 0.9.15"


def test_an_empty_road_network_is_no_place_to_drive(loopback, dyncity, finished, tmp_path):
    loopback.inspector.fault("empty-opendrive", on=1)
    code, _, complained = finished(dyncity("record", *RECORD, "--out", str(tmp_path / "recording")))
    assert code == 2
    assert complained.strip().splitlines()[-1].startswith("dyncity: error: map: ")
    assert is_untouched(loopback)


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


def test_two_runs_do_not_tick_one_world(loopback, recording, dyncity, finished, tmp_path):
    process = recording()
    code, _, complained = finished(dyncity("record", *RECORD, "--out", str(tmp_path / "second")))
    assert code == 1
    assert f"Process {process.pid}" in complained
    process.terminate()
    assert finished(process)[0] == 143
    assert is_untouched(loopback)


def test_a_world_in_which_a_run_is_at_work_is_not_replaced(loopback, recording, dyncity, finished, map_file, tmp_path):
    process = recording()
    episode = loopback.inspector.world()["episode"]
    code, _, complained = finished(
        dyncity("record", *RECORD, "--map", str(map_file), "--out", str(tmp_path / "second"))
    )
    assert code == 1
    assert f"Process {process.pid} of this machine is at work in the world" in complained
    assert loopback.inspector.world()["episode"] == episode
    assert process.poll() is None
