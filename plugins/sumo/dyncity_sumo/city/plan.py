"""The plan of the streets: which ground is carriageway, pavement, median or building block."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import shapely
from jaxtyping import Float64
from shapely import GEOSException, Polygon

from dyncity_sumo.city.canvas import polygons_of
from dyncity_sumo.roads import Lane, LaneKind, Streets

REACH_M = 60.0
"""Distance from the carriageway up to which the city is built: beyond any grid around an ego."""

COURTYARD_M2 = 40_000.0
"""Land beyond that reach is built too where streets surround it and it is at most this large."""

PINHOLE_M2 = 4.0
"""Gaps in the asphalt up to this area come from the net's geometry, not from the street."""

HIGHWAY_SPEED_MPS = 19.5
"""Lanes faster than this (70 km/h) have guard rails instead of pavements and houses."""

PAVEMENT_WIDTHS_M = (3.5, 4.0, 4.5)
"""Widths of pavements; SUMO's own sidewalks add to them where they are wider."""

LANE_OF_HIGHWAY_SHOULDER_M = 1.0
"""Shoulders from this width on belong to highways; narrower ones are gutters."""

FAR_FROM_WALKS_M = 10.0
"""A junction with no sidewalk within this distance belongs to its highways alone."""

MITRE = {"join_style": "mitre", "mitre_limit": 3.0}

ASPHALT = (
    LaneKind.DRIVING,
    LaneKind.RESERVED,
    LaneKind.BICYCLE,
    LaneKind.PARKING,
    LaneKind.SHOULDER,
    LaneKind.INTERNAL,
)


@dataclass(frozen=True, eq=False)
class StreetPlan:
    """The plan, in world metres.

    Attributes:
        land: everything that is built or planted: within 60 m of the asphalt, and courtyards farther in.
        asphalt: carriageways and junctions.
        highway: the part of the asphalt that is motorway-like.
        pavement: sidewalks and walking areas.
        medians: narrow green strips between carriageways.
        blocks: what is left to build on, one polygon each.
        kerbs: what lies behind each ring of kerb: the sides of the streets that have a pavement.
        corners: where nothing may stand: around crossings and junctions.
    """

    land: shapely.Geometry
    asphalt: shapely.Geometry
    highway: shapely.Geometry
    pavement: shapely.Geometry
    medians: shapely.Geometry
    blocks: tuple[Polygon, ...]
    kerbs: tuple[Polygon, ...]
    corners: shapely.Geometry


def plan_streets(network: Streets, rng: np.random.Generator) -> StreetPlan:
    """Lay out the ground around a road network."""
    asphalt = _asphalt(network)
    highway = _common(_highway(network), asphalt)
    walks = _union(
        [ribbon(lane) for lane in network.lanes_of(LaneKind.SIDEWALK)]
        + [_valid(area.polygon_m) for area in network.areas]
    )
    walks = _cut(walks, asphalt)
    off_pavement = shapely.buffer(highway, 12.0, quad_segs=2)
    along = {width_m: shapely.buffer(asphalt, width_m + 0.1, quad_segs=4) for width_m in PAVEMENT_WIDTHS_M}
    pavement, medians = [walks], []
    kerbs: list[Polygon] = []
    for inside in _sides(asphalt):
        width_m = float(rng.choice(PAVEMENT_WIDTHS_M))
        wide = _opened(inside, width_m + 3.5)
        narrow = [part for part in polygons_of(_cut(inside, wide)) if part.area > 60]
        medians += [part for part in narrow if not shapely.buffer(part, -0.8).is_empty]
        # GEOS divides by zero at some mitres and goes on without them: the outline is valid, and that of a width a
        # micrometre off.
        with np.errstate(divide="ignore", invalid="ignore"):
            within = shapely.buffer(wide, -width_m, **MITRE)
        strip = _cut(inside, _union([within, *medians]))
        pavement.append(_cut(_common(strip, along[width_m]), off_pavement))
        kerbs += polygons_of(wide)
    # Opening and closing smooth the steps where sidewalks of different widths meet.
    land = _filled(shapely.buffer(asphalt, REACH_M, quad_segs=3), COURTYARD_M2)
    paved = _common(_union(pavement), land)
    paved = _cut(_closed(paved, 0.6), asphalt)
    green = _cut(_union(medians), _union([walks, asphalt]))
    rest = _opened(_cut(land, _union([asphalt, paved, green])), 0.8)
    blocks = [part for part in polygons_of(rest) if part.area > 30]
    crossings = [ribbon(lane, 5.0) for lane in network.lanes_of(LaneKind.CROSSING)]
    corners = _union([*crossings, *(shapely.buffer(j, 3.0) for j in _driven_junctions(network))])
    return StreetPlan(land, asphalt, highway, paved, green, tuple(sorted(blocks, key=_place)), tuple(kerbs), corners)


def _highway(network: Streets) -> shapely.MultiPolygon:
    """Edges without sidewalks that are fast or have a wide shoulder, and the junctions that join only such."""
    walked = {lane.edge_id for lane in network.lanes_of(LaneKind.SIDEWALK)}
    shouldered = {
        lane.edge_id for lane in network.lanes_of(LaneKind.SHOULDER) if lane.width_m >= LANE_OF_HIGHWAY_SHOULDER_M
    }
    driven = {lane.edge_id for lane in network.lanes_of(LaneKind.DRIVING)} - walked
    edges = _union(
        ribbon(lane, 2.0)
        for lane in network.lanes_of(LaneKind.DRIVING, LaneKind.RESERVED, LaneKind.SHOULDER)
        if lane.edge_id in driven and (lane.speed_mps > HIGHWAY_SPEED_MPS or lane.edge_id in shouldered)
    )
    walks = _union(ribbon(lane) for lane in network.lanes_of(LaneKind.SIDEWALK))
    fast = [
        j for j in _driven_junctions(network) if j.intersects(edges) and not shapely.dwithin(j, walks, FAR_FROM_WALKS_M)
    ]
    return _union([edges, *(shapely.buffer(junction, 1.0) for junction in fast)])


