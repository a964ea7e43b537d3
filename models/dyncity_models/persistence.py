"""Vehicles do not vanish between chunks: those that a chunk has lost at its beginning are put back on their way."""

import numpy as np
from jaxtyping import Bool, Float64, UInt8
from scipy.ndimage import binary_dilation

from dyncity_models.forecast import Forecast
from dyncity_models.hexplane import cell_centres
from dyncity_sim.domain.grid import EGO_LOWER_M, EGO_UPPER_M
from dyncity_sim.domain.taxonomy import CARLASC

FREE, VEHICLE = CARLASC.index("free"), CARLASC.index("vehicle")

AROUND_COLUMNS = 3
"""A vehicle that was generated so near to where it was expected is there."""

FOUND_SHARE = 0.5
"""Share of a vehicle's cells that have to be there."""


def with_lost_vehicles(
    labels: UInt8[np.ndarray, "T X Y Z"],
    coming: Forecast,
    planar: Float64[np.ndarray, "T 3"],
    seconds: Float64[np.ndarray, " T"],
) -> UInt8[np.ndarray, "T X Y Z"]:
    """A chunk with the vehicles that its first frame should show and does not, in all frames, where there is room.

    As the static world keeps what was seen of it, so do vehicles: a network is free to say where one goes, but not that
    there never was one. Only where the ego is going to be it makes way.

    Args:
        labels: as generated.
        coming: how the vehicles before the chunk drive on.
        planar: x, y, yaw of the ego in the world in each frame.
        seconds: since the frame that ``coming`` is of.
    """
    expected = [coming.only(np.arange(len(coming.cells)) == n) for n in range(len(coming.cells))]
    first = [one.seen_from(planar[:1], seconds[:1])[0] for one in expected]
    everyone = np.any(first, axis=0) if first else np.zeros(labels.shape[1:], dtype=np.bool_)
    body, whole = _ego_columns(coming), labels.copy()
    for one, cells in zip(expected, first, strict=True):
        there = _around(cells[None])[0] & ~(everyone & ~cells) & (labels[0] == VEHICLE)
        if not cells.any() or there.sum() >= FOUND_SHARE * cells.sum():
            continue
        way = one.seen_from(planar, seconds)
        if not (way & body[..., None]).any():
            # What little there is of it would be a splinter beside it.
            whole[_around(way) & ~coming.seen_from(planar, seconds) & (labels == VEHICLE)] = FREE
            whole[way & (whole == FREE)] = VEHICLE
    return whole


def _around(cells: Bool[np.ndarray, "F X Y Z"]) -> Bool[np.ndarray, "F X Y 1"]:
    reach = np.ones((1, 2 * AROUND_COLUMNS + 1, 2 * AROUND_COLUMNS + 1), dtype=np.bool_)
    return binary_dilation(cells.any(axis=-1), reach)[..., None]


def _ego_columns(coming: Forecast) -> Bool[np.ndarray, "X Y"]:
    points = cell_centres(coming.cells.shape[1], coming.half_extent_m).numpy()
    return np.asarray(((points > EGO_LOWER_M[:2]) & (points < EGO_UPPER_M[:2])).all(axis=-1))
