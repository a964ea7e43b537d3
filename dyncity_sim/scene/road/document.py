"""The roads of a drive as an OpenDRIVE document."""

import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Float64
from scipy.interpolate import CubicSpline

from dyncity_sim.domain.frames import Poses
from dyncity_sim.domain.scene import StaticMap
from dyncity_sim.extras import import_extra
from dyncity_sim.scene.road.layout import road_network
from dyncity_sim.scene.road.network import Arm, Contact, Junction, Road, RoadNetwork, Turn

HEADER_DATE = "2000-01-01T00:00:00"
"""Documents carry a fixed date: the same scene gives the same bytes."""

DECIMALS = 9
SAME = 1e-6
"""Coefficients that differ by less are those of the same polynomial."""


def opendrive_document(static_map: StaticMap, poses_world_from_ego: Poses) -> str:
    """An OpenDRIVE 1.7 document of the roads under and across a drive, in the world frame.

    Roads, lanes, and junctions are those of ``layout.road_network``: the ego's path lies on lane -1 of the roads and
    ways that it takes. Lanes to the left of a reference line run against it; traffic keeps to the right.

    Raises:
        MissingExtraError: scenariogeneration is not installed.
    """
    return document_of(road_network(static_map, poses_world_from_ego))


def document_of(network: RoadNetwork) -> str:
    """A network as OpenDRIVE 1.7: roads in their order from id 1 on, then ways through junctions, then junctions.

    Raises:
        MissingExtraError: scenariogeneration is not installed.
    """
    xodr = import_extra("scenariogeneration.xodr", "scenariogeneration", "scene", "Writing OpenDRIVE")
    document = xodr.OpenDrive("dyncity", revMajor="1", revMinor="7")
    first = len(network.roads) + 1
    # CARLA takes a link to a junction for one to a road where any road has the junction's id.
    first_junction = first + sum(len(junction.turns) for junction in network.junctions)
    links: dict[Arm, int] = {}
    for number, junction in enumerate(network.junctions, start=first_junction):
        links.update({arm: number for turn in junction.turns for arm in (turn.enters, turn.leaves)})
    for number, road in enumerate(network.roads):
        written = _road(xodr, number + 1, road)
        for contact, add in ((Contact.START, written.add_predecessor), (Contact.END, written.add_successor)):
            if (arm := Arm(number, contact)) in links:
                add(xodr.ElementType.junction, links[arm])
        document.add_road(written)
    for number, junction in enumerate(network.junctions, start=first_junction):
        if junction.turns:
            _add_junction(xodr, document, junction, number, first)
            first += len(junction.turns)
    return _text(document.get_element(), network)


def _add_junction(xodr: ModuleType, document: Any, junction: Junction, number: int, first_id: int) -> None:
    written = xodr.Junction(f"junction {number}", number)
    for way_id, turn in enumerate(junction.turns, start=first_id):
        document.add_road(_way(xodr, way_id, number, turn))
        connection = xodr.Connection(turn.enters.road + 1, way_id, xodr.ContactPoint.start)
        for lane in range(turn.way.right_m.shape[1]):
            connection.add_lanelink(_lane_into(turn.enters, turn.first_in + lane), -lane - 1)
        written.add_connection(connection)
    document.add_junction(written)


def _way(xodr: ModuleType, way_id: int, junction: int, turn: Turn) -> Any:
    road = _road(xodr, way_id, turn.way, junction)
    points = {Contact.START: xodr.ContactPoint.start, Contact.END: xodr.ContactPoint.end}
    road.add_predecessor(xodr.ElementType.road, turn.enters.road + 1, points[turn.enters.contact])
    road.add_successor(xodr.ElementType.road, turn.leaves.road + 1, points[turn.leaves.contact])
    for lane, written in enumerate(road.lanes.lanesections[0].rightlanes):
        written.add_link("predecessor", str(_lane_into(turn.enters, turn.first_in + lane)))
        written.add_link("successor", str(-_lane_into(turn.leaves, turn.first_out + lane)))
    return road


def _lane_into(arm: Arm, number: int) -> int:
    """Id of the lane that runs into the junction, counted from the inside out; the one out of it is its opposite."""
    return -number - 1 if arm.contact is Contact.END else number + 1


def _road(xodr: ModuleType, road_id: int, road: Road, junction: int = -1) -> Any:
    plan_view, knots_s = _plan_view(xodr, road)
    kind = "road" if junction < 0 else "way"
    written = xodr.Road(road_id, plan_view, _lanes(xodr, road, knots_s), road_type=junction, name=f"{kind} {road_id}")
    for s, coefficients in _pieces(knots_s, _elevation(road.points_world_m[:, 2], knots_s)):
        written.add_elevation(s, *coefficients)
    return written


