"""What is not a run's own: a server that was started anew, a map that another client loaded, another run's ego."""

import subprocess
import sys
from dataclasses import replace

import pytest
from dyncity_carla.connection import connect
from dyncity_carla.journal import Journal, Run, journal_folder
from dyncity_carla.loopback.process import LoopbackProcess
from dyncity_carla.maps import check_unused
from dyncity_carla.options import DriveOptions, ServerOptions
from dyncity_carla.ports import ActorInfo
from dyncity_carla.session import Session
from dyncity_carla.simulator import CarlaSimulator

from dyncity_sim.errors import SimulatorError

THEIRS = """
import sys
import time
import carla
client = carla.Client("127.0.0.1", int(sys.argv[1]))
client.set_timeout(60.0)
if "load" in sys.argv:
    client.load_world(client.get_available_maps()[0].split("/")[-1], reset_settings="reset" in sys.argv)
world = client.get_world()
blueprint = world.get_blueprint_library().find("vehicle.audi.tt")
for number, waypoint in enumerate(world.get_map().generate_waypoints(40.0)[:4]):
    place = waypoint.transform
    place.location.z += 20.0 + 10.0 * number
    blueprint.set_attribute("role_name", f"theirs{number}")
    assert world.try_spawn_actor(blueprint, place) is not None
if "tick" in sys.argv:
    settings = world.get_settings()
    settings.synchronous_mode, settings.fixed_delta_seconds = True, 0.05
    world.apply_settings(settings)
print("done", flush=True)
while "on" in sys.argv:
    world.tick(60.0)
    time.sleep(0.02)
"""
THEIR_ROLES = [f"theirs{number}" for number in range(4)]


@pytest.fixture
def their_client():
    """Another client: it may load a map, makes four vehicles, may take the ticks, and may go on ticking."""
    started = []

    def start(server, *words):
        process = subprocess.Popen(
            [sys.executable, "-c", THEIRS, str(server.port), *words], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "done\n"

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def another_run():
    """A run of this machine that lives, in a process of its own."""
    code = "from dyncity_carla.journal import Run; print(Run.current().id, flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield Run.parse(process.stdout.readline().strip())
    process.communicate("\n")


def roles_in(server):
    return [actor["attributes"]["role_name"] for actor in server.inspector.actors()]


def test_in_a_server_that_was_started_anew_nothing_is_a_run_s(map_file, tmp_path, state_folder, their_client):
    with LoopbackProcess(map_file, tmp_path / "first.log") as first:
        options = DriveOptions(ServerOptions("127.0.0.1", first.port, 5.0), lidars=0, furniture="none")
        simulator = CarlaSimulator(options, "", 2)
        frames = simulator.follow(simulator.plan(16))
        next(frames)
        ours = {actor["id"] for actor in first.inspector.actors()}
        first.kill()
    with LoopbackProcess(map_file, tmp_path / "second.log", ["--port", str(first.port)]) as second:
        their_client(second, "tick")
        assert ours < {actor["id"] for actor in second.inspector.actors()}
        with pytest.raises(SimulatorError, match="did not answer"):
            list(frames)
        simulator.close()
        assert roles_in(second) == THEIR_ROLES
        settings = second.inspector.world()["settings"]
        assert (settings["synchronous_mode"], settings["fixed_delta_seconds"]) == (True, 0.05)
    assert not list(state_folder.rglob("*.json"))


@pytest.mark.parametrize("words", [("load", "reset"), ("load",)])
def test_a_map_that_another_client_loads_ends_a_drive_and_no_world_is_left_standing_still(
    loopback, drive_options, their_client, state_folder, words
):
    with CarlaSimulator(drive_options(lidars=1, points_per_sweep=500), "", 2) as simulator:
        frames = simulator.follow(simulator.plan(16))
        next(frames)
        their_client(loopback, *words)
        with pytest.raises(SimulatorError, match="was replaced: another client loaded a map"):
            list(frames)
    assert roles_in(loopback) == THEIR_ROLES
    assert loopback.inspector.world()["settings"]["synchronous_mode"] is False
    assert not list(state_folder.rglob("*.json"))


def test_a_run_that_goes_along_with_another_client_s_ticks_hears_of_a_map_that_is_loaded(
    loopback, state_folder, their_client
):
    their_client(loopback, "tick", "on")
    with Session(connect("127.0.0.1", loopback.port, 60.0), "external") as session:
        session.tick()
        their_client(loopback, "load")
        with pytest.raises(SimulatorError, match="was replaced"):
            [session.tick() for _ in range(1000)]


def test_the_world_of_a_run_that_took_nothing_is_not_replaced_either(loopback, state_folder, another_run):
    world = connect("127.0.0.1", loopback.port, 60.0)
    with Session(connect("127.0.0.1", loopback.port, 60.0), "external"):
        (file,) = state_folder.rglob("*.json")
        replace(Journal.read(file), run=another_run).write(file)
        with pytest.raises(SimulatorError, match=f"Process {another_run.pid} of this machine is at work in the world"):
            check_unused(world)
    check_unused(world)
    world.release()


def test_an_ego_that_another_run_drives_is_not_taken_over(loopback, drive_options, their_client, another_run):
    their_client(loopback)
    ego = loopback.inspector.actors("vehicle.", "theirs0")[0]
    theirs = Journal(another_run, episode=loopback.inspector.world()["episode"])
    file = journal_folder(f"127.0.0.1:{loopback.port}") / f"{another_run.id}.json"
    replace(theirs, borrowed=ActorInfo(ego["id"], ego["type"], "theirs0")).write(file)
    with pytest.raises(SimulatorError, match=f"Process {another_run.pid} of this machine drives the ego 'theirs0'"):
        CarlaSimulator(drive_options(ego="theirs0"), "", 2)
    assert loopback.inspector.actors("vehicle.", "theirs0")[0]["simulates_physics"] is True
    with CarlaSimulator(drive_options(ego="theirs1"), "", 2) as simulator:
        assert len(list(simulator.follow(simulator.plan(16)))) == 16
