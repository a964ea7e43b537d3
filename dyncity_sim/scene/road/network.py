"""The roads of a drive as a network: the road that was driven, the roads that leave it, and the junctions between.

What is written as OpenDRIVE (``scene.road.document``) is made here as plain geometry.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from jaxtyping import Float64

from dyncity_sim.scene.road.lines import Points


class Contact(StrEnum):
    """An end of a road."""

    START = "start"
    END = "end"


@dataclass(frozen=True, eq=False)
class Road:
    """A road or a way through a junction: a line, and lanes beside it whose widths are given at its knots.

    Attributes:
        points_world_m: ``(N, 3)`` knots of the reference line, on the surface.
        headings_rad: ``(N,)`` direction at each knot.
        centre_m: ``(N,)`` where left and right lanes meet, to the left of the line.
        left_m: ``(N, L)`` widths of the lanes that run against the line, from the inside out.
        right_m: ``(N, R)`` widths of the lanes that run along the line, from the inside out.
    """

    points_world_m: Float64[np.ndarray, "N 3"]
    headings_rad: Float64[np.ndarray, " N"]
    centre_m: Float64[np.ndarray, " N"]
    left_m: Float64[np.ndarray, "N L"]
    right_m: Float64[np.ndarray, "N R"]


@dataclass(frozen=True)
class Arm:
    """The end of a road that opens into a junction: number of the road in the network, and which end."""

    road: int
    contact: Contact


@dataclass(frozen=True, eq=False)
class Turn:
    """A way through a junction, one direction, lanes to the right of its line.

    Attributes:
        way: its geometry.
        enters, leaves: the arms that it joins.
        first_in, first_out: the lanes it joins, counted from the inside out, are these and the ones that follow.
    """

    way: Road
    enters: Arm
    leaves: Arm
    first_in: int
    first_out: int


@dataclass(frozen=True, eq=False)
class Junction:
    """Where roads meet: all ways through."""

    turns: tuple[Turn, ...]


@dataclass(frozen=True, eq=False)
class RoadNetwork:
    """Roads and the junctions between them; the first road is where the line of the drive begins."""

    roads: tuple[Road, ...]
    junctions: tuple[Junction, ...]


@dataclass(frozen=True, eq=False)
class Mouth:
    """What a junction sees of an arm.

    Attributes:
        point_world_m: ``(3,)`` where lanes of both directions meet.
        heading_rad: into the junction.
        inwards_m, outwards_m: widths of the lanes into and out of the junction, from the inside out.
    """

    point_world_m: Float64[np.ndarray, " 3"]
    heading_rad: float
    inwards_m: Float64[np.ndarray, " I"]
    outwards_m: Float64[np.ndarray, " O"]


def mouth_of(road: Road, contact: Contact) -> Mouth:
    """The end of a road as its junction sees it."""
    at = 0 if contact is Contact.START else -1
    heading = float(road.headings_rad[at])
    normal = np.array([-np.sin(heading), np.cos(heading), 0.0])
    point = road.points_world_m[at] + road.centre_m[at] * normal
    left, right = road.left_m[at], road.right_m[at]
    if contact is Contact.START:
        return Mouth(point, heading + np.pi, left, right)
    return Mouth(point, heading, right, left)


def curve(start: Mouth, end: Mouth, first_in: int, first_out: int, knots: int = 9) -> tuple[Points, Points]:
    """Knots and headings of a smooth line from a lane into a junction to a lane out of it.

    A cubic Bezier curve whose handles are those of a circular arc, stretched to where the tangents meet
    (Riskus 2006); on parallel lanes, handles of a third of the distance.
    """
    first = _inner_border(start, start.inwards_m, first_in, start.heading_rad)
    out = end.heading_rad + np.pi
    last = _inner_border(end, end.outwards_m, first_out, out)
    leave, arrive = _unit(start.heading_rad), _unit(out)
    turn = float(np.arctan2(leave[0] * arrive[1] - leave[1] * arrive[0], leave @ arrive))
    chord = float(np.linalg.norm(last[:2] - first[:2]))
    handles = np.full(2, chord / 3)
    if abs(turn) > np.deg2rad(8):
        to_meeting = np.linalg.solve(np.stack([leave, arrive], axis=1), last[:2] - first[:2])
        stretch = 4 / 3 * np.tan(turn / 4) / np.tan(turn / 2)
        if (to_meeting > 0.5).all() and (to_meeting < 2 * chord).all():
            handles = stretch * to_meeting
    corners = np.stack([first[:2], first[:2] + handles[0] * leave, last[:2] - handles[1] * arrive, last[:2]])
    t = np.linspace(0.0, 1.0, knots)[:, None]
    plane = (1 - t) ** 3 * corners[0] + 3 * (1 - t) ** 2 * t * corners[1]
    plane = plane + 3 * (1 - t) * t**2 * corners[2] + t**3 * corners[3]
    edges = np.diff(corners, axis=0)
    tangent = (1 - t) ** 2 * edges[0] + 2 * (1 - t) * t * edges[1] + t**2 * edges[2]
    height = first[2] + (last[2] - first[2]) * ease(t)
    headings = np.unwrap(np.arctan2(tangent[:, 1], tangent[:, 0]))
    return np.concatenate([plane, height], axis=1), headings


def ease(t: np.ndarray) -> np.ndarray:
    """From 0 to 1, level at both ends."""
    return np.asarray(t * t * (3 - 2 * t))


def turned_rad(start: Mouth, end: Mouth) -> float:
    """How far a way from one arm to another turns to the left, in (-pi, pi]."""
    difference = end.heading_rad + np.pi - start.heading_rad
    return float(np.arctan2(np.sin(difference), np.cos(difference)))


def _inner_border(mouth: Mouth, widths_m: np.ndarray, lane: int, heading: float) -> Float64[np.ndarray, " 3"]:
    right = np.array([np.sin(heading), -np.cos(heading), 0.0])
    return mouth.point_world_m + widths_m[:lane].sum() * right


def _unit(heading: float) -> Float64[np.ndarray, " 2"]:
    return np.array([np.cos(heading), np.sin(heading)])
