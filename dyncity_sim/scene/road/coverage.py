"""How well the lanes of an OpenDRIVE document cover the road that was seen."""

from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np
from jaxtyping import Bool, Float64
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from dyncity_sim.domain.frames import Poses
from dyncity_sim.domain.scene import StaticMap
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.scene.road.lines import resampled
from dyncity_sim.scene.road.opendrive import cubic, reference_line, roads_of

NEAR_M = 15.0
"""Cells at most this far from the ego's path count."""

UNSEEN_M = 1.0

SAMPLE_M = 0.1


@dataclass(frozen=True)
class RoadCoverage:
    """What ``road_coverage`` finds, of the columns within a distance of the ego's path.

    Attributes:
        covered: share of the road's columns whose centre lies on a driving lane; NaN where there is no road.
        outside: share of the columns whose centre lies on a driving lane that are no road; NaN without lanes.
        path: share of the ego's poses that lie on a driving lane.
    """

    covered: float
    outside: float
    path: float


def road_coverage(
    opendrive: str, static_map: StaticMap, poses_world_from_ego: Poses, near_m: float = NEAR_M
) -> RoadCoverage:
    """Compare the driving lanes of a document, as written, with the road of a static map.

    A column is road when any of its voxels is; one that is empty from top to bottom is what the nearest that is not is,
    up to UNSEEN_M away, because sensors leave columns between their rays unseen. It is near when its centre is at most
    ``near_m`` from the ego's path, in a straight line in the plane, whatever lies between. Lanes count with all ways
    through junctions; those over other empty columns and off the map count as outside.

    Raises:
        InvalidInputError: not OpenDRIVE, or a line that ``reference_line`` does not know.
    """
    road = _seen_road(static_map)
    origin, size = np.asarray(static_map.origin_world_m[:2]), np.asarray(static_map.voxel_size_m[:2])
    path = poses_world_from_ego[:, :2, 3]
    pad = int(np.ceil(near_m / size.min()))
    # Lanes beyond the map are outside, too.
    road = np.pad(road, pad)
    cells = np.argwhere(np.ones_like(road))
    centres = origin + (cells - pad + 0.5) * size
    near = cKDTree(resampled(path, SAMPLE_M)).query(centres, distance_upper_bound=near_m)[0] <= near_m
    centres, is_road = centres[near], road.reshape(-1)[near]
    on_lane = on_driving_lanes(opendrive, centres)
    return RoadCoverage(
        covered=float(on_lane[is_road].mean()) if is_road.any() else float("nan"),
        outside=float(1 - is_road[on_lane].mean()) if on_lane.any() else float("nan"),
        path=float(on_driving_lanes(opendrive, path).mean()),
    )


def _seen_road(static_map: StaticMap) -> Bool[np.ndarray, "X Y"]:
    road = (static_map.labels == CARLASC.index("road")).any(axis=2)
    seen = (static_map.labels > 0).any(axis=2)
    if not seen.any():
        return road
    distance_m, nearest = distance_transform_edt(~seen, sampling=static_map.voxel_size_m[:2], return_indices=True)
    return np.asarray(road[tuple(nearest)] & (distance_m <= UNSEEN_M))


def on_driving_lanes(opendrive: str, points_world_m: Float64[np.ndarray, "N 2"]) -> Bool[np.ndarray, " N"]:
    """Whether each point lies on a driving lane of a document, read by the rules of OpenDRIVE 1.7 (sections 7, 9).

    Raises:
        InvalidInputError: not OpenDRIVE, or a line that ``reference_line`` does not know.
    """
    found = np.zeros(len(points_world_m), dtype=np.bool_)
    for road in roads_of(opendrive):
        found |= _on_road(road, points_world_m)
    return found


def _on_road(road: Element, points: Float64[np.ndarray, "N 2"]) -> Bool[np.ndarray, " N"]:
    length_m = float(road.get("length", 0))
    s = np.linspace(0.0, length_m, max(2, round(length_m / SAMPLE_M) + 1))
    placed = reference_line(road, s)
    line, headings = placed[:, :2], placed[:, 2]
    lower, upper = _driving(road, s)
    distance, nearest = cKDTree(line).query(points, distance_upper_bound=float(np.abs([lower, upper]).max()) + 1.0)
    near = np.isfinite(distance)
    nearest = np.where(near, nearest, 0)
    offset = points - line[nearest]
    cos, sin = np.cos(headings[nearest]), np.sin(headings[nearest])
    along, t = offset[:, 0] * cos + offset[:, 1] * sin, offset[:, 1] * cos - offset[:, 0] * sin
    return np.asarray(near & (np.abs(along) <= SAMPLE_M) & (t >= lower[nearest]) & (t <= upper[nearest]))


def _driving(
    road: Element, s: Float64[np.ndarray, " N"]
) -> tuple[Float64[np.ndarray, " N"], Float64[np.ndarray, " N"]]:
    """Offsets to the left of the reference line between which all lanes are driving lanes."""
    centre = cubic(road.findall("lanes/laneOffset"), s)
    sections = road.findall("lanes/laneSection")
    starts = [float(section.get("s", 0)) for section in sections]
    lower, upper = centre.copy(), centre.copy()
    for section, start, stop in zip(sections, starts, [*starts[1:], np.inf], strict=True):
        here = (s >= start) & (s < stop)
        for lane in section.iterfind("*/lane"):
            if lane.get("type") == "driving":
                width = cubic(lane.findall("width"), s[here] - start, "sOffset")
                if int(lane.get("id", 0)) > 0:
                    upper[here] += width
                else:
                    lower[here] -= width
    return lower, upper
