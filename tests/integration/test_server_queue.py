"""Real calls that wait in a server's queue, are too late, or find no server."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest
from dyncity.v1 import generator_pb2, generator_pb2_grpc

from dyncity_sim.client import DyncityClient
from dyncity_sim.domain.conditions import Conditions
from dyncity_sim.engine.null import NullBackend
from dyncity_sim.errors import (
    BusyError,
    CheckpointError,
    DeadlineError,
    UnavailableError,
)
from dyncity_sim.server.background import serving

LONG_S = 20.0


class GatedBackend(NullBackend):
    """The null backend, but each chunk waits at a gate, checking in every few milliseconds."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.began = threading.Semaphore(0)
        self.dropped = threading.Event()
        self.chunks = 0

    def warm_up(self) -> None:
        pass

    def generate(self, conditions, options, checkpoint):
        self.began.release()
        try:
            while not self.gate.wait(0.005):
                checkpoint(0)
        except BaseException:
            self.dropped.set()
            raise
        self.chunks += 1
        return super().generate(conditions, options, checkpoint)


@contextmanager
def gated(max_queue=1):
    backend = GatedBackend()
    with serving(lambda: backend, max_queue=max_queue) as target, DyncityClient(target) as client:
        try:
            yield backend, client
        finally:
            backend.gate.set()


def generate_once_taken(client):
    """Ask again until there is room: a request that is about to time out may hold the only place."""
    while True:
        try:
            return client.generate(Conditions())
        except BusyError:
            time.sleep(0.01)


def test_a_full_queue_refuses_with_a_hint_and_serves_those_it_took():
    with gated(max_queue=1) as (backend, client), ThreadPoolExecutor(2) as threads:
        running = threads.submit(client.generate, Conditions())
        assert backend.began.acquire(timeout=LONG_S)
        waiting = threads.submit(generate_once_taken, client)
        refused = None
        for _ in range(200):
            try:
                DyncityClient(client.target, timeout_s=0.2).generate(Conditions())
            except BusyError as error:
                refused = error
                break
            except DeadlineError:
                time.sleep(0.01)
        assert refused is not None
        assert refused.retry_after_s > 0
        backend.gate.set()
        assert running.result(LONG_S).timings.queue_s < waiting.result(LONG_S).timings.queue_s
    assert backend.chunks == 2


def test_a_deadline_drops_the_work_between_steps():
    with gated() as (backend, client):
        with DyncityClient(client.target, timeout_s=0.3) as hurried, pytest.raises(DeadlineError):
            hurried.generate(Conditions())
        assert backend.dropped.wait(LONG_S)
        backend.gate.set()
        client.generate(Conditions())
    assert backend.chunks == 1


def test_a_caller_that_goes_away_drops_its_work():
    with gated() as (backend, client), grpc.insecure_channel(client.target) as channel:
        call = generator_pb2_grpc.OccupancyGeneratorStub(channel).GenerateChunk.future(
            generator_pb2.GenerateChunkRequest()
        )
        assert backend.began.acquire(timeout=LONG_S)
        call.cancel()
        assert backend.dropped.wait(LONG_S)
    assert backend.chunks == 0


def test_a_caller_that_leaves_the_queue_makes_room():
    with gated(max_queue=1) as (backend, client), ThreadPoolExecutor(2) as threads:
        running = threads.submit(client.generate, Conditions())
        assert backend.began.acquire(timeout=LONG_S)
        for _ in range(3):
            with DyncityClient(client.target, timeout_s=0.2) as hurried, pytest.raises(DeadlineError):
                hurried.generate(Conditions())
        waiting = threads.submit(client.generate, Conditions())
        time.sleep(0.1)
        backend.gate.set()
        assert running.result(LONG_S)
        assert waiting.result(LONG_S)


def test_before_the_model_is_loaded_calls_are_unavailable_and_health_says_so():
    loading, port = threading.Event(), free_port()

    def load():
        assert loading.wait(LONG_S)
        return NullBackend()

    def serve():
        with serving(load, port=port) as target, DyncityClient(target) as client:
            client.wait_until_serving(LONG_S)
            return client.model_info()

    with ThreadPoolExecutor(1) as threads, DyncityClient(f"127.0.0.1:{port}") as client:
        served = threads.submit(serve)
        with pytest.raises(UnavailableError, match="NOT_SERVING"):
            client.wait_until_serving(2.0)
        with pytest.raises(UnavailableError, match="still loading"):
            client.generate(Conditions())
        loading.set()
        assert served.result(LONG_S) == NullBackend.info


def test_a_backend_that_cannot_be_loaded_stops_the_server_with_its_own_error():
    def load():
        raise CheckpointError("weights", "half a file", "a whole one")

    with pytest.raises(CheckpointError, match="half a file"), serving(load):
        pytest.fail("nothing is served")


def test_nobody_there_is_unavailable():
    with DyncityClient(f"127.0.0.1:{free_port()}", timeout_s=5.0) as client:
        with pytest.raises(UnavailableError):
            client.model_info()
        with pytest.raises(UnavailableError):
            client.wait_until_serving(0.3)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
