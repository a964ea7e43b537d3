"""Worlds on the ring road: two straights of 240 m joined by half circles, one lane and a sidewalk on either side."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from dyncity_carla.loopback.actors import Actor
    from dyncity_carla.loopback.world import World

RING_ROAD = Path(__file__).parents[2] / "data" / "ring_road.xodr"


@pytest.fixture(scope="session")
def build_world() -> Callable[..., "World"]:
    """A function that builds a world on the ring road; it is empty unless asked otherwise."""
    pytest.importorskip("carla")
    from dyncity_carla.loopback.roads import Roads
    from dyncity_carla.loopback.world import World, WorldOptions

    def build(seed: int = 0, traffic: int = 0, scenery: float = 0.0) -> World:
        return World(Roads("ring_road", RING_ROAD.read_text(encoding="utf-8")), WorldOptions(seed, traffic, scenery))

    return build


@pytest.fixture(scope="session")
def spawn() -> Callable[..., "Actor"]:
    """A function that spawns a blueprint with all its default attributes."""
    import numpy as np

    def do(world: "World", blueprint_id: str, place: list[float], parent: int = 0, **attributes: str) -> "Actor":
        blueprint = world.library.find(blueprint_id)
        assert blueprint is not None
        sent = [[a.id, int(a.kind), attributes.get(a.id, a.value)] for a in blueprint.attributes]
        return world.spawn([blueprint.uid, blueprint.id, sent], np.array(place, dtype=float), parent)

    return do
