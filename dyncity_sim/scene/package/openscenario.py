"""OpenSCENARIO of a scene: 1.2 for players that keep times, 1.0 for CARLA's scenario_runner, which does not.

Both follow the same lines over the same road, in the world frame of the scene. Simulation time 0 is the drive's first
frame. The standards: ASAM OpenSCENARIO XML 1.0 and 1.2 (asam.net/standards/detail/openscenario-xml).
"""

import datetime
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Float64

from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.scene import Scene
from dyncity_sim.extras import import_extra
from dyncity_sim.scene.package.entities import entity
from dyncity_sim.scene.package.motions import EGO_NAME, Motion, line_and_speeds, motions_of

CREATION_DATE = datetime.datetime(2000, 1, 1)
"""Documents carry a fixed date: the same scene gives the same bytes."""

TIME_AFTER_END_S = 1.0

SPEED_STEP_S = 0.5
"""Time between two speeds of the 1.0 document. A change of 4 m/s^2 then puts nothing off by more than 0.13 m."""

CONTROLLER = {"module": "simple_vehicle_control", "waypoint_reached_threshold": "1.5"}
"""scenario_runner's controller that follows a line as it lies; its default takes vehicles to the next lane's middle."""


def openscenario_1_2(scene: Scene, road_file: str = "map.xodr") -> str:
    """A document in which ego and actors are at the scene's places at the scene's times.

    Trajectories hold absolute times. An actor that is seen later than the first frame is added when its time comes, one
    that is seen no more is deleted.

    Raises:
        MissingExtraError: scenariogeneration is not installed.
    """
    xosc = import_extra("scenariogeneration.xosc", "scenariogeneration", "scene", "Writing OpenSCENARIO")
    motions = motions_of(scene)
    init, act = xosc.Init(), _act(xosc)
    end_s = motions[0].times_s[-1]
    for motion in motions:
        follow = _follow(xosc, motion, timed=True)
        if motion.times_s[0] > 0:
            actions = {"add": xosc.AddEntityAction(motion.name, _position(xosc, motion.places[0])), "follow": follow}
        else:
            init.add_init_action(motion.name, xosc.TeleportAction(_position(xosc, motion.places[0])))
            actions = {"follow": follow}
        events = [_event(xosc, f"{motion.name}_drive", motion.times_s[0], actions, xosc.Rule.greaterOrEqual)]
        if motion.times_s[-1] < end_s:
            gone = {"delete": xosc.DeleteEntityAction(motion.name)}
            events.append(_event(xosc, f"{motion.name}_end", motion.times_s[-1], gone, xosc.Rule.greaterThan))
        act.add_maneuver_group(_group(xosc, motion.name, events))
    return _document(xosc, motions, init, act, 2, road_file)


def openscenario_1_0(scene: Scene, road_file: str = "map.xodr") -> str:
    """A document in which ego and actors follow the scene's lines at the scene's speeds, set every SPEED_STEP_S.

    scenario_runner drops the times of trajectories, cannot add entities later that a scenario moves, and lets
    pedestrians stand whom nothing gives a speed (its ``actorcontrols``, at 0.9.16). So an actor waits where it is first
    seen until its time comes, and stays where it was last seen; what stands gets a place and nothing else.

    Raises:
        MissingExtraError: scenariogeneration is not installed.
    """
    xosc = import_extra("scenariogeneration.xosc", "scenariogeneration", "scene", "Writing OpenSCENARIO")
    motions = motions_of(scene)
    init, act = xosc.Init(), _act(xosc)
    for motion in motions:
        init.add_init_action(motion.name, xosc.TeleportAction(_position(xosc, motion.places[0])))
        followed = line_and_speeds(motion, SPEED_STEP_S)
        if motion.name == EGO_NAME or (followed and motion.kind is not ActorKind.PEDESTRIAN):
            init.add_init_action(motion.name, _controller(xosc, motion.name))
        if followed:
            line, times_s, speeds_mps = followed
            start = {"follow": _follow(xosc, line, timed=False)}
            events = [_event(xosc, f"{motion.name}_drive", 0.0, start, xosc.Rule.greaterThan)]
            act.add_maneuver_group(_group(xosc, motion.name, events + _speeds(xosc, motion.name, times_s, speeds_mps)))
    if not act.maneuvergroup:
        act.add_maneuver_group(_group(xosc, EGO_NAME, _speeds(xosc, EGO_NAME, np.zeros(1), np.zeros(1))))
    return _document(xosc, motions, init, act, 0, road_file)


