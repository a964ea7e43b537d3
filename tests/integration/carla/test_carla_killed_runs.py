"""What runs that were killed or cut off have left in a CARLA world is given back, and nobody else's is touched."""

import signal
import subprocess
import sys
from dataclasses import replace

import pytest
from dyncity_carla.connection import connect
from dyncity_carla.journal import Journal, Run, journal_folder
from dyncity_carla.options import ServerOptions
from dyncity_carla.session import Session
from dyncity_carla.simulator import CarlaSimulator

from dyncity_sim.errors import SimulatorError

BRIEF = ("--minutes", "0.02")


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_gives_everything_back(
    loopback, recording, finished, tmp_path, number, expected, is_untouched
):
    process = recording()
    assert loopback.inspector.world()["settings"]["synchronous_mode"] is True
    process.send_signal(number)
    code, _, complained = finished(process)
    assert code == expected, complained
    assert "Traceback" not in complained
    assert is_untouched()
    assert not (tmp_path / "recording").exists()


def test_what_a_killed_run_left_is_swept_by_the_next_one(
    loopback, recording, finished, state_folder, record, is_untouched
):
    process = recording()
    process.kill()
    process.communicate()
    left = loopback.inspector.actors()
    assert {actor["type"].split(".")[0] for actor in left} == {"vehicle", "sensor"}
    assert loopback.inspector.world()["settings"]["synchronous_mode"] is True
    assert list(state_folder.rglob("*.json"))
    code, _, complained = finished(record(*BRIEF, to="next"))
    assert code == 0, complained
    assert "Cleared away" in complained
    assert is_untouched()
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
    loopback, recording, finished, spawn_theirs, record
):
    spawn_theirs("hero", 0.3)
    process = recording()
    process.kill()
    process.communicate()
    (hero,) = loopback.inspector.actors("vehicle.")
    assert hero["simulates_physics"] is False
    code, _, complained = finished(record(*BRIEF, "--ego", "mine", to="next"))
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


def test_actors_of_others_survive_a_sweep(loopback, recording, finished, spawn_theirs, record):
    process = recording()
    spawn_theirs("theirs", 40.0)
    process.kill()
    process.communicate()
    code, _, complained = finished(record(*BRIEF, to="next"))
    assert code == 0, complained
    (left,) = loopback.inspector.actors()
    assert left["attributes"]["role_name"] == "theirs"


def test_two_runs_do_not_tick_one_world(recording, finished, record, is_untouched):
    process = recording()
    code, _, complained = finished(record(to="second"))
    assert code == 1
    assert f"Process {process.pid}" in complained
    process.terminate()
    assert finished(process)[0] == 143
    assert is_untouched()


def test_a_world_in_which_a_run_is_at_work_is_not_replaced(loopback, recording, finished, map_file, record):
    process = recording()
    episode = loopback.inspector.world()["episode"]
    code, _, complained = finished(record("--map", str(map_file), to="second"))
    assert code == 1
    assert f"Process {process.pid} of this machine is at work in the world" in complained
    assert loopback.inspector.world()["episode"] == episode
    assert process.poll() is None
