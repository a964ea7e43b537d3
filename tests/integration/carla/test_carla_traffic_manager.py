"""CARLA's traffic manager, which runs in a process of its own: what goes wrong with it, and with that of others."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgpack
import pytest


@pytest.fixture
def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


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
def test_a_traffic_manager_that_never_wakes_ends_the_run_and_leaves_nothing(
    recording, finished, free_port, is_untouched
):
    process = recording(*TRAFFIC, "--traffic-port", str(free_port))
    manager = child_of(process)
    # Its thread ends, and the next tick waits for it for good.
    call_manager(free_port, "shut_down")
    began = time.monotonic()
    code, _, complained = finished(process)
    assert HELD_UP_S - 1 < time.monotonic() - began < HELD_UP_S + 60
    assert code == 1
    assert complained.strip().splitlines()[-1].startswith("dyncity: error: CARLA's traffic manager held the world of")
    assert is_untouched()
    assert not manager.exists()


@pytest.mark.slow
def test_a_stall_that_the_traffic_manager_does_not_survive_is_told_like_any_other(
    loopback, recording, finished, free_port, is_untouched
):
    process = recording(*TRAFFIC, "--traffic-port", str(free_port))
    loopback.inspector.fault("stall", seconds=12)
    code, _, complained = finished(process)
    assert code == 1
    assert "did not answer within 5 s" in complained.strip().splitlines()[-1]
    assert is_untouched()


def test_a_traffic_manager_that_dies_ends_the_run_and_leaves_nothing(recording, finished, free_port, is_untouched):
    process = recording(*TRAFFIC, "--traffic-port", str(free_port))
    os.kill(int(child_of(process).name), signal.SIGKILL)
    code, _, complained = finished(process)
    assert code == 1
    assert "CARLA's traffic manager" in complained.strip().splitlines()[-1]
    assert "ended with status -9" in complained.strip().splitlines()[-1]
    assert is_untouched()


def test_a_traffic_manager_does_not_outlive_a_killed_run(recording, free_port, wait_until):
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


def test_another_client_s_traffic_manager_is_left_alone(loopback, finished, free_port, record, wait_until):
    def place():
        (vehicle,) = loopback.inspector.actors("vehicle.", "theirs")
        return vehicle["transform"][:2]

    command = [sys.executable, "-c", THEIR_TRAFFIC, str(loopback.port), str(free_port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as theirs:
        assert theirs.stdout.readline() == "DRIVING\n"
        code, _, complained = finished(record("--traffic", "1", "--traffic-port", str(free_port)))
        stood = place()
        wait_until(lambda: place() != stood)
        theirs.kill()
    assert code == 1
    assert f"refused a traffic manager on port {free_port} (--traffic-port names another)" in complained
    assert "that of another client is there" in complained


@pytest.mark.slow
def test_a_traffic_manager_without_a_free_port_is_refused(finished, record, is_untouched):
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, complained = finished(record(*TRAFFIC, "--traffic-port", str(port)))
    assert code == 1
    assert f"a traffic manager on port {port}" in complained.strip().splitlines()[-1]
    assert is_untouched()
