"""Lines in the road plane: resampling, smoothing, directions."""

import numpy as np
from jaxtyping import Float64
from scipy.ndimage import gaussian_filter1d
from scipy.spatial import cKDTree

Points = Float64[np.ndarray, "N D"]


def along_m(points: Points) -> Float64[np.ndarray, " N"]:
    """Distance travelled in the plane up to each point, metres."""
    steps_m = np.linalg.norm(np.diff(points[:, :2], axis=0), axis=1)
    return np.concatenate([[0.0], np.cumsum(steps_m)])


def resampled(points: Points, spacing_m: float) -> Points:
    """Points at equal distances near ``spacing_m`` along a line; both ends stay."""
    at_m = along_m(points)
    wanted_m = np.linspace(0.0, at_m[-1], max(2, round(at_m[-1] / spacing_m) + 1))
    return interpolated(points, at_m, wanted_m)


def interpolated(points: Points, at_m: Float64[np.ndarray, " N"], wanted_m: Float64[np.ndarray, " M"]) -> Points:
    """Points of a line at given distances along it."""
    return np.stack([np.interp(wanted_m, at_m, column) for column in points.T], axis=-1)


def smoothed(points: Points, deviation: float) -> Points:
    """A line after a Gaussian over its points; both ends and their directions stay."""
    mirrored = np.concatenate([2 * points[0] - points[:0:-1], points, 2 * points[-1] - points[-2::-1]])
    smooth: Points = gaussian_filter1d(mirrored, deviation, axis=0)[len(points) - 1 : 2 * len(points) - 1]
    return smooth


def headings_rad(points: Points) -> Float64[np.ndarray, " N"]:
    """Direction at each point, by central differences, without jumps of a full turn."""
    tangent = np.gradient(points[:, :2], axis=0)
    return np.unwrap(np.arctan2(tangent[:, 1], tangent[:, 0]))


def normals(headings: Float64[np.ndarray, " N"]) -> Float64[np.ndarray, "N 2"]:
    """Unit vectors to the left of each direction."""
    return np.stack([-np.sin(headings), np.cos(headings)], axis=-1)


def nearest_on(points: Points, wanted: Points) -> tuple[Float64[np.ndarray, " M"], Float64[np.ndarray, " M"]]:
    """Distance along a finely sampled line of the point nearest to each wanted one, and its offset to the left."""
    _, index = cKDTree(points[:, :2]).query(wanted[:, :2])
    offset = wanted[:, :2] - points[index, :2]
    left = (offset * normals(headings_rad(points))[index]).sum(axis=1)
    side = np.where(left >= 0, 1.0, -1.0)
    return along_m(points)[index], side * np.linalg.norm(offset, axis=1)
