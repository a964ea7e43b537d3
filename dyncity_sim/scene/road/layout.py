"""From a static map and the ego's poses to the network of roads."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from jaxtyping import Float64
from scipy.spatial import cKDTree

from dyncity_sim.domain.frames import Poses
from dyncity_sim.domain.grid import LIDAR_HEIGHT_M
from dyncity_sim.domain.scene import StaticMap
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.scene.road.branches import Branch, DrivenLine, driven_line, find_branches
from dyncity_sim.scene.road.carriageway import Carriageway, carriageway
from dyncity_sim.scene.road.drive_line import drive_line, driven_once, without_standing
from dyncity_sim.scene.road.lanes import WIDEST_LANE_M, crossing_lanes, driven_lanes, reaches_m, steady_m, usual_m
from dyncity_sim.scene.road.lines import along_m, headings_rad, interpolated, resampled, smoothed
from dyncity_sim.scene.road.network import (
    Arm,
    Contact,
    Junction,
    Mouth,
    Road,
    RoadNetwork,
    Turn,
    curve,
    ease,
    mouth_of,
    turned_rad,
)
from dyncity_sim.scene.road.skeleton import skeleton_of
from dyncity_sim.scene.surfaces.ground import ground_height_m, height_at_m

KNOT_SPACING_M = 3.0
"""Distance of a road's knots."""

SHARPEST_TURN_RAD = np.deg2rad(150)
"""Nobody turns round at a junction."""

LEAST_ON_ROAD = 0.7
"""A way through a junction is one when at least this share of it is on road."""

LEAST_LEVEL = 0.1
"""An ego that looks up or down more steeply than 84 degrees has no heading."""

CORNER_M = 2.5
"""The outer lane of a right turn takes up to this much of the corner."""

HEIGHT_SMOOTHING_M = 3.0


def road_network(static_map: StaticMap, poses_world_from_ego: Poses) -> RoadNetwork:
    """The roads under and across a drive.

    The line of the drive is the ego's path, each place once in the direction in which the ego heads, carried on along
    the road at both ends. Roads across are middle lines of the rest of the road's area. Where they meet, the driven
    road is parted by a junction; the way of the ego through it follows its path.

    Args:
        static_map: what was seen of the world.
        poses_world_from_ego: the ego frame in each frame of the drive, at the LiDAR, 1.8 m above the road.

    Raises:
        InvalidInputError: an ego that looks straight up or down and so heads nowhere.
    """
    level = np.linalg.norm(poses_world_from_ego[:, :2, 0], axis=1, keepdims=True)
    if (level < LEAST_LEVEL).any():
        raise InvalidInputError(
            "ego poses",
            f"an ego that looks straight up or down in frame {int(level.argmin())}",
            "egos that stand on their wheels in a world whose z is up",
        )
    path = poses_world_from_ego[:, :3, 3] - np.array([0.0, 0.0, LIDAR_HEIGHT_M])
    forward = poses_world_from_ego[:, :2, 0] / level
    way = carriageway(static_map, without_standing(path)[:, :2])
    skeleton = skeleton_of(way.area, way.inner_radius)
    frames = driven_once(path, forward)
    line = drive_line(path[frames, :2], forward[frames], way, skeleton)
    headings = headings_rad(line)
    drive = driven_line(line, headings, way)
    branches, crossings = find_branches(drive, way, skeleton)
    heights = _Heights(static_map, path)
    main = _driven_road(drive, headings, heights)
    stretches = sorted(c.stretch_m for c in crossings if c.stretch_m)
    cuts = [0.0, *(cut for stretch in stretches for cut in stretch), float(drive.at_m[-1])]
    pieces = [_part(main, drive.at_m, start, stop) for start, stop in pairwise(cuts)]
    roads = [*pieces[::2], *(_crossing_road(branch, way, heights) for branch in branches)]
    count = len(pieces[::2])
    junctions = []
    for crossing in crossings:
        arms = [Arm(count + number, Contact.END if end else Contact.START) for number, end in crossing.ends]
        driven = None
        if crossing.stretch_m:
            number = stretches.index(crossing.stretch_m)
            arms = [Arm(number, Contact.END), Arm(number + 1, Contact.START), *arms]
            driven = pieces[2 * number + 1]
        junctions.append(Junction(tuple(_turns(roads, arms, driven, way))))
    return RoadNetwork(tuple(roads), tuple(junctions))


class _Heights:
    """Height of the road: the ego's own under its path, the ground's elsewhere."""

    def __init__(self, static_map: StaticMap, path: Float64[np.ndarray, "N 3"]) -> None:
        self._map, self._path = static_map, resampled(without_standing(path), 0.5) if len(path) > 1 else path
        self._ground = ground_height_m(static_map)

    def along(self, points: Float64[np.ndarray, "N 2"]) -> Float64[np.ndarray, " N"]:
        ground = height_at_m(self._map, self._ground, points)
        steps = np.arange(len(points))
        known = np.isfinite(ground)
        under = float(self._path[:, 2].mean())
        return np.interp(steps, steps[known], ground[known]) if known.any() else np.full(len(points), under)

    def along_drive(self, points: Float64[np.ndarray, "N 2"]) -> Float64[np.ndarray, " N"]:
        distance_m, nearest = cKDTree(self._path[:, :2]).query(points)
        driven = distance_m < 1.0
        ground = self.along(points)
        steps = np.arange(len(points))
        # Beyond the path the ground goes on from the height that the ego was at.
        correction = np.interp(steps, steps[driven], (self._path[nearest, 2] - ground)[driven])
        return ground + correction


