"""Reading a SUMO net file into the nouns of ``roads``.

The format is that of https://sumo.dlr.de/docs/Networks/SUMO_Road_Networks.html. It is read directly: the lane type
that tells a parking lane from a shoulder is in the file, but not in sumolib's net.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Float64

from dyncity_sim.errors import InvalidInputError, MapError
from dyncity_sumo.roads import Area, Junction, Lane, LaneKind, Signal, SignalKind, StopLine, Streets

DEFAULT_LANE_WIDTH_M = 3.2
"""SUMO's width of a lane that states none."""

MOTOR_CLASSES = frozenset(
    {"bus", "coach", "delivery", "truck", "taxi", "emergency", "authority", "private", "evehicle"}
)
"""Vehicle classes that need asphalt even where cars may not go."""

SHOULDER_TYPES = ("shoulder", "restricted", "stop")
"""Types of lanes that are beside the traffic."""

CARRIAGEWAY = (LaneKind.DRIVING, LaneKind.RESERVED, LaneKind.BICYCLE, LaneKind.PARKING, LaneKind.SHOULDER)
"""Kinds of lanes beside each other on the asphalt of an edge."""

LONGEST_SIGN_DISTANCE_M = 15.0
"""How far behind its junction a speed sign stands."""


def read_net(file: Path, name: str) -> tuple[Streets, Float64[np.ndarray, "2"]]:
    """Read a SUMO net; see ``parse_net``.

    Raises:
        MapError: the file is missing, or see ``parse_net``.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise MapError("map", f"{file}: {error.strerror}", "a readable file") from error
    return parse_net(content, str(file), name)


def parse_net(content: bytes, source: str, name: str) -> tuple[Streets, Float64[np.ndarray, "2"]]:
    """(The streets of a SUMO net that is in memory, what was added to the coordinates that they were made from).

    Args:
        content: of the net's file.
        source: names it in errors.
        name: of the streets.

    Raises:
        MapError: it is not XML, is not a SUMO net, holds a lane that cannot be or none for cars, or its traffic keeps
            left.
    """
    root = _parse(content, source)
    try:
        edges = root.findall("edge")
        lanes = sorted((lane for edge in edges for lane in _lanes_of(edge)), key=lambda lane: lane.id)
        areas = [area for edge in edges if edge.get("function") == "walkingarea" for area in _areas_of(edge)]
        junctions = [
            Junction(node.attrib["id"], _points(node.attrib["shape"]), node.attrib["type"])
            for node in root.findall("junction")
            if node.get("type") != "internal" and len(node.get("shape", "").split()) >= 3
        ]
        offset = root.find("location")
        if offset is None:
            raise KeyError("location")
        offset_m = np.array([float(v) for v in offset.attrib["netOffset"].split(",")])
        signals, stop_lines = _right_of_way(lanes, root.findall("connection"))
    except InvalidInputError as error:
        raise MapError("map", f"{source}: {error.field} {error.got}", error.expected, error.mend) from error
    except (KeyError, ValueError) as error:
        raise MapError(
            "map", f"{source}: {error!r}", "a SUMO net (.net.xml)", "Build it again with netconvert."
        ) from error
    streets = Streets(
        name,
        tuple(lanes),
        tuple(sorted(junctions, key=lambda junction: junction.id)),
        tuple(sorted(areas, key=lambda area: area.id)),
        tuple(signals),
        tuple(stop_lines),
    )
    return streets, offset_m


def _parse(content: bytes, source: str) -> ElementTree.Element:
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise MapError("map", f"{source}: {error}", "an XML document", "The file may be cut off.") from error
    if root.tag != "net":
        raise MapError("map", f"{source}: a document of <{root.tag}>", "a SUMO net, whose root is <net>")
    if root.get("lefthand") == "true":
        raise MapError("map", f"{source}: left-hand traffic", "a net whose traffic keeps right")
    return root


def _lanes_of(edge: ElementTree.Element) -> Iterable[Lane]:
    function = edge.get("function", "normal")
    if function in ("walkingarea", "connector"):
        return
    for lane in edge.findall("lane"):
        kind = _kind(function, lane)
        centreline_m = _without_repeats(_points(lane.attrib["shape"]))
        if kind is None or len(centreline_m) < 2:
            continue
        yield Lane(
            lane.attrib["id"],
            edge.attrib["id"],
            kind,
            centreline_m,
            float(lane.get("width", DEFAULT_LANE_WIDTH_M)),
            float(lane.attrib["speed"]),
        )


def _areas_of(edge: ElementTree.Element) -> Iterable[Area]:
    for lane in edge.findall("lane"):
        polygon_m = _points(lane.attrib["shape"])
        if len(polygon_m) >= 3:
            yield Area(edge.attrib["id"], LaneKind.WALKING_AREA, polygon_m)


def _kind(function: str, lane: ElementTree.Element) -> LaneKind | None:
    """Kind of a lane, or None for one that leaves no mark on the street (rails, medians, water)."""
    if function == "crossing":
        return LaneKind.CROSSING
    lane_type = lane.get("type", "")
    if function == "internal":
        return LaneKind.INTERNAL if _allows(lane, "passenger") else None
    if lane_type == "parking":
        return LaneKind.PARKING
    if _allows(lane, "passenger"):
        return LaneKind.DRIVING
    if _allows(lane, "pedestrian"):
        return LaneKind.SIDEWALK
    if lane_type in SHOULDER_TYPES:
        return LaneKind.SHOULDER
    if any(_allows(lane, vehicle) for vehicle in MOTOR_CLASSES):
        return LaneKind.RESERVED
    return LaneKind.BICYCLE if _allows(lane, "bicycle") else None


def _allows(lane: ElementTree.Element, vehicle_class: str) -> bool:
    allow, disallow = lane.get("allow"), lane.get("disallow")
    if allow is not None:
        return allow == "all" or vehicle_class in allow.split()
    return disallow is None or (disallow != "all" and vehicle_class not in disallow.split())


def _points(shape: str) -> Float64[np.ndarray, "N 3"]:
    points = [[float(v) for v in point.split(",")] for point in shape.split()]
    return np.array([[*point, 0.0][:3] for point in points]).reshape(-1, 3)


def _without_repeats(points_m: Float64[np.ndarray, "N 3"]) -> Float64[np.ndarray, "M 3"]:
    steps_m = np.linalg.norm(np.diff(points_m[:, :2], axis=0), axis=1)
    # What is not a number stays, so that it is found.
    return points_m[np.concatenate([[True], ~(steps_m <= 1e-3)])] if len(points_m) else points_m


def _right_of_way(lanes: list[Lane], connections: list[ElementTree.Element]) -> tuple[list[Signal], list[StopLine]]:
    """Signals beside the road and lines across it, from what each edge meets at its end and its start."""
    edges: dict[str, list[Lane]] = {}
    for lane in lanes:
        if lane.kind in CARRIAGEWAY:
            edges.setdefault(lane.edge_id, []).append(lane)
    speed_mps = {name: max(lane.speed_mps for lane in side) for name, side in edges.items()}
    duties: dict[str, set[SignalKind]] = {}
    arrivals: dict[str, set[float]] = {}
    for connection in connections:
        source, target = connection.attrib["from"], connection.attrib["to"]
        if source not in edges or target not in edges:
            continue
        arrivals.setdefault(target, set()).add(speed_mps[source])
        kind = _duty(connection)
        if kind is not None:
            duties.setdefault(source, set()).add(kind)
    signals: list[Signal] = []
    stop_lines: list[StopLine] = []
    for edge_id, side in sorted(edges.items()):
        if not any(lane.kind is LaneKind.DRIVING for lane in side):
            continue
        kerb_lane = min(side, key=_lane_index)
        if any(abs(speed - speed_mps[edge_id]) > 0.5 for speed in arrivals.get(edge_id, ())):
            signals.append(_beside(kerb_lane, SignalKind.SPEED))
        due = duties.get(edge_id, set())
        for kind in (SignalKind.TRAFFIC_LIGHT, SignalKind.STOP, SignalKind.YIELD):
            if kind in due:
                signals.append(_beside(kerb_lane, kind))
                if kind is not SignalKind.YIELD:
                    stop_lines.extend(_across(lane) for lane in side if lane.kind is LaneKind.DRIVING)
                break
    return signals, stop_lines


def _duty(connection: ElementTree.Element) -> SignalKind | None:
    if connection.get("tl"):
        return SignalKind.TRAFFIC_LIGHT
    states = {"s": SignalKind.STOP, "w": SignalKind.STOP, "m": SignalKind.YIELD}
    return states.get(connection.get("state", ""))


def _lane_index(lane: Lane) -> int:
    return int(lane.id.rpartition("_")[2])


def _beside(lane: Lane, kind: SignalKind) -> Signal:
    """A signal right of a lane: at its end, or behind its start for a speed sign."""
    points_m = lane.centreline_m
    if kind is SignalKind.SPEED:
        along_m = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points_m[:, :2], axis=0), axis=1))])
        at_m = min(LONGEST_SIGN_DISTANCE_M, along_m[-1] / 2)
        segment = min(int(np.searchsorted(along_m, at_m, side="right")) - 1, len(points_m) - 2)
        foot = np.array([np.interp(at_m, along_m, points_m[:, axis]) for axis in range(3)])
    else:
        segment, foot = len(points_m) - 2, points_m[-1].copy()
    forward = _heading(points_m[segment], points_m[segment + 1])
    foot[:2] += (lane.width_m / 2 + 0.6) * np.array([forward[1], -forward[0]])
    return Signal(foot, math.atan2(forward[1], forward[0]), kind)


def _across(lane: Lane) -> StopLine:
    forward = _heading(lane.centreline_m[-2], lane.centreline_m[-1])
    right = np.array([forward[1], -forward[0], 0.0]) * lane.width_m / 2
    return StopLine(lane.centreline_m[-1] + right, lane.centreline_m[-1] - right)


def _heading(start_m: Float64[np.ndarray, "3"], end_m: Float64[np.ndarray, "3"]) -> Float64[np.ndarray, "2"]:
    step = end_m[:2] - start_m[:2]
    return step / np.linalg.norm(step)
