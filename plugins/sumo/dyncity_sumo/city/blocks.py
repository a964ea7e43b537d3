"""What the blocks between the streets are used for, and how each use is built."""

import enum
from dataclasses import dataclass

import numpy as np
import shapely
from shapely import Polygon

from dyncity_sumo.city.boundaries import FENCE_M, Boundary, draw_boundary, raise_across, raise_along_street, raise_line
from dyncity_sumo.city.buildings import Entrance, Footprint, House, raise_house
from dyncity_sumo.city.canvas import FENCE, GROUND, OTHER, SIDEWALK, STATIC, TERRAIN, VEGETATION, WALL, Canvas, Frame
from dyncity_sumo.city.lots import Lot, fronts_of, lots_along
from dyncity_sumo.city.plan import StreetPlan
from dyncity_sumo.city.plants import grid_points, plant_inside, plant_shrub, plant_tree

CHANGE_OF_USE_M = 220.0
"""Length of street front after which another use may begin."""

NARROWEST_M = 3.0
"""A lot less deep than this is a strip of green behind a fence."""

PATH_FROM_M = -1.0
"""Paths to a door begin on the pavement, wherever exactly it ends."""

PARK_AREA_M2 = (500.0, 30_000.0)
"""Blocks of this size may become a park as a whole."""


class Use(enum.Enum):
    """Use of a stretch of street front."""

    VILLAS = "villas"
    TERRACES = "terraces"
    SLABS = "slabs"
    SHOPS = "shops"
    YARDS = "yards"


USE_SHARES = {Use.VILLAS: 0.34, Use.TERRACES: 0.24, Use.SLABS: 0.16, Use.SHOPS: 0.12, Use.YARDS: 0.14}
PARK_SHARE = 0.15


@dataclass(frozen=True)
class Manner:
    """How a stretch of street is built: one draw, kept along it, so that rows look like rows.

    Attributes:
        use: what for.
        lot_m: width of a lot.
        depth_m: depth of a lot.
        setback_m: from the pavement to the front wall.
        side_m: from the lot's sides to the side walls; 0 joins the houses.
        house_depth_m: from front to back wall.
        entrance: of every house.
        footprint: of every house.
        front: boundary along the street, None for open land.
        sides: boundary between lots.
        planted: whether a hedge stands below the front wall.
    """

    use: Use
    lot_m: float
    depth_m: float
    setback_m: float
    side_m: float
    house_depth_m: float
    entrance: Entrance
    footprint: Footprint
    front: Boundary | None
    sides: Boundary
    planted: bool


def build_blocks(canvas: Canvas, plan: StreetPlan, rng: np.random.Generator) -> None:
    """Build all blocks of the plan."""
    for block in plan.blocks:
        if PARK_AREA_M2[0] < block.area < PARK_AREA_M2[1] and rng.random() < PARK_SHARE:
            _lay_out_park(canvas, block, rng)
            continue
        _build_fronts(canvas, block, plan, rng)
        plant_inside(canvas, block, float(rng.choice([0.25, 0.5])), rng)


def _build_fronts(canvas: Canvas, block: Polygon, plan: StreetPlan, rng: np.random.Generator) -> None:
    manner, built_m = _draw_manner(rng), 0.0
    for front in fronts_of(block, plan):
        if built_m > CHANGE_OF_USE_M:
            manner, built_m = _draw_manner(rng), 0.0
        built_m += front.length_m
        for lot in lots_along(canvas, front, manner.lot_m, manner.depth_m):
            if lot.depth_m < NARROWEST_M:
                raise_along_street(canvas, lot.frame, lot.width_m, [], manner.front or manner.sides)
            elif manner.use is Use.YARDS:
                _build_yard(canvas, lot, manner, rng)
            else:
                _build_lot(canvas, lot, manner, rng)


def _draw_manner(rng: np.random.Generator) -> Manner:
    use = list(USE_SHARES)[int(rng.choice(len(USE_SHARES), p=list(USE_SHARES.values())))]
    lot_m, setback_m, side_m, house_depth_m = {
        Use.VILLAS: (rng.uniform(17, 21), rng.choice([4.0, 5.0, 6.0]), 3.2, rng.choice([9.0, 10.0])),
        Use.TERRACES: (rng.uniform(12, 15), rng.choice([2.5, 3.5, 4.5]), 0.0, rng.choice([10.0, 12.0])),
        Use.SLABS: (rng.uniform(34, 46), rng.choice([5.0, 6.5, 8.0]), 4.5, 11.0),
        Use.SHOPS: (rng.uniform(15, 20), rng.choice([2.0, 3.0, 4.0]), 0.0, 13.0),
        Use.YARDS: (rng.uniform(36, 50), rng.choice([6.0, 9.0]), 5.0, 13.0),
    }[use]
    entrances = {
        Use.VILLAS: (Entrance.PORCH, Entrance.RECESS),
        Use.TERRACES: (Entrance.RECESS, Entrance.BAY, Entrance.PORCH),
        Use.SLABS: (Entrance.RECESS, Entrance.PORCH),
        Use.SHOPS: (Entrance.AWNING, Entrance.ARCADE, Entrance.PLAIN),
        Use.YARDS: (Entrance.PLAIN,),
    }[use]
    fenced = {Use.VILLAS: 0.95, Use.TERRACES: 0.8, Use.SLABS: 0.7, Use.SHOPS: 0.0, Use.YARDS: 1.0}[use]
    return Manner(
        use,
        float(lot_m),
        26.0,
        float(setback_m),
        float(side_m),
        float(house_depth_m),
        entrances[int(rng.integers(len(entrances)))],
        list(Footprint)[int(rng.integers(len(Footprint)))],
        draw_boundary(rng) if rng.random() < fenced else None,
        Boundary(FENCE, FENCE_M, 1.5) if rng.random() < 0.75 else Boundary(VEGETATION, 0.8, 1.5),
        bool(rng.random() < 0.5),
    )


