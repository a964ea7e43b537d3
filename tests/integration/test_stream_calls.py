"""Streams over real sockets to a server in this process: order, equality, being held back, and every way to end."""

import dataclasses
import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import grpc
import numpy as np
import pytest
from dyncity.v1 import generator_pb2, generator_pb2_grpc, occupancy_pb2
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from dyncity_sim.client import DyncityClient
from dyncity_sim.domain.conditions import Conditions, Continuation, EgoPlan, SamplingOptions
from dyncity_sim.domain.frames import poses_from_planar
from dyncity_sim.engine.null import NullBackend
from dyncity_sim.errors import BusyError, DeadlineError, InvalidInputError, RemoteError, UnavailableError
from dyncity_sim.server.background import serving
from dyncity_sim.server.servicer import SERVICE_NAME
from dyncity_sim.wire import codec
from dyncity_sim.wire.limits import CHANNEL_OPTIONS
from dyncity_sim.wire.voxels import VoxelEncoding

LONG_S = 60.0
SETTLED_S = 1.0
"""Nothing has happened for this long: whoever could go on would have."""


class TicketBackend(NullBackend):
    """The null backend, but each chunk needs a ticket; notes the seeds it began, made and dropped."""

    def __init__(self) -> None:
        self.tickets = threading.Semaphore(0)
        self.began: list[int] = []
        self.made: list[int] = []
        self.dropped: list[int] = []

    def warm_up(self) -> None:
        pass

    def generate(self, conditions, options, checkpoint):
        self.began.append(options.seed)
        try:
            while not self.tickets.acquire(timeout=0.005):
                checkpoint(0)
        except BaseException:
            self.dropped.append(options.seed)
            raise
        self.made.append(options.seed)
        return super().generate(conditions, options, checkpoint)


@contextmanager
def ticketed(tickets=0, max_queue=4, grace_s=5.0):
    backend = TicketBackend()
    for _ in range(tickets):
        backend.tickets.release()
    with serving(lambda: backend, max_queue=max_queue, grace_s=grace_s) as target, DyncityClient(target, LONG_S) as one:
        yield backend, one


@pytest.fixture(scope="module")
def null_target() -> Iterator[str]:
    with serving(NullBackend) as target:
        yield target


@pytest.fixture
def client(null_target) -> Iterator[DyncityClient]:
    with DyncityClient(null_target, LONG_S) as client:
        yield client


def plan(chunk):
    """Chunk after chunk straight on."""
    frames = np.arange(16 * chunk, 16 * (chunk + 1))
    planar = np.zeros((16, 3))
    planar[:, 0] = 0.5 * frames
    return EgoPlan(poses_from_planar(planar), frames * 100_000)


def asked(chunk, continuation=None, seed=100):
    return Conditions(plan(chunk), plan(chunk).command, continuation), SamplingOptions(seed=seed + chunk)


def unary_drive(client, chunks, continuation=None):
    made = []
    for number in range(chunks):
        made.append(client.generate(*asked(number, continuation)))
        continuation = made[-1].continuation
    return made


def same_chunk(first, second):
    assert first.occupancy.labels.tobytes() == second.occupancy.labels.tobytes()
    assert first.occupancy.poses_world_from_ego.tobytes() == second.occupancy.poses_world_from_ego.tobytes()
    assert np.array_equal(first.occupancy.times_us, second.occupancy.times_us)
    assert (first.continuation, first.seed, first.model_id) == (second.continuation, second.seed, second.model_id)


def until(condition):
    deadline_s = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < deadline_s, "it never came to that"
        time.sleep(0.01)


def settled(count):
    """What ``count`` says once it has not changed for a while."""
    since_s, last = time.monotonic(), count()
    while time.monotonic() - since_s < SETTLED_S:
        if (now := count()) != last:
            since_s, last = time.monotonic(), now
        time.sleep(0.02)
    return last


def comes_to(count, expected):
    """Whether ``count`` gets there and goes no further."""
    until(lambda: count() >= expected)
    return settled(count) == expected


def test_a_stream_gives_what_the_same_calls_give_one_by_one(client):
    with client.stream() as stream:
        assert [stream.send(*asked(number)) for number in range(4)] == [0, 1, 2, 3]
        chunks = [stream.receive() for _ in range(4)]
    for streamed, called in zip(chunks, unary_drive(client, 4), strict=True):
        same_chunk(streamed, called)


