"""The line that a drive follows: the ego's path, carried on along the road before its start and after its end."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64, Int64

from dyncity_sim.scene.road.carriageway import CORRIDOR_M, Carriageway
from dyncity_sim.scene.road.lines import along_m, headings_rad, interpolated, normals, resampled, smoothed
from dyncity_sim.scene.road.skeleton import Skeleton

SPACING_M = 0.5
"""Distance of the line's points."""

SMOOTHING_M = 1.5
"""Standard deviation of the Gaussian along the path that takes steering noise out."""

ROUTE_SMOOTHING_M = 3.0
"""The same along the middle of the road, which has kinks at junctions."""

LONGEST_EXTENSION_M = 60.0
SHORTEST_EXTENSION_M = 10.0
"""A drive goes on at least this far, so that one that stands still has a road too."""

BLEND_M = 4.0
"""From the ego's path to its line along the road."""

NODE_PULL = 1.6
"""The middle of a road is not followed this near to a node, in radii of the widest disc around the node."""

LEAST_BEND_RAD = np.deg2rad(30)
"""Beside a node, lines at this angle or more are joined by a bend, others straight."""

TANGENT_CELLS = 12
"""So many cells of a line say where it leads."""

OUTLOOK_M = (4.0, 8.0, 12.0)
"""Where the way on is compared with the arc that the ego is on."""

BACKWARDS = -0.5
"""Cosine of the angle to its heading from which on an ego that moves reverses."""


def drive_line(
    path_world_m: Float64[np.ndarray, "N 2"],
    forward: Float64[np.ndarray, "N 2"],
    way: Carriageway,
    skeleton: Skeleton,
) -> Float64[np.ndarray, "M 2"]:
    """The smoothed path with an extension at each end, in points SPACING_M apart.

    At either end the ego goes on along that line through the road's middle that lies nearest to the arc it is on,
    keeping its distance from the middle, to where the road was seen to end.
    """
    path = without_standing(path_world_m)
    before = _extension(path[::-1], -forward[0], way, skeleton)
    after = _extension(path, forward[-1], way, skeleton)
    fine = resampled(np.concatenate([before[::-1], path, after]), SPACING_M)
    return resampled(smoothed(fine, SMOOTHING_M / SPACING_M), SPACING_M)


def driven_once(
    path_world_m: Float64[np.ndarray, "N D"], forward: Float64[np.ndarray, "N 2"]
) -> Int64[np.ndarray, " M"]:
    """Frames that lead from the rearmost place of a drive to the foremost, each ahead of all before it.

    What is driven back and forth counts once, in the direction in which the ego heads; of a drive in reverse the last
    frame is the first.
    """
    steps = np.diff(path_world_m[:, :2], axis=0)
    steps_m = np.linalg.norm(steps, axis=1)
    backwards = (steps * forward[1:]).sum(axis=1) < BACKWARDS * steps_m
    ahead_m = np.concatenate([[0.0], np.cumsum(np.where(backwards, -steps_m, steps_m))])
    rearmost, foremost = int(ahead_m.argmin()), int(ahead_m.argmax())
    step = 1 if rearmost <= foremost else -1
    frames = np.arange(rearmost, foremost + step, step)
    further = np.maximum.accumulate(ahead_m[frames])
    return frames[np.diff(further, prepend=-np.inf) > 0]


def without_standing(path: Float64[np.ndarray, "N D"]) -> Float64[np.ndarray, "M D"]:
    """The path without points closer than half a metre to the one kept before; its last one may be such."""
    kept = [path[0]]
    kept.extend(point for point in path[1:] if np.linalg.norm(point[:2] - kept[-1][:2]) >= 0.5)
    return np.array(kept)


def _extension(
    path: Float64[np.ndarray, "N 2"], direction: Float64[np.ndarray, " 2"], way: Carriageway, skeleton: Skeleton
) -> Float64[np.ndarray, "K 2"]:
    """Points on from the path's last one."""
    start, heading = path[-1], float(np.arctan2(direction[1], direction[0]))
    routes = list(_routes(start, way, skeleton))
    wanted = _arc(_curvature(path), heading)
    route = min(routes, key=lambda r: float(np.linalg.norm(_outlook(r) - wanted, axis=1).sum()), default=None)
    if route is None or np.linalg.norm(_outlook(route) - wanted, axis=1).mean() > OUTLOOK_M[1]:
        return _straight(start, heading, way)
    line = smoothed(resampled(lengthened(route, way, 1), SPACING_M), ROUTE_SMOOTHING_M / SPACING_M)
    turned = headings_rad(line)
    offset = float((start - line[0]) @ normals(turned)[0])
    most = max(float(way.radius_m(line[:1])[0]) - CORRIDOR_M, 0.0)
    beside = line + np.clip(offset, -most, most) * normals(turned)
    beside = beside[along_m(line) >= BLEND_M + max((start - line[0]) @ direction, 0.0)]
    return beside if len(beside) * SPACING_M >= SHORTEST_EXTENSION_M else _straight(start, heading, way)


def _straight(start: Float64[np.ndarray, " 2"], heading: float, way: Carriageway) -> Float64[np.ndarray, "K 2"]:
    seen_m = float(way.reach_m(start[None], np.array([heading]), 2 * SHORTEST_EXTENSION_M)[0])
    length_m = max(SHORTEST_EXTENSION_M, np.floor(seen_m))
    return start + np.arange(1.0, length_m + 0.5)[:, None] * np.array([np.cos(heading), np.sin(heading)])


