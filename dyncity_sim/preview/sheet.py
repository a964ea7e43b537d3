"""One frame as a sheet: what sensors saw from above, and the labels obliquely beside it."""

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image as PillowImage

from dyncity_sim.domain.grid import CARLASC_GRID, Grid
from dyncity_sim.domain.taxonomy import Taxonomy
from dyncity_sim.preview.bev import render_bev
from dyncity_sim.preview.film import with_text
from dyncity_sim.preview.oblique import Image, render_oblique

_HEIGHT = 620
_MARGIN = 28
_HEAD = 72
_FOOT = 44
_PAPER = 247


def render_sheet(
    labels: UInt8[np.ndarray, "X Y Z"],
    observed: Bool[np.ndarray, "X Y Z"],
    grid: Grid,
    taxonomy: Taxonomy,
    dense: bool,
    caption: str = "",
    credit: str = "",
) -> Image:
    """A picture of one frame.

    Args:
        labels: one frame.
        observed: where a sensor saw; the view from above shows what it saw, and columns without any in grey.
        grid: where the cells lie.
        taxonomy: gives the colours.
        dense: whether labels of unobserved cells are true, and shown in the oblique picture.
        caption: upper left.
        credit: lower left.

    Raises:
        InvalidInputError: labels of another shape or out of the taxonomy.
    """
    seen = np.where(observed, labels, np.uint8(0))
    # The ego's box is known in CarlaSC's ego frame; in another it would stand in the wrong place.
    draw_ego = grid == CARLASC_GRID
    scale = max(1, _HEIGHT // grid.shape[0])
    above = render_bev(seen, grid, taxonomy, scale, draw_ego, unseen=np.asarray(~np.any(observed, axis=2)))
    oblique = render_oblique(labels if dense else seen, grid, taxonomy, draw_ego=draw_ego)
    return with_text(_beside(above, oblique), caption, credit)


def _beside(left: Image, right: Image) -> Image:
    """Two pictures at one height on a sheet with room for text above and below."""
    height = left.shape[0]
    width = round(right.shape[1] * height / right.shape[0])
    scaled = np.asarray(PillowImage.fromarray(right).resize((width, height), PillowImage.Resampling.LANCZOS))
    sheet = np.full((_HEAD + height + _FOOT, left.shape[1] + width + 3 * _MARGIN, 3), _PAPER, np.uint8)
    sheet[_HEAD:-_FOOT, _MARGIN : _MARGIN + left.shape[1]] = left
    sheet[_HEAD:-_FOOT, left.shape[1] + 2 * _MARGIN : -_MARGIN] = scaled
    return sheet
