"""The real client library against the loopback server, each in a process of its own, in one town or in all of them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dyncity_sim.domain.conditions import EgoPlan
from dyncity_sim.domain.generation import Continuation, GeneratedChunk, Timings
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.taxonomy import CARLASC

if find_spec("carla") is None or find_spec("msgpack") is None:
    collect_ignore_glob = ["test_*.py"]

CLIENT_LIMIT_S = 240
NOTHING_HAPPENS_S = 120.0
LONG = ("--minutes", "5", "--lidars", "1", "--lidar-points", "1000", "--seed", "1")
REAL_TOWNS = Path(__file__).parents[4] / "shared" / "maps" / "carla"


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OpenDRIVE file: a grid of streets, 3 x 3 crossings 120 m apart."""
    sumo = pytest.importorskip("sumo", reason="eclipse-sumo (extra sumo) makes the test's town")
    file = tmp_path_factory.mktemp("town") / "grid.xodr"
    command = [str(Path(sumo.SUMO_HOME) / "bin" / "netgenerate"), "--grid", "--grid.number", "3"]
    command += ["--grid.length", "120", "--default.lanenumber", "1", "--no-turnarounds", "true"]
    subprocess.run([*command, "--opendrive-output", str(file)], check=True, capture_output=True)
    return file


@pytest.fixture
def state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where runs of this test keep their journals."""
    folder = tmp_path / "state"
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    return folder


@pytest.fixture(params=["generated", "Town01", "Town02", "Town04", "Town06"])
def every_town(request: pytest.FixtureRequest) -> str:
    """A test that uses this is run in a generated town and in each of CARLA's own."""
    return str(request.param)


@pytest.fixture
def map_file(request: pytest.FixtureRequest) -> Path:
    """The OpenDRIVE file of the test's world."""
    name = request.getfixturevalue("every_town") if "every_town" in request.fixturenames else "generated"
    if name == "generated":
        town: Path = request.getfixturevalue("town")
        return town
    file = REAL_TOWNS / f"{name}.xodr"
    if not file.is_file():
        pytest.skip(f"no {file.name} in a folder shared/maps/carla beside the checkout")
    return file


@pytest.fixture
def loopback(map_file: Path, tmp_path: Path, state_folder: Path) -> Iterator[Any]:
    """A loopback server; the test fails when a client breaks the wire's rules."""
    from dyncity_carla.loopback.process import LoopbackProcess

    with LoopbackProcess(map_file, tmp_path / "loopback.log") as server:
        yield server


@pytest.fixture
def chunk_with_car() -> Callable[..., GeneratedChunk]:
    """Draws a car that drives beside the ego of a plan, at a place of its frame."""

    def draw(plan: EgoPlan, centre_ego_m: tuple[float, float] = (10.0, 4.0)) -> GeneratedChunk:
        labels = np.zeros((len(plan), *CARLASC_GRID.shape), dtype=np.uint8)
        labels[..., 0] = CARLASC.index("road")
        x, y, _ = CARLASC_GRID.indices(np.array([*centre_ego_m, 0.0]))
        labels[:, x - 5 : x + 6, y - 2 : y + 3, 1:5] = CARLASC.index("vehicle")
        occupancy = OccupancySequence(labels, plan.poses_world_from_ego, plan.times_us, CARLASC_GRID, CARLASC)
        return GeneratedChunk(occupancy, Continuation("drawn", b""), 0, "drawn", Timings())

    return draw


@pytest.fixture
def drive_options(loopback: Any) -> Callable[..., Any]:
    """Options of a drive against the loopback server, without sensors unless asked for."""
    from dyncity_carla.options import DriveOptions, ServerOptions

    def build(ticks: str = "own", **changes: Any) -> Any:
        server = ServerOptions("127.0.0.1", loopback.port, 60.0, ticks)
        return DriveOptions(**{"server": server, "lidars": 0, "furniture": "none", **changes})

    return build


@pytest.fixture
def dyncity(loopback: Any) -> Callable[..., "subprocess.Popen[str]"]:
    """Starts ``dyncity COMMAND --sim carla`` against the loopback server, as a process."""

    def start(command: str, *arguments: str) -> "subprocess.Popen[str]":
        # Jobs in the background ignore SIGINT and hand that down, and Python then leaves it ignored.
        code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        code += "from dyncity_sim.cli.main import main; sys.exit(main())"
        words = [sys.executable, "-c", code, command, "--sim", "carla"]
        words += ["--carla-host", "127.0.0.1", "--carla-port", str(loopback.port), *arguments]
        return subprocess.Popen(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=dict(os.environ),
        )

    return start


@pytest.fixture
def finished() -> Callable[..., tuple[int, str, str]]:
    """Waits for a process; returns its exit code and what it said."""

    def wait(process: "subprocess.Popen[str]", limit_s: float = CLIENT_LIMIT_S) -> tuple[int, str, str]:
        try:
            said, complained = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            process.kill()
            said, complained = process.communicate()
            pytest.fail(f"still running after {limit_s} s: {said}\n{complained}")
        return process.returncode, said, complained

    return wait


@pytest.fixture(scope="session")
def wait_until() -> Callable[[Callable[[], object]], None]:
    """Waits until something is so."""

    def wait(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + NOTHING_HAPPENS_S
        while not condition():
            assert time.monotonic() < deadline, "nothing came of it"
            time.sleep(0.1)

    return wait


@pytest.fixture
def record(dyncity: Callable[..., Any], tmp_path: Path) -> Callable[..., "subprocess.Popen[str]"]:
    """Starts a recording, a long one unless arguments say otherwise, into a folder of the test."""

    def start(*arguments: str, to: str = "recording") -> "subprocess.Popen[str]":
        process: subprocess.Popen[str] = dyncity("record", *LONG, "--out", str(tmp_path / to), *arguments)
        return process

    return start


@pytest.fixture
def recording(loopback: Any, record: Callable[..., Any], wait_until: Callable[..., None]) -> Iterator[Any]:
    """The same; returns its process once it drives."""
    started = []

    def is_driving() -> bool:
        return loopback.inspector.actors("sensor.") and loopback.inspector.counts().get("apply_batch", 0) > 5

    def start(*arguments: str) -> "subprocess.Popen[str]":
        process: subprocess.Popen[str] = record(*arguments)
        started.append(process)
        wait_until(lambda: process.poll() is not None or is_driving())
        assert process.poll() is None, process.communicate()
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def is_untouched(loopback: Any) -> Callable[[], bool]:
    """Says whether the world is as it was before any run."""

    def look() -> bool:
        settings = loopback.inspector.world()["settings"]
        clock = settings["synchronous_mode"], settings["fixed_delta_seconds"]
        return loopback.inspector.actors() == [] and clock == (False, None)

    return look


@pytest.fixture
def backend_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Path], None]:
    """Makes a module's ``load`` a backend that server processes find by name."""

    def install(name: str, module: Path) -> None:
        folder = tmp_path / "installed"
        info = folder / f"{name}-1.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(
            f"[dyncity_sim.backends]\n{name} = {module.stem}:load\n", encoding="utf-8"
        )
        (folder / module.name).write_text(module.read_text(encoding="utf-8"), encoding="utf-8")
        monkeypatch.setenv("PYTHONPATH", str(folder))

    return install


@pytest.fixture
def lines_of() -> Callable[[Path], Sequence[dict[str, Any]]]:
    """The objects of a file of JSON lines."""
    return lambda file: [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
