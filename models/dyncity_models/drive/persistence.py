"""Nobody vanishes between chunks: who is lost at the beginning of a chunk is put back on the way."""

import numpy as np
from jaxtyping import Bool, Float64, UInt8
from scipy.ndimage import maximum_filter

from dyncity_models.drive.forecast import Forecast
from dyncity_models.drive.ways import within_ego
from dyncity_models.hexplane import cell_centres
from dyncity_sim.domain.taxonomy import CARLASC

FREE, VEHICLE, PEDESTRIAN = (CARLASC.index(name) for name in ("free", "vehicle", "pedestrian"))

AROUND_COLUMNS = 3
"""Who was generated so near to where one was expected is there."""

FOUND_SHARE = 0.5
"""Share of one's cells that have to be there."""


def with_lost_road_users(
    labels: UInt8[np.ndarray, "T X Y Z"],
    coming: Forecast,
    planar: Float64[np.ndarray, "T 3"],
    seconds: Float64[np.ndarray, " T"],
) -> UInt8[np.ndarray, "T X Y Z"]:
    """A chunk with the vehicles and pedestrians that its first frame should show and does not, where there is room.

    As the static world keeps what was seen of it, so does who moves in it: a network is free to say where one goes, but
    not that there never was one. Only where the ego is going to be they make way.

    Args:
        labels: as generated.
        coming: how those before the chunk go on.
        planar: x, y, yaw of the ego in the world in each frame.
        seconds: since the frame that ``coming`` is of.
    """
    lost = _lost(labels[0], coming, planar[:1], seconds[:1])
    if not lost:
        return labels
    whole = labels.copy()
    columns_m = cell_centres(coming.cells.shape[1], coming.half_extent_m).double().numpy()
    body, everyone = within_ego(columns_m)[..., None], coming.seen_from(planar, seconds)
    for one in lost:
        way = one.seen_from(planar, seconds)
        if not (way & body).any():
            # What little there is of it would be a splinter beside it.
            whole[_around(way) & ~everyone & (labels == _label(one))] = FREE
            whole[way & (whole == FREE)] = _label(one)
    return whole


def _label(one: Forecast) -> int:
    return PEDESTRIAN if one.on_foot.all() else VEHICLE


def _lost(
    labels: UInt8[np.ndarray, "X Y Z"],
    coming: Forecast,
    planar: Float64[np.ndarray, "1 3"],
    seconds: Float64[np.ndarray, " 1"],
) -> list[Forecast]:
    """Each of those that a frame should show and does not; cells where others should be are not its own."""
    each = [coming.only(np.arange(len(coming.cells)) == n) for n in range(len(coming.cells))]
    expected = [one.seen_from(planar, seconds)[0] for one in each]
    everyone = np.any(expected, axis=0) if expected else np.zeros(labels.shape, dtype=np.bool_)
    lost = []
    for one, cells in zip(each, expected, strict=True):
        found = (labels == _label(one)) & _around(cells[None])[0] & ~(everyone & ~cells)
        if cells.any() and found.sum() < FOUND_SHARE * cells.sum():
            lost.append(one)
    return lost


def _around(cells: Bool[np.ndarray, "F X Y Z"]) -> Bool[np.ndarray, "F X Y 1"]:
    across = 2 * AROUND_COLUMNS + 1
    return np.asarray(maximum_filter(cells.any(axis=-1), (1, across, across), mode="constant", cval=0))[..., None]
