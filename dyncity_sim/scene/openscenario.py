"""OpenSCENARIO 1.0 of a scene: every actor follows its track, at its times."""

import datetime
from collections.abc import Iterable
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Int64

from dyncity_sim.domain.frames import Poses, planar_from_poses
from dyncity_sim.domain.grid import FRAME_RATE_HZ, LIDAR_HEIGHT_M
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.scene import Scene, Track
from dyncity_sim.errors import MissingExtraError

EGO_NAME = "hero"
"""CARLA's scenario runner looks for the ego under this name."""

EGO_SIZE_M = (4.7, 1.9, 1.5)
"""Length, width, height of the ego vehicle; occupancy does not show it."""

CREATION_DATE = datetime.datetime(2000, 1, 1)
"""Documents carry a fixed date: the same scene gives the same bytes."""

TIME_AFTER_END_S = 1.0

_CATEGORY = {
    ActorKind.CAR: "car",
    ActorKind.VAN: "van",
    ActorKind.BUS: "bus",
    ActorKind.TRUCK: "truck",
    ActorKind.MOTORCYCLE: "motorbike",
    ActorKind.BICYCLE: "bicycle",
}

_CARLA_MODEL = {
    ActorKind.CAR: "vehicle.tesla.model3",
    ActorKind.VAN: "vehicle.mercedes.sprinter",
    ActorKind.BUS: "vehicle.mitsubishi.fusorosa",
    ActorKind.TRUCK: "vehicle.carlamotors.carlacola",
    ActorKind.MOTORCYCLE: "vehicle.kawasaki.ninja",
    ActorKind.BICYCLE: "vehicle.bh.crossbike",
    ActorKind.PEDESTRIAN: "walker.pedestrian.0001",
}
"""CARLA 0.9.16's blueprint of each kind; other players treat it as a plain name."""


def openscenario_document(scene: Scene, road_file: str = "map.xodr") -> str:
    """An OpenSCENARIO 1.0 document: ego and actors follow timed polylines over the road of ``road_file``.

    An entity's reference point lies on the ground under the middle of its box. Simulation time 0 is
    the drive's first frame; an actor waits where it is first seen until its time comes, since 1.0
    cannot add entities later. Headings are in radians, counter-clockwise, in the world frame.

    Raises:
        MissingExtraError: scenariogeneration is not installed.
    """
    xosc = _scenariogeneration()
    start_us = int(scene.times_us[0])
    entities, init, act = xosc.Entities(), xosc.Init(), _act(xosc)
    ego_on_road = _lowered(scene.ego_poses_world_from_ego, LIDAR_HEIGHT_M)
    entities.add_scenario_object(EGO_NAME, _vehicle(xosc, ActorKind.CAR, EGO_SIZE_M, EGO_NAME))
    _add_drive(xosc, init, act, EGO_NAME, ego_on_road, scene.times_us - start_us)
    for track in scene.tracks:
        name = f"actor_{track.id}"
        entities.add_scenario_object(name, _entity(xosc, track, name))
        poses = _lowered(track.poses_world_from_actor, track.size_m[2] / 2)
        _add_drive(xosc, init, act, name, poses, track.times_us - start_us)
    end_s = (int(scene.times_us[-1]) - start_us) * 1e-6 + TIME_AFTER_END_S
    board = xosc.StoryBoard(init, _at_time(xosc, "end", end_s, "stop"))
    board.add_act(act)
    scenario = xosc.Scenario(
        "Generated drive",
        "dyncity-sim",
        xosc.ParameterDeclarations(),
        entities,
        board,
        xosc.RoadNetwork(roadfile=road_file),
        xosc.Catalog(),
        osc_minor_version=0,
        creation_date=CREATION_DATE,
    )
    root = scenario.get_element()
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _add_drive(
    xosc: ModuleType, init: Any, act: Any, name: str, poses: Poses, times_us: Int64[np.ndarray, " N"]
) -> None:
    positions = list(_positions(xosc, poses))
    times_s = [round(int(t) * 1e-6, 6) for t in times_us]
    init.add_init_action(name, xosc.TeleportAction(positions[0]))
    if len(positions) == 1:
        # A trajectory has two ends; an ego of one frame holds its place for the next.
        positions, times_s = positions * 2, [times_s[0], round(times_s[0] + 1 / FRAME_RATE_HZ, 6)]
    trajectory = xosc.Trajectory(f"{name}_trajectory", False)
    trajectory.add_shape(xosc.Polyline(times_s, positions))
    follow = xosc.FollowTrajectoryAction(
        trajectory, xosc.FollowingMode.position, xosc.ReferenceContext.absolute, scale=1.0, offset=0.0
    )
    event = xosc.Event(f"{name}_event", xosc.Priority.overwrite)
    event.add_trigger(_at_time(xosc, f"{name}_start", times_s[0], "start"))
    event.add_action(f"{name}_follow", follow)
    maneuver = xosc.Maneuver(f"{name}_maneuver")
    maneuver.add_event(event)
    group = xosc.ManeuverGroup(f"{name}_group")
    group.add_actor(name)
    group.add_maneuver(maneuver)
    act.add_maneuver_group(group)


