"""Medians, and the land along highways: guard rails, noise barriers, rows of trees."""

import numpy as np
import shapely

from dyncity_sumo.city.boundaries import Boundary, raise_line
from dyncity_sumo.city.canvas import GUARD_RAIL, TERRAIN, VEGETATION, WALL, Canvas, polygons_of
from dyncity_sumo.city.plan import StreetPlan
from dyncity_sumo.city.plants import plant_tree

RAIL_M = 1.0
"""Distance of guard rails from a highway's edge."""

NOISE_BARRIER_M = 6.0
TREES_M = 11.0


def build_medians(canvas: Canvas, plan: StreetPlan, rng: np.random.Generator) -> None:
    """A clipped hedge around each median, or a guard rail where it parts a highway; clear of crossings."""
    for median in polygons_of(plan.medians):
        if shapely.dwithin(median, plan.highway, 1.0):
            raise_line(canvas, shapely.boundary(shapely.buffer(median, -0.6)), Boundary(GUARD_RAIL, 0.3, 0.8))
            continue
        ring = shapely.difference(shapely.buffer(median, -1.2), shapely.buffer(median, -2.0))
        bed = shapely.difference(ring, plan.corners)
        height_m = float(rng.choice([0.6, 0.9]))
        for patch in canvas.geometry(bed):
            canvas.solid(patch, VEGETATION, 0.0, height_m)


def build_highway_sides(canvas: Canvas, plan: StreetPlan, rng: np.random.Generator) -> None:
    """Guard rails along highways, with noise barriers and trees behind them."""
    if shapely.is_empty(plan.highway):
        return
    junctions = shapely.buffer(shapely.difference(plan.asphalt, shapely.buffer(plan.highway, 0.5)), 4.0)
    rails = shapely.boundary(shapely.buffer(plan.highway, RAIL_M, quad_segs=3))
    keep_off = shapely.union_all([junctions, shapely.buffer(plan.asphalt, RAIL_M - 0.3)])
    raise_line(canvas, shapely.difference(rails, keep_off), Boundary(GUARD_RAIL, 0.3, 0.8))
    barriers = shapely.boundary(shapely.buffer(plan.highway, NOISE_BARRIER_M, quad_segs=3))
    barriers = shapely.difference(barriers, shapely.buffer(junctions, 8.0))
    for number, piece in enumerate(_lines(barriers)):
        if piece.length > 30 and (number + int(rng.integers(2))) % 2:
            raise_line(canvas, piece, Boundary(WALL, 0.4, 3.0))
    for row_m in (TREES_M, TREES_M + 8.0):
        for piece in _lines(shapely.boundary(shapely.buffer(plan.highway, row_m, quad_segs=3))):
            at_m = np.arange(2.0, piece.length, 8.0)
            for foot_m in shapely.get_coordinates(shapely.line_interpolate_point(piece, at_m)):
                if canvas.free(canvas.disc(foot_m, 1.0), (TERRAIN,)):
                    plant_tree(canvas, foot_m, 2.4, 9.0)


def _lines(geometry: shapely.Geometry) -> list[shapely.LineString]:
    merged = shapely.line_merge(geometry) if geometry.geom_type != "LineString" else geometry
    return [part for part in shapely.get_parts(merged) if part.geom_type == "LineString"]
