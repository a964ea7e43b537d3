"""The loopback server, and the real client library, which runs in processes of its own as it must."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from dyncity_carla.loopback.process import LoopbackProcess

if find_spec("carla") is None or find_spec("msgpack") is None:
    collect_ignore_glob = ["test_*.py"]

CLIENT = Path(__file__).with_name("carla_client.py")
CLIENT_LIMIT_S = 240.0


@pytest.fixture(scope="session")
def as_client() -> Callable[..., dict[str, Any]]:
    """Runs a scenario of ``carla_client.py`` against the server at a port; gives what the client saw."""

    def run(scenario: str, port: int, *more: str) -> dict[str, Any]:
        command = [sys.executable, str(CLIENT), scenario, str(port), *more]
        done = subprocess.run(command, capture_output=True, text=True, timeout=CLIENT_LIMIT_S, check=False)
        assert done.returncode == 0, f"{scenario}: status {done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.fixture(scope="session")
def ring_road() -> Path:
    return Path(__file__).parents[2] / "data" / "ring_road.xodr"


@pytest.fixture(scope="module")
def loopback(ring_road: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackProcess]:
    """A server that the tests of a module share, and leave as it was."""
    with LoopbackProcess(ring_road, tmp_path_factory.mktemp("loopback") / "server.log", ["--seed", "1"]) as server:
        yield server


@pytest.fixture
def serve(ring_road: Path, tmp_path: Path) -> Callable[..., LoopbackProcess]:
    """A server of this test's own, with options, to be started as a context manager."""
    return lambda *options: LoopbackProcess(ring_road, tmp_path / "server.log", options)


@pytest.fixture
def fresh(serve: Callable[..., LoopbackProcess]) -> Iterator[LoopbackProcess]:
    """The same, for faults; nothing moves until a client ticks."""
    with serve("--scenery", "0", "--sync") as server:
        yield server


@pytest.fixture(autouse=True)
def _nothing_was_malformed(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every test that shares the server: no violation, no actor left behind, settings as they were."""
    yield
    if "loopback" not in request.fixturenames:
        return
    inspector = request.getfixturevalue("loopback").inspector
    assert inspector.take_violations() == []
    assert inspector.actors() == []
    assert inspector.world()["settings"]["synchronous_mode"] is False
