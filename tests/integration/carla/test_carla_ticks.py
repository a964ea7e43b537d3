"""Who ticks the world during a drive, and what becomes of its settings."""

import subprocess
import sys
import time

import numpy as np
import pytest
from dyncity_carla.simulator import MOST_LATE_TICKS, CarlaSimulator

from dyncity_sim.errors import SimulatorError

TICKER = """
import sys, time
import carla
client = carla.Client("127.0.0.1", int(sys.argv[1]))
client.set_timeout(60.0)
world = client.get_world()
settings = world.get_settings()
settings.synchronous_mode, settings.fixed_delta_seconds = True, float(sys.argv[2])
world.apply_settings(settings)
library = world.get_blueprint_library()
if len(sys.argv) > 3:
    blueprint = library.find("vehicle.tesla.model3")
    blueprint.set_attribute("role_name", sys.argv[3])
    waypoint = world.get_map().generate_waypoints(20.0)[4]
    place = waypoint.transform
    place.location.z += 0.3
    assert world.try_spawn_actor(blueprint, place) is not None
print("TICKING", flush=True)
while True:
    world.tick(60.0)
    time.sleep(0.01)
"""


@pytest.fixture
def ticker(loopback):
    """Starts another client that ticks the world, with a vehicle of its own when a role name is given."""
    started = []

    def start(step_s, *role):
        command = [sys.executable, "-c", TICKER, str(loopback.port), str(step_s), *role]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "TICKING\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_another_client_ticks_and_its_ego_is_driven_and_given_back(
    loopback, drive_options, ticker, tmp_path, lines_of, chunk_with_car
):
    ticker(0.05, "hero")
    shown = tmp_path / "shown.jsonl"
    (before,) = loopback.inspector.actors("vehicle.", "hero")
    with CarlaSimulator(drive_options("external", shown=shown), "", 5) as simulator:
        for _ in range(2):
            plan = simulator.plan(16)
            frames = list(simulator.follow(plan, chunk_with_car(plan)))
            assert [frame.time_us for frame in frames] == plan.times_us.tolist()
            np.testing.assert_allclose([f.pose_world_from_ego for f in frames], plan.poses_world_from_ego, atol=0.02)
        (driven,) = loopback.inspector.actors("vehicle.", "hero")
        assert driven["simulates_physics"] is False
    figures = [line["figures"] for line in lines_of(shown)]
    assert [len(shown_at_once) for shown_at_once in figures] == [1] * 32
    # Between two chunks too, the same actor stays in the world.
    assert len({figure["actor"] for (figure,) in figures}) == 1
    (after,) = loopback.inspector.actors("vehicle.")
    assert after["id"] == before["id"]
    assert after["simulates_physics"] is True
    assert loopback.inspector.world()["settings"]["fixed_delta_seconds"] == pytest.approx(0.05)


@pytest.fixture
def user(loopback):
    """Another client's world."""
    import carla

    client = carla.Client("127.0.0.1", loopback.port)
    client.set_timeout(60.0)
    return client.get_world()


def change_settings(world, **changes):
    settings = world.get_settings()
    for name, value in changes.items():
        setattr(settings, name, value)
    world.apply_settings(settings)


def wait_for_frames(loopback, frames):
    """Let another client's ticks pass."""
    goal, limit = loopback.inspector.world()["frame"] + frames, time.monotonic() + 120.0
    while loopback.inspector.world()["frame"] < goal:
        assert time.monotonic() < limit, "nobody ticks"
        time.sleep(0.05)


def test_an_ego_is_made_in_a_world_that_another_client_ticks(loopback, drive_options, ticker):
    ticker(0.05)
    with CarlaSimulator(drive_options("external"), "", 5) as simulator:
        plan = simulator.plan(16)
        assert len(list(simulator.follow(plan))) == 16
        assert len(loopback.inspector.actors("vehicle.", "hero")) == 1
    assert loopback.inspector.actors() == []