def _build_lot(canvas: Canvas, lot: Lot, manner: Manner, rng: np.random.Generator) -> None:
    """A house in its garden, or a shop on its forecourt."""
    frame, width_m = lot.frame, lot.width_m
    front_m = min(manner.setback_m, 0.3 * lot.depth_m)
    back_m = min(front_m + manner.house_depth_m, lot.depth_m - 1.0)
    if back_m - front_m < 5.0:
        _build_allotment(canvas, lot, manner, rng)
        return
    # Every joined row opens after some houses: a passage into the courtyard.
    passage_m = 3.4 if manner.side_m == 0 and rng.random() < 0.25 else 0.0
    house_u_m = (manner.side_m, width_m - manner.side_m - passage_m)
    door_m = (house_u_m[0] + house_u_m[1]) / 2
    height_m = float(rng.choice([6.0, 9.0])) if manner.use is Use.VILLAS else float(rng.choice([9.0, 12.0, 15.0, 18.0]))
    house = House(house_u_m, (front_m, back_m), height_m, manner.footprint, manner.entrance, door_m)
    raise_house(canvas, frame, house, lot.depth_m)
    if manner.use is Use.SHOPS:
        canvas.surface(canvas.polygon(frame.rectangle((0.0, width_m), (PATH_FROM_M, front_m))), SIDEWALK, (TERRAIN,))
        _furnish_forecourt(canvas, lot, manner, rng)
        return
    gates_m = [(door_m - 0.8, door_m + 0.8)]
    if manner.use is Use.VILLAS or passage_m:
        drive_m = (width_m - 3.3, width_m - 0.3)
        gates_m.append(drive_m)
        canvas.surface(canvas.polygon(frame.rectangle(drive_m, (PATH_FROM_M, back_m))), GROUND, (TERRAIN,))
    canvas.surface(canvas.polygon(frame.rectangle(gates_m[0], (PATH_FROM_M, front_m))), GROUND, (TERRAIN,))
    if manner.front is not None:
        raise_along_street(canvas, frame, width_m, gates_m, manner.front)
    sides = [0.0] if lot.first else []
    for u_m in [*sides, width_m]:
        start_m = 0.4 if manner.side_m else back_m
        if manner.use is not Use.SLABS:
            raise_across(canvas, frame, u_m, (start_m, lot.depth_m), manner.sides)
    canvas.box(frame, (0.0, width_m), (lot.depth_m - 0.4, lot.depth_m - 0.1), manner.sides.label, (0.0, 1.5))
    _plant_garden(canvas, lot, manner, house, rng)


def _plant_garden(canvas: Canvas, lot: Lot, manner: Manner, house: House, rng: np.random.Generator) -> None:
    frame, front_m = lot.frame, house.v_m[0]
    if manner.planted and front_m >= 3.0:
        for left, right in ((house.u_m[0] + 0.3, house.door_u_m - 2.0), (house.door_u_m + 2.0, house.u_m[1] - 0.3)):
            if right - left > 1.0:
                canvas.box(frame, (left, right), (front_m - 2.0, front_m - 1.0), VEGETATION, (0.0, 0.9))
    across = np.array([-frame.along[1], frame.along[0]])
    if front_m >= 5.0 and rng.random() < 0.5:
        foot_m = frame.origin_m + 0.22 * lot.width_m * frame.along + 0.45 * front_m * across
        plant_tree(canvas, foot_m, 1.8, 6.0)
    if rng.random() < 0.4:
        canvas.box(frame, (house.door_u_m + 1.2, house.door_u_m + 2.6), (0.6, 1.4), STATIC, (0.0, 1.2))
    garden_m = lot.depth_m - house.v_m[1]
    if garden_m > 6.0 and rng.random() < 0.5:
        canvas.box(frame, (1.0, 3.6), (lot.depth_m - 4.0, lot.depth_m - 1.2), STATIC, (0.0, 2.4))
    if garden_m > 6.0 and rng.random() < 0.6:
        plant_tree(canvas, frame.origin_m + 0.65 * lot.width_m * frame.along + (lot.depth_m - 3.5) * across, 2.0, 6.0)


