"""Lines of OpenDRIVE roads, evaluated (ASAM OpenDRIVE 1.7, section 7: line, arc, spiral, paramPoly3)."""

from collections.abc import Callable, Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
from jaxtyping import Float64

from dyncity_sim.errors import InvalidInputError

Curve = Callable[[Float64[np.ndarray, " N"]], Float64[np.ndarray, "N 3"]]
"""x, y and heading at distances from the start of a piece of reference line."""


def roads_of(opendrive: str) -> list[Element]:
    """The roads of a document.

    Raises:
        InvalidInputError: it is no XML.
    """
    try:
        return list(ElementTree.fromstring(opendrive).iter("road"))
    except ElementTree.ParseError as error:
        raise InvalidInputError("opendrive", str(error), "an OpenDRIVE document") from error


def cubic(pieces: Sequence[Element], s: Float64[np.ndarray, " N"], start: str = "s") -> Float64[np.ndarray, " N"]:
    """Cubics ``a + b ds + c ds^2 + d ds^3``, each from its start on; 0 where there is none."""
    if not pieces:
        return np.zeros(len(s))
    values = np.array([[float(piece.attrib[name]) for name in (start, "a", "b", "c", "d")] for piece in pieces])
    chosen = values[np.maximum(np.searchsorted(values[:, 0], s, side="right") - 1, 0)]
    ds = s - chosen[:, 0]
    return np.asarray(np.sum(chosen[:, 1:] * ds[:, None] ** np.arange(4), axis=1))


def reference_line(road: Element, s: Float64[np.ndarray, " N"]) -> Float64[np.ndarray, "N 3"]:
    """x, y (metres) and heading (radians) of a road's reference line at distances ``s`` along it.

    Raises:
        InvalidInputError: it has no piece, or one that is no line, arc, spiral or paramPoly3.
    """
    pieces = road.findall("planView/geometry")
    if not pieces:
        raise InvalidInputError("opendrive", f"road {road.get('id')} without a line", "an OpenDRIVE document")
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
    raise InvalidInputError("opendrive", f"a {shape.tag}", "line, arc, spiral or paramPoly3")


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