def test_a_chunk_is_waited_for_however_many_ticks_pass(loopback, drive_options, ticker):
    ticker(0.05, "hero")
    with CarlaSimulator(drive_options("external", lidars=1, points_per_sweep=500), "", 5) as simulator:
        first, second = simulator.plan(16), simulator.plan(16)
        assert len(list(simulator.follow(first))) == 16
        wait_for_frames(loopback, MOST_LATE_TICKS + 50)
        frames = list(simulator.follow(second))
    np.testing.assert_allclose([f.pose_world_from_ego for f in frames], second.poses_world_from_ego, atol=0.02)


def test_another_client_that_begins_to_tick_a_world_that_is_ours_to_tick_is_an_error(loopback, drive_options, ticker):
    with CarlaSimulator(drive_options(), "", 5) as simulator:
        frames = simulator.follow(simulator.plan(16))
        next(frames)
        ticker(0.1)
        with pytest.raises(SimulatorError, match="--tick external"):
            list(frames)
    settings = loopback.inspector.world()["settings"]
    assert settings["synchronous_mode"] is True, "the world that the other one ticks is its own by now"
    assert settings["fixed_delta_seconds"] == pytest.approx(0.1)
    assert loopback.inspector.actors() == []


@pytest.mark.parametrize("ticks", ["own", "external"])
def test_a_step_that_somebody_changes_during_a_drive_is_an_error(loopback, drive_options, ticker, user, ticks):
    if ticks == "external":
        ticker(0.05, "hero")
    with CarlaSimulator(drive_options(ticks), "", 5) as simulator:
        frames = simulator.follow(simulator.plan(16))
        next(frames)
        change_settings(user, fixed_delta_seconds=0.02, no_rendering_mode=True)
        with pytest.raises(SimulatorError, match=r"0\.02 s"):
            list(frames)
    settings = loopback.inspector.world()["settings"]
    assert settings["no_rendering_mode"] is True
    assert settings["synchronous_mode"] is (ticks == "external"), "nobody but us ticks the world otherwise"


def test_settings_survive_the_loading_of_a_map(loopback, drive_options, user, map_file):
    change_settings(user, no_rendering_mode=True, fixed_delta_seconds=0.02)
    before = loopback.inspector.world()["settings"]
    with CarlaSimulator(drive_options(), str(map_file), 5):
        assert loopback.inspector.world()["settings"]["no_rendering_mode"] is True
    assert loopback.inspector.world()["settings"] == before


def test_another_client_s_ticks_survive_the_loading_of_a_map(loopback, drive_options, ticker, map_file):
    ticker(0.05)
    episode = loopback.inspector.world()["episode"]
    with CarlaSimulator(drive_options("external"), str(map_file), 5) as simulator:
        assert len(list(simulator.follow(simulator.plan(16)))) == 16
    world = loopback.inspector.world()
    assert world["episode"] != episode
    assert world["settings"]["synchronous_mode"] is True


def test_a_map_that_is_there_late_is_waited_for_in_a_world_that_stands_still(loopback, drive_options, user, map_file):
    change_settings(user, synchronous_mode=True, fixed_delta_seconds=0.1)
    loopback.inspector.fault("delay-waypoints", seconds=2.0)
    with CarlaSimulator(drive_options(), str(map_file), 5) as simulator:
        assert len(simulator.plan(16)) == 16
    assert loopback.inspector.world()["settings"]["synchronous_mode"] is True


def test_a_world_that_another_client_ticks_is_not_ticked_by_us_too(drive_options, ticker):
    ticker(0.05)
    with pytest.raises(SimulatorError, match="--tick external"):
        CarlaSimulator(drive_options(), "", 1)


def test_ticks_that_do_not_divide_a_frame_are_refused(loopback, drive_options, ticker):
    ticker(0.03)
    with pytest.raises(SimulatorError, match=r"0\.03 s"):
        CarlaSimulator(drive_options("external"), "", 1)
    assert loopback.inspector.actors() == []
