"""Top view of voxel frames: the highest class of each column, lighter with height."""

import numpy as np
from jaxtyping import Bool, UInt8

from dyncity_sim.domain.grid import EGO_LOWER_M, EGO_UPPER_M, Grid
from dyncity_sim.domain.taxonomy import Taxonomy
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.preview.oblique import Image

EGO_COLOUR = np.array([247, 147, 30], dtype=np.uint8)
UNSEEN_COLOUR = np.array([206, 208, 212], dtype=np.uint8)


def render_bev(
    labels: UInt8[np.ndarray, "X Y Z"],
    grid: Grid,
    taxonomy: Taxonomy,
    scale: int = 4,
    draw_ego: bool = True,
    unseen: Bool[np.ndarray, "X Y"] | None = None,
) -> Image:
    """Top view of one frame, forward up and left on the left, ``scale`` pixels to a cell.

    Columns where ``unseen`` is True are grey, whatever their labels.

    Raises:
        InvalidInputError: labels of another shape or out of the taxonomy, or a scale under 1.
    """
    if labels.shape != grid.shape:
        raise InvalidInputError("labels", f"shape {labels.shape}", f"{grid.shape}, the grid's")
    if scale < 1:
        raise InvalidInputError("scale", scale, "at least 1 pixel per cell")
    taxonomy.check(labels, "labels")
    occupied = labels > 0
    highest = grid.shape[2] - 1 - occupied[:, :, ::-1].argmax(axis=2)
    top = np.take_along_axis(labels, highest[:, :, None], axis=2)[:, :, 0]
    height = np.where(occupied.any(axis=2), highest, 0) / max(grid.shape[2] - 1, 1)
    colour = taxonomy.palette[top].astype(np.float32)
    colour = np.clip(colour * (0.92 + 0.08 * height[:, :, None]) + 34 * height[:, :, None], 0, 255)
    if unseen is not None:
        colour[unseen] = UNSEEN_COLOUR
    # Rows run backwards and columns to the right: both axes of the ego frame turn around.
    picture = np.rint(colour[::-1, ::-1]).astype(np.uint8).repeat(scale, axis=0).repeat(scale, axis=1)
    if draw_ego:
        cell = scale / np.asarray(grid.voxel_size_m[:2])
        upper = np.asarray(grid.upper_m[:2])
        first = np.rint((upper - EGO_UPPER_M[:2]) * cell).astype(int)
        last = np.rint((upper - EGO_LOWER_M[:2]) * cell).astype(int)
        picture[max(first[0], 0) : max(last[0], 0), max(first[1], 0) : max(last[1], 0)] = EGO_COLOUR
    return picture
