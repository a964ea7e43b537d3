"""The columns of a city while it is being built, and the strokes that builders paint with."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import shapely
from jaxtyping import Bool, Float64

from dyncity_sim.domain.taxonomy import CARLASC_RAW
from dyncity_sumo.city.raster import Patch, cells_inside
from dyncity_sumo.columns import HIGHEST_SPAN_DM, SPANS, StaticColumns

BUILDING = CARLASC_RAW.index("building")
FENCE = CARLASC_RAW.index("fence")
OTHER = CARLASC_RAW.index("other")
POLE = CARLASC_RAW.index("pole")
ROAD_LINE = CARLASC_RAW.index("road_line")
ROAD = CARLASC_RAW.index("road")
SIDEWALK = CARLASC_RAW.index("sidewalk")
VEGETATION = CARLASC_RAW.index("vegetation")
WALL = CARLASC_RAW.index("wall")
TRAFFIC_SIGN = CARLASC_RAW.index("traffic_sign")
GROUND = CARLASC_RAW.index("ground")
GUARD_RAIL = CARLASC_RAW.index("guard_rail")
TRAFFIC_LIGHT = CARLASC_RAW.index("traffic_light")
STATIC = CARLASC_RAW.index("static")
TERRAIN = CARLASC_RAW.index("terrain")


@dataclass(frozen=True, eq=False)
class Frame:
    """A place with a direction: u runs along ``along``, v to its left.

    Attributes:
        origin_m: ``(2,)`` world position of u = v = 0.
        along: ``(2,)`` unit vector of u.
    """

    origin_m: Float64[np.ndarray, "2"]
    along: Float64[np.ndarray, "2"]

    def rectangle(self, u_m: tuple[float, float], v_m: tuple[float, float]) -> Float64[np.ndarray, "4 2"]:
        """World corners of ``u_m[0] .. u_m[1]`` by ``v_m[0] .. v_m[1]``."""
        left = np.array([-self.along[1], self.along[0]])
        corners = ((u_m[0], v_m[0]), (u_m[1], v_m[0]), (u_m[1], v_m[1]), (u_m[0], v_m[1]))
        return np.array([self.origin_m + u * self.along + v * left for u, v in corners])


class Canvas:
    """Columns under construction.

    A later stroke never overwrites an earlier span: a column keeps its first two.

    Args:
        columns: what is painted on, in place.
    """

    def __init__(self, columns: StaticColumns) -> None:
        self.columns = columns
        self.claimed: Bool[np.ndarray, "NX NY"] = np.zeros(columns.shape, np.bool_)
        """Where something stands, or where a lot is reserved: builders keep off each other."""

    def polygon(self, points_m: Float64[np.ndarray, "N 2"]) -> Patch:
        """Cells of a simple polygon of world points."""
        return cells_inside([self._cells(points_m)], self.columns.shape)

    def disc(self, centre_m: Float64[np.ndarray, "2"], radius_m: float) -> Patch:
        """Cells of a disc; at least the cell under its centre when that lies on the canvas."""
        centre = self._cells(centre_m)
        radius = max(radius_m / self.columns.cell_m, 0.5)
        lower = np.clip(np.floor(centre - radius).astype(np.int64), 0, self.columns.shape)
        upper = np.clip(np.ceil(centre + radius).astype(np.int64), lower, self.columns.shape)
        x = np.arange(lower[0], upper[0])[:, None] + 0.5 - centre[0]
        y = np.arange(lower[1], upper[1])[None, :] + 0.5 - centre[1]
        inside = (x**2 + y**2 <= radius**2) | ((np.abs(x) <= 0.5) & (np.abs(y) <= 0.5))
        return Patch((slice(int(lower[0]), int(upper[0])), slice(int(lower[1]), int(upper[1]))), inside)

    def geometry(self, geometry: shapely.Geometry) -> list[Patch]:
        """Cells of each polygon of a shapely geometry, holes left out."""
        return [
            cells_inside(
                [self._cells(np.asarray(ring.coords)[:-1, :2]) for ring in (part.exterior, *part.interiors)],
                self.columns.shape,
            )
            for part in polygons_of(geometry)
        ]

    def surface(self, patch: Patch, label: int, only_on: tuple[int, ...] = ()) -> None:
        """Paint the ground; where ``only_on`` is given, only over these classes."""
        ground = self.columns.ground_class[patch.window]
        inside = patch.inside & _members(only_on)[ground] if only_on else patch.inside
        ground[inside] = label

    def surfaces(self, geometry: shapely.Geometry, label: int, only_on: tuple[int, ...] = ()) -> None:
        """Paint the ground under a shapely geometry."""
        for patch in self.geometry(geometry):
            self.surface(patch, label, only_on)

    def solid(self, patch: Patch, label: int, lo_m: float, hi_m: float) -> None:
        """Stand something of class ``label`` from ``lo_m`` to ``hi_m`` above the ground, and claim its cells."""
        lo_dm, hi_dm = round(lo_m * 10), min(round(hi_m * 10), HIGHEST_SPAN_DM)
        assert 0 <= lo_dm < hi_dm, (lo_m, hi_m)
        todo = patch.inside & (self.columns.ground_class[patch.window] != 0)
        for slot in range(SPANS):
            if not todo.any():
                break
            spans = self.columns.span_class[(*patch.window, slot)]
            empty = todo & (spans == 0)
            spans[empty] = label
            self.columns.span_lo_dm[(*patch.window, slot)][empty] = lo_dm
            self.columns.span_hi_dm[(*patch.window, slot)][empty] = hi_dm
            todo &= ~empty
        self.claimed[patch.window] |= patch.inside

    def hang(self, patch: Patch, label: int, lo_m: float, hi_m: float) -> None:
        """Hang something over columns that are empty below it; the ground stays free for others."""
        lo_dm, hi_dm = round(lo_m * 10), min(round(hi_m * 10), HIGHEST_SPAN_DM)
        columns, window = self.columns, patch.window
        below = columns.span_hi_dm[(*window, 0)]
        todo = patch.inside & (columns.ground_class[window] != 0)
        for slot, fits in ((0, columns.span_class[(*window, 0)] == 0), (1, below <= lo_dm)):
            empty = todo & fits & (columns.span_class[(*window, slot)] == 0)
            columns.span_class[(*window, slot)][empty] = label
            columns.span_lo_dm[(*window, slot)][empty] = lo_dm
            columns.span_hi_dm[(*window, slot)][empty] = hi_dm
            todo &= ~empty

    def box(
        self, frame: Frame, u_m: tuple[float, float], v_m: tuple[float, float], label: int, z_m: tuple[float, float]
    ) -> None:
        """Stand a box on the ground, or hang it when it starts above."""
        patch = self.polygon(frame.rectangle(u_m, v_m))
        (self.solid if z_m[0] == 0 else self.hang)(patch, label, *z_m)

    def claim(self, patch: Patch) -> None:
        """Reserve cells, so that ``free`` tells other builders to keep off."""
        self.claimed[patch.window] |= patch.inside

    def is_ground(self, patch: Patch, labels: tuple[int, ...]) -> Bool[np.ndarray, "X Y"]:
        """Which cells of the patch's window have ground of these classes."""
        return _members(labels)[self.columns.ground_class[patch.window]]

    def free(self, patch: Patch, on: tuple[int, ...]) -> bool:
        """Whether the patch lies whole on the canvas, on ground of these classes, unclaimed."""
        if not patch.inside.any():
            return False
        ground = self.columns.ground_class[patch.window][patch.inside]
        return bool(_members(on)[ground].all() and not self.claimed[patch.window][patch.inside].any())

    def _cells(self, points_m: Float64[np.ndarray, "... 2"]) -> Float64[np.ndarray, "... 2"]:
        return (np.asarray(points_m, dtype=np.float64) - self.columns.origin_m) / self.columns.cell_m


def _members(labels: tuple[int, ...]) -> Bool[np.ndarray, "256"]:
    table = np.zeros(256, np.bool_)
    table[list(labels)] = True
    return table


def polygons_of(geometry: shapely.Geometry) -> Iterable[shapely.Polygon]:
    """The polygons in any shapely geometry; lines and points are dropped."""
    if geometry.geom_type == "Polygon":
        return [] if geometry.is_empty else [geometry]
    return [polygon for part in getattr(geometry, "geoms", ()) for polygon in polygons_of(part)]
