"""Questions over the bare wire, and what else than a CARLA server may answer them."""

import socket
import struct
import threading
from queue import SimpleQueue

import msgpack
import pytest
from dyncity_carla.connection import connect
from dyncity_carla.wire import ask, manager_on, reach_streams

from dyncity_sim.errors import SimulatorError

LIMIT_S = 10.0
HTTP = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"
GRPC = b"\x00\x00\x12\x04\x00\x00\x00\x00\x00"


@pytest.fixture
def listener():
    """Starts a server that answers each connection's first request with what a function makes of it."""
    listening = []

    def serve(connection, answer):
        with connection:
            if request := connection.recv(4096):
                connection.sendall(answer(request))

    def listen(server, answer):
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection, answer), daemon=True).start()

    def start(answer):
        server = socket.create_server(("127.0.0.1", 0))
        listening.append(server)
        threading.Thread(target=listen, args=(server, answer), daemon=True).start()
        return server.getsockname()

    yield start
    for server in listening:
        # Closing alone does not wake who waits for a connection.
        server.shutdown(socket.SHUT_RDWR)
        server.close()


@pytest.fixture
def carla_that_says(listener):
    """Starts a server that answers CARLA's calls with given values, by method."""

    def start(**values):
        def answer(request):
            _, number, method, arguments = msgpack.unpackb(request)
            assert arguments[0] == [False]
            return msgpack.packb([1, number, None, [[1, values[method]]]])

        return listener(answer)

    return start


@pytest.fixture
def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def token(port, address=()):
    return [struct.pack("<IHBB16s", 1, port, 1, 1 if address else 0, bytes(address))]


def test_a_server_is_asked_in_its_own_words(carla_that_says):
    assert ask(carla_that_says(version="0.9.16"), "version", limit_s=LIMIT_S) == "0.9.16"


@pytest.mark.parametrize("words", [HTTP, GRPC, b"\xc1", msgpack.packb([1, 0, "no such method", None])])
def test_what_is_no_carla_server_is_named_and_does_not_end_the_process(listener, words):
    host, port = listener(lambda request: words)
    with pytest.raises(SimulatorError, match=rf"What answers at 127\.0\.0\.1:{port} is no CARLA server.*--carla-port"):
        connect(host, port, LIMIT_S)


def test_a_port_that_hangs_up_is_a_server_that_is_not_there_yet(listener):
    said = iter([b"", b"", msgpack.packb([1, 0, None, [[1, "0.0.1"]]])])
    host, port = listener(lambda request: next(said))
    with pytest.raises(SimulatorError, match=r"is CARLA 0\.0\.1"):
        connect(host, port, LIMIT_S)


@pytest.mark.parametrize("address", [(), (127, 0, 0, 1)])
def test_streams_are_looked_for_where_the_server_says(carla_that_says, listener, address):
    subscribed = SimpleQueue()
    _, port = listener(lambda request: subscribed.put(request) or b"")
    reach_streams(carla_that_says(get_sensor_token=token(port, address)), LIMIT_S)
    assert subscribed.get(timeout=LIMIT_S) == struct.pack("<I", 1)


def test_streams_that_do_not_come_through_are_told_of_before_anything_is_taken(carla_that_says, closed_port):
    host, port = carla_that_says(version="0.9.16", get_sensor_token=token(closed_port))
    with pytest.raises(SimulatorError, match=rf"streams cannot be reached: 127\.0\.0\.1:{closed_port}.*two ports"):
        connect(host, port, LIMIT_S, allow_version_mismatch=True)


def test_a_manager_that_lives_is_found_and_one_that_was_killed_is_not(carla_that_says, listener, closed_port):
    _, port = listener(lambda request: b"")
    living = carla_that_says(is_traffic_manager_running=True, get_traffic_manager_running=["127.0.0.1", port])
    killed = carla_that_says(is_traffic_manager_running=True, get_traffic_manager_running=["127.0.0.1", closed_port])
    assert manager_on(living, 8000, LIMIT_S) == f"127.0.0.1:{port}"
    assert manager_on(killed, 8000, LIMIT_S) is None
    assert manager_on(carla_that_says(is_traffic_manager_running=False), 8000, LIMIT_S) is None
