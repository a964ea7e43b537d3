"""Borders in a drive's memory, straight from wherever they are looked at: kerbs, and walls of buildings.

A label of the nearest column moves a border by up to half a cell, once where it was written and once more where it is
read on axes that are turned. Here it is read where the shares of both sides around a point are equal.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64, UInt8
from scipy.ndimage import distance_transform_edt, gaussian_filter
from torch.nn import functional as F

from dyncity_models.data.clips import UNOBSERVED
from dyncity_sim.domain.grid import columns_of
from dyncity_sim.domain.taxonomy import CARLASC

BUILDING = CARLASC.index("building")
SURFACES = np.array([CARLASC.index(name) for name in ("road", "sidewalk", "ground")], dtype=np.uint8)

IS_SURFACE = np.isin(np.arange(256), SURFACES)
"""Of each label."""

KERB_SMOOTHING_CELLS = 1.5
"""Standard deviation of the Gaussian that surfaces are averaged with: strips of two cells stay, of one cell do not."""

WALL_SMOOTHING_CELLS = 1.0
"""The same of buildings, which have sharper corners."""

Points = Float64[np.ndarray, "*P 2"]
"""In columns from the corner of the square; the middle of the first one is at 0.5."""


def surfaces_at(labels: UInt8[np.ndarray, "N N Z"], points: Points) -> UInt8[np.ndarray, "*P"]:
    """Road, sidewalk or ground at some points: what most of the columns around have on top of their surfaces."""
    surface = IS_SURFACE[labels]
    top = (surface * np.arange(1, labels.shape[-1] + 1)).argmax(axis=-1)[..., None]
    shown = np.where(columns_of(surface), np.take_along_axis(labels, top, axis=-1)[..., 0], 0)
    around = _shares_at([shown == one for one in SURFACES], KERB_SMOOTHING_CELLS, points)
    return SURFACES[around.argmax(axis=0)]


def columns_at(labels: UInt8[np.ndarray, "N N Z"], points: Points) -> Int64[np.ndarray, "*P 2"]:
    """The columns nearest to some points, of those on the same side of the walls of buildings."""
    nearest = np.floor(points).astype(np.int64).clip(0, len(labels) - 1)
    built = columns_of(labels == BUILDING)
    if not built.any():
        return nearest
    (share,) = _shares_at([built], WALL_SMOOTHING_CELLS, points)
    inside, found = share > 0.5, built[tuple(np.moveaxis(nearest, -1, 0))]
    known = columns_of(labels != UNOBSERVED)
    for wanted, side in ((True, built), (False, known & ~built)):
        across = (inside == wanted) & (found != wanted) & known[tuple(np.moveaxis(nearest, -1, 0))]
        if across.any() and side.any():
            _, on_side = distance_transform_edt(~side, return_indices=True)
            nearest[across] = on_side[(slice(None), *nearest[across].T)].T
    return nearest


def _shares_at(
    masks: list[Bool[np.ndarray, "N N"]], smoothing_cells: float, points: Points
) -> Float32[np.ndarray, " K *P"]:
    """Shares of columns around some points that are in some masks, by a Gaussian and linear interpolation."""
    shares = np.stack([gaussian_filter(mask.astype(np.float32), smoothing_cells) for mask in masks])
    # grid_sample wants the last axis first, and the square between -1 and 1.
    places = torch.from_numpy((points[..., ::-1] * (2 / shares.shape[-1]) - 1).astype(np.float32)).reshape(1, 1, -1, 2)
    around = F.grid_sample(torch.from_numpy(shares)[None], places, padding_mode="border", align_corners=False)
    return np.asarray(around[0, :, 0].numpy().reshape(len(masks), *points.shape[:-1]))
