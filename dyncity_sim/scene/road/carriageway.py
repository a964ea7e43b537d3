"""Where there is road around a drive: the cells of it, and how far it reaches from a point."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from scipy import ndimage

from dyncity_sim.domain.scene import StaticMap
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.scene.road.lines import resampled

RAGGED_M = 1.2
"""Gaps, holes and tongues of road narrower than twice this are noise."""

SMALLEST_AREA_M2 = 60.0
"""A smaller area of road is no road, and a smaller hole in it no hole."""

CORRIDOR_M = 1.75
"""There is road this far to each side of where the ego drove, whatever the cells say."""

MARGIN_M = 14.0
"""Room around the map for what is driven out of it."""

STEP_M = 0.2
"""Reaches are found in steps of this."""


@dataclass(frozen=True, eq=False)
class Carriageway:
    """Cells of road, seen from above.

    Attributes:
        area: ``(X, Y)`` where there is road.
        inner_radius: ``(X, Y)`` cells to the nearest cell that is no road.
        origin_world_m: corner of cell (0, 0).
        cell_m: edge of a cell.
    """

    area: Bool[np.ndarray, "X Y"]
    inner_radius: Float64[np.ndarray, "X Y"]
    origin_world_m: Float64[np.ndarray, " 2"]
    cell_m: float

    def world_m(self, cells: np.ndarray) -> Float64[np.ndarray, "N 2"]:
        """World positions of cell centres."""
        return self.origin_world_m + (np.asarray(cells) + 0.5) * self.cell_m

    def at(self, points_world_m: Float64[np.ndarray, "... 2"]) -> Bool[np.ndarray, "..."]:
        """Whether each point is on road."""
        index = np.floor((points_world_m - self.origin_world_m) / self.cell_m).astype(np.int64)
        inside = ((index >= 0) & (index < self.area.shape)).all(axis=-1)
        index = np.where(inside[..., None], index, 0)
        return self.area[index[..., 0], index[..., 1]] & inside

    def radius_m(self, points_world_m: Float64[np.ndarray, "N 2"]) -> Float64[np.ndarray, " N"]:
        """Distance from each point on the map to the nearest cell that is no road, metres."""
        index = np.floor((points_world_m - self.origin_world_m) / self.cell_m).astype(np.int64)
        index = np.clip(index, 0, np.array(self.area.shape) - 1)
        return self.inner_radius[index[:, 0], index[:, 1]] * self.cell_m

    def reach_m(
        self, points_world_m: Float64[np.ndarray, "N 2"], headings_rad: Float64[np.ndarray, " N"], farthest_m: float
    ) -> Float64[np.ndarray, " N"]:
        """How far road goes on without a break from each point in its direction, metres; 0 off the road."""
        distances = np.arange(0.0, farthest_m, STEP_M)
        directions = np.stack([np.cos(headings_rad), np.sin(headings_rad)], axis=-1)
        on_road = self.at(points_world_m[:, None] + distances[:, None] * directions[:, None])
        return np.where(on_road.all(axis=1), farthest_m, distances[on_road.argmin(axis=1)])


def carriageway(static_map: StaticMap, path_world_m: Float64[np.ndarray, "N 2"]) -> Carriageway:
    """The road of a map, without ragged edges, and a corridor along a path that is road in any case."""
    cell_m = float(np.mean(static_map.voxel_size_m[:2]))
    origin = np.asarray(static_map.origin_world_m[:2])
    road = (static_map.labels == CARLASC.index("road")).any(axis=2)
    lower = np.minimum(origin, path_world_m.min(axis=0) - MARGIN_M)
    upper = np.maximum(origin + np.array(road.shape) * cell_m, path_world_m.max(axis=0) + MARGIN_M)
    before = np.ceil((origin - lower) / cell_m).astype(np.int64)
    after = np.ceil((upper - origin) / cell_m).astype(np.int64) - road.shape
    area = np.pad(road, [(int(b), int(max(a, 0))) for b, a in zip(before, after, strict=True)])
    disc = _disc(RAGGED_M / cell_m)
    area = ndimage.binary_opening(ndimage.binary_closing(area, disc), disc)
    area = ~_large(~_large(area, cell_m), cell_m)
    origin = origin - before * cell_m
    passed = np.zeros_like(area)
    index = np.floor((resampled(path_world_m, cell_m) - origin) / cell_m).astype(np.int64)
    passed[index[:, 0], index[:, 1]] = True
    area |= ndimage.distance_transform_edt(~passed) * cell_m <= CORRIDOR_M
    # The border of the map is a border of the road.
    radius = ndimage.distance_transform_edt(np.pad(area, 1))[1:-1, 1:-1]
    return Carriageway(area, radius, origin, cell_m)


def _large(area: Bool[np.ndarray, "X Y"], cell_m: float) -> Bool[np.ndarray, "X Y"]:
    """The connected parts of an area that are no smaller than SMALLEST_AREA_M2."""
    parts, count = ndimage.label(area)
    sizes = ndimage.sum_labels(area, parts, np.arange(1, count + 1))
    return np.isin(parts, np.flatnonzero(sizes * cell_m**2 >= SMALLEST_AREA_M2) + 1)


def _disc(radius: float) -> Bool[np.ndarray, "K K"]:
    n = int(radius)
    x, y = np.mgrid[-n : n + 1, -n : n + 1]
    disc: Bool[np.ndarray, "K K"] = np.hypot(x, y) <= radius
    return disc
