"""Drives over real server processes that are killed, drained and replaced: the frames are those of a calm drive."""

import importlib.util
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from dyncity_sim.client import DyncityClient
from dyncity_sim.cosim.drive import Start
from dyncity_sim.cosim.loop import run_drive
from dyncity_sim.cosim.replicas import Replicas
from dyncity_sim.cosim.stream import Patience
from dyncity_sim.domain.conditions import SamplingOptions
from dyncity_sim.engine.null import NullBackend
from dyncity_sim.errors import UnavailableError
from dyncity_sim.server.background import serving

SLOW_SERVER = Path(__file__).with_name("slow_server.py")
EXAMPLE = Path(__file__).parents[2] / "examples" / "own_simulator.py"
PATIENCE_S = 60.0
CHUNKS, SEED, FRAMES = 3, 11, 16
STEPS = 6
"""A chunk of the slow server takes so many tenths of a second."""


@pytest.fixture(scope="module")
def ring_road():
    """The simulator of the example."""
    spec = importlib.util.spec_from_file_location("own_simulator", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.RingRoad


class ServerOnPort:
    """A server process whose chunks take a while; ``start`` may be called again when it is dead."""

    def __init__(self, port=0):
        self.port = port
        self.start()

    @property
    def target(self):
        return f"127.0.0.1:{self.port}"

    def start(self):
        command = [sys.executable, str(SLOW_SERVER), "30", str(self.port), "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        line = self.process.stdout.readline()
        self.port = int(re.fullmatch(r"SERVING \S+ on 127\.0\.0\.1:(\d+)\n", line)[1])

    def end(self, number=signal.SIGKILL):
        self.process.send_signal(number)
        self.process.wait(PATIENCE_S)
        self.process.stdout.close()


@contextmanager
def servers(count):
    with ExitStack() as stack:
        started = []
        for _ in range(count):
            started.append(ServerOnPort())
            stack.callback(lambda server=started[-1]: server.process.poll() is None and server.end())
        yield started


def driven(simulator, targets, on_step=lambda step: None, limit_s=PATIENCE_S):
    options = SamplingOptions(steps=STEPS)
    with ExitStack() as stack:
        clients = [(target, stack.enter_context(DyncityClient(target, PATIENCE_S))) for target in targets]
        return run_drive(simulator, Replicas(clients), CHUNKS, SEED, Start.PLAN, options, Patience(limit_s), on_step)


@pytest.fixture(scope="module")
def calm(ring_road):
    """The drive that nothing disturbs."""
    with servers(1) as (server,):
        return driven(ring_road(5), [server.target])


def same_drive(drive, calm):
    assert drive.generated.labels.tobytes() == calm.generated.labels.tobytes()
    assert drive.generated.poses_world_from_ego.tobytes() == calm.generated.poses_world_from_ego.tobytes()
    assert drive.generated.times_us.tolist() == calm.generated.times_us.tolist()
    assert drive.recorded.labels.tobytes() == calm.recorded.labels.tobytes()
    assert [c.generated.continuation for c in drive.chunks] == [c.generated.continuation for c in calm.chunks]


class Once:
    """Does something at the first step of a kind and number; ``steps`` counts those of that kind."""

    def __init__(self, doing, number, action):
        self.doing, self.number, self.action, self.steps = doing, number, action, 0

    def __call__(self, step):
        if step.doing == self.doing:
            self.steps += 1
            if self.steps == self.number:
                self.action()


@pytest.mark.slow
def test_a_server_killed_while_the_simulator_drives_is_replaced_by_the_next(ring_road, calm):
    with servers(2) as (first, second):
        midway = Once("driving", FRAMES // 2, first.end)
        drive = driven(ring_road(5), [first.target, second.target], midway)
        assert first.process.returncode == -signal.SIGKILL
        assert second.process.poll() is None
    same_drive(drive, calm)


@pytest.mark.slow
def test_a_server_killed_while_it_samples_is_replaced_by_the_next(ring_road, calm):
    with servers(2) as (first, second):
        killing = threading.Timer(0.3 * STEPS * 0.1, first.end)
        drive = driven(ring_road(5), [first.target, second.target], Once("generating", 3, killing.start))
        killing.join()
    same_drive(drive, calm)


@pytest.mark.slow
def test_a_server_started_again_on_its_port_goes_on(ring_road, calm):
    with servers(1) as (only,):
        starting = threading.Timer(1.0, only.start)

        def killed():
            only.end()
            starting.start()

        drive = driven(ring_road(5), [only.target], Once("driving", FRAMES // 2, killed))
        starting.join()
    same_drive(drive, calm)


@pytest.mark.slow
def test_a_server_that_drains_mid_drive_is_left_for_the_next(ring_road, calm):
    with servers(2) as (first, second):
        draining = threading.Thread(target=first.end, args=[signal.SIGTERM])
        drive = driven(ring_road(5), [first.target, second.target], Once("driving", FRAMES // 2, draining.start))
        draining.join(PATIENCE_S)
        assert first.process.returncode == 0
    same_drive(drive, calm)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_server_that_never_was_is_skipped_from_the_start(ring_road, calm):
    with servers(1) as (there,):
        drive = driven(ring_road(5), [f"127.0.0.1:{free_port()}", there.target])
    same_drive(drive, calm)


class NotingBackend(NullBackend):
    """Notes the seeds of the chunks it has made."""

    def __init__(self):
        self.made = []

    def generate(self, conditions, options, checkpoint):
        chunk = super().generate(conditions, options, checkpoint)
        self.made.append(options.seed)
        return chunk


def test_the_next_chunk_is_made_before_the_simulator_is_through_with_the_one_before(ring_road):
    backend = NotingBackend()

    class Waiting(ring_road):
        """At the last step of a chunk it waits until the next one is made."""

        def follow(self, plan, generated=None):
            for number, frame in enumerate(super().follow(plan, generated)):
                if number == FRAMES - 1 and generated.seed < SEED + CHUNKS - 1:
                    until(lambda: generated.seed + 1 in backend.made)
                yield frame

    with serving(lambda: backend) as target, DyncityClient(target, PATIENCE_S) as client:
        run_drive(Waiting(5), client, CHUNKS, SEED, Start.PLAN)
    assert backend.made[-CHUNKS:] == [SEED + number for number in range(CHUNKS)]


def until(condition):
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "it never came to that"
        time.sleep(0.01)


def test_a_drive_ends_in_bounded_time_when_all_servers_are_gone_with_what_was_driven(ring_road, calm):
    with servers(2) as both:

        def kill_all():
            for server in both:
                server.end()

        midway = Once("driving", 5, kill_all)
        drive = driven(ring_road(5), [server.target for server in both], midway, limit_s=2.0)
    assert isinstance(drive.failure, UnavailableError)
    assert FRAMES <= len(drive.generated) < CHUNKS * FRAMES
    assert drive.generated.labels.tobytes() == calm.generated.labels[: len(drive.generated)].tobytes()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("dyncity-stream")]