def _positions(xosc: ModuleType, poses: Poses) -> Iterable[Any]:
    """World positions; headings go on past a half turn, so that players interpolate the short way."""
    for (x, y, z), yaw_rad in zip(poses[:, :3, 3], np.unwrap(planar_from_poses(poses)[:, 2]), strict=True):
        yield xosc.WorldPosition(round(float(x), 4), round(float(y), 4), round(float(z), 4), h=round(float(yaw_rad), 5))


def _lowered(poses: Poses, by_m: float) -> Poses:
    """The same poses, moved down along their own z axis."""
    lowered = poses.copy()
    lowered[:, :3, 3] -= by_m * poses[:, :3, 2]
    return lowered


def _act(xosc: ModuleType) -> Any:
    return xosc.Act("drive", _at_time(xosc, "begin", 0.0, "start"))


def _at_time(xosc: ModuleType, name: str, time_s: float, point: str) -> Any:
    condition = xosc.SimulationTimeCondition(time_s, xosc.Rule.greaterThan)
    return xosc.ValueTrigger(name, 0, xosc.ConditionEdge.none, condition, point)


def _entity(xosc: ModuleType, track: Track, name: str) -> Any:
    if track.kind is not ActorKind.PEDESTRIAN:
        return _vehicle(xosc, track.kind, track.size_m, name)
    return xosc.Pedestrian(
        _CARLA_MODEL[track.kind],
        80.0,
        xosc.PedestrianCategory.pedestrian,
        _bounding_box(xosc, track.size_m),
        _CARLA_MODEL[track.kind],
    )


def _vehicle(xosc: ModuleType, kind: ActorKind, size_m: tuple[float, float, float], name: str) -> Any:
    length_m, width_m, _ = size_m
    wheel_m = 0.65
    axles = [
        xosc.Axle(steering, wheel_m, round(0.85 * width_m, 3), round(share * length_m, 3), wheel_m / 2)
        for steering, share in ((0.6, 0.3), (0.0, -0.3))
    ]
    vehicle = xosc.Vehicle(
        _CARLA_MODEL[kind],
        getattr(xosc.VehicleCategory, _CATEGORY[kind]),
        _bounding_box(xosc, size_m),
        *axles,
        70,
        10,
        10,
    )
    vehicle.add_property("type", "ego_vehicle" if name == EGO_NAME else "simulation")
    return vehicle


def _bounding_box(xosc: ModuleType, size_m: tuple[float, float, float]) -> Any:
    length_m, width_m, height_m = (round(edge, 3) for edge in size_m)
    return xosc.BoundingBox(width_m, length_m, height_m, 0.0, 0.0, round(height_m / 2, 4))


def _scenariogeneration() -> ModuleType:
    try:
        from scenariogeneration import xosc
    except ImportError as error:
        raise MissingExtraError("scenariogeneration", "scene", "Writing OpenSCENARIO") from error
    module: ModuleType = xosc
    return module
