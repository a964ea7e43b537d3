"""The plan of the streets: which ground is carriageway, pavement, median or building block."""

from dataclasses import dataclass

import numpy as np
import shapely
from jaxtyping import Float64
from shapely import Polygon

from dyncity_sumo.city.canvas import polygons_of
from dyncity_sumo.roads import Lane, LaneKind, RoadNetwork

REACH_M = 60.0
"""Distance from the carriageway up to which the city is built: beyond any grid around an ego."""

HIGHWAY_SPEED_MPS = 19.5
"""Lanes faster than this (70 km/h) have guard rails instead of pavements and houses."""

PAVEMENT_WIDTHS_M = (3.0, 3.5, 4.0)
"""Widths of pavements; SUMO's own sidewalks add to them where they are wider."""

LANE_OF_HIGHWAY_SHOULDER_M = 1.0
"""Shoulders from this width on belong to highways; narrower ones are gutters."""

MITRE = {"join_style": "mitre", "mitre_limit": 3.0}

ASPHALT = (LaneKind.DRIVING, LaneKind.BICYCLE, LaneKind.PARKING, LaneKind.SHOULDER, LaneKind.INTERNAL)


@dataclass(frozen=True, eq=False)
class Kerb:
    """One side of the streets: what lies inside one ring of kerb.

    Attributes:
        inside: polygon behind the kerb; its boundary is the kerb line.
        pavement_m: width of the pavement along it.
    """

    inside: Polygon
    pavement_m: float


@dataclass(frozen=True, eq=False)
class StreetPlan:
    """The plan, in world metres.

    Attributes:
        asphalt: carriageways and junctions.
        highway: the part of the asphalt that is motorway-like.
        pavement: sidewalks and walking areas.
        medians: narrow green strips between carriageways.
        blocks: what is left to build on, one polygon each.
        crossings: zebra crossings, each a quadrilateral strip.
        kerbs: the sides of the streets that have a pavement.
        corners: where nothing may stand: around crossings and junctions.
    """

    asphalt: shapely.Geometry
    highway: shapely.Geometry
    pavement: shapely.Geometry
    medians: shapely.Geometry
    blocks: tuple[Polygon, ...]
    crossings: tuple[Polygon, ...]
    kerbs: tuple[Kerb, ...]
    corners: shapely.Geometry


def plan_streets(network: RoadNetwork, rng: np.random.Generator) -> StreetPlan:
    """Lay out the ground around a road network."""
    asphalt = _asphalt(network)
    highway = shapely.intersection(shapely.union_all([ribbon(lane, 2.0) for lane in _highway_lanes(network)]), asphalt)
    crossings = tuple(ribbon(lane) for lane in network.lanes_of(LaneKind.CROSSING))
    walks = shapely.union_all(
        [ribbon(lane) for lane in network.lanes_of(LaneKind.SIDEWALK)]
        + [_valid(area.polygon_m) for area in network.areas]
    )
    walks = shapely.difference(walks, asphalt)
    off_pavement = shapely.buffer(highway, 12.0, quad_segs=2)
    along = {width_m: shapely.buffer(asphalt, width_m + 0.1, quad_segs=4) for width_m in PAVEMENT_WIDTHS_M}
    pavement, medians, kerbs = [walks], [], []
    for inside in _sides(asphalt):
        width_m = float(rng.choice(PAVEMENT_WIDTHS_M))
        wide = _opened(inside, width_m + 3.5)
        narrow = [part for part in polygons_of(shapely.difference(inside, wide)) if part.area > 60]
        medians += [part for part in narrow if not shapely.buffer(part, -0.8).is_empty]
        strip = shapely.difference(inside, shapely.union_all([shapely.buffer(wide, -width_m, **MITRE), *medians]))
        pavement.append(shapely.difference(shapely.intersection(strip, along[width_m]), off_pavement))
        kerbs += [Kerb(part, width_m) for part in polygons_of(wide)]
    # Opening and closing smooth the steps where sidewalks of different widths meet.
    around = shapely.buffer(asphalt, REACH_M, quad_segs=3)
    paved = shapely.intersection(shapely.union_all(pavement), around)
    paved = shapely.difference(_closed(paved, 0.6), asphalt)
    green = shapely.difference(shapely.union_all(medians), shapely.union_all([walks, asphalt]))
    rest = _opened(shapely.difference(around, shapely.union_all([asphalt, paved, green])), 0.8)
    blocks = [part for part in polygons_of(rest) if part.area > 30]
    legs = [_valid(j.polygon_m) for j in network.junctions if j.kind not in ("dead_end", "rail_crossing")]
    corners = shapely.union_all([*(shapely.buffer(c, 5.0) for c in crossings), *_real_junctions(legs, asphalt)])
    return StreetPlan(
        asphalt, highway, paved, green, tuple(sorted(blocks, key=_place)), crossings, tuple(kerbs), corners
    )


