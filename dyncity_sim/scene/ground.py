"""The height of the ground under each column of a static map."""

import numpy as np
from jaxtyping import Bool, Float64
from scipy.ndimage import gaussian_filter

from dyncity_sim.domain.scene import StaticMap
from dyncity_sim.domain.taxonomy import CARLASC

GROUND_CLASSES = ("road", "ground", "sidewalk")

SMOOTHING_M = 1.2
"""Standard deviation of the Gaussian that takes the steps of voxels out of the height."""


def ground_layers(static_map: StaticMap) -> Bool[np.ndarray, "X Y Z"]:
    """Where the map holds ground: voxels of GROUND_CLASSES."""
    return np.isin(static_map.labels, [CARLASC.index(name) for name in GROUND_CLASSES])


def ground_height_m(static_map: StaticMap) -> Float64[np.ndarray, "X Y"]:
    """World z of the ground under each column, metres; NaN where no ground was seen.

    A voxel says that the ground passes through it, so its centre is the height to half a voxel. Of several ground
    voxels in a column (a slope, two frames that disagree) the mean counts. Heights are smoothed over seen columns
    alone (normalised convolution, Knutsson and Westin 1993) and held to the voxels that were seen, so that smoothing
    never leaves the ground's own voxels.
    """
    ground = ground_layers(static_map)
    count = ground.sum(axis=2)
    seen = count > 0
    layer = np.arange(ground.shape[2]) + 0.5
    mean = np.where(seen, (ground * layer).sum(axis=2) / np.maximum(count, 1), 0.0)
    sigma = [SMOOTHING_M / size for size in static_map.voxel_size_m[:2]]
    weight = gaussian_filter(seen.astype(np.float64), sigma, mode="constant")
    smooth = gaussian_filter(mean, sigma, mode="constant") / np.maximum(weight, 1e-12)
    lowest = ground.argmax(axis=2)
    highest = ground.shape[2] - ground[:, :, ::-1].argmax(axis=2)
    held = np.clip(smooth, lowest, highest)
    height_m: Float64[np.ndarray, "X Y"] = static_map.origin_world_m[2] + held * static_map.voxel_size_m[2]
    return np.where(seen, height_m, np.nan)


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
