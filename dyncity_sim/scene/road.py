"""The road along a drive as OpenDRIVE: reference line on the ego path, lanes as wide as the road voxels say."""

import re
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Bool, Float64
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d

from dyncity_sim.domain.frames import Poses
from dyncity_sim.domain.grid import LIDAR_HEIGHT_M
from dyncity_sim.domain.scene import StaticMap
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import MissingExtraError

KNOT_SPACING_M = 4.0
"""Length of one piece of the reference line."""

PATH_SMOOTHING_M = 1.5
"""Standard deviation of the Gaussian along the path that takes steering noise out of the reference line."""

EXTENSION_M = 20.0
"""The road goes on straight for up to this far before and after the drive, as far as road was seen."""

SHORTEST_EXTENSION_M = 10.0
"""It goes on at least this far, so that a drive that stands still has a road too."""

WIDEST_SIDE_M = 14.0
"""Road cells farther to the side of the ego path are another road."""

EGO_LANE_M = (2.6, 3.5)
"""Narrowest and widest lane for the ego, metres."""

SIDE_LANE_M = 3.25
"""Width that further lanes come close to, metres."""

NARROWEST_SIDE_LANE_M = 2.4
"""Where less is left beside the ego's lane there is no further lane."""

HEADER_DATE = "2000-01-01T00:00:00"
"""Documents carry a fixed date: the same scene gives the same bytes."""


@dataclass(frozen=True, eq=False)
class ReferenceLine:
    """A line in the road plane, in pieces that each are a cubic from knot to knot.

    Attributes:
        points_world_m: ``(N, 3)`` knots on the road surface.
        headings_rad: ``(N,)`` direction at each knot.
    """

    points_world_m: Float64[np.ndarray, "N 3"]
    headings_rad: Float64[np.ndarray, " N"]


@dataclass(frozen=True)
class LaneLayout:
    """Lanes beside the reference line, which runs along the middle of the ego's lane.

    Attributes:
        ego_m: width of the ego's lane.
        left_m: widths of the lanes to its left, which run against it, from the inside out.
        right_m: widths of the lanes to its right, which run along with it, from the inside out.
    """

    ego_m: float
    left_m: tuple[float, ...]
    right_m: tuple[float, ...]


def opendrive_document(static_map: StaticMap, poses_world_from_ego: Poses) -> str:
    """An OpenDRIVE 1.7 document of one road along the drive, in the world frame.

    The reference line is the smoothed ego path, 1.8 m under the ego frame, carried on straight at both
    ends. The lane under the ego path is always there; further lanes take the median width of the road
    cells to its left (oncoming) and right, constant along the road. Junctions are not modelled.

    Raises:
        MissingExtraError: scenariogeneration is not installed.
    """
    line = reference_line(static_map, poses_world_from_ego)
    return _document(line, lane_layout(static_map, line))


def reference_line(static_map: StaticMap, poses_world_from_ego: Poses) -> ReferenceLine:
    """The smoothed ego path with a straight extension at each end, in knots about KNOT_SPACING_M apart."""
    path = poses_world_from_ego[:, :3, 3] - np.array([0.0, 0.0, LIDAR_HEIGHT_M])
    forward = poses_world_from_ego[:, :3, 0]
    path = _without_standing(path)
    path = np.concatenate(
        [
            _extension(static_map, path[0], -forward[0])[::-1],
            path,
            _extension(static_map, path[-1], forward[-1]),
        ]
    )
    steps_m = np.linalg.norm(np.diff(path[:, :2], axis=0), axis=1)
    along_m = np.concatenate([[0.0], np.cumsum(steps_m)])
    fine_m = np.linspace(0.0, along_m[-1], max(2, round(along_m[-1] / 0.25) + 1))
    fine = np.stack([np.interp(fine_m, along_m, path[:, axis]) for axis in range(3)], axis=-1)
    fine = gaussian_filter1d(_reflected(fine), PATH_SMOOTHING_M / 0.25, axis=0)[len(fine) : 2 * len(fine)]
    count = max(2, round(along_m[-1] / KNOT_SPACING_M) + 1)
    spline = CubicSpline(fine_m, fine)
    knots_m = np.linspace(0.0, along_m[-1], count)
    tangent = spline(knots_m, 1)
    return ReferenceLine(spline(knots_m), np.unwrap(np.arctan2(tangent[:, 1], tangent[:, 0])))


