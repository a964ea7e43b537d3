"""The server as a process of its own: starting, draining, dying."""

import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from dyncity_sim.client import DyncityClient
from dyncity_sim.domain.conditions import Command, Conditions, SamplingOptions
from dyncity_sim.errors import UnavailableError

SLOW_SERVER = Path(__file__).with_name("slow_server.py")
NULL_SERVER = ("-m", "dyncity_sim.cli.main", "serve", "--backend", "null", "--port", "0")
PATIENCE_S = 60.0


@contextmanager
def process(*arguments):
    with subprocess.Popen(
        [sys.executable, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            yield server
        finally:
            server.kill()


def target_of(server):
    line = server.stdout.readline()
    match = re.fullmatch(r"SERVING \S+ on (127\.0\.0\.1:\d+)\n", line)
    assert match, line + server.stderr.read()
    return match[1]


def run(*arguments):
    command = [sys.executable, "-m", "dyncity_sim.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def answers(client):
    try:
        client.model_info()
    except UnavailableError:
        return False
    return True


def wait_until_running(client):
    """Until the server is at work on a call: only then does another one find a queue."""
    time.sleep(0.5)
    return client.model_info()


def test_a_killed_server_loses_nothing_the_next_one_gives_the_same_chunk():
    conditions, options = Conditions(command=Command.FORWARD), SamplingOptions(seed=42)
    with process(*NULL_SERVER) as server, DyncityClient(target_of(server)) as client:
        start = client.generate(conditions, options)
        onward = Conditions(command=Command.LEFT, continuation=start.continuation)
        expected = client.generate(onward, options)
        server.send_signal(signal.SIGKILL)
        server.wait(PATIENCE_S)
        with pytest.raises(UnavailableError):
            client.generate(onward, options)
    with process(*NULL_SERVER) as server, DyncityClient(target_of(server)) as client:
        retried = client.generate(onward, options)
    assert np.array_equal(retried.occupancy.labels, expected.occupancy.labels)
    assert retried.continuation == expected.continuation


def test_a_call_under_way_when_the_server_is_killed_is_unavailable():
    with process(SLOW_SERVER, 30) as server, DyncityClient(target_of(server)) as client, ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(client.generate, Conditions(), SamplingOptions(steps=500))
        wait_until_running(client)
        server.send_signal(signal.SIGKILL)
        with pytest.raises(UnavailableError):
            under_way.result(PATIENCE_S)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_work_under_way_is_finished_and_new_work_refused(number):
    with process(SLOW_SERVER, 30) as server, DyncityClient(target_of(server)) as client, ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(client.generate, Conditions(), SamplingOptions(steps=12))
        wait_until_running(client)
        server.send_signal(number)
        time.sleep(0.3)
        with pytest.raises(UnavailableError), DyncityClient(client.target, timeout_s=5.0) as late:
            late.generate(Conditions())
        assert under_way.result(PATIENCE_S).occupancy.labels.shape == (16, 128, 128, 8)
        assert server.wait(PATIENCE_S) == 0


def test_work_that_outlives_the_grace_is_dropped():
    with process(SLOW_SERVER, 0.2) as server, DyncityClient(target_of(server)) as client, ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(client.generate, Conditions(), SamplingOptions(steps=500))
        wait_until_running(client)
        server.send_signal(signal.SIGTERM)
        with pytest.raises(UnavailableError):
            under_way.result(PATIENCE_S)
        assert server.wait(PATIENCE_S) == 0


def test_a_second_signal_cuts_the_draining_short():
    with process(SLOW_SERVER, 300) as server, DyncityClient(target_of(server)) as client, ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(client.generate, Conditions(), SamplingOptions(steps=900))
        wait_until_running(client)
        server.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        server.send_signal(signal.SIGTERM)
        with pytest.raises(UnavailableError):
            under_way.result(PATIENCE_S)
        assert server.wait(PATIENCE_S) == 0


def test_a_server_told_to_stop_while_it_loads_never_serves():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with process(SLOW_SERVER, 30, port, 2) as server, DyncityClient(f"127.0.0.1:{port}", timeout_s=1.0) as client:
        while "still loading" not in refusal(client):
            time.sleep(0.05)
        server.send_signal(signal.SIGTERM)
        assert server.wait(PATIENCE_S) == 0
        assert server.stdout.read() == ""


def refusal(client):
    with pytest.raises(UnavailableError) as caught:
        client.model_info()
    return str(caught.value)


def test_a_busy_port_is_one_clear_line_and_exit_code_2():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = run("serve", "--backend", "null", "--port", port)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [done.stderr.strip()]
    assert f"127.0.0.1:{port}" in done.stderr


def test_weights_that_do_not_fit_the_backend_are_exit_code_2():
    done = run("serve", "--backend", "null", "--port", "0", "--weights", "/nowhere")
    assert done.returncode == 2
    assert "weights: got /nowhere" in done.stderr


def test_info_shows_the_model_as_a_table():
    with process(*NULL_SERVER) as server:
        done = run("info", "--server", target_of(server))
    assert done.returncode == 0
    assert "null-2 (null)" in done.stdout
    assert "16 frames at 10 Hz" in done.stdout


def test_info_of_a_server_that_is_not_there_is_exit_code_1():
    done = run("info", "--server", "127.0.0.1:1")
    assert done.returncode == 1
    assert done.stderr.startswith("dyncity: error: 127.0.0.1:1")


@pytest.mark.parametrize("length", ["-1", str(2**32)])
def test_a_queue_whose_length_the_wire_cannot_say_is_refused(length):
    refused = run("serve", "--backend", "null", "--max-queue", length)
    assert refused.returncode == 2
    assert f"argument --max-queue: {length} is" in refused.stderr


def test_a_server_ends_with_the_command_that_started_it_though_that_is_killed():
    script = """
import time
from dyncity_sim.cosim.server_process import ServerProcess
with ServerProcess(["--backend", "null"], log=None) as server:
    print("SERVING null on", server.target, flush=True)
    time.sleep(600)
"""
    with process("-c", script) as command, DyncityClient(target_of(command)) as client:
        assert client.model_info().model_id
        command.kill()
        deadline_s = time.monotonic() + PATIENCE_S
        while answers(client):
            assert time.monotonic() < deadline_s, "the server is left behind"
            time.sleep(0.1)
