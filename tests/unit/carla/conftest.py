"""Road networks for the CARLA plugin's tests: a generated town always, CARLA's own where they are."""

import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

REAL_TOWNS = Path(__file__).parents[4] / "shared" / "maps" / "carla"
"""CARLA's towns are not part of the project; they are read where a folder beside the checkout holds them."""

if find_spec("carla") is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def generated_town(tmp_path_factory) -> str:
    """The OpenDRIVE document of a grid of streets, 3 x 3 crossings 100 m apart."""
    sumo = pytest.importorskip("sumo", reason="eclipse-sumo (extra sumo) makes the test's town")
    file = tmp_path_factory.mktemp("town") / "grid.xodr"
    command = [str(Path(sumo.SUMO_HOME) / "bin" / "netgenerate"), "--grid", "--grid.number", "3"]
    command += ["--grid.length", "100", "--default.lanenumber", "1", "--no-turnarounds", "true"]
    subprocess.run([*command, "--opendrive-output", str(file)], check=True, capture_output=True)
    return file.read_text(encoding="utf-8")


@pytest.fixture(params=["Town01", "Town02", "Town04", "Town06"])
def real_town(request) -> str:
    """The OpenDRIVE document of one of CARLA's towns."""
    file = REAL_TOWNS / f"{request.param}.xodr"
    if not file.is_file():
        pytest.skip(f"no {request.param}.xodr in a folder shared/maps/carla beside the checkout")
    return file.read_text(encoding="utf-8")
