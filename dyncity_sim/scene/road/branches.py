"""Roads that leave the driven one, and the stretches of it at which they do."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float64

from dyncity_sim.scene.road.carriageway import Carriageway
from dyncity_sim.scene.road.drive_line import lengthened
from dyncity_sim.scene.road.lanes import reaches_m, usual_m
from dyncity_sim.scene.road.lines import along_m, headings_rad, nearest_on, resampled, smoothed
from dyncity_sim.scene.road.skeleton import Skeleton

BRANCH_SMOOTHING_M = 2.0
SHORTEST_ROAD_M = 5.0
"""Less road than this between two junctions makes one junction of them; less at a free end is no road."""

OPEN_M = 0.8
"""Where the driven road reaches this much farther than usual, the mouth of another begins."""

LONGEST_MOUTH_M = 25.0
"""A mouth ends at most this far from the middle of the road that opens there."""

LONGEST_WITHIN_M = 40.0
"""A shorter road from a junction back to itself is a part of it."""

PARALLEL = 0.8
"""Cosine of the angle up to which lines run along each other."""

BESIDE_M = 4.0
"""The middle of the driven road may lie this much farther from the ego's path than its usual edge."""

SHORTEST_MOUTH_M = 4.0
END_M = 4.0
"""The driven road has this much outside junctions at each end."""

ROUTE_SPACING_M = 1.0


@dataclass(frozen=True, eq=False)
class DrivenLine:
    """The line of the drive, finely sampled, with what the road is like beside it.

    Attributes:
        points_world_m: ``(N, 2)`` at equal distances.
        at_m: ``(N,)`` distance along the line.
        left_m, right_m: ``(N,)`` reach of the road.
        usual_left_m, usual_right_m: the same without the mouths of other roads.
    """

    points_world_m: Float64[np.ndarray, "N 2"]
    at_m: Float64[np.ndarray, " N"]
    left_m: Float64[np.ndarray, " N"]
    right_m: Float64[np.ndarray, " N"]
    usual_left_m: Float64[np.ndarray, " N"]
    usual_right_m: Float64[np.ndarray, " N"]

    @property
    def open(self) -> Bool[np.ndarray, " N"]:
        """Where the road reaches farther than usual."""
        return np.asarray((self.left_m > self.usual_left_m + OPEN_M) | (self.right_m > self.usual_right_m + OPEN_M))


@dataclass(eq=False)
class Branch:
    """A line through the middle of a road that was not driven, and the places its two ends are at.

    A place is None for a free end (the second, if one is),
    ``("node", n)`` for a node of the skeleton, or ``("drive", s)`` for a point of the
    driven line.
    """

    points_world_m: Float64[np.ndarray, "N 2"]
    places: list[tuple[str, float] | None]


@dataclass(frozen=True, eq=False)
class Crossing:
    """A junction to be: the stretch of the driven line that lies in it, if any, and the branch ends that do.

    Attributes:
        stretch_m: from where to where along the driven line, or None.
        ends: number of a branch, and which of its ends (0, 1).
    """

    stretch_m: tuple[float, float] | None
    ends: tuple[tuple[int, int], ...]


def driven_line(
    points: Float64[np.ndarray, "N 2"], headings: Float64[np.ndarray, " N"], way: Carriageway
) -> DrivenLine:
    """What the road is like along the line of the drive."""
    left, right = reaches_m(way, points, headings)
    at_m = along_m(points)
    spacing_m = float(at_m[-1]) / (len(points) - 1)
    return DrivenLine(points, at_m, left, right, usual_m(left, spacing_m), usual_m(right, spacing_m))


def find_branches(drive: DrivenLine, way: Carriageway, skeleton: Skeleton) -> tuple[list[Branch], list[Crossing]]:
    """Roads across the drive, cut back to where they have their usual width, and the junctions at their ends."""
    found = list(_off_the_drive(drive, way, skeleton))
    branches, merged = [], []
    for branch in found:
        cut = _cut_back(branch, way)
        if cut is not None:
            branches.append(cut)
        elif all(branch.places):
            merged.append(branch.places)
    return _crossings(branches, merged, drive)


