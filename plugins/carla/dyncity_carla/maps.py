"""Which world to drive in: the one that is loaded, another town of the server, or an OpenDRIVE file."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from dyncity_carla.frames import CarlaTransform, carla_from_pose
from dyncity_carla.journal import at_work, journal_folder
from dyncity_carla.ports import RoadMap
from dyncity_carla.roads import roads_of_document
from dyncity_carla.session import TickOwner
from dyncity_carla.world import CarlaWorld
from dyncity_sim.errors import MapError, SimulatorError

LOADING_S = 120.0
"""Unreal takes this long to load a town or to build one of an OpenDRIVE file."""

POLL_S = 0.25

SPAWN_LIFT_M = 0.3
"""Vehicles are made this high above a lane."""

GENERATION: dict[str, float | bool] = {
    "vertex_distance": 2.0,
    "max_road_length": 50.0,
    "wall_height": 0.0,
    "additional_width": 0.6,
    "smooth_junctions": True,
    "enable_mesh_visibility": True,
}
"""How a world is made of an OpenDRIVE file; without walls, which would hide what stands by the road."""


def open_map(world: CarlaWorld, spec: str, ticks: TickOwner) -> RoadMap:
    """The roads to drive on.

    Args:
        world: connected; a town or file that is asked for replaces what it has, with all actors but not its settings.
        spec: empty for the world that is loaded, a name of one of the server's towns, or an ``.xodr`` file.
        ticks: who ticks a world that is synchronous.

    Raises:
        MapError: the file is missing or has no lane to drive on.
        SimulatorError: the server has no such town, does not load it in time, or another run is at work in its world.
    """
    if not spec:
        return world.roads()
    if not spec.endswith(".xodr"):
        check_unused(world)
        with world.patience(LOADING_S):
            world.load_town(spec)
            return wait_for_roads(world, ticks)
    file = Path(spec)
    try:
        opendrive = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MapError("--map", f"{spec} ({error})", "an OpenDRIVE file") from error
    return load_document(world, file.stem, opendrive, ticks)


def load_document(world: CarlaWorld, name: str, opendrive: str, ticks: TickOwner) -> RoadMap:
    """Replace the server's world by one made of an OpenDRIVE document; its settings stay.

    The document is checked before the server sees it: a bad one can take a server down.

    Raises:
        MapError: it cannot be read or has no lane to drive on.
        SimulatorError: the server does not load it in time, or another run is at work in its world.
    """
    roads_of_document(name, opendrive)
    check_unused(world)
    with world.patience(LOADING_S):
        world.load_opendrive(opendrive, GENERATION)
        return wait_for_roads(world, ticks)


def spawn_places(world: CarlaWorld, roads: RoadMap, spacing_m: float) -> list[CarlaTransform]:
    """Where vehicles can be made: the map's spawn points, or places on the lanes of one without any."""
    points = list(world.spawn_points())
    if points:
        return points
    poses = [waypoint.pose_world_from_lane for waypoint in roads.waypoints(spacing_m) if not waypoint.is_junction]
    return [replace(point, z_m=point.z_m + SPAWN_LIFT_M) for point in map(carla_from_pose, poses)]


def check_unused(world: CarlaWorld) -> None:
    """Raise SimulatorError while another run of this machine is at work in a world that is to be replaced."""
    others = at_work(journal_folder(world.address))
    if others:
        raise SimulatorError(
            f"Process {others[0].run.pid} of this machine is at work in the world of {world.address}, and loading "
            "another one would take everything from it: wait until it is done, or use another server."
        )


def wait_for_roads(
    world: CarlaWorld,
    ticks: TickOwner,
    limit_s: float = LOADING_S,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> RoadMap:
    """The roads of a world that was just asked for: servers answer before they are there.

    Raises:
        MapError: there are none in time.
    """
    deadline = clock() + limit_s
    while True:
        try:
            return world.roads()
        except MapError:
            if clock() > deadline:
                raise
        # The client library hears of another map with a tick, and nobody else makes one where they are ours to make.
        if ticks == "own" and world.settings()["synchronous_mode"]:
            world.tick()
        sleep(POLL_S)