def _build_allotment(canvas: Canvas, lot: Lot, manner: Manner, rng: np.random.Generator) -> None:
    """Where no house fits: a garden with a shed."""
    raise_along_street(canvas, lot.frame, lot.width_m, [(1.0, 2.6)], manner.front or manner.sides)
    across = np.array([-lot.frame.along[1], lot.frame.along[0]])
    for share in (0.35, 0.75):
        foot_m = lot.frame.origin_m + share * lot.width_m * lot.frame.along + 0.6 * lot.depth_m * across
        if rng.random() < 0.5:
            plant_tree(canvas, foot_m, 1.8, 5.0)
        else:
            plant_shrub(canvas, foot_m, 1.0, 1.6)


def _furnish_forecourt(canvas: Canvas, lot: Lot, manner: Manner, rng: np.random.Generator) -> None:
    """Planters and tables in front of a shop."""
    if manner.setback_m < 3.0:
        return
    for u_m in np.arange(2.5, lot.width_m - 2.5, 5.0):
        draw = rng.random()
        if draw < 0.35:
            canvas.box(lot.frame, (u_m, u_m + 1.6), (0.4, 1.2), VEGETATION, (0.0, 1.0))
        elif draw < 0.6:
            canvas.box(lot.frame, (u_m, u_m + 1.6), (0.4, 1.2), OTHER, (0.0, 0.8))


def _build_yard(canvas: Canvas, lot: Lot, manner: Manner, rng: np.random.Generator) -> None:
    """A walled yard with a hall and rows of containers."""
    frame, width_m = lot.frame, lot.width_m
    canvas.surface(canvas.polygon(frame.rectangle((0.0, width_m), (PATH_FROM_M, lot.depth_m))), GROUND, (TERRAIN,))
    gate_m = (0.3 * width_m, 0.3 * width_m + 6.0)
    boundary = manner.front if manner.front is not None else Boundary(WALL, 0.3, 1.8)
    raise_along_street(canvas, frame, width_m, [gate_m], boundary)
    for u_m in [0.0, width_m] if lot.first else [width_m]:
        raise_across(canvas, frame, u_m, (0.4, lot.depth_m), boundary)
    back_m = min(manner.setback_m + manner.house_depth_m, lot.depth_m - 1.0)
    if back_m - manner.setback_m > 5.0:
        house_u_m = (0.3 * width_m, width_m - manner.side_m)
        middle = (house_u_m[0] + house_u_m[1]) / 2
        hall = House(house_u_m, (manner.setback_m, back_m), 7.0, Footprint.BAR, Entrance.PLAIN, middle)
        raise_house(canvas, frame, hall, lot.depth_m)
    for v_m in np.arange(3.0, lot.depth_m - 3.0, 3.6):
        if rng.random() < 0.6:
            canvas.box(frame, (1.5, 7.6), (v_m, v_m + 2.4), STATIC, (0.0, 2.6))
    for u_m in np.arange(gate_m[1] + 2.0, width_m - 3.0, 4.0):
        if rng.random() < 0.35:
            canvas.box(frame, (u_m, u_m + 1.8), (1.4, 2.6), STATIC, (0.0, 1.2))


def _lay_out_park(canvas: Canvas, block: Polygon, rng: np.random.Generator) -> None:
    """Lawn with a path around it, trees in rows, a hedge or fence at the street, a playground."""
    canvas.surfaces(shapely.difference(shapely.buffer(block, -6.0), shapely.buffer(block, -8.5)), SIDEWALK, (TERRAIN,))
    edge = shapely.boundary(shapely.buffer(block, -0.6))
    posts = np.arange(0.0, edge.length, 34.0)
    gates = shapely.union_all([shapely.buffer(p, 2.5) for p in shapely.line_interpolate_point(edge, posts)])
    raise_line(canvas, shapely.difference(edge, gates), draw_boundary(rng))
    inner = shapely.buffer(block, -12.0)
    if inner.area > 200:
        middle = np.asarray(shapely.point_on_surface(inner).coords)[0]
        frame = Frame(middle, np.array([1.0, 0.0]))
        canvas.surface(canvas.polygon(frame.rectangle((-7.0, 7.0), (-7.0, 7.0))), GROUND, (TERRAIN,))
        for u_m in (-5.0, -0.5, 3.5):
            canvas.box(frame, (u_m, u_m + 2.0), (-4.0, -2.0), OTHER, (0.0, 2.0))
            canvas.box(frame, (u_m, u_m + 1.4), (2.0, 4.0), OTHER, (0.0, 1.0))
        canvas.claim(canvas.polygon(frame.rectangle((-7.0, 7.0), (-7.0, 7.0))))
    for foot_m in grid_points(shapely.buffer(block, -3.0), 8.0):
        if canvas.free(canvas.disc(foot_m, 1.2), (TERRAIN,)):
            plant_tree(canvas, foot_m, 2.2, 8.0)
    benches = shapely.boundary(shapely.buffer(block, -9.2))
    for point in shapely.line_interpolate_point(benches, np.arange(5.0, max(benches.length, 5.0), 16.0)):
        canvas.solid(canvas.disc(np.asarray(point.coords)[0], 0.7), OTHER, 0.0, 0.8)