def _highway_lanes(network: RoadNetwork) -> list[Lane]:
    """Lanes of edges without sidewalks that are fast or have a wide shoulder."""
    walked = {lane.edge_id for lane in network.lanes_of(LaneKind.SIDEWALK)}
    shouldered = {
        lane.edge_id for lane in network.lanes_of(LaneKind.SHOULDER) if lane.width_m >= LANE_OF_HIGHWAY_SHOULDER_M
    }
    return [
        lane
        for lane in network.lanes_of(LaneKind.DRIVING, LaneKind.SHOULDER)
        if lane.edge_id not in walked and (lane.speed_mps > HIGHWAY_SPEED_MPS or lane.edge_id in shouldered)
    ]


def ribbon(lane: Lane, extra_m: float = 0.0) -> Polygon:
    """The surface of a lane, ``extra_m`` wider on both sides."""
    line = shapely.linestrings(lane.centreline_m[:, :2])
    return shapely.buffer(line, lane.width_m / 2 + extra_m, cap_style="flat", join_style="round", quad_segs=4)


def _asphalt(network: RoadNetwork) -> shapely.Geometry:
    """Union of carriageway lanes and of what junctions have beside their corners for pedestrians."""
    lanes = shapely.union_all([ribbon(lane, 0.05) for lane in network.lanes_of(*ASPHALT)])
    crossings = shapely.union_all([ribbon(lane) for lane in network.lanes_of(LaneKind.CROSSING)])
    walking = shapely.union_all([_valid(area.polygon_m) for area in network.areas])
    shapely.prepare(lanes)
    junctions = [_valid(junction.polygon_m) for junction in network.junctions]
    driven = shapely.union_all(_real_junctions(junctions, lanes, margin_m=0.0))
    # Imported walking areas may cover a junction whole: what lies between its paths is asphalt all the same.
    paths = shapely.union_all([lanes, shapely.intersection(crossings, driven)])
    between = shapely.intersection(_closed(paths, 2.5), driven)
    union = shapely.union_all([paths, between, shapely.difference(driven, walking)])
    smooth = shapely.simplify(_opened(_closed(union, 0.5), 0.4), 0.03)
    return shapely.union_all([_without_pinholes(part) for part in polygons_of(smooth)])


def _real_junctions(junctions: list[Polygon], asphalt: shapely.Geometry, margin_m: float = 3.0) -> list[Polygon]:
    """Junctions that vehicles cross (not those of footpaths), grown by a margin."""
    return [
        shapely.buffer(polygon, margin_m)
        for polygon in junctions
        if polygon.area > 1 and shapely.intersection(polygon, asphalt).area > 0.25 * polygon.area
    ]


def _sides(asphalt: shapely.Geometry) -> list[Polygon]:
    """The areas that the asphalt's rings enclose, and the strip around its outside."""
    sides = []
    for part in polygons_of(asphalt):
        filled = Polygon(part.exterior)
        around = shapely.difference(shapely.buffer(filled, REACH_M, quad_segs=3), asphalt)
        sides += [Polygon(ring) for ring in part.interiors]
        sides += [Polygon(piece.exterior, piece.interiors) for piece in polygons_of(around) if piece.intersects(filled)]
    unique: dict[bytes, Polygon] = {}
    for side in sides:
        unique.setdefault(shapely.to_wkb(shapely.normalize(side)), side)
    return sorted(unique.values(), key=_place)


def _without_pinholes(part: Polygon) -> Polygon:
    return Polygon(part.exterior, [ring for ring in part.interiors if Polygon(ring).area > 4.0])


def _opened(geometry: shapely.Geometry, radius_m: float) -> shapely.Geometry:
    grown = shapely.buffer(shapely.buffer(geometry, -radius_m, **MITRE), radius_m, **MITRE)
    return shapely.intersection(grown, geometry)


def _closed(geometry: shapely.Geometry, radius_m: float) -> shapely.Geometry:
    return shapely.union(
        shapely.buffer(shapely.buffer(geometry, radius_m, quad_segs=3), -radius_m, quad_segs=3), geometry
    )


def _valid(points_m: Float64[np.ndarray, "N 3"]) -> shapely.Geometry:
    return shapely.make_valid(shapely.polygons(points_m[:, :2]))


def _place(polygon: Polygon) -> tuple[float, float]:
    """Where a polygon lies; orders polygons without regard to how they came about."""
    west, south, _, _ = polygon.bounds
    return round(west, 2), round(south, 2)