def ribbon(lane: Lane, extra_m: float = 0.0) -> Polygon:
    """The surface of a lane, ``extra_m`` wider on both sides."""
    line = shapely.linestrings(lane.centreline_m[:, :2])
    return shapely.buffer(line, lane.width_m / 2 + extra_m, cap_style="flat", join_style="round", quad_segs=4)


def _asphalt(network: Streets) -> shapely.Geometry:
    """Union of carriageway lanes and of what junctions have beside their corners for pedestrians."""
    lanes = _union([ribbon(lane, 0.05) for lane in network.lanes_of(*ASPHALT)])
    crossings = _union([ribbon(lane) for lane in network.lanes_of(LaneKind.CROSSING)])
    walking = _union([_valid(area.polygon_m) for area in network.areas])
    driven = _union(_driven_junctions(network))
    # Imported walking areas may cover a junction whole: what lies between its paths is asphalt all the same.
    paths = _union([lanes, _common(crossings, driven)])
    between = _common(_closed(paths, 2.5), driven)
    union = _union([paths, between, _cut(driven, walking)])
    smooth = shapely.simplify(_opened(_closed(union, 0.5), 0.4), 0.03)
    # Slivers between walking areas are no street.
    return _filled(_union(part for part in polygons_of(smooth) if part.intersects(lanes)), PINHOLE_M2)


def _driven_junctions(network: Streets) -> list[shapely.Geometry]:
    """Outlines of the junctions that vehicles cross, not of those where footpaths meet."""
    outlines = [_valid(junction.polygon_m) for junction in network.junctions]
    if not outlines:
        return []
    paths = [
        shapely.linestrings(lane.centreline_m[:, :2]) for lane in network.lanes_of(LaneKind.DRIVING, LaneKind.INTERNAL)
    ]
    crossed, _ = shapely.STRtree(paths).query(outlines, predicate="intersects")
    return [outlines[number] for number in np.unique(crossed)]


def _sides(asphalt: shapely.Geometry) -> list[Polygon]:
    """The areas that the asphalt's rings enclose, and the strip around its outside."""
    sides = []
    for part in polygons_of(asphalt):
        filled = Polygon(part.exterior)
        around = _cut(shapely.buffer(filled, REACH_M, quad_segs=3), asphalt)
        sides += [Polygon(ring) for ring in part.interiors]
        sides += [Polygon(piece.exterior, piece.interiors) for piece in polygons_of(around) if piece.intersects(filled)]
    unique: dict[bytes, Polygon] = {}
    for side in sides:
        unique.setdefault(shapely.to_wkb(shapely.normalize(side)), side)
    return sorted(unique.values(), key=_place)


def _filled(geometry: shapely.Geometry, area_m2: float) -> shapely.MultiPolygon:
    """The geometry without its holes of at most this area."""
    return _union(
        Polygon(part.exterior, [ring for ring in part.interiors if Polygon(ring).area > area_m2])
        for part in polygons_of(geometry)
    )


def _opened(geometry: shapely.Geometry, radius_m: float) -> shapely.Geometry:
    grown = shapely.buffer(shapely.buffer(geometry, -radius_m, **MITRE), radius_m, **MITRE)
    return _common(grown, geometry)


def _closed(geometry: shapely.Geometry, radius_m: float) -> shapely.Geometry:
    grown = shapely.buffer(shapely.buffer(geometry, radius_m, quad_segs=3), -radius_m, quad_segs=3)
    return _union([grown, geometry])


def _union(parts: Iterable[shapely.Geometry]) -> shapely.MultiPolygon:
    """Union of the areas of any geometries; GEOS cannot overlay collections that mix them with lines."""
    return _areas(shapely.union_all([polygon for part in parts for polygon in polygons_of(part)]))


def _cut(geometry: shapely.Geometry, knife: shapely.Geometry) -> shapely.MultiPolygon:
    return _overlay(shapely.difference, geometry, knife)


def _common(first: shapely.Geometry, second: shapely.Geometry) -> shapely.MultiPolygon:
    return _overlay(shapely.intersection, first, second)


def _overlay(
    operation: Callable[..., shapely.Geometry], first: shapely.Geometry, second: shapely.Geometry
) -> shapely.MultiPolygon:
    """Overlay two areas. Grown and shrunk outlines may touch themselves, which GEOS refuses: they are mended then."""
    try:
        return _areas(operation(_areas(first), _areas(second)))
    except GEOSException:
        return _areas(operation(_areas(shapely.make_valid(first)), _areas(shapely.make_valid(second))))


def _areas(geometry: shapely.Geometry) -> shapely.MultiPolygon:
    return shapely.MultiPolygon(list(polygons_of(geometry)))


def _valid(points_m: Float64[np.ndarray, "N 3"]) -> shapely.Geometry:
    return shapely.make_valid(shapely.polygons(points_m[:, :2]))


def _place(polygon: Polygon) -> tuple[float, float]:
    """Where a polygon lies; orders polygons without regard to how they came about."""
    west, south, _, _ = polygon.bounds
    return round(west, 2), round(south, 2)