def _off_the_drive(drive: DrivenLine, way: Carriageway, skeleton: Skeleton) -> Iterator[Branch]:
    """The lines of the skeleton without what lies on the driven road itself."""
    nodes = _places_of_nodes(drive, way, skeleton)
    for edge in skeleton.edges:
        points = way.world_m(edge.cells)
        at_m, beside_m = nearest_on(drive.points_world_m, points)
        row = np.searchsorted(drive.at_m, at_m - 1e-6)
        on_drive = np.where(beside_m >= 0, beside_m, 0) <= drive.usual_left_m[row] + OPEN_M
        on_drive &= np.where(beside_m < 0, -beside_m, 0) <= drive.usual_right_m[row] + OPEN_M
        ends = [nodes.get(edge.nodes[0]), nodes.get(edge.nodes[1])]
        for end, place in enumerate(ends):
            if place is not None and place[0] == "node" and on_drive[-end]:
                # The line between the node and the drive has no length: an empty branch, which joins the two.
                yield Branch(points[:0], [place, ("drive", float(at_m[-end]))])
        starts = np.flatnonzero(~on_drive & np.concatenate([[True], on_drive[:-1]]))
        stops = np.flatnonzero(~on_drive & np.concatenate([on_drive[1:], [True]]))
        for start, stop in zip(starts, stops, strict=True):
            first = ends[0] if start == 0 else ("drive", float(at_m[start - 1]))
            last = ends[1] if stop == len(points) - 1 else ("drive", float(at_m[stop + 1]))
            piece = points[start : stop + 1]
            if first is None:
                piece, first, last = piece[::-1], last, first
            if last is not None or not _is_beside(piece, drive):
                yield Branch(piece, [first, last])


def _is_beside(piece: Float64[np.ndarray, "N 2"], drive: DrivenLine) -> bool:
    """Whether a line that ends freely is but the middle of the driven road, to the side of the ego's path."""
    at_m, beside_m = nearest_on(drive.points_world_m, piece[-1:])
    row = int(np.searchsorted(drive.at_m, at_m[0] - 1e-6))
    reach, usual = (drive.left_m, drive.usual_left_m) if beside_m[0] >= 0 else (drive.right_m, drive.usual_right_m)
    along, ahead = piece[-1] - piece[0], np.gradient(drive.points_world_m, axis=0)[row]
    lengths = float(np.linalg.norm(along) * np.linalg.norm(ahead))
    parallel = lengths == 0 or abs(float(along @ ahead)) > PARALLEL * lengths
    return bool(parallel and abs(beside_m[0]) <= min(float(reach[row]), float(usual[row]) + BESIDE_M))


def _places_of_nodes(drive: DrivenLine, way: Carriageway, skeleton: Skeleton) -> dict[int, tuple[str, float]]:
    if not len(skeleton.nodes):
        return {}
    at_m, beside_m = nearest_on(drive.points_world_m, way.world_m(skeleton.nodes))
    row = np.searchsorted(drive.at_m, at_m - 1e-6)
    usual = np.where(beside_m >= 0, drive.usual_left_m[row], drive.usual_right_m[row])
    near = np.abs(beside_m) <= usual + OPEN_M
    return {n + 1: ("drive", float(at_m[n])) if near[n] else ("node", float(n + 1)) for n in range(len(at_m))}


def _cut_back(branch: Branch, way: Carriageway) -> Branch | None:
    """The branch without the parts that lie in junctions; None when too little is left."""
    points = branch.points_world_m
    if len(points) < 3:
        return None
    for end in (0, 1):
        if branch.places[end] is None:
            points = lengthened(points, way, end)
    if len(points) < 2 or along_m(points)[-1] < SHORTEST_ROAD_M:
        return None
    points = smoothed(resampled(points, ROUTE_SPACING_M), BRANCH_SMOOTHING_M / ROUTE_SPACING_M)
    width_m = np.sum(reaches_m(way, points, headings_rad(points)), axis=0)
    narrow = width_m <= 1.15 * np.percentile(width_m, 30) + 0.6
    # Two metres of it, so that one narrow place within a mouth is not its end.
    steady = narrow & np.append(narrow[1:], True) & np.append(narrow[2:], [True, True])
    if not steady.any():
        return None
    first = int(steady.argmax()) if branch.places[0] else 0
    last = len(points) - 1 - int(steady[::-1].argmax()) if branch.places[1] else len(points) - 1
    if branch.places[1] is None:
        # A road of which little was seen may show nothing but its mouth.
        first = max(min(first, last - round(SHORTEST_ROAD_M / ROUTE_SPACING_M)), 0)
    if (last - first) * ROUTE_SPACING_M < SHORTEST_ROAD_M:
        return None
    return Branch(points[first : last + 1], branch.places)