def _driven_road(drive: DrivenLine, headings: Float64[np.ndarray, " N"], heights: _Heights) -> Road:
    spacing_m = float(drive.at_m[1])
    left, right = (
        steady_m(reach, usual, spacing_m)
        for reach, usual in ((drive.left_m, drive.usual_left_m), (drive.right_m, drive.usual_right_m))
    )
    height = smoothed(heights.along_drive(drive.points_world_m)[:, None], HEIGHT_SMOOTHING_M / spacing_m)
    return Road(np.concatenate([drive.points_world_m, height], axis=1), headings, *driven_lanes(left, right))


def _crossing_road(branch: Branch, way: Carriageway, heights: _Heights) -> Road:
    line = resampled(branch.points_world_m, 0.5)
    headings = headings_rad(line)
    left, right = (steady_m(reach, usual_m(reach, 0.5), 0.5) for reach in reaches_m(way, line, headings))
    height = smoothed(heights.along(line)[:, None], HEIGHT_SMOOTHING_M / 0.5)
    whole = Road(np.concatenate([line, height], axis=1), headings, *crossing_lanes(left, right))
    return _part(whole, along_m(line), 0.0, float(along_m(line)[-1]))


def _part(road: Road, at_m: Float64[np.ndarray, " N"], start_m: float, stop_m: float) -> Road:
    """A road from one distance to another, in knots."""
    wanted = np.linspace(start_m, stop_m, max(2, round((stop_m - start_m) / KNOT_SPACING_M) + 1))

    def at(values: np.ndarray) -> np.ndarray:
        columns = values.reshape(len(values), -1)
        if not columns.shape[1]:
            return np.zeros((len(wanted), 0))
        return interpolated(columns, at_m, wanted).reshape(len(wanted), *values.shape[1:])

    return Road(at(road.points_world_m), at(road.headings_rad), at(road.centre_m), at(road.left_m), at(road.right_m))


def _turns(roads: list[Road], arms: list[Arm], driven: Road | None, way: Carriageway) -> Iterator[Turn]:
    """All ways from one arm to another; the first arm to the second along the ego's path, where there is one."""
    mouths = [mouth_of(roads[arm.road], arm.contact) for arm in arms]
    for a, enters in enumerate(mouths):
        for b, leaves in enumerate(mouths):
            lanes = min(len(enters.inwards_m), len(leaves.outwards_m))
            turn = turned_rad(enters, leaves)
            if a == b or not lanes:
                continue
            if driven is not None and (a, b) == (0, 1):
                yield Turn(_driven_way(driven, enters, leaves, lanes), arms[a], arms[b], 0, 0)
            elif abs(turn) <= SHARPEST_TURN_RAD:
                found = _way_through(enters, leaves, lanes, turn, way)
                if found is not None:
                    yield Turn(found[0], arms[a], arms[b], *found[1:])


def _driven_way(driven: Road, enters: Mouth, leaves: Mouth, lanes: int) -> Road:
    t = np.linspace(0.0, 1.0, len(driven.points_world_m))[:, None]
    widths = enters.inwards_m[:lanes] + (leaves.outwards_m[:lanes] - enters.inwards_m[:lanes]) * ease(t)
    along = along_m(driven.points_world_m)
    t = (along / along[-1])[:, None]
    return Road(driven.points_world_m, driven.headings_rad, driven.centre_m, np.zeros((len(t), 0)), widths)


def _way_through(
    enters: Mouth, leaves: Mouth, lanes: int, turn: float, way: Carriageway
) -> tuple[Road, int, int] | None:
    """A way with its lanes, and the first lane it joins at either end; None where it would leave the road."""
    right_turn = turn < -np.deg2rad(30)
    first_in = len(enters.inwards_m) - lanes if right_turn else 0
    first_out = len(leaves.outwards_m) - lanes if right_turn else 0
    points, headings = curve(enters, leaves, first_in, first_out)
    t = np.linspace(0.0, 1.0, len(points))[:, None]
    start = enters.inwards_m[first_in : first_in + lanes]
    stop = leaves.outwards_m[first_out : first_out + lanes]
    widths = start + (stop - start) * ease(t)
    normal = np.stack([-np.sin(headings), np.cos(headings)], axis=-1)
    middle = points[:, :2] - widths.sum(axis=1, keepdims=True) / 2 * normal
    if way.at(middle).mean() < LEAST_ON_ROAD:
        return None
    if right_turn:
        inner = points[:, :2] - widths[:, :-1].sum(axis=1, keepdims=True) * normal
        reach = way.reach_m(inner, headings - np.pi / 2, WIDEST_LANE_M + CORNER_M)
        fitted = np.clip(reach, np.minimum(2.4, widths[:, -1]), widths[:, -1] + CORNER_M)
        fitted[[0, -1]] = widths[[0, -1], -1]
        widths[:, -1] = fitted
    return Road(points, headings, np.zeros(len(points)), np.zeros((len(points), 0)), widths), first_in, first_out
