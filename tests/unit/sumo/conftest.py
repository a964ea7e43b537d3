"""A small town that several tests drive through."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def small_net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from dyncity_sumo.network import run_tool

    file = tmp_path_factory.mktemp("net") / "small.net.xml"
    options = ["--grid", "--grid.number=3", "--grid.length=90", "--default-junction-type=traffic_light"]
    shape = ["--default.sidewalk-width=3", "--junctions.limit-turn-speed=2.5", "--default.speed=13.8"]
    run_tool(
        "netgenerate",
        [*options, *shape, "--sidewalks.guess", "--crossings.guess", "--walkingareas", "-o", str(file)],
        "small",
    )
    return file
