"""The ground: its height and surface at any place, from samples of the lanes around."""

from typing import Protocol

import numpy as np
from jaxtyping import Float64, UInt8
from scipy.spatial import cKDTree

TERRAIN_TAG = 10
NEIGHBOURS = 4
REACH_M = 2.0
"""A sample of a lane speaks for this much of it, ahead and behind."""

CELL_M = 0.25
TILE_CELLS = 128
LEVEL_M = 4.0
"""Cells of places that differ more than this in height are kept apart: a road over a road."""


class Samples(Protocol):
    """Points on lanes; ``dyncity_carla.loopback.roads.LaneSamples`` is one."""

    @property
    def rows(self) -> Float64[np.ndarray, "N 6"]:
        """Transforms."""
        ...

    @property
    def half_widths_m(self) -> Float64[np.ndarray, " N"]:
        """Half the lane's width."""
        ...

    @property
    def tags(self) -> UInt8[np.ndarray, " N"]:
        """Semantic tag of the surface."""
        ...


class Ground:
    """Height and semantic tag of the ground at any place; between two levels of a bridge, z decides.

    ``height_m`` and ``tags`` are exact; ``cells`` is what rays hit, in flat cells of CELL_M, filled as they are needed.
    """

    def __init__(self, samples: Samples) -> None:
        self._rows = samples.rows
        self._half_widths_m = samples.half_widths_m
        self._tags = samples.tags
        yaws = np.radians(samples.rows[:, 4])
        self._directions = np.stack([np.cos(yaws), np.sin(yaws)], axis=-1)
        self._slopes = np.tan(np.radians(samples.rows[:, 3]))
        self._tree = cKDTree(samples.rows[:, :3])
        self._tiles: dict[tuple[int, int, int], tuple[np.ndarray, np.ndarray]] = {}

    def height_m(self, places: Float64[np.ndarray, "P 3"]) -> Float64[np.ndarray, " P"]:
        """Height of the nearest lane's surface, carried along its slope."""
        _, nearest = self._tree.query(places)
        along, _ = self._offsets(places, nearest)
        return self._rows[nearest, 2] + np.clip(along, -REACH_M, REACH_M) * self._slopes[nearest]

    def tags(self, places: Float64[np.ndarray, "P 3"]) -> UInt8[np.ndarray, " P"]:
        """Semantic tag of the surface: a lane's when within its width, terrain otherwise; roads before sidewalks."""
        _, near = self._tree.query(places, k=min(NEIGHBOURS, len(self._rows)))
        tags = np.full(len(places), TERRAIN_TAG, dtype=np.uint8)
        for column in near.reshape(len(places), -1).T:
            along, aside = self._offsets(places, column)
            inside = (np.abs(aside) <= self._half_widths_m[column]) & (np.abs(along) <= REACH_M)
            tags[inside] = np.minimum(tags[inside], self._tags[column[inside]])
        return tags

    def cells(self, places: Float64[np.ndarray, "P 3"]) -> tuple[Float64[np.ndarray, " P"], UInt8[np.ndarray, " P"]]:
        """Height and tag of the cell at each place."""
        cells = np.floor(places[:, :2] / CELL_M).astype(np.int64)
        keys = np.concatenate([cells // TILE_CELLS, np.round(places[:, 2:] / LEVEL_M).astype(np.int64)], axis=1)
        inside = cells % TILE_CELLS
        heights, tags = np.empty(len(places)), np.empty(len(places), dtype=np.uint8)
        spread = keys - keys.min(axis=0, initial=0)
        span = spread.max(axis=0, initial=0) + 1
        flat = (spread[:, 0] * span[1] + spread[:, 1]) * span[2] + spread[:, 2]
        order = np.argsort(flat, kind="stable")
        borders = np.flatnonzero(np.diff(flat[order])) + 1
        for here in np.split(order, borders) if len(places) else []:
            tile_heights, tile_tags = self._tile(*keys[here[0]].tolist())
            heights[here] = tile_heights[inside[here, 0], inside[here, 1]]
            tags[here] = tile_tags[inside[here, 0], inside[here, 1]]
        return heights, tags

    def _tile(self, column: int, row: int, level: int) -> tuple[np.ndarray, np.ndarray]:
        key = (column, row, level)
        if key not in self._tiles:
            steps = (np.arange(TILE_CELLS) + 0.5) * CELL_M
            x, y = np.meshgrid(column * TILE_CELLS * CELL_M + steps, row * TILE_CELLS * CELL_M + steps, indexing="ij")
            places = np.stack([x.ravel(), y.ravel(), np.full(x.size, level * LEVEL_M)], axis=-1)
            self._tiles[key] = (self.height_m(places).reshape(x.shape), self.tags(places).reshape(x.shape))
        return self._tiles[key]

    def _offsets(self, places: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        apart = places[:, :2] - self._rows[which, :2]
        ahead = self._directions[which]
        along = apart[:, 0] * ahead[:, 0] + apart[:, 1] * ahead[:, 1]
        return along, apart[:, 1] * ahead[:, 0] - apart[:, 0] * ahead[:, 1]