def _crossings(
    branches: list[Branch], merged: list[list[tuple[str, float] | None]], drive: DrivenLine
) -> tuple[list[Branch], list[Crossing]]:
    """Join the places of branch ends: those on one mouth of the driven road, and those that a short road joins."""
    places = sorted({place for branch in branches for place in branch.places if place})
    places = sorted({*places, *(place for pair in merged for place in pair if place)})
    stretches = {place: _stretch(place[1], drive) for place in places if place[0] == "drive"}
    for branch in branches:
        for end, place in enumerate(branch.places):
            if place in stretches:
                stretches[place] = _around(stretches[place], branch.points_world_m[-end], drive)
    group = {place: {place} for place in places}

    def join(one: tuple[str, float], other: tuple[str, float]) -> None:
        both = group[one] | group[other]
        for place in both:
            group[place] = both

    for one, other in merged:
        if one is not None and other is not None and one[0] + other[0] != "drivedrive":
            join(one, other)
    while True:
        spans = _spans(group, stretches)
        close = [(a, b) for (a, one), (b, two) in pairwise(spans) if two[0] - one[1] < SHORTEST_ROAD_M]
        if not close:
            break
        join(*close[0])
    by_place = {place: span for first, span in spans for place in group[first]}
    branches = [branch for branch in branches if not _is_within(branch, group)]
    crossings = []
    for members in sorted({frozenset(m) for m in group.values()}, key=sorted):
        ends = tuple((n, e) for n, branch in enumerate(branches) for e in (0, 1) if branch.places[e] in members)
        span = next((by_place[place] for place in sorted(members) if place in by_place), None)
        if ends:
            crossings.append(Crossing(span, ends))
    return branches, crossings


def _is_within(branch: Branch, group: dict[tuple[str, float], set[tuple[str, float]]]) -> bool:
    """Whether a branch joins two places of one junction, and is not a road around a block."""
    first, last = branch.places
    if first is None or last is None or last not in group[first]:
        return False
    return bool(along_m(branch.points_world_m)[-1] < LONGEST_WITHIN_M)


def _spans(
    group: dict[tuple[str, float], set[tuple[str, float]]],
    stretches: dict[tuple[str, float], tuple[float, float]],
) -> list[tuple[tuple[str, float], tuple[float, float]]]:
    """One member and the whole stretch of each group that touches the drive, along the drive."""
    found = {}
    for members in group.values():
        on_drive = sorted(place for place in members if place in stretches)
        if on_drive:
            found[on_drive[0]] = (min(stretches[p][0] for p in on_drive), max(stretches[p][1] for p in on_drive))
    return sorted(found.items(), key=lambda item: item[1])


def _stretch(middle_m: float, drive: DrivenLine) -> tuple[float, float]:
    """The mouth around a point of the driven line: as far as the road is wider than usual, but for short gaps."""
    at_m = drive.at_m[drive.open & (np.abs(drive.at_m - middle_m) <= LONGEST_MOUTH_M)]
    low = high = middle_m
    for value in at_m[at_m <= middle_m][::-1]:
        if low - value > SHORTEST_MOUTH_M:
            break
        low = float(value)
    for value in at_m[at_m >= middle_m]:
        if value - high > SHORTEST_MOUTH_M:
            break
        high = float(value)
    return _within((min(low, middle_m - SHORTEST_MOUTH_M), max(high, middle_m + SHORTEST_MOUTH_M)), drive)


def _around(stretch: tuple[float, float], mouth: Float64[np.ndarray, " 2"], drive: DrivenLine) -> tuple[float, float]:
    """The stretch, lengthened so that the point of the driven line nearest to a mouth lies well in it."""
    at_m = float(nearest_on(drive.points_world_m, mouth[None])[0][0])
    return _within((min(stretch[0], at_m - 2.0), max(stretch[1], at_m + 2.0)), drive)


def _within(stretch: tuple[float, float], drive: DrivenLine) -> tuple[float, float]:
    length_m = float(drive.at_m[-1])
    low = min(max(stretch[0], END_M), length_m - 2 * END_M)
    return low, max(min(stretch[1], length_m - END_M), low + 1.0)
