"""Trees and shrubs."""

import numpy as np
import shapely
from jaxtyping import Float64

from dyncity_sumo.city.canvas import GROUND, TERRAIN, VEGETATION, Canvas

CROWN_FROM_M = 2.2
"""Lowest branches: one walks under a tree."""

ORCHARD_M = 11.0
"""Distance of trees inside a block."""


def plant_tree(canvas: Canvas, foot_m: Float64[np.ndarray, "2"], crown_radius_m: float, height_m: float) -> None:
    """A trunk of 0.3 m under a crown."""
    canvas.solid(canvas.disc(foot_m, 0.15), VEGETATION, 0.0, height_m)
    canvas.hang(canvas.disc(foot_m, crown_radius_m), VEGETATION, CROWN_FROM_M, height_m)


def plant_shrub(canvas: Canvas, foot_m: Float64[np.ndarray, "2"], radius_m: float, height_m: float) -> None:
    """A round bush that reaches the ground."""
    canvas.solid(canvas.disc(foot_m, radius_m), VEGETATION, 0.0, height_m)


def plant_inside(canvas: Canvas, block: shapely.Polygon, share: float, rng: np.random.Generator) -> None:
    """Trees on a regular grid along the block's longer side, wherever green is left; ``share`` of its points."""
    for foot_m in grid_points(block, ORCHARD_M):
        if rng.random() < share and canvas.free(canvas.disc(foot_m, 1.4), (TERRAIN, GROUND)):
            plant_tree(canvas, foot_m, float(rng.uniform(1.6, 2.6)), float(rng.uniform(5.0, 9.0)))


def grid_points(block: shapely.Polygon, pitch_m: float) -> Float64[np.ndarray, "N 2"]:
    """Points inside a polygon on a square grid that follows its smallest rectangle."""
    corners = shapely.get_coordinates(shapely.minimum_rotated_rectangle(block))[:4]
    along, across = corners[1] - corners[0], corners[3] - corners[0]
    length_m, width_m = float(np.linalg.norm(along)), float(np.linalg.norm(across))
    if min(length_m, width_m) < pitch_m:
        return np.empty((0, 2))
    u = np.arange(pitch_m / 2, length_m, pitch_m) / length_m
    v = np.arange(pitch_m / 2, width_m, pitch_m) / width_m
    points = (corners[0] + u[:, None, None] * along + v[None, :, None] * across).reshape(-1, 2)
    return points[shapely.contains_xy(block, points)]
