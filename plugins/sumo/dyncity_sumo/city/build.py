"""From a road network to a static city."""

import numpy as np
import shapely

from dyncity_sumo.city.canvas import ROAD, SIDEWALK, TERRAIN, Canvas
from dyncity_sumo.city.marks import paint_marks
from dyncity_sumo.city.plan import REACH_M, plan_streets
from dyncity_sumo.city.terrain import set_heights
from dyncity_sumo.columns import StaticColumns, empty_columns
from dyncity_sumo.roads import RoadNetwork


def build_city(network: RoadNetwork, rng: np.random.Generator) -> StaticColumns:
    """Build everything that stands still within 60 m of the carriageway.

    The same network and generator state give the same arrays.
    """
    plan = plan_streets(network, rng)
    west, south, east, north = shapely.bounds(plan.asphalt)
    canvas = Canvas(empty_columns(np.array([west, south]) - REACH_M - 1, np.array([east, north]) + REACH_M + 1))
    canvas.surfaces(shapely.buffer(plan.asphalt, REACH_M, quad_segs=3), TERRAIN)
    canvas.surfaces(plan.pavement, SIDEWALK)
    canvas.surfaces(plan.asphalt, ROAD)
    paint_marks(canvas, network)
    set_heights(canvas.columns, network, rng)
    return canvas.columns