def _document(xosc: ModuleType, motions: list[Motion], init: Any, act: Any, minor_version: int, road_file: str) -> str:
    entities = xosc.Entities()
    for motion in motions:
        entities.add_scenario_object(motion.name, entity(xosc, motion))
    end_s = float(motions[0].times_s[-1]) + TIME_AFTER_END_S
    board = xosc.StoryBoard(init, _at_time(xosc, "end", end_s, "stop", xosc.Rule.greaterThan))
    board.add_act(act)
    scenario = xosc.Scenario(
        "Generated drive",
        "dyncity-sim",
        xosc.ParameterDeclarations(),
        entities,
        board,
        xosc.RoadNetwork(roadfile=road_file),
        xosc.Catalog(),
        osc_minor_version=minor_version,
        creation_date=CREATION_DATE,
    )
    root = scenario.get_element()
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _follow(xosc: ModuleType, motion: Motion, timed: bool) -> Any:
    """Follow the motion's line, at its own times where ``timed``, else at whatever speed other actions set."""
    trajectory = xosc.Trajectory(f"{motion.name}_trajectory", False)
    times_s = [round(float(t), 6) for t in motion.times_s]
    trajectory.add_shape(xosc.Polyline(times_s, [_position(xosc, place) for place in motion.places]))
    timing = (xosc.ReferenceContext.absolute, 1.0, 0.0) if timed else ()
    return xosc.FollowTrajectoryAction(trajectory, xosc.FollowingMode.position, *timing)


def _speeds(
    xosc: ModuleType, name: str, times_s: Float64[np.ndarray, " S"], speeds_mps: Float64[np.ndarray, " S"]
) -> list[Any]:
    """An event for each speed, at once from its time on."""
    step = xosc.TransitionDynamics(xosc.DynamicsShapes.step, xosc.DynamicsDimension.time, 0)
    return [
        _event(
            xosc,
            f"{name}_speed_{number}",
            time_s,
            {"speed": xosc.AbsoluteSpeedAction(round(float(speed_mps), 3), step)},
            xosc.Rule.greaterThan,
        )
        for number, (time_s, speed_mps) in enumerate(zip(times_s, speeds_mps, strict=True))
    ]


def _controller(xosc: ModuleType, name: str) -> Any:
    properties = xosc.Properties()
    for key, value in CONTROLLER.items():
        properties.add_property(key, value)
    override = xosc.OverrideControllerValueAction()
    override.set_throttle(False)
    override.set_brake(False)
    override.set_clutch(False)
    override.set_parkingbrake(False)
    override.set_steeringwheel(False)
    override.set_gear(False)
    assign = xosc.AssignControllerAction(xosc.Controller(f"{name}_controller", properties))
    return xosc.ControllerAction(assign, override)


def _group(xosc: ModuleType, name: str, events: list[Any]) -> Any:
    maneuver = xosc.Maneuver(f"{name}_maneuver")
    for event in events:
        maneuver.add_event(event)
    group = xosc.ManeuverGroup(f"{name}_group")
    group.add_actor(name)
    group.add_maneuver(maneuver)
    return group


def _event(xosc: ModuleType, name: str, time_s: float, actions: dict[str, Any], rule: Any) -> Any:
    """Actions from a time on, beside whatever else goes on."""
    event = xosc.Event(name, xosc.Priority.parallel)
    event.add_trigger(_at_time(xosc, f"{name}_start", time_s, "start", rule))
    for what, action in actions.items():
        event.add_action(f"{name}_{what}", action)
    return event


def _position(xosc: ModuleType, place: Float64[np.ndarray, "4"]) -> Any:
    x_m, y_m, z_m, heading_rad = (float(value) for value in place)
    return xosc.WorldPosition(round(x_m, 4), round(y_m, 4), round(z_m, 4), h=round(heading_rad, 5))


def _act(xosc: ModuleType) -> Any:
    return xosc.Act("drive", _at_time(xosc, "begin", 0.0, "start", xosc.Rule.greaterThan))


def _at_time(xosc: ModuleType, name: str, time_s: float, point: str, rule: Any) -> Any:
    condition = xosc.SimulationTimeCondition(round(float(time_s), 6), rule)
    return xosc.ValueTrigger(name, 0, xosc.ConditionEdge.none, condition, point)
