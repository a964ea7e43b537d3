"""Strictness, by a client of our own that does not keep to the wire; and how the server ends."""

import re
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest
from dyncity_carla.loopback.process import LoopbackProcess

from dyncity_sim.errors import SimulatorError, UnavailableError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def call(port: int, *messages: object) -> list[Any]:
    """Replies to raw messages, one for each."""
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(b"".join(msgpack.packb(message) for message in messages))
        unpacker = msgpack.Unpacker()
        replies: list[Any] = []
        while len(replies) < len(messages) and (data := connection.recv(65536)):
            unpacker.feed(data)
            replies.extend(unpacker)
    return replies


@pytest.mark.parametrize(
    ("method", "arguments", "wrong"),
    [
        ("tick_cue", [], "an array that begins with Metadata"),
        ("tick_cue", [[False], 1], "got 1 arguments, expected 0"),
        ("destroy_actor", [[False], "seven"], r"args\[0\]: got 'seven'"),
        ("set_actor_transform", [[True], 30, [[0, 0], [0, 0, 0]]], "args\\[1\\].location: got"),
        ("fly_to_the_moon", [[False]], "no such method"),
    ],
)
def test_a_malformed_call_is_answered_with_an_error_and_logged(
    fresh: LoopbackProcess, method: str, arguments: list[object], wrong: str
):
    ((kind, number, error, result),) = call(fresh.port, [0, 9, method, arguments])
    assert (kind, number, result) == (1, 9, None)
    (violation,) = fresh.inspector.take_violations()
    assert error in violation
    assert re.search(wrong, violation)
    assert fresh.inspector.calls(method)[-1]["args"] == arguments


def test_what_is_not_a_request_ends_the_connection(fresh: LoopbackProcess):
    assert call(fresh.port, {"not": "a request"}) == []
    assert "not MessagePack-RPC" in fresh.inspector.take_violations()[0]


def test_violations_fail_the_test_that_runs_the_server(tmp_path: Path, serve: Callable[..., LoopbackProcess]):
    server = serve("--scenery", "0")
    with pytest.raises(SimulatorError, match="no such method"), server:
        call(server.port, [0, 1, "fly_to_the_moon", [[False]]])
    assert server.exit_status == 1
    assert "violation: fly_to_the_moon" in (tmp_path / "server.log").read_text(encoding="utf-8")


def test_the_server_ends_with_the_test_that_started_it_when_that_is_killed(tmp_path: Path, ring_road: Path):
    starter = (
        "import sys, time; from pathlib import Path; from dyncity_carla.loopback.process import LoopbackProcess\n"
        "with LoopbackProcess(Path(sys.argv[1]), Path(sys.argv[2])) as server:\n"
        "    print(server.port, flush=True); time.sleep(600)\n"
    )
    command = [sys.executable, "-c", starter, str(ring_road), str(tmp_path / "server.log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as test:
        assert test.stdout is not None
        port = int(test.stdout.readline())
        test.kill()
    until, there = time.monotonic() + 60, True
    while there and time.monotonic() < until:
        time.sleep(0.2)
        with socket.socket() as connection:
            there = connection.connect_ex(("127.0.0.1", port)) == 0
    assert not there


def test_without_strictness_violations_are_only_logged(serve: Callable[..., LoopbackProcess]):
    with serve("--no-strict") as server:
        call(server.port, [0, 1, "fly_to_the_moon", [[False]]])
        assert len(server.inspector.take_violations()) == 1
    assert server.exit_status == 0


def until_subscribers(server: LoopbackProcess, expected: dict[str, int]) -> None:
    until = time.monotonic() + 30
    while server.inspector.world()["subscribers"] != expected and time.monotonic() < until:
        time.sleep(0.05)
    assert server.inspector.world()["subscribers"] == expected


def test_a_stream_ends_with_its_subscriber(fresh: LoopbackProcess):
    ((_, _, _, ((_, token),)),) = call(fresh.port, [0, 1, "get_sensor_token", [[False], 1]])
    stream_id, port = struct.unpack_from("<IH", token[0])
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(struct.pack("<I", stream_id))
        until_subscribers(fresh, {"1": 1})
        call(fresh.port, [0, 2, "tick_cue", [[False]]])
        (size,) = struct.unpack("<I", connection.recv(4, socket.MSG_WAITALL))
        assert len(connection.recv(size, socket.MSG_WAITALL)) == size == 48 + 36 + 119
    until_subscribers(fresh, {})


def test_a_tick_does_not_wait_for_ever_for_a_subscription(fresh: LoopbackProcess):
    asked = [0, 1, "get_episode_info", [[False]]], [0, 2, "tick_cue", [[False]]]
    before = fresh.inspector.world()["frame"]
    assert call(fresh.port, *asked)[1][3][0][1] == before + 1


@pytest.mark.parametrize("content", ["", "<OpenDRIVE></OpenDRIVE>"])
def test_a_map_without_lanes_ends_the_start_with_a_message(content: str, tmp_path: Path):
    (tmp_path / "empty.xodr").write_text(content, encoding="utf-8")
    with (
        pytest.raises(UnavailableError, match="expected an OpenDRIVE document"),
        LoopbackProcess(tmp_path / "empty.xodr", tmp_path / "server.log"),
    ):
        pass