def _plan_view(xodr: ModuleType, road: Road) -> tuple[Any, list[float]]:
    """Cubic Hermite pieces as paramPoly3, each in the frame of its first knot; also s at each knot."""
    plan_view = xodr.PlanView()
    s = [0.0]
    for n in range(len(road.headings_rad) - 1):
        start, heading = road.points_world_m[n, :2], float(road.headings_rad[n])
        rotation = np.array([[np.cos(heading), np.sin(heading)], [-np.sin(heading), np.cos(heading)]])
        end = rotation @ (road.points_world_m[n + 1, :2] - start)
        turn = float(road.headings_rad[n + 1]) - heading
        speed = float(np.linalg.norm(end))
        out = speed * np.array([np.cos(turn), np.sin(turn)])
        linear = np.array([speed, 0.0])
        quadratic = 3 * end - 2 * linear - out
        cubic = linear + out - 2 * end
        coefficients = [c for axis in range(2) for c in (0.0, linear[axis], quadratic[axis], cubic[axis])]
        piece = xodr.ParamPoly3(*(round(float(c), DECIMALS) for c in coefficients), prange="normalized")
        plan_view.add_fixed_geometry(piece, float(start[0]), float(start[1]), heading, s[-1])
        s.append(s[-1] + float(piece.length))
    return plan_view, s


def _lanes(xodr: ModuleType, road: Road, knots_s: list[float]) -> Any:
    def lanes(widths_m: Float64[np.ndarray, "N L"]) -> list[Any]:
        found = []
        for number, width_m in enumerate(widths_m.T):
            driving = xodr.Lane(lane_type=xodr.LaneType.driving)
            driving.widths.clear()
            for s, coefficients in _linear(knots_s, width_m):
                driving.add_lane_width(*coefficients, soffset=s)
            driving.add_roadmark(solid if number == widths_m.shape[1] - 1 else broken)
            found.append(driving)
        return found

    broken, solid = (xodr.RoadMark(kind, width=0.15) for kind in (xodr.RoadMarkType.broken, xodr.RoadMarkType.solid))
    centre = xodr.Lane(lane_type=xodr.LaneType.none)
    centre.add_roadmark(broken if road.left_m.shape[1] else solid)
    section = xodr.LaneSection(0.0, centre)
    for lane in lanes(road.right_m):
        section.add_right_lane(lane)
    for lane in lanes(road.left_m):
        section.add_left_lane(lane)
    written = xodr.Lanes()
    for s, coefficients in _linear(knots_s, road.centre_m):
        written.add_laneoffset(xodr.LaneOffset(s, *coefficients))
    written.add_lanesection(section)
    return written


def _linear(knots_s: list[float], values: Float64[np.ndarray, " N"]) -> Iterator[tuple[float, list[float]]]:
    """Pieces of a line through values at knots."""
    slopes = np.diff(values) / np.diff(knots_s)
    return _pieces(knots_s, np.stack([values[:-1], slopes], axis=1))


def _elevation(height_m: Float64[np.ndarray, " N"], knots_s: list[float]) -> Float64[np.ndarray, "M 4"]:
    """Cubic pieces of the height over s, knot to knot."""
    if len(height_m) < 3:
        return np.array([[height_m[0], (height_m[1] - height_m[0]) / (knots_s[1] - knots_s[0]), 0.0, 0.0]])
    return CubicSpline(knots_s, height_m, bc_type="natural").c[::-1].T


def _pieces(knots_s: list[float], coefficients: Float64[np.ndarray, "M K"]) -> Iterator[tuple[float, list[float]]]:
    """Where pieces of a polynomial begin, and their coefficients, without those that go on as the one before does."""
    before: list[float] | None = None
    start_s = 0.0
    for s, here in zip(knots_s, (np.round(coefficients, DECIMALS) + 0.0).tolist(), strict=False):
        expected = _from(before, s - start_s) if before else None
        if expected is None or max(abs(a - b) for a, b in zip(expected, here, strict=True)) > SAME:
            before, start_s = here, s
            yield s, here


def _from(coefficients: list[float], s: float) -> list[float]:
    """The polynomial as one of the distance from ``s`` on (Taylor shift by Horner's scheme)."""
    shifted = list(coefficients)
    for first in range(len(shifted) - 1):
        for n in reversed(range(first, len(shifted) - 1)):
            shifted[n] += s * shifted[n + 1]
    return shifted


def _text(root: ElementTree.Element, network: RoadNetwork) -> str:
    header = root.find("header")
    assert header is not None
    header.set("date", HEADER_DATE)
    points = np.concatenate([road.points_world_m for road in network.roads])
    lower, upper = points.min(axis=0), points.max(axis=0)
    for side, value in (("south", lower[1]), ("west", lower[0]), ("north", upper[1]), ("east", upper[0])):
        header.set(side, repr(round(float(value), 3)))
    for road in root.iter("road"):
        # CARLA 0.9.16 looks for a road's end at its length in single precision, and leaves lanes that end there out of
        # its topology unless that is less than the length.
        road.set("length", repr(float(np.float32(road.attrib["length"])) + 1e-9))
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + re.sub(r"\s+/>", "/>", text) + "\n"
