"""The resumed stream and replicas: what is lost with a server, and what is not."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from dyncity_sim.cosim.replicas import Replicas
from dyncity_sim.cosim.stream import Patience, ResumedStream
from dyncity_sim.domain.conditions import Command, Conditions, Continuation, SamplingOptions
from dyncity_sim.domain.generation import GeneratedChunk, ModelInfo
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.engine.null import NullBackend
from dyncity_sim.errors import BusyError, InvalidInputError, RemoteError, UnavailableError

Build = Callable[..., Any]

HASTY = Patience(limit_s=10.0, wait_s=1.0, sleep=lambda seconds: None)
SEEDS = range(50, 55)


@cache
def generated(conditions: Conditions, options: SamplingOptions) -> GeneratedChunk:
    """What the null backend makes of a request; the same one is drawn once."""
    return NullBackend().generate(conditions, options, lambda _: None)


def request(seed: int) -> tuple[Conditions, SamplingOptions]:
    return Conditions(command=Command.FORWARD), SamplingOptions(seed=seed)


class FragileGenerator:
    """The null backend; its server dies after each of so many replies and comes back."""

    def __init__(self, replies: list[int], error: Exception, in_send: bool = False) -> None:
        self.replies, self.error, self.in_send = replies, error, in_send
        self.opened: list[FragileStream] = []
        self.stream_class: type[FragileStream] = FragileStream

    def model_info(self) -> ModelInfo:
        return NullBackend.info

    def encode(self, occupancy: OccupancySequence) -> Continuation:
        return NullBackend().encode(occupancy)

    def stream(self) -> "FragileStream":
        self.opened.append(self.stream_class(self))
        return self.opened[-1]


class FragileStream:
    def __init__(self, server: FragileGenerator) -> None:
        self.server, self.closed = server, False
        self.left = server.replies.pop(0) if server.replies else None
        self.sent: list[tuple[Conditions, SamplingOptions]] = []
        self.made: list[GeneratedChunk] = []

    def send(self, conditions: Conditions, options: SamplingOptions) -> None:
        if self.server.in_send and self.left == 0:
            raise self.server.error
        self.sent.append((conditions, options))

    def receive(self) -> GeneratedChunk:
        if self.left == 0:
            raise self.server.error
        self.left = None if self.left is None else self.left - 1
        conditions, options = self.sent[len(self.made)]
        if self.made and conditions.continuation is None:
            conditions = replace(conditions, continuation=self.made[-1].continuation)
        self.made.append(generated(conditions, options))
        return self.made[-1]

    def close(self) -> None:
        self.closed = True


def driven(generator: Any, ahead: int, patience: Patience = HASTY) -> list[GeneratedChunk]:
    """All of SEEDS, each asked for ``ahead`` chunks before it is taken."""
    taken = []
    with ResumedStream(generator, None, patience) as stream:
        for number in range(len(SEEDS) + ahead):
            if number < len(SEEDS):
                stream.ask(*request(SEEDS[number]))
            if number >= ahead:
                taken.append(stream.take())
    return taken


@pytest.mark.parametrize("ahead", [0, 1, 3])
@pytest.mark.parametrize("replies", [[0], [1], [2, 0, 0, 1], [4]])
@pytest.mark.parametrize("in_send", [False, True])
def test_a_drive_over_broken_streams_is_that_over_a_whole_one(ahead: int, replies: list[int], in_send: bool) -> None:
    breaking = FragileGenerator(list(replies), UnavailableError("gone"), in_send)
    chunks = driven(breaking, ahead)
    whole = driven(FragileGenerator([], UnavailableError("never")), ahead)
    assert [chunk.seed for chunk in chunks] == list(SEEDS)
    assert [chunk.continuation for chunk in chunks] == [chunk.continuation for chunk in whole]
    assert [c.occupancy.labels.tobytes() for c in chunks] == [c.occupancy.labels.tobytes() for c in whole]
    assert len(breaking.opened) == len(replies) + 1
    assert all(stream.closed for stream in breaking.opened)


def test_only_what_is_unanswered_is_sent_again_and_only_its_first_says_what_it_continues() -> None:
    breaking = FragileGenerator([2], UnavailableError("gone"))
    chunks = driven(breaking, ahead=2)
    first, second = breaking.opened
    assert [options.seed for _, options in first.sent] == [50, 51, 52, 53, 54]
    assert [options.seed for _, options in second.sent] == [52, 53, 54]
    assert [conditions.continuation for conditions, _ in first.sent] == [None] * 5
    assert [conditions.continuation for conditions, _ in second.sent] == [chunks[1].continuation, None, None]


def test_chunks_that_arrived_before_a_stream_broke_are_not_generated_again() -> None:
    class Arrived(FragileStream):
        """Breaks when the fourth request is sent; the chunks of those before have arrived by then."""

        def send(self, conditions: Conditions, options: SamplingOptions) -> None:
            if len(self.sent) == 3 and self.left is not None:
                raise self.server.error
            super().send(conditions, options)

    generator = FragileGenerator([3], UnavailableError("gone"))
    generator.stream_class = Arrived
    driven(generator, ahead=2)
    assert [[options.seed for _, options in stream.sent] for stream in generator.opened] == [[50, 51, 52], [53, 54]]


def test_a_stream_goes_on_from_what_was_encoded() -> None:
    start = driven(FragileGenerator([], UnavailableError("never")), ahead=0)[-1].continuation
    generator = FragileGenerator([0], UnavailableError("gone"))
    with ResumedStream(generator, start, HASTY) as stream:
        stream.ask(*request(1))
        stream.take()
    assert [opened.sent[0][0].continuation for opened in generator.opened] == [start, start]


def test_a_busy_server_is_asked_again_when_it_says() -> None:
    slept: list[float] = []
    patience = Patience(limit_s=10.0, sleep=slept.append)
    driven(FragileGenerator([1, 0], BusyError("full.", retry_after_s=2.5)), 1, patience)
    assert slept == [2.5, 2.5]


def test_the_first_failure_of_a_call_is_told_and_no_other() -> None:
    told: list[Exception] = []
    failures: list[Exception] = [UnavailableError("gone"), BusyError("full.", 0.1), UnavailableError("gone")]
    first = failures[0]

    def request() -> str:
        if failures:
            raise failures.pop(0)
        return "reply"

    assert replace(HASTY, tell=told.append).call(request) == "reply"
    assert told == [first]


def test_a_failure_that_is_raised_at_once_is_not_told_as_one_that_is_waited_out() -> None:
    def request() -> None:
        raise UnavailableError("gone")

    with pytest.raises(UnavailableError, match="gone"):
        Patience(limit_s=0.0, tell=lambda error: pytest.fail("told")).call(request)


def test_what_a_server_refuses_is_not_asked_again() -> None:
    refusing = FragileGenerator([1], RemoteError("incident 7"))
    with pytest.raises(RemoteError, match="incident 7"):
        driven(refusing, ahead=1)
    assert [stream.closed for stream in refusing.opened] == [True]


class Server:
    """One of several servers; answers while it is up."""

    def __init__(self, build: Build, model_id: str = "null-2") -> None:
        self.generator, self.up, self.asked = build(), True, 0
        self.generator.backend.info = replace(self.generator.backend.info, model_id=model_id)

    def model_info(self) -> ModelInfo:
        self.asked += 1
        if not self.up:
            raise UnavailableError("away")
        return self.generator.model_info()

    def encode(self, occupancy: OccupancySequence) -> Continuation:
        return self.generator.encode(occupancy)

    def stream(self) -> Any:
        return self.generator.stream()


def replicas(*servers: Server) -> Replicas:
    return Replicas([(f"host-{number}", server) for number, server in enumerate(servers)])


def test_the_next_server_is_asked_where_one_is_away_and_stays_in_use(in_process_generator: Build) -> None:
    first, second = Server(in_process_generator), Server(in_process_generator)
    several = replicas(first, second)
    assert several.model_info() == NullBackend.info
    first.up = False
    with pytest.raises(UnavailableError):
        several.stream()
    first.up = True
    several.stream()
    several.model_info()
    assert (first.asked, second.asked) == (2, 2)


def test_the_first_server_is_asked_again_after_the_last(in_process_generator: Build) -> None:
    first, second = Server(in_process_generator), Server(in_process_generator)
    first.up = second.up = False
    several = replicas(first, second)
    for _ in range(4):
        with pytest.raises(UnavailableError):
            several.model_info()
    assert (first.asked, second.asked) == (2, 2)
    first.up = True
    assert HASTY.call(several.model_info) == NullBackend.info


def test_a_drive_goes_on_at_the_next_server_where_one_is_busy(in_process_generator: Build) -> None:
    first, second = Server(in_process_generator), Server(in_process_generator)
    first.generator.failures = [BusyError("full.", 0.1)] * 100
    chunks = driven(replicas(first, second), ahead=1)
    assert [chunk.seed for chunk in chunks] == list(SEEDS)
    assert len(first.generator.failures) == 99


def test_where_the_next_server_is_away_the_busy_one_is_asked_again(in_process_generator: Build) -> None:
    first, second = Server(in_process_generator), Server(in_process_generator)
    first.generator.failures = [BusyError("full.", 0.1)] * 3
    second.up = False
    assert [chunk.seed for chunk in driven(replicas(first, second), ahead=1)] == list(SEEDS)


def test_a_server_of_another_model_is_named_and_refused(in_process_generator: Build) -> None:
    first, second = Server(in_process_generator), Server(in_process_generator, "other-1")
    several = replicas(first, second)
    several.model_info()
    first.up = False
    with pytest.raises(InvalidInputError, match=r"host-1: got model other-1, expected model null-2"):
        HASTY.call(several.stream)


def test_a_server_that_came_back_with_other_weights_is_refused(in_process_generator: Build) -> None:
    only = Server(in_process_generator)
    several = replicas(only)
    several.stream()
    only.generator.backend.info = replace(only.generator.backend.info, model_id="other-1")
    with pytest.raises(InvalidInputError, match="other-1"):
        several.stream()


def test_no_servers_at_all_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="servers"):
        Replicas([])