def lane_layout(static_map: StaticMap, line: ReferenceLine) -> LaneLayout:
    """Lanes that fill the road cells beside the line, by the median over its knots."""
    road = (static_map.labels == CARLASC.index("road")).any(axis=2)
    left_m, right_m = (
        [_road_reach(static_map, road, p, h + side * np.pi / 2) for p, h in _knots(line)] for side in (1, -1)
    )
    seen = [(left, right) for left, right in zip(left_m, right_m, strict=True) if left > 0 and right > 0]
    left, right = np.median(seen, axis=0) if seen else (EGO_LANE_M[1] / 2, EGO_LANE_M[1] / 2)
    ego_m = float(np.clip(2 * min(left, right), *EGO_LANE_M))
    return LaneLayout(ego_m, _side_lanes(left - ego_m / 2), _side_lanes(right - ego_m / 2))


def _side_lanes(space_m: float) -> tuple[float, ...]:
    lanes = max(round(space_m / SIDE_LANE_M), 1) if space_m >= NARROWEST_SIDE_LANE_M else 0
    return (float(round(space_m / lanes, 3)),) * lanes if lanes else ()


def _without_standing(path: Float64[np.ndarray, "N 3"]) -> Float64[np.ndarray, "M 3"]:
    """The path without points closer than half a metre to the one kept before; the last point stays."""
    kept = [path[0]]
    kept.extend(point for point in path[1:] if np.linalg.norm(point[:2] - kept[-1][:2]) >= 0.5)
    if len(kept) > 1:
        kept[-1] = path[-1] if np.linalg.norm(path[-1][:2] - kept[-2][:2]) >= 0.5 else kept[-1]
    return np.array(kept)


def _extension(
    static_map: StaticMap, start: Float64[np.ndarray, " 3"], direction: Float64[np.ndarray, " 3"]
) -> Float64[np.ndarray, "N 3"]:
    """Points each metre on from ``start`` for as long as there is road, within the stated bounds."""
    direction = direction / np.linalg.norm(direction[:2])
    road = (static_map.labels == CARLASC.index("road")).any(axis=2)
    reach_m = _reach(static_map, road, start, float(np.arctan2(direction[1], direction[0])), EXTENSION_M)
    length_m = max(SHORTEST_EXTENSION_M, np.floor(reach_m))
    return start + np.arange(1.0, length_m + 0.5)[:, None] * direction


def _road_reach(
    static_map: StaticMap, road: Bool[np.ndarray, "X Y"], point: Float64[np.ndarray, " 3"], heading_rad: float
) -> float:
    return _reach(static_map, road, point, heading_rad, WIDEST_SIDE_M)


def _reach(
    static_map: StaticMap,
    road: Bool[np.ndarray, "X Y"],
    point: Float64[np.ndarray, " 3"],
    heading_rad: float,
    farthest_m: float,
) -> float:
    """How far road goes on without a break from a point in a direction, metres; 0 off the road."""
    step_m = 0.1
    distances = np.arange(0.0, farthest_m, step_m)
    line = point[:2] + distances[:, None] * np.array([np.cos(heading_rad), np.sin(heading_rad)])
    size, origin = np.asarray(static_map.voxel_size_m[:2]), np.asarray(static_map.origin_world_m[:2])
    index = np.floor((line - origin) / size).astype(np.int64)
    inside = ((index >= 0) & (index < road.shape)).all(axis=1)
    on_road = np.zeros(len(line), dtype=np.bool_)
    on_road[inside] = road[index[inside, 0], index[inside, 1]]
    # A single cell that is not road (a stray vote) does not end it.
    gap = round(1.5 * float(size.max()) / step_m)
    off = np.convolve(~on_road, np.ones(gap), mode="full")[gap - 1 :][: len(line)] >= gap
    return float(distances[int(np.argmax(off))]) if off.any() else float(farthest_m)


def _knots(line: ReferenceLine) -> list[tuple[Float64[np.ndarray, " 3"], float]]:
    return [(p, float(h)) for p, h in zip(line.points_world_m, line.headings_rad, strict=True)]


def _reflected(points: Float64[np.ndarray, "N 3"]) -> Float64[np.ndarray, "M 3"]:
    """Three times the points: mirrored through each end, so that smoothing keeps both ends and their direction."""
    return np.concatenate([2 * points[0] - points[::-1], points, 2 * points[-1] - points[::-1]])