def test_a_stream_goes_on_from_a_continuation_and_can_be_set_back_to_one(client):
    first, second, third = unary_drive(client, 3)
    with client.stream() as stream:
        stream.send(*asked(1, first.continuation))
        stream.send(*asked(2))
        stream.send(*asked(1, first.continuation))
        for expected in (second, third, second):
            same_chunk(stream.receive(), expected)


def test_weights_that_cannot_continue_give_chunk_after_chunk_from_its_plan_alone():
    class PlanOnly(NullBackend):
        info = dataclasses.replace(NullBackend.info, conditions=("plan", "command"))

    with serving(PlanOnly) as target, DyncityClient(target) as client, client.stream() as stream:
        for number in range(3):
            stream.send(*asked(number))
        for number in range(3):
            same_chunk(stream.receive(), client.generate(*asked(number)))


def test_all_chunks_of_a_finished_stream_come_and_then_it_ends(client):
    with client.stream() as stream:
        for number in range(3):
            stream.send(*asked(number))
        stream.finish()
        assert [chunk.seed for chunk in stream] == [100, 101, 102]
        with pytest.raises(InvalidInputError, match="after its end"):
            stream.send(*asked(3))


def test_a_seed_that_is_left_open_comes_back_with_its_chunk(client):
    with client.stream() as stream:
        stream.send(Conditions(plan(0)))
        drawn = stream.receive()
    same_chunk(drawn, client.generate(Conditions(plan(0)), SamplingOptions(seed=drawn.seed)))


def test_the_next_chunk_is_sampled_before_the_one_before_is_taken():
    with ticketed(tickets=2) as (backend, client), client.stream() as stream:
        for number in range(3):
            stream.send(*asked(number))
        until(lambda: backend.made == [100, 101])
        assert stream.unanswered == 3


def test_a_sender_waits_while_as_many_as_it_may_are_unanswered():
    with ticketed() as (backend, client), client.stream(ahead=3) as stream, ThreadPoolExecutor(1) as pool:
        sent = []
        sending = pool.submit(lambda: [sent.append(stream.send(*asked(number))) for number in range(6)])
        assert comes_to(lambda: len(sent), 3)
        backend.tickets.release(2)
        assert [stream.receive().seed for _ in range(2)] == [100, 101]
        assert comes_to(lambda: len(sent), 5)
        backend.tickets.release(4)
        assert [stream.receive().seed for _ in range(4)] == [102, 103, 104, 105]
        sending.result(LONG_S)


def test_a_sender_without_a_receiver_is_told_to_receive():
    with ticketed() as (_, client), DyncityClient(client.target, timeout_s=0.2) as hasty, hasty.stream(2) as stream:
        stream.send(*asked(0))
        stream.send(*asked(1))
        with pytest.raises(DeadlineError, match=r"2 requests .* receive a chunk in between"):
            stream.send(*asked(2))
        assert stream.unanswered == 2


def test_a_chunk_that_does_not_come_in_time_is_named_and_may_still_come():
    with (
        ticketed() as (backend, client),
        DyncityClient(client.target, timeout_s=0.3) as hasty,
        hasty.stream() as stream,
    ):
        stream.send(*asked(0))
        with pytest.raises(DeadlineError, match="1 unanswered"):
            stream.receive()
        backend.tickets.release()
        until(lambda: backend.made == [100])

        def arrived():
            with suppress(DeadlineError):
                return stream.receive().seed == 100

        until(arrived)
        assert stream.unanswered == 0


def raw_requests(count):
    for number in range(count):
        conditions, options = asked(number)
        yield generator_pb2.StreamChunksRequest(
            conditions=codec.conditions_to_proto(conditions),
            options=codec.options_to_proto(options),
            encoding=occupancy_pb2.VOXEL_ENCODING_RAW,
        )


def test_a_caller_that_takes_no_replies_holds_the_server_back_until_it_does():
    sent_ahead = 32
    with ticketed(tickets=sent_ahead, max_queue=0) as (backend, client):
        with grpc.insecure_channel(client.target, options=CHANNEL_OPTIONS) as channel:
            call = generator_pb2_grpc.OccupancyGeneratorStub(channel).StreamChunks(raw_requests(sent_ahead))
            until(lambda: backend.made)
            held_at = settled(lambda: len(backend.made))
            assert 1 <= held_at < sent_ahead / 2
            replies = [next(call) for _ in range(sent_ahead)]
        assert [reply.index for reply in replies] == list(range(sent_ahead))
        assert backend.made == [100 + number for number in range(sent_ahead)]


