"""What an encoder may be shown of a clip: sensor view, dense truth, or a known part of it."""

import numpy as np
from jaxtyping import Bool, Float64, UInt8

from dyncity_models.data.clips import UNOBSERVED, Clip
from dyncity_sim.domain.taxonomy import CARLASC


def cell_centres_world(
    planar: Float64[np.ndarray, "T 3"], cells: int, half_extent_m: float
) -> Float64[np.ndarray, "T X Y 2"]:
    """World x, y of each column of each frame."""
    axis = (np.arange(cells) + 0.5) * (2 * half_extent_m / cells) - half_extent_m
    x, y = np.meshgrid(axis, axis, indexing="ij")
    cos, sin = np.cos(planar[:, 2])[:, None, None], np.sin(planar[:, 2])[:, None, None]
    return np.stack(
        [cos * x - sin * y + planar[:, 0, None, None], sin * x + cos * y + planar[:, 1, None, None]], axis=-1
    )


def covered(
    points_world: Float64[np.ndarray, "... 2"], planar: Float64[np.ndarray, "N 3"], half_extent_m: float
) -> Bool[np.ndarray, "..."]:
    """Whether points lie in the square grid of any of some ego poses."""
    inside = np.zeros(points_world.shape[:-1], dtype=np.bool_)
    for x, y, yaw in planar:
        dx, dy = points_world[..., 0] - x, points_world[..., 1] - y
        forward, left = np.cos(yaw) * dx + np.sin(yaw) * dy, -np.sin(yaw) * dx + np.cos(yaw) * dy
        inside |= (np.abs(forward) < half_extent_m) & (np.abs(left) < half_extent_m)
    return inside


def known_tokens(clip: Clip, known_columns: Bool[np.ndarray, "T X Y"]) -> UInt8[np.ndarray, "T X Y Z"]:
    """The static part of a clip where it is known: movers and unknown columns count as never observed."""
    hidden = ~known_columns[..., None] | np.isin(clip.labels, CARLASC.moving_labels)
    return np.where(hidden, UNOBSERVED, clip.labels).astype(np.uint8)


def random_known_columns(clip: Clip, half_extent_m: float, rng: np.random.Generator) -> Bool[np.ndarray, "T X Y"]:
    """Columns that a drive could already know: what lies behind a random line on the ground."""
    points = cell_centres_world(clip.planar, clip.labels.shape[1], half_extent_m)
    angle = rng.uniform(-np.pi, np.pi)
    offset = rng.uniform(-0.7, 0.9) * half_extent_m
    centre = clip.planar[len(clip) // 2]
    along = (points[..., 0] - centre[0]) * np.cos(angle) + (points[..., 1] - centre[1]) * np.sin(angle)
    return along < offset


def moved_to_canvas(
    columns: Bool[np.ndarray, "N X Y"],
    planar: Float64[np.ndarray, "N 3"],
    canvas_planar: Float64[np.ndarray, " 3"],
    grid_half_extent_m: float,
    canvas_half_extent_m: float,
    cells: int,
) -> Bool[np.ndarray, "N C C"]:
    """Column masks of ego frames drawn on a canvas; a canvas cell is set when any of its four quarters is."""
    points = cell_centres_world(canvas_planar[None], 2 * cells, canvas_half_extent_m)[0]
    size = columns.shape[1]
    drawn = np.zeros((len(columns), 2 * cells, 2 * cells), dtype=np.bool_)
    for number, (x, y, yaw) in enumerate(planar):
        dx, dy = points[..., 0] - x, points[..., 1] - y
        forward, left = np.cos(yaw) * dx + np.sin(yaw) * dy, -np.sin(yaw) * dx + np.cos(yaw) * dy
        index = [np.floor((v / (2 * grid_half_extent_m) + 0.5) * size).astype(np.int64) for v in (forward, left)]
        inside = (index[0] >= 0) & (index[0] < size) & (index[1] >= 0) & (index[1] < size)
        drawn[number][inside] = columns[number, index[0][inside], index[1][inside]]
    quarters = drawn.reshape(len(columns), cells, 2, cells, 2)
    return np.asarray(quarters.any(axis=(2, 4)))


def known_latent_mask(known: Bool[np.ndarray, "C C"]) -> Bool[np.ndarray, "X Y"]:
    """Latent cells (two canvas cells wide) that lie well inside the known part of a canvas."""
    cells = known.shape[0] // 2
    whole = known.reshape(cells, 2, cells, 2).all(axis=(1, 3))
    padded = np.pad(whole, 1, mode="edge")
    neighbours = [padded[i : i + cells, j : j + cells] for i in range(3) for j in range(3)]
    return np.asarray(np.logical_and.reduce(neighbours))


def mover_columns(labels: UInt8[np.ndarray, "N X Y Z"]) -> Bool[np.ndarray, "M X Y"]:
    """Columns that hold a vehicle, then columns that hold a pedestrian, for each frame: ``(2 N, X, Y)``."""
    vehicle, pedestrian = CARLASC.index("vehicle"), CARLASC.index("pedestrian")
    return np.concatenate([(labels == label).any(axis=-1) for label in (vehicle, pedestrian)])
