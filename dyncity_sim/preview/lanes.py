"""Lines of an OpenDRIVE road to draw: the borders of its lanes.

ASAM OpenDRIVE 1.7: sections 7 (reference line: line, arc, spiral, paramPoly3), 8.4 (elevation), 9.3 (lane
sections and offset), 9.5.1 (widths). Superelevation is left out: roads of this project have none.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
from jaxtyping import Float64

from dyncity_sim.errors import InvalidInputError

STEP_M = 1.0
"""Points of a line are at most this far apart along the road."""

Line = Float64[np.ndarray, "N 3"]
Curve = Callable[[Float64[np.ndarray, " N"]], Float64[np.ndarray, "N 3"]]
"""x, y and heading at distances from the start of a piece of reference line."""


def lane_borders(opendrive: str, step_m: float = STEP_M) -> tuple[Line, ...]:
    """The middle line of each road and the outer border of each of its lanes, in the world frame.

    Args:
        opendrive: the document.
        step_m: see STEP_M.

    Raises:
        InvalidInputError: not OpenDRIVE, or a reference line of another kind than those above.
    """
    try:
        roads = list(ElementTree.fromstring(opendrive).iter("road"))
        return tuple(line for road in roads for line in _of_road(road, step_m))
    except (ElementTree.ParseError, KeyError, ValueError) as error:
        raise InvalidInputError(
            "scene.opendrive", f"{type(error).__name__}: {error}", "an OpenDRIVE document"
        ) from error


def _of_road(road: Element, step_m: float) -> list[Line]:
    sections = road.findall("lanes/laneSection")
    starts = [float(section.attrib["s"]) for section in sections] + [float(road.attrib["length"])]
    lines = []
    for section, (start, end) in zip(sections, pairwise(starts), strict=True):
        s = np.linspace(start, end, max(2, int(np.ceil((end - start) / step_m)) + 1))
        middle = _cubic(road.findall("lanes/laneOffset"), s)
        lines.append(_beside(road, s, middle))
        for side, sign in (("left", 1.0), ("right", -1.0)):
            border = middle
            for lane in sorted(section.findall(f"{side}/lane"), key=lambda lane: abs(int(lane.attrib["id"]))):
                border = border + sign * _cubic(lane.findall("width"), s - start, "sOffset")
                lines.append(_beside(road, s, border))
    return lines


def _beside(road: Element, s: Float64[np.ndarray, " N"], t: Float64[np.ndarray, " N"]) -> Line:
    """Points of the road at distances ``s`` along the reference line and ``t`` to its left."""
    x, y, heading = _reference_line(road, s).T
    return np.stack(
        [x - t * np.sin(heading), y + t * np.cos(heading), _cubic(road.findall("elevationProfile/elevation"), s)],
        axis=-1,
    )


def _cubic(pieces: Sequence[Element], s: Float64[np.ndarray, " N"], start: str = "s") -> Float64[np.ndarray, " N"]:
    """Cubics ``a + b ds + c ds^2 + d ds^3``, each from its start on; 0 where there is none."""
    if not pieces:
        return np.zeros(len(s))
    values = np.array([[float(piece.attrib[name]) for name in (start, "a", "b", "c", "d")] for piece in pieces])
    chosen = values[np.maximum(np.searchsorted(values[:, 0], s, side="right") - 1, 0)]
    ds = s - chosen[:, 0]
    return np.asarray(np.sum(chosen[:, 1:] * ds[:, None] ** np.arange(4), axis=1))


def _reference_line(road: Element, s: Float64[np.ndarray, " N"]) -> Float64[np.ndarray, "N 3"]:
    pieces = road.findall("planView/geometry")
    starts = np.array([float(piece.attrib["s"]) for piece in pieces])
    chosen = np.maximum(np.searchsorted(starts, s, side="right") - 1, 0)
    placed = np.empty((len(s), 3))
    for number in np.unique(chosen):
        x, y, heading = (float(pieces[number].attrib[name]) for name in ("x", "y", "hdg"))
        local = _curve(pieces[number])(s[chosen == number] - starts[number])
        cos, sin = np.cos(heading), np.sin(heading)
        turned = local[:, :2] @ np.array([[cos, sin], [-sin, cos]]) + [x, y]
        placed[chosen == number] = np.column_stack([turned, local[:, 2] + heading])
    return placed


def _curve(piece: Element) -> Curve:
    shape, length_m = piece[0], float(piece.attrib["length"])
    if shape.tag == "line":
        return lambda ds: _bent(ds, 0.0, 0.0)
    if shape.tag == "arc":
        curvature = float(shape.attrib["curvature"])
        return lambda ds: _bent(ds, curvature, 0.0)
    if shape.tag == "spiral":
        first, last = (float(shape.attrib[name]) for name in ("curvStart", "curvEnd"))
        return lambda ds: _bent(ds, first, (last - first) / length_m)
    if shape.tag == "paramPoly3":
        u, v = (np.array([float(shape.attrib[f"{c}{axis}"]) for c in "abcd"]) for axis in "UV")
        scale = 1.0 if shape.attrib.get("pRange") == "arcLength" else 1.0 / length_m
        return lambda ds: _parametric(ds * scale, u, v)
    raise InvalidInputError("scene.opendrive", f"a {shape.tag}", "line, arc, spiral or paramPoly3")


def _bent(ds: Float64[np.ndarray, " N"], curvature: float, change: float) -> Float64[np.ndarray, "N 3"]:
    """Curvature that changes linearly; the integral of the heading by Gauss and Legendre's rule."""
    nodes, weights = np.polynomial.legendre.leggauss(24)
    along = ds[:, None] * (nodes + 1) / 2
    heading = curvature * along + change / 2 * along**2
    x, y = (np.sum(weights * f(heading), axis=1) * ds / 2 for f in (np.cos, np.sin))
    return np.column_stack([x, y, curvature * ds + change / 2 * ds**2])


def _parametric(
    p: Float64[np.ndarray, " N"], u: Float64[np.ndarray, " 4"], v: Float64[np.ndarray, " 4"]
) -> Float64[np.ndarray, "N 3"]:
    powers, slopes = p[:, None] ** np.arange(4), np.arange(1, 4) * p[:, None] ** np.arange(3)
    return np.column_stack([powers @ u, powers @ v, np.arctan2(slopes @ v[1:], slopes @ u[1:])])