def test_a_second_stream_is_not_kept_waiting_by_a_first_with_much_to_do():
    with ticketed() as (backend, client), client.stream(ahead=30) as first, client.stream() as second:
        for number in range(30):
            first.send(*asked(number, seed=100))
        for number in range(3):
            second.send(*asked(number, seed=200))
        while 200 not in backend.began:
            assert len(backend.made) < 20
            backend.tickets.release()
            time.sleep(0.2)
        backend.tickets.release(30)
        assert [second.receive().seed for _ in range(3)] == [200, 201, 202]
        assert len(backend.made) < 30


BAD_REQUESTS = {
    "a foreign continuation": (Conditions(plan(1), continuation=Continuation("m-2", b"")), None),
    "a damaged continuation": (Conditions(plan(1), continuation=Continuation(NullBackend.info.model_id, b"x")), None),
    "a plan at another rate": (Conditions(EgoPlan(plan(1).poses_world_from_ego, np.arange(16) * 500_000)), None),
    "an unknown sampler": (Conditions(plan(1)), SamplingOptions(sampler="magic")),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_an_invalid_request_ends_the_stream_as_it_ends_a_call_and_keeps_the_chunks_before(client, case):
    conditions, options = BAD_REQUESTS[case]
    with pytest.raises(InvalidInputError) as called:
        client.generate(conditions, options)
    with client.stream() as stream:
        stream.send(*asked(0))
        first = stream.receive()
        stream.send(*asked(1))
        stream.send(conditions, options)
        assert stream.receive().seed == 101
        for _ in range(2):
            with pytest.raises(InvalidInputError) as streamed:
                stream.receive()
            assert (streamed.value.field, str(streamed.value)) == (called.value.field, str(called.value))
        with pytest.raises(InvalidInputError, match="expected"):
            stream.send(*asked(3))
    same_chunk(client.generate(*asked(0)), first)


def raw_refusal(target, messages):
    with grpc.insecure_channel(target) as channel:
        call = channel.stream_stream("/dyncity.v1.OccupancyGenerator/StreamChunks")(iter(messages))
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
    request = error_details_pb2.BadRequest()
    assert any(detail.Unpack(request) for detail in rpc_status.from_call(caught.value).details)
    return caught.value.code(), request.field_violations[0].field


def test_any_client_gets_field_violations_of_a_stream(null_target):
    request = generator_pb2.StreamChunksRequest()
    request.conditions.command = 9
    refused = raw_refusal(null_target, [request.SerializeToString()])
    assert refused == (grpc.StatusCode.INVALID_ARGUMENT, "conditions.command")


def test_bytes_that_are_no_request_end_a_stream(null_target):
    assert raw_refusal(null_target, [b"\xff\xff\xff\x01junk"]) == (grpc.StatusCode.INVALID_ARGUMENT, "request")


def test_a_failure_of_the_server_in_a_stream_is_an_incident_that_only_its_log_explains(caplog):
    class Broken(NullBackend):
        def warm_up(self) -> None:
            pass

        def generate(self, conditions, options, checkpoint):
            raise ZeroDivisionError("secret")

    with serving(Broken) as target, DyncityClient(target, LONG_S) as client, client.stream() as stream:
        stream.send(*asked(0))
        with pytest.raises(RemoteError, match="incident") as told:
            stream.receive()
    assert "secret" not in str(told.value)
    incident = str(told.value).split("incident ")[1].rstrip(".")
    (record,) = [r for r in caplog.records if incident in r.getMessage()]
    assert isinstance(record.exc_info[1], ZeroDivisionError)


def test_a_full_queue_ends_a_stream_with_a_hint():
    with ticketed(max_queue=0) as (backend, client), client.stream() as first, client.stream() as second:
        first.send(*asked(0))
        until(lambda: backend.began == [100])
        second.send(*asked(0))
        with pytest.raises(BusyError) as refused:
            second.receive()
        assert refused.value.retry_after_s > 0
        backend.tickets.release()
        assert first.receive().seed == 100


def test_closing_a_stream_drops_its_work_and_frees_the_engine():
    with ticketed() as (backend, client):
        with client.stream() as stream:
            stream.send(*asked(0))
            stream.send(*asked(1))
            until(lambda: backend.began == [100])
        until(lambda: backend.dropped == [100])
        backend.tickets.release()
        assert client.generate(Conditions(plan(0)), SamplingOptions(seed=7)).seed == 7
        assert backend.began == [100, 7]


def test_a_client_that_is_closed_says_so(null_target):
    client = DyncityClient(null_target)
    client.model_info()
    client.close()
    for call in (client.model_info, client.stream, client.wait_until_serving, lambda: client.generate(Conditions())):
        with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:\d+ is closed"):
            call()


def test_a_caller_whose_connection_goes_drops_its_work():
    with ticketed() as (backend, client):
        channel = grpc.insecure_channel(client.target)
        call = generator_pb2_grpc.OccupancyGeneratorStub(channel).StreamChunks(raw_requests(2))
        until(lambda: backend.began == [100])
        channel.close()
        assert call.code() is grpc.StatusCode.CANCELLED
        until(lambda: backend.dropped == [100])
        assert settled(lambda: len(backend.began)) == 1


def test_a_closed_client_ends_its_streams():
    with ticketed() as (backend, client):
        other = DyncityClient(client.target)
        with other.stream() as stream, ThreadPoolExecutor(1) as pool:
            stream.send(*asked(0))
            receiving = pool.submit(stream.receive)
            until(lambda: backend.began == [100])
            other.close()
            with pytest.raises(UnavailableError):
                receiving.result(LONG_S)


def test_a_closed_stream_ends_a_receiver_and_leaves_no_thread():
    def threads():
        return [thread.name for thread in threading.enumerate() if thread.name not in before]

    with ticketed() as (_, client):
        before = {thread.name for thread in threading.enumerate()}
        with ThreadPoolExecutor(1, thread_name_prefix="receiver") as pool:
            with client.stream() as stream:
                stream.send(*asked(0))
                receiving = pool.submit(stream.receive)
                assert any("dyncity-stream" in name for name in threads())
            with pytest.raises(UnavailableError, match="closed"):
                receiving.result(LONG_S)
            stream.close()
        until(lambda: not threads())


def test_a_draining_server_finishes_the_chunk_in_work_and_ends_idle_streams_at_once():
    backend = TicketBackend()
    with ThreadPoolExecutor(1) as pool:
        serving_it = serving(lambda: backend, grace_s=LONG_S)
        target = serving_it.__enter__()
        with DyncityClient(target, LONG_S) as client, client.stream() as idle, client.stream() as busy:
            backend.tickets.release()
            idle.send(*asked(0, seed=300))
            assert idle.receive().seed == 300
            busy.send(*asked(0))
            busy.send(*asked(1))
            until(lambda: backend.began == [300, 100])
            began_s = time.monotonic()
            draining = pool.submit(serving_it.__exit__, None, None, None)
            with pytest.raises(UnavailableError, match="shutting down"):
                idle.receive()
            backend.tickets.release()
            assert busy.receive().seed == 100
            with pytest.raises(UnavailableError, match="shutting down"):
                busy.receive()
            draining.result(LONG_S)
            assert time.monotonic() - began_s < LONG_S
    assert backend.began == [300, 100]


def test_a_draining_server_ends_the_streams_of_health_and_reflection_at_once():
    serving_it = serving(NullBackend, grace_s=LONG_S)
    with grpc.insecure_channel(serving_it.__enter__()) as channel, ThreadPoolExecutor(1) as pool:
        watched = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=SERVICE_NAME))
        unknown = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="nobody"))
        questions = queue.SimpleQueue()
        questions.put(reflection_pb2.ServerReflectionRequest(list_services=""))
        reflected = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter(questions.get, None))
        assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
        assert next(unknown).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        assert SERVICE_NAME in {service.name for service in next(reflected).list_services_response.service}
        began_s = time.monotonic()
        draining = pool.submit(serving_it.__exit__, None, None, None)
        assert [reply.status for reply in watched] == [health_pb2.HealthCheckResponse.NOT_SERVING]
        assert list(unknown) == list(reflected) == []
        draining.result(LONG_S)
        assert time.monotonic() - began_s < LONG_S
        questions.put(None)


def test_both_encodings_carry_the_same_labels_over_a_stream(client, null_target):
    with DyncityClient(null_target, encoding=VoxelEncoding.RAW) as raw_client, raw_client.stream() as raw:
        raw.send(*asked(0))
        same_chunk(raw.receive(), client.generate(*asked(0)))


def test_nobody_there_shows_at_the_latest_in_the_first_chunk():
    nobody = pytest.raises(
        UnavailableError, match=r"127\.0\.0\.1:1: no server answers there\. Start one with dyncity serve"
    )
    with DyncityClient("127.0.0.1:1", timeout_s=LONG_S) as client, client.stream() as stream, nobody:
        stream.send(*asked(0))
        stream.receive()


def test_an_impossible_number_ahead_is_refused(client):
    with pytest.raises(InvalidInputError, match="ahead"):
        client.stream(ahead=0)
