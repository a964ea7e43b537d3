"""Milliseconds of the loopback server's own work per tick: python benchmarks/carla_loopback.py --map FILE.xodr."""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from dyncity_carla.loopback import batch
from dyncity_carla.loopback.actors import Actor
from dyncity_carla.loopback.roads import Roads
from dyncity_carla.loopback.sensors import SensorSuite
from dyncity_carla.loopback.world import World, WorldOptions
from rich.console import Console
from rich.table import Table

LIDAR = {"channels": "32", "points_per_second": "640000", "range": "50"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--map", type=Path, default=Path(__file__).parents[1] / "tests" / "data" / "ring_road.xodr")
    parser.add_argument("--actors", type=int, nargs="+", default=[100, 500])
    parser.add_argument("--repeats", type=int, default=200)
    arguments = parser.parse_args()

    roads = Roads(arguments.map.stem, arguments.map.read_text(encoding="utf-8"))
    table = Table("actors", "work", "median ms", "p99 ms", title=f"{arguments.map.stem}, {arguments.repeats} repeats")
    for count in arguments.actors:
        world = World(roads, WorldOptions())
        ids = [spawn(world, "vehicle.audi.tt", [8.0 * n, -300.0, 5.0, 0.0, 0.0, 0.0]) for n in range(count)]
        for actor_id in ids:
            batch.set_simulate_physics(world, actor_id, False)
        lidar = world.actors.get(spawn(world, "sensor.lidar.ray_cast_semantic", [80.0, -305.0, 7.0, 0.0, 0.0, 0.0]))
        assert lidar is not None
        suite = SensorSuite()
        commands = [[6, [actor_id, [[8.0 * n, -300.0, 5.0], [0.0, 1.0, 0.0]]]] for n, actor_id in enumerate(ids)]

        def sweep(world: World = world, suite: SensorSuite = suite, lidar: Actor = lidar) -> None:
            world.tick(0.1)
            suite.messages(world, lidar)

        works: dict[str, Callable[[], object]] = {
            "encode the world state": world.state_message,
            "move the world on": lambda world=world: world.tick(0.1),
            "teleport every actor": lambda world=world, commands=commands: [batch.apply(world, c) for c in commands],
        }
        for name, work in works.items():
            table.add_row(str(count), name, *figures(work, arguments.repeats))
        table.add_row(str(count), "64,000 LiDAR rays", *figures(sweep, 10))
    Console().print(table)


def spawn(world: World, blueprint_id: str, place: list[float]) -> int:
    blueprint = world.library.find(blueprint_id)
    assert blueprint is not None
    sent = [[a.id, int(a.kind), LIDAR.get(a.id, a.value)] for a in blueprint.attributes]
    return world.spawn([blueprint.uid, blueprint.id, sent], np.array(place)).id


def figures(work: Callable[[], object], repeats: int) -> tuple[str, str]:
    taken_ms = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        taken_ms.append((time.perf_counter() - began) * 1e3)
    return f"{np.median(taken_ms):.3f}", f"{np.percentile(taken_ms, 99):.3f}"


if __name__ == "__main__":
    main()
