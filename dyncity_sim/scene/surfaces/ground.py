"""The height of the ground under each column of a static map."""

from itertools import product

import numpy as np
from jaxtyping import Bool, Float64, UInt8
from scipy.ndimage import gaussian_filter, maximum_filter, minimum_filter

from dyncity_sim.domain.scene import StaticMap
from dyncity_sim.domain.taxonomy import CARLASC, GROUND_CLASSES

SMOOTHING_M = 1.2
"""Standard deviation of the Gaussian that takes the steps of voxels out of the height."""

REACH = 2.0
"""Columns so many standard deviations away bound the height."""

RIDGE = 1.0
"""Added to the variances, in cells squared: a slope that few columns show is drawn towards level."""

TILE = 256
"""So many columns a side are computed at once, and none where nothing was seen: a drive is a thin band in its map."""


def ground_layers(labels: UInt8[np.ndarray, "X Y Z"]) -> Bool[np.ndarray, "X Y Z"]:
    """Where a map holds ground: voxels of GROUND_CLASSES."""
    return np.isin(labels, [CARLASC.index(name) for name in GROUND_CLASSES])


def ground_height_m(static_map: StaticMap) -> Float64[np.ndarray, "X Y"]:
    """World z of the ground under each column, metres; NaN where no ground was seen.

    A voxel says that the ground passes through it, so its centre is the height to half a voxel; of several ground
    voxels in a column (a slope, two frames that disagree) the mean counts. The steps between voxels are taken out by
    a plane through the seen columns around, weighted by a Gaussian (normalised convolution of first order, Knutsson
    and Westin 1993): it is not drawn to one side at the border of what was seen. The result stays within the ground
    voxels of its column, and goes neither under nor over what columns around it say: beyond the last step, a plane
    through it would.
    """
    deviation = SMOOTHING_M / float(np.mean(static_map.voxel_size_m[:2]))
    # Columns farther away than this have no weight in a Gaussian of SciPy.
    margin = int(np.ceil(4 * deviation)) + 1
    columns = static_map.labels.shape[:2]
    height_m: Float64[np.ndarray, "X Y"] = np.full(columns, np.nan)
    for x, y in product(*(range(0, n, TILE) for n in columns)):
        around = tuple(slice(max(at - margin, 0), at + TILE + margin) for at in (x, y))
        ground = ground_layers(static_map.labels[around])
        first = around[0].start, around[1].start
        inner = slice(x - first[0], x - first[0] + TILE), slice(y - first[1], y - first[1] + TILE)
        if ground[inner].any():
            height_m[x : x + TILE, y : y + TILE] = _held(ground, first, deviation)[inner]
    return static_map.origin_world_m[2] + height_m * static_map.voxel_size_m[2]


def _held(ground: Bool[np.ndarray, "X Y Z"], first: tuple[int, int], deviation: float) -> Float64[np.ndarray, "X Y"]:
    """Height of the ground in layers, NaN where there is none; ``first`` is the place of column (0, 0) in the map."""
    count = ground.sum(axis=2)
    seen = count > 0
    layer = np.arange(ground.shape[2]) + 0.5
    mean = np.where(seen, (ground * layer).sum(axis=2) / np.maximum(count, 1), 0.0)
    smooth = _fitted(mean, seen, first, deviation)
    lowest = ground.argmax(axis=2)
    highest = ground.shape[2] - ground[:, :, ::-1].argmax(axis=2)
    return np.where(seen, np.clip(smooth, lowest, highest), np.nan)


def _fitted(
    values: Float64[np.ndarray, "X Y"], seen: Bool[np.ndarray, "X Y"], first: tuple[int, int], deviation: float
) -> Float64[np.ndarray, "X Y"]:
    """At each cell, the value of the weighted plane through the seen cells around it, within their values."""
    weight = seen.astype(np.float64)
    cells = (at + np.arange(n, dtype=np.float64) for at, n in zip(first, seen.shape, strict=True))
    x, y = np.meshgrid(*cells, indexing="ij")

    def around(quantity: np.ndarray) -> np.ndarray:
        return np.asarray(gaussian_filter(weight * quantity, deviation, mode="constant"))

    total = np.maximum(around(np.ones_like(x)), 1e-12)
    mx, my, mz = (around(quantity) / total for quantity in (x, y, values))
    xx, yy = around(x * x) / total - mx * mx + RIDGE, around(y * y) / total - my * my + RIDGE
    xy = around(x * y) / total - mx * my
    xz, yz = around(x * values) / total - mx * mz, around(y * values) / total - my * mz
    determinant = xx * yy - xy * xy
    slope_x, slope_y = (xz * yy - yz * xy) / determinant, (yz * xx - xz * xy) / determinant
    fitted: Float64[np.ndarray, "X Y"] = mz + slope_x * (x - mx) + slope_y * (y - my)
    window = 2 * round(REACH * deviation) + 1
    lowest = minimum_filter(np.where(seen, values, np.inf), window, mode="nearest")
    highest = maximum_filter(np.where(seen, values, -np.inf), window, mode="nearest")
    return np.clip(fitted, lowest, highest)


def height_at_m(
    static_map: StaticMap, height_m: Float64[np.ndarray, "X Y"], points_world_m: Float64[np.ndarray, "N 2"]
) -> Float64[np.ndarray, " N"]:
    """Height of the column that holds each point, metres; NaN off the map and where no ground was seen."""
    origin, size = np.asarray(static_map.origin_world_m[:2]), np.asarray(static_map.voxel_size_m[:2])
    index = np.floor((points_world_m - origin) / size).astype(np.int64)
    inside = ((index >= 0) & (index < height_m.shape)).all(axis=1)
    found = np.full(len(points_world_m), np.nan)
    found[inside] = height_m[index[inside, 0], index[inside, 1]]
    return found
