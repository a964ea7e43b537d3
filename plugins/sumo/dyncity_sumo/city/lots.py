"""Lots: regular plots of land along the fronts of a block, each with a frame that looks in from the street."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import shapely
from shapely import Polygon

from dyncity_sumo.city.canvas import TERRAIN, Canvas, Frame
from dyncity_sumo.city.plan import StreetPlan

STREET_DISTANCE_M = 9.0
"""A front is an edge of a block with a carriageway within this distance."""

HIGHWAY_DISTANCE_M = 14.0
"""Nobody builds nearer than this to a highway."""

SHORTEST_FRONT_M = 10.0

FACTORS_OF_DEPTH = (1.0, 0.7, 0.5, 0.35, 0.06)
"""A lot that does not fit is tried shallower; the last is a verge that has room for a fence alone."""


@dataclass(frozen=True, eq=False)
class Lot:
    """A plot.

    Attributes:
        frame: u runs along the street from the lot's corner, v into the lot.
        width_m: extent along u.
        depth_m: extent along v.
        first: whether no lot of the same row is at its side u = 0.
    """

    frame: Frame
    width_m: float
    depth_m: float
    first: bool


@dataclass(frozen=True, eq=False)
class Front:
    """A straight edge of a block along a street.

    Attributes:
        frame: u along the edge, v into the block.
        length_m: extent along u.
    """

    frame: Frame
    length_m: float


def fronts_of(block: Polygon, plan: StreetPlan) -> list[Front]:
    """The straight street-side edges of a block, in order around it."""
    oriented = shapely.orient_polygons(shapely.simplify(block, 0.6))
    fronts = []
    for ring in (oriented.exterior, *oriented.interiors):
        for start, end in pairwise(np.asarray(ring.coords)):
            length_m = float(np.linalg.norm(end - start))
            if length_m < SHORTEST_FRONT_M:
                continue
            middle = shapely.points((start + end) / 2)
            if shapely.distance(middle, plan.asphalt) < STREET_DISTANCE_M and not shapely.dwithin(
                middle, plan.highway, HIGHWAY_DISTANCE_M
            ):
                fronts.append(Front(Frame(start, (end - start) / length_m), length_m))
    return fronts


def lots_along(canvas: Canvas, front: Front, width_m: float, depth_m: float) -> list[Lot]:
    """Claim lots along a front, stretched so that they fill it; where one does not fit there is a gap."""
    count = int(front.length_m // width_m)
    wide_m = front.length_m / max(count, 1)
    lots: list[Lot] = []
    neighbour = False
    for number in range(count):
        frame = Frame(front.frame.origin_m + number * wide_m * front.frame.along, front.frame.along)
        fitting_m = _fitting_depth(canvas, frame, wide_m, depth_m)
        if fitting_m is not None:
            canvas.claim(canvas.polygon(frame.rectangle((0.0, wide_m), (0.0, fitting_m))))
            lots.append(Lot(frame, wide_m, fitting_m, first=not neighbour))
        neighbour = fitting_m is not None
    return lots


def _fitting_depth(canvas: Canvas, frame: Frame, width_m: float, depth_m: float) -> float | None:
    for factor in FACTORS_OF_DEPTH:
        # A hand's breadth is left at each side: neighbours share a boundary, not cells.
        patch = canvas.polygon(frame.rectangle((0.3, width_m - 0.3), (0.3, depth_m * factor)))
        if canvas.free(patch, (TERRAIN,)):
            return depth_m * factor
    return None
