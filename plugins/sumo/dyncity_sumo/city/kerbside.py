"""What stands on the pavement along the kerb: trees in rows, lamps, benches, signals and signs."""

from collections.abc import Iterator

import numpy as np
import shapely
from jaxtyping import Float64

from dyncity_sumo.city.canvas import (
    OTHER,
    POLE,
    ROAD,
    ROAD_LINE,
    SIDEWALK,
    STATIC,
    TERRAIN,
    TRAFFIC_LIGHT,
    TRAFFIC_SIGN,
    Canvas,
    Frame,
)
from dyncity_sumo.city.plan import StreetPlan
from dyncity_sumo.city.plants import plant_tree
from dyncity_sumo.roads import Signal, SignalKind, Streets

FROM_KERB_M = 0.9
"""Distance of trees, lamps and furniture from the kerb."""

LAMP_PITCH_M = 30.0
LAMP_HEIGHT_M = 7.0
BENCH_PITCH_M = 27.0
SHELTER_PITCH_M = 190.0
SHELTER_ROOF_DM = (25, 27)
"""Lower and upper face of a shelter's roof over the ground: nothing else is built from there to there."""


def furnish_kerbs(canvas: Canvas, network: Streets, plan: StreetPlan, rng: np.random.Generator) -> None:
    """Signals first, then rows along each kerb, clear of junctions and crossings."""
    for signal in network.signals:
        _stand_signal(canvas, signal)
    shapely.prepare(plan.corners)
    for kerb in plan.kerbs:
        _furnish(canvas, kerb, plan.corners, rng)


def _furnish(canvas: Canvas, kerb: shapely.Polygon, closed: shapely.Geometry, rng: np.random.Generator) -> None:
    tree_pitch_m = float(rng.choice([7.0, 8.0, 9.0, 10.0]))
    crown_m = float(rng.choice([1.6, 2.0, 2.4]))
    wooded = bool(rng.random() < 0.9)
    shelters_from_m, benches_from_m = float(rng.uniform(20, 120)), float(rng.uniform(5, BENCH_PITCH_M))
    for frame in _along(kerb, shelters_from_m, SHELTER_PITCH_M, closed):
        patch = canvas.polygon(frame.rectangle((-2.2, 2.2), (0.3, 1.7)))
        if canvas.free(patch, (SIDEWALK,)):
            _stand_shelter(canvas, frame)
    for frame in _along(kerb, LAMP_PITCH_M / 2, LAMP_PITCH_M, closed):
        if canvas.free(canvas.disc(frame.origin_m, 0.3), (SIDEWALK,)):
            canvas.solid(canvas.disc(frame.origin_m, 0.1), POLE, 0.0, LAMP_HEIGHT_M)
    for frame in _along(kerb, benches_from_m, BENCH_PITCH_M, closed):
        bench = (-0.9, 0.9), (-0.3, 0.3)
        if canvas.free(canvas.polygon(frame.rectangle(*bench)), (SIDEWALK,)):
            label, height_m = ((OTHER, 0.8), (STATIC, 1.2))[int(rng.integers(2))]
            canvas.box(frame, *bench, label, (0.0, height_m))
    if wooded:
        for frame in _along(kerb, tree_pitch_m / 2, tree_pitch_m, closed):
            pit = frame.rectangle((-0.6, 0.6), (-0.5, 0.7))
            if canvas.free(canvas.polygon(pit), (SIDEWALK,)):
                canvas.surface(canvas.polygon(pit), TERRAIN)
                plant_tree(canvas, frame.origin_m, crown_m, 7.0)


def _along(kerb: shapely.Polygon, start_m: float, pitch_m: float, closed: shapely.Geometry) -> Iterator[Frame]:
    """Frames at regular places along a kerb, u along it, v away from the carriageway."""
    side = shapely.orient_polygons(shapely.simplify(kerb, 0.05))
    for line in shapely.get_parts(shapely.boundary(shapely.buffer(side, -FROM_KERB_M, join_style="mitre"))):
        at_m = np.arange(start_m, line.length - 1.0, pitch_m)
        if len(at_m) == 0:
            continue
        points = shapely.get_coordinates(shapely.line_interpolate_point(line, at_m))
        ahead = shapely.get_coordinates(shapely.line_interpolate_point(line, at_m + 0.5)) - points
        blocked = shapely.contains_xy(closed, points)
        for point, step in zip(points[~blocked], ahead[~blocked], strict=True):
            along = _inward(point, step / np.linalg.norm(step), side)
            yield Frame(point, along)


def _inward(
    point: Float64[np.ndarray, "2"], along: Float64[np.ndarray, "2"], side: shapely.Polygon
) -> Float64[np.ndarray, "2"]:
    """The direction, reversed if its left is not away from the carriageway."""
    probe = point - (FROM_KERB_M + 0.3) * np.array([-along[1], along[0]])
    return along if not shapely.contains_xy(side, *probe) else -along


def _stand_shelter(canvas: Canvas, frame: Frame) -> None:
    """A bus shelter: back wall away from the road, a bench, a roof."""
    roof_m = SHELTER_ROOF_DM[0] / 10, SHELTER_ROOF_DM[1] / 10
    canvas.box(frame, (-2.0, 2.0), (1.4, 1.6), STATIC, (0.0, roof_m[0]))
    canvas.box(frame, (-1.6, 1.6), (0.9, 1.3), OTHER, (0.0, 0.6))
    canvas.box(frame, (-2.2, 2.2), (0.3, 1.6), STATIC, roof_m)


def _stand_signal(canvas: Canvas, signal: Signal) -> None:
    foot_m = signal.position_m[:2]
    post = canvas.disc(foot_m, 0.1)
    if not post.inside.any() or canvas.is_ground(post, (ROAD, ROAD_LINE)).any():
        return
    across = np.array([-np.sin(signal.yaw_rad), np.cos(signal.yaw_rad)])
    plate = Frame(foot_m, across)
    canvas.solid(post, POLE, 0.0, 2.1)
    if signal.kind is SignalKind.TRAFFIC_LIGHT:
        canvas.box(plate, (-0.2, 0.2), (-0.2, 0.2), TRAFFIC_LIGHT, (2.1, 3.2))
    else:
        canvas.box(plate, (-0.4, 0.4), (-0.1, 0.1), TRAFFIC_SIGN, (2.1, 2.8))