def _document(line: ReferenceLine, layout: LaneLayout) -> str:
    xodr = _scenariogeneration()
    plan_view, knots_s = _plan_view(xodr, line)
    road = xodr.Road(1, plan_view, _lanes(xodr, layout), name="drive")
    for s, (a, b, c, d) in zip(knots_s, _elevation(line, knots_s), strict=False):
        road.add_elevation(s, a, b, c, d)
    document = xodr.OpenDrive("dyncity", revMajor="1", revMinor="7")
    document.add_road(road)
    root = document.get_element()
    header = root.find("header")
    assert header is not None
    header.set("date", HEADER_DATE)
    lower, upper = line.points_world_m.min(axis=0), line.points_world_m.max(axis=0)
    for side, value in (("south", lower[1]), ("west", lower[0]), ("north", upper[1]), ("east", upper[0])):
        header.set(side, repr(round(float(value), 3)))
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + re.sub(r"\s+/>", "/>", text) + "\n"


def _plan_view(xodr: ModuleType, line: ReferenceLine) -> tuple[Any, list[float]]:
    """Cubic Hermite pieces as paramPoly3, each in the frame of its first knot; also s at each knot."""
    plan_view = xodr.PlanView()
    s = [0.0]
    for n in range(len(line.headings_rad) - 1):
        start, heading = line.points_world_m[n, :2], float(line.headings_rad[n])
        rotation = np.array([[np.cos(heading), np.sin(heading)], [-np.sin(heading), np.cos(heading)]])
        end = rotation @ (line.points_world_m[n + 1, :2] - start)
        turn = float(line.headings_rad[n + 1]) - heading
        speed = float(np.linalg.norm(end))
        out = speed * np.array([np.cos(turn), np.sin(turn)])
        linear = np.array([speed, 0.0])
        quadratic = 3 * end - 2 * linear - out
        cubic = linear + out - 2 * end
        coefficients = [c for axis in range(2) for c in (0.0, linear[axis], quadratic[axis], cubic[axis])]
        piece = xodr.ParamPoly3(*(round(float(c), 9) for c in coefficients), prange="normalized")
        plan_view.add_fixed_geometry(piece, float(start[0]), float(start[1]), heading, s[-1])
        s.append(s[-1] + float(piece.length))
    return plan_view, s


def _lanes(xodr: ModuleType, layout: LaneLayout) -> Any:
    def lane(width_m: float, mark: Any) -> Any:
        driving = xodr.Lane(lane_type=xodr.LaneType.driving, a=width_m)
        driving.add_roadmark(mark)
        return driving

    broken, solid = (xodr.RoadMark(kind, width=0.15) for kind in (xodr.RoadMarkType.broken, xodr.RoadMarkType.solid))
    right = (layout.ego_m, *layout.right_m)
    centre = xodr.Lane(lane_type=xodr.LaneType.none)
    centre.add_roadmark(broken if layout.left_m else solid)
    section = xodr.LaneSection(0.0, centre)
    for n, width_m in enumerate(right):
        section.add_right_lane(lane(width_m, solid if n == len(right) - 1 else broken))
    for n, width_m in enumerate(layout.left_m):
        section.add_left_lane(lane(width_m, solid if n == len(layout.left_m) - 1 else broken))
    lanes = xodr.Lanes()
    lanes.add_laneoffset(xodr.LaneOffset(0.0, layout.ego_m / 2))
    lanes.add_lanesection(section)
    return lanes


def _elevation(line: ReferenceLine, knots_s: list[float]) -> Float64[np.ndarray, "M 4"]:
    """Cubic pieces of the height over s, knot to knot."""
    height = np.round(line.points_world_m[:, 2], 6)
    if len(height) < 3:
        slope = (height[1] - height[0]) / (knots_s[1] - knots_s[0])
        return np.array([[height[0], slope, 0.0, 0.0]])
    return CubicSpline(knots_s, height, bc_type="natural").c[::-1].T


def _scenariogeneration() -> ModuleType:
    try:
        from scenariogeneration import xodr
    except ImportError as error:
        raise MissingExtraError("scenariogeneration", "scene", "Writing OpenDRIVE") from error
    module: ModuleType = xodr
    return module
