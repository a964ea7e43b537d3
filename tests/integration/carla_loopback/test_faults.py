"""What goes wrong on demand, as the real client library meets it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from dyncity_carla.loopback.process import LoopbackProcess

CLIENT = Path(__file__).with_name("carla_client.py")
PATIENCE_S = 240.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_death_mid_tick_ends_a_tick_within_the_clients_timeout(fresh: LoopbackProcess, as_client: Callable[..., Any]):
    fresh.inspector.fault("die", in_ticks=8)
    seen = as_client("tick_until_failure", fresh.port, "50")
    assert seen["done"] == 7
    assert "time-out" in seen["message"]
    assert seen["seconds"] < 30
    assert fresh.exit_status == 70


def test_a_slow_reply_costs_one_call(fresh: LoopbackProcess, as_client: Callable[..., Any]):
    fresh.inspector.fault("slow", method="tick_cue", seconds=6.0, count=1)
    assert "time-out" in as_client("tick_until_failure", fresh.port, "3")["message"]
    assert as_client("tick_until_failure", fresh.port, "3")["done"] == 3


def test_a_stall_holds_everything_up_and_then_all_goes_on(fresh: LoopbackProcess, as_client: Callable[..., Any]):
    fresh.inspector.fault("stall", seconds=8.0)
    began = time.monotonic()
    assert fresh.inspector.world()["frame"] >= 0
    assert time.monotonic() - began < 5.0, "the inspection channel is not held up"
    time.sleep(6.0)
    assert as_client("tick_until_failure", fresh.port, "3")["done"] == 3


def test_a_dropped_connection_ends_in_a_timeout(fresh: LoopbackProcess, as_client: Callable[..., Any]):
    fresh.inspector.fault("drop", channel="rpc", in_ticks=6)
    seen = as_client("tick_until_failure", fresh.port, "50")
    assert seen["done"] == 5
    assert "time-out" in seen["message"]
    assert as_client("tick_until_failure", fresh.port, "3")["done"] == 3


def test_lost_sensor_frames_are_lost(fresh: LoopbackProcess):
    fresh.inspector.fault("lose-sensor-frames", count=100)
    command = [sys.executable, str(CLIENT), "semantic_lidar", str(fresh.port)]
    client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        until = time.monotonic() + 120
        while fresh.inspector.counts().get("tick_cue", 0) < 8 and time.monotonic() < until:
            time.sleep(0.1)
        assert fresh.inspector.counts()["tick_cue"] >= 8
        assert client.poll() is None, "it waits for sweeps that never come"
    finally:
        os.killpg(client.pid, signal.SIGKILL)
        client.communicate()


def test_full_spawn_points_refuse_and_are_free_again(fresh: LoopbackProcess, as_client: Callable[..., Any]):
    fresh.inspector.fault("refuse-spawns")
    assert as_client("spawn_on_every_point", fresh.port)["spawned"] == 0
    fresh.inspector.clear_faults()
    seen = as_client("spawn_on_every_point", fresh.port)
    assert seen["spawned"] == seen["points"] == seen["destroyed"]


def test_another_version_is_told(fresh: LoopbackProcess, as_client: Callable[..., Any]):
    fresh.inspector.fault("version", text="0.9.13")
    assert as_client("first_map", fresh.port)["version"] == "0.9.13"


def test_an_empty_document_fails_as_in_carla(fresh: LoopbackProcess, as_client: Callable[..., Any]):
    fresh.inspector.fault("empty-opendrive")
    assert as_client("first_map", fresh.port)["failure"] == "failed to generate map"


def test_lanes_that_come_late_appear_to_a_client_that_polls(
    as_client: Callable[..., Any], serve: Callable[..., LoopbackProcess]
):
    with serve() as server:
        server.inspector.fault("delay-waypoints", seconds=PATIENCE_S)
        with ThreadPoolExecutor() as executor:
            client = executor.submit(as_client, "first_map", server.port)
            while server.inspector.counts().get("get_map_data", 0) < 2 and not client.done():
                time.sleep(0.02)
            server.inspector.clear_faults()
            seen = client.result()
    assert seen["at_first"] == 0
    assert seen["waypoints"] > 700
    assert seen["spawn_points"] > 20


def test_faults_can_be_on_from_the_start(as_client: Callable[..., Any], serve: Callable[..., LoopbackProcess]):
    arguments = ["--fault", "version:text=0.9.12", "--fault", "refuse-spawns:count=3"]
    with serve(*arguments) as server:
        assert as_client("first_map", server.port)["version"] == "0.9.12"
