"""Marks on the asphalt: lane lines, stop lines and zebra crossings."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import shapely
from jaxtyping import Float64

from dyncity_sumo.city.canvas import ROAD, ROAD_LINE, Canvas, Frame
from dyncity_sumo.roads import Lane, LaneKind, Streets

LINE_M = 0.2
DASH_M, GAP_M = 3.0, 6.0
STOP_LINE_M = 0.5
ZEBRA_M = 0.5
"""Width of a bar of a zebra crossing, and of the gap to the next."""


def paint_marks(canvas: Canvas, network: Streets) -> None:
    """Paint all marks over the asphalt that is there."""
    for edge_lanes in _lanes_by_edge(network):
        for lane in edge_lanes:
            _paint_left_line(canvas, lane, solid=lane is edge_lanes[-1])
    for line in network.stop_lines:
        across = line.to_m[:2] - line.from_m[:2]
        width_m = float(np.linalg.norm(across))
        _stroke(canvas, Frame(line.from_m[:2], across / width_m), (0.0, width_m), (0.0, STOP_LINE_M))
    for lane in network.lanes_of(LaneKind.CROSSING):
        _paint_zebra(canvas, lane)


def _lanes_by_edge(network: Streets) -> Iterator[list[Lane]]:
    """Driving lanes of each edge, from the kerb to the middle."""
    edges: dict[str, list[Lane]] = {}
    for lane in network.lanes_of(LaneKind.DRIVING):
        edges.setdefault(lane.edge_id, []).append(lane)
    for _, lanes in sorted(edges.items()):
        yield sorted(lanes, key=lambda lane: int(lane.id.rpartition("_")[2]))


def _paint_left_line(canvas: Canvas, lane: Lane, solid: bool) -> None:
    """A solid line to the left of the lane beside the middle, a dashed one between lanes."""
    left = shapely.offset_curve(shapely.linestrings(lane.centreline_m[:, :2]), lane.width_m / 2)
    if left.is_empty or left.geom_type != "LineString" or left.length < 2 * DASH_M:
        return
    if solid:
        for frame, length_m in _segments(np.asarray(left.coords)):
            _stroke(canvas, frame, (0.0, length_m), (-LINE_M / 2, LINE_M / 2))
        return
    starts_m = np.arange(0.0, left.length - DASH_M, DASH_M + GAP_M)
    tails = shapely.get_coordinates(shapely.line_interpolate_point(left, starts_m))
    heads = shapely.get_coordinates(shapely.line_interpolate_point(left, starts_m + DASH_M))
    for tail, head in zip(tails, heads, strict=True):
        for frame, length_m in _segments(np.stack([tail, head])):
            _stroke(canvas, frame, (0.0, length_m), (-LINE_M / 2, LINE_M / 2))


def _paint_zebra(canvas: Canvas, lane: Lane) -> None:
    """Bars along the driving direction, one after another along the crossing."""
    for frame, length_m in _segments(lane.centreline_m[:, :2]):
        for start_m in np.arange(ZEBRA_M / 2, length_m, 2 * ZEBRA_M):
            bar_m = (float(start_m), min(float(start_m) + ZEBRA_M, length_m))
            _stroke(canvas, frame, bar_m, (-lane.width_m / 2, lane.width_m / 2))


def _segments(points_m: Float64[np.ndarray, "N 2"]) -> Iterator[tuple[Frame, float]]:
    for start, end in pairwise(points_m):
        length_m = float(np.linalg.norm(end - start))
        if length_m > 1e-6:
            yield Frame(start, (end - start) / length_m), length_m


def _stroke(canvas: Canvas, frame: Frame, u_m: tuple[float, float], v_m: tuple[float, float]) -> None:
    canvas.surface(canvas.polygon(frame.rectangle(u_m, v_m)), ROAD_LINE, (ROAD,))
