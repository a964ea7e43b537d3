"""From a road network to a static city."""

import numpy as np
import shapely

from dyncity_sumo.city.blocks import build_blocks
from dyncity_sumo.city.canvas import ROAD, SIDEWALK, TERRAIN, Canvas
from dyncity_sumo.city.kerbside import furnish_kerbs
from dyncity_sumo.city.marks import paint_marks
from dyncity_sumo.city.plan import REACH_M, StreetPlan, plan_streets
from dyncity_sumo.city.roadside import build_highway_sides, build_medians
from dyncity_sumo.city.terrain import set_heights
from dyncity_sumo.columns import StaticColumns, empty_columns
from dyncity_sumo.roads import Streets


def build_city(network: Streets, rng: np.random.Generator) -> StaticColumns:
    """Build everything that stands still within 60 m of the carriageway.

    The same network and generator state give the same arrays.
    """
    plan = plan_streets(network, rng)
    canvas = Canvas(_site(plan))
    canvas.surfaces(plan.land, TERRAIN)
    canvas.surfaces(plan.pavement, SIDEWALK)
    canvas.surfaces(plan.medians, TERRAIN)
    canvas.surfaces(plan.asphalt, ROAD)
    paint_marks(canvas, network)
    build_blocks(canvas, plan, rng)
    build_medians(canvas, plan, rng)
    build_highway_sides(canvas, plan, rng)
    furnish_kerbs(canvas, network, plan, rng)
    set_heights(canvas.columns, network, rng)
    return canvas.columns


def _site(plan: StreetPlan) -> StaticColumns:
    west, south, east, north = shapely.bounds(plan.asphalt)
    margin_m = REACH_M + 1.0
    return empty_columns(np.array([west, south]) - margin_m, np.array([east, north]) + margin_m)
