"""From a road network to a static city."""

import numpy as np
import shapely

from dyncity_sim.errors import MapError
from dyncity_sumo.city.blocks import build_blocks
from dyncity_sumo.city.canvas import ROAD, SIDEWALK, TERRAIN, Canvas
from dyncity_sumo.city.kerbside import furnish_kerbs
from dyncity_sumo.city.marks import paint_marks
from dyncity_sumo.city.plan import REACH_M, StreetPlan, plan_streets
from dyncity_sumo.city.roadside import build_highway_sides, build_medians
from dyncity_sumo.city.terrain import set_heights
from dyncity_sumo.columns import StaticColumns, empty_columns
from dyncity_sumo.roads import Streets

LARGEST_KM2 = 64.0
"""Largest box that a city is built in; its columns take 14 GB."""


def build_city(network: Streets, rng: np.random.Generator) -> StaticColumns:
    """Build everything that stands still within 60 m of the carriageway.

    The same network and generator state give the same arrays.

    Raises:
        MapError: the box around the network is larger than LARGEST_KM2, or its ground too high or low.
    """
    plan = plan_streets(network, rng)
    canvas = Canvas(_site(plan, network.name))
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


def _site(plan: StreetPlan, name: str) -> StaticColumns:
    west, south, east, north = shapely.bounds(plan.asphalt)
    margin_m = REACH_M + 1.0
    lower_m, upper_m = np.array([west, south]) - margin_m, np.array([east, north]) + margin_m
    width_km, depth_km = (upper_m - lower_m) / 1000
    if width_km * depth_km > LARGEST_KM2:
        raise MapError(
            "map",
            f"{name}: {width_km:.1f} by {depth_km:.1f} km",
            f"a network in a box of at most {LARGEST_KM2:g} km^2",
            "Crop it: netconvert -s IN.net.xml --keep-edges.in-boundary=WEST,SOUTH,EAST,NORTH -o OUT.net.xml",
        )
    return empty_columns(lower_m, upper_m)
