"""What wakes a traffic manager that sleeps through a tick, and what does not."""

import socket
import threading
import time

import msgpack
import pytest
from dyncity_carla.traffic_process import Waker, wake

ASLEEP_S, LOOK_S = 0.1, 0.01


class Manager:
    """A server whose tick is done and a manager that sleeps through it until it is woken."""

    def __init__(self):
        self.frame, self.told = 7, []
        self.is_awake = threading.Event()

    def waker(self):
        return Waker(lambda: self.frame, self.is_awake.set, self.told.append, ASLEEP_S, LOOK_S)


@pytest.fixture
def manager():
    return Manager()


def test_a_manager_that_sleeps_through_a_tick_is_woken_and_told_of_once(manager):
    with manager.waker().ticking():
        manager.frame = 8
        assert manager.is_awake.wait(10.0)
        manager.is_awake.clear()
        assert manager.is_awake.wait(10.0), "it is woken again when once was not enough"
    assert manager.told == [8]


def test_a_tick_that_the_server_has_not_done_yet_wakes_nobody(manager):
    with manager.waker().ticking():
        assert not manager.is_awake.wait(5 * ASLEEP_S)


def test_ticks_that_are_done_in_time_wake_nobody(manager):
    waker = manager.waker()
    for _ in range(10):
        with waker.ticking():
            manager.frame += 1
            time.sleep(0.3 * ASLEEP_S)
    assert not manager.is_awake.wait(3 * ASLEEP_S)
    assert manager.told == []


def test_a_manager_is_woken_by_switching_its_mode_to_and_fro():
    asked = []

    def answer(server):
        connection, _ = server.accept()
        with connection:
            unpacker = msgpack.Unpacker()
            while data := connection.recv(4096):
                unpacker.feed(data)
                for _, number, method, arguments in unpacker:
                    asked.append((method, arguments))
                    connection.sendall(msgpack.packb([1, number, None, None]))

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer, args=(server,))
        thread.start()
        wake(server.getsockname()[1])
        thread.join()
    assert asked == [("set_synchronous_mode", [False]), ("set_synchronous_mode", [True])]


def test_a_manager_that_is_gone_is_not_woken():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    wake(port)