def _curvature(path: Float64[np.ndarray, "N 2"]) -> float:
    """Curvature over the last metres of a path, 1/m; 0 where it is too short to tell."""
    recent = path[along_m(path) >= along_m(path)[-1] - 5.0]
    if len(recent) < 4:
        return 0.0
    turned = headings_rad(recent)
    return float(np.clip((turned[-1] - turned[0]) / along_m(recent)[-1], -0.2, 0.2))


def _arc(curvature: float, heading: float) -> Float64[np.ndarray, "3 2"]:
    """Displacements along a circle at OUTLOOK_M, straight on after a quarter turn."""
    fine_m = np.arange(0.0, OUTLOOK_M[-1] + 0.05, 0.1)
    turned = heading + np.clip(curvature * fine_m, -np.pi / 2, np.pi / 2)
    steps = 0.1 * np.stack([np.cos(turned), np.sin(turned)], axis=-1)
    return np.cumsum(steps, axis=0)[[round(m / 0.1) - 1 for m in OUTLOOK_M]]


def _outlook(route: Float64[np.ndarray, "N 2"]) -> Float64[np.ndarray, "3 2"]:
    return interpolated(route, along_m(route), np.array(OUTLOOK_M)) - route[0]


def lengthened(line: Float64[np.ndarray, "N 2"], way: Carriageway, end: int) -> Float64[np.ndarray, "M 2"]:
    """A middle line straight on to the end of the road at its first (0) or last (1) end: thinning bends that tip."""
    line = resampled(line if end else line[::-1], SPACING_M)
    at_m = along_m(line)
    cut_m = min(1.5 * float(np.median(way.radius_m(line))), at_m[-1] / 2)
    line = line[at_m <= at_m[-1] - cut_m]
    ahead = line[-1] - line[-min(len(line), round(5.0 / SPACING_M))]
    direction = ahead / max(float(np.linalg.norm(ahead)), 1e-9)
    heading = float(np.arctan2(direction[1], direction[0]))
    further_m = float(way.reach_m(line[-1:], np.array([heading]), 40.0)[0])
    straight = line[-1] + np.arange(way.cell_m, further_m, way.cell_m)[:, None] * direction
    line = np.concatenate([line, straight])
    return line if end else line[::-1]


def _routes(
    start: Float64[np.ndarray, " 2"], way: Carriageway, skeleton: Skeleton
) -> Iterator[Float64[np.ndarray, "N 2"]]:
    """All ways along the skeleton from its cell nearest to a point, to free ends or LONGEST_EXTENSION_M."""
    lines = [way.world_m(edge.cells) for edge in skeleton.edges]
    if not lines:
        return
    near = [int(np.linalg.norm(line - start, axis=1).argmin()) for line in lines]
    first = min(range(len(lines)), key=lambda n: float(np.linalg.norm(lines[n][near[n]] - start)))
    for forwards in (True, False):
        line = lines[first][near[first] :] if forwards else lines[first][: near[first] + 1][::-1]
        node = skeleton.edges[first].nodes[1 if forwards else 0]
        yield from _onwards(line, node, frozenset([first]), lines, way, skeleton)


def _onwards(
    walked: Float64[np.ndarray, "N 2"],
    node: int,
    used: frozenset[int],
    lines: list[Float64[np.ndarray, "N 2"]],
    way: Carriageway,
    skeleton: Skeleton,
) -> Iterator[Float64[np.ndarray, "N 2"]]:
    ways = [
        (number, end)
        for number, edge in enumerate(skeleton.edges)
        for end in (0, 1)
        if node and edge.nodes[end] == node and number not in used
    ]
    if not ways or (len(walked) and along_m(walked)[-1] > LONGEST_EXTENSION_M):
        if len(walked) > 1:
            yield walked
        return
    # Near a node the middle is drawn towards the mouths of the other roads.
    centre = way.world_m(skeleton.nodes[node - 1])
    drawn_m = NODE_PULL * float(way.radius_m(centre[None])[0])
    kept = walked[(np.linalg.norm(walked - centre, axis=1) > drawn_m) | (np.arange(len(walked)) == 0)]
    for number, end in ways:
        line = lines[number] if end == 0 else lines[number][::-1]
        apart = np.linalg.norm(line - centre, axis=1) > drawn_m
        onward = line[apart] if apart.any() else line[-1:]
        further = np.concatenate([kept, _bend(kept, onward), onward])
        yield from _onwards(further, skeleton.edges[number].nodes[1 - end], used | {number}, lines, way, skeleton)


def _bend(before: Float64[np.ndarray, "N 2"], after: Float64[np.ndarray, "M 2"]) -> Float64[np.ndarray, "K 2"]:
    """Points from one line to another at an angle to it, on the parabola that touches both, if there is one."""
    start, end = before[-1], after[0]
    tangents = np.stack([start - before[-TANGENT_CELLS:][0], after[:TANGENT_CELLS][-1] - end], axis=1)
    tangents /= np.maximum(np.linalg.norm(tangents, axis=0), 1e-9)
    if abs(np.linalg.det(tangents)) < np.sin(LEAST_BEND_RAD):
        return np.zeros((0, 2))
    to_corner_m = np.linalg.solve(tangents, end - start)
    if (to_corner_m < 0).any() or (to_corner_m > 2 * np.linalg.norm(end - start)).any():
        return np.zeros((0, 2))
    corner = start + to_corner_m[0] * tangents[:, 0]
    t = np.linspace(0.0, 1.0, 12)[:, None]
    return (1 - t) ** 2 * start + 2 * t * (1 - t) * corner + t**2 * end
