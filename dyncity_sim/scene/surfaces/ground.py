"""The height of the ground under each column of a static map."""

import numpy as np
from jaxtyping import Bool, Float64
from scipy.ndimage import gaussian_filter, maximum_filter, minimum_filter

from dyncity_sim.domain.scene import StaticMap
from dyncity_sim.domain.taxonomy import CARLASC

GROUND_CLASSES = ("road", "ground", "sidewalk")

SMOOTHING_M = 1.2
"""Standard deviation of the Gaussian that takes the steps of voxels out of the height."""

REACH = 2.0
"""Columns so many standard deviations away bound the height."""

RIDGE = 1.0
"""Added to the variances, in cells squared: a slope that few columns show is drawn towards level."""


def ground_layers(static_map: StaticMap) -> Bool[np.ndarray, "X Y Z"]:
    """Where the map holds ground: voxels of GROUND_CLASSES."""
    return np.isin(static_map.labels, [CARLASC.index(name) for name in GROUND_CLASSES])


def ground_height_m(static_map: StaticMap) -> Float64[np.ndarray, "X Y"]:
    """World z of the ground under each column, metres; NaN where no ground was seen.

    A voxel says that the ground passes through it, so its centre is the height to half a voxel; of several ground
    voxels in a column (a slope, two frames that disagree) the mean counts. The steps between voxels are taken out by
    a plane through the seen columns around, weighted by a Gaussian (normalised convolution of first order, Knutsson
    and Westin 1993): it is not drawn to one side at the border of what was seen. The result stays within the ground
    voxels of its column, and goes neither under nor over what columns around it say: beyond the last step, a plane
    through it would.
    """
    ground = ground_layers(static_map)
    count = ground.sum(axis=2)
    seen = count > 0
    layer = np.arange(ground.shape[2]) + 0.5
    mean = np.where(seen, (ground * layer).sum(axis=2) / np.maximum(count, 1), 0.0)
    smooth = _fitted(mean, seen, SMOOTHING_M / float(np.mean(static_map.voxel_size_m[:2])))
    lowest = ground.argmax(axis=2)
    highest = ground.shape[2] - ground[:, :, ::-1].argmax(axis=2)
    held = np.clip(smooth, lowest, highest)
    height_m: Float64[np.ndarray, "X Y"] = static_map.origin_world_m[2] + held * static_map.voxel_size_m[2]
    return np.where(seen, height_m, np.nan)


def _fitted(
    values: Float64[np.ndarray, "X Y"], seen: Bool[np.ndarray, "X Y"], deviation: float
) -> Float64[np.ndarray, "X Y"]:
    """At each cell, the value of the weighted plane through the seen cells around it, within their values."""
    weight = seen.astype(np.float64)
    x, y = np.meshgrid(*(np.arange(n, dtype=np.float64) for n in seen.shape), indexing="ij")

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
