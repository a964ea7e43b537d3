"""Nobody vanishes between chunks, or stops walking: who is lost at the beginning of a chunk is put back on the way."""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float64, UInt8
from scipy import ndimage

from dyncity_models.drive.classes import FREE, PEDESTRIAN, VEHICLE
from dyncity_models.drive.forecast import Forecast
from dyncity_models.drive.pairs import nearest_pairs
from dyncity_models.drive.ways import runs_into
from dyncity_sim.domain.grid import columns_of

FOUND_COLUMNS = {VEHICLE: 1, PEDESTRIAN: 3}
"""What was generated so near to where one was expected is that one's, not its neighbour's."""

AROUND_COLUMNS = 3
"""What is left of one who is lost lies so near to where it is put back."""

FOUND_SHARE = 0.5
"""Share of one's cells that have to be there."""

SAME_M = 0.8
"""A pedestrian so near to where one was to come is that one."""


def with_road_users_going_on(
    labels: UInt8[np.ndarray, "T X Y Z"],
    coming: Forecast,
    planar: Float64[np.ndarray, "T 3"],
    seconds: Float64[np.ndarray, " T"],
) -> UInt8[np.ndarray, "T X Y Z"]:
    """A chunk with who was there before it: vehicles that its first frame should show and does not, and pedestrians.

    As the static world keeps what was seen of it, so does who moves in it. A network is free to say where a vehicle
    goes, but not that there never was one; and what it shows of pedestrians who walk is that they stand, so that these
    go where they were going. There has to be room, and where the ego is going to be they make way.

    Args:
        labels: as generated.
        coming: how those before the chunk go on.
        planar: x, y, yaw of the ego in the world in each frame.
        seconds: since the frame that ``coming`` is of.
    """
    each = [coming.one(n) for n in range(len(coming.cells))]
    expected = [one.seen_from(planar[:1], seconds[:1])[0] for one in each]
    everyone_first = np.any(expected, axis=0) if expected else np.zeros(labels.shape[1:], dtype=np.bool_)
    chosen = [
        one
        for one, cells in zip(each, expected, strict=True)
        if _walks(one, seconds) or _is_lost(labels[0], one, cells, everyone_first & ~cells)
    ]
    if not chosen:
        return labels
    whole, everyone = labels.copy(), coming.seen_from(planar, seconds)
    for one in chosen:
        way = one.seen_from(planar, seconds)
        if not runs_into(way, coming.half_extent_m):
            # What little there is of a vehicle would be a splinter beside it; a pedestrian was drawn where it stood.
            stood = replace(one.only(one.on_foot), speeds_mps=np.zeros(one.on_foot.sum())).seen_from(planar, seconds)
            whole[_left_of(one, labels, everyone, _around(way | stood, AROUND_COLUMNS))] = FREE
            whole[way & (whole == FREE)] = _label(one)
    return whole


def keeping_pace(
    motion: Float64[np.ndarray, "V 7"], coming: Forecast, planar: Float64[np.ndarray, " 3"], second: float
) -> Float64[np.ndarray, "V 7"]:
    """How road users moved in the last frame of a chunk, pedestrians who came as forecast as they were forecast.

    What cells of 0.4 m show of a walk gets slower each time that it is drawn and found again.

    Args:
        motion: ``memory.MOTION`` of each, as found.
        coming: the forecast that pedestrians of the chunk went by.
        planar: x, y, yaw of the ego in the world in the last frame.
        second: of the last frame, since the frame that ``coming`` is of.
    """
    walk = coming.only(coming.on_foot & (coming.rolled_m(np.array([second]))[:, 0] > 0))
    poses, speeds_mps = walk.poses_at(planar, second), walk.speeds_mps_at(second)
    kept, on_foot = motion.copy(), np.flatnonzero(motion[:, 6] == 1)
    away_m = np.linalg.norm(poses[:, None, :2] - motion[on_foot, :2], axis=-1)
    for n, found in nearest_pairs(away_m, SAME_M):
        kept[on_foot[found], 2], kept[on_foot[found], 5] = poses[n, 2], speeds_mps[n]
    return kept


def _label(one: Forecast) -> int:
    return PEDESTRIAN if one.on_foot.all() else VEHICLE


def _walks(one: Forecast, seconds: Float64[np.ndarray, " T"]) -> bool:
    return bool(one.on_foot.all() and (one.rolled_m(seconds[-1:]) > 0).all())


def _is_lost(
    labels: UInt8[np.ndarray, "X Y Z"],
    one: Forecast,
    cells: Bool[np.ndarray, "X Y Z"],
    others: Bool[np.ndarray, "X Y Z"],
) -> bool:
    """Whether a frame should show one and does not; cells where others should be are not its own."""
    found = (labels == _label(one)) & _around(cells[None], FOUND_COLUMNS[_label(one)])[0] & ~others
    return bool(cells.any() and found.sum() < FOUND_SHARE * cells.sum())


def _left_of(
    one: Forecast,
    labels: UInt8[np.ndarray, "T X Y Z"],
    everyone: Bool[np.ndarray, "T X Y Z"],
    around: Bool[np.ndarray, "T X Y 1"],
) -> Bool[np.ndarray, "T X Y Z"]:
    """Cells of pieces that lie mostly around one who is put back, and where nobody else is expected."""
    left = (labels == _label(one)) & ~everyone
    for cells, near in zip(left, around[..., 0], strict=True):
        pieces, _ = ndimage.label(columns_of(cells))
        inside = np.bincount(pieces[near], minlength=pieces.max() + 1)
        cells &= (2 * inside > np.bincount(pieces.ravel()))[pieces][..., None]
    return left


def _around(cells: Bool[np.ndarray, "F X Y Z"], columns: int) -> Bool[np.ndarray, "F X Y 1"]:
    across = 2 * columns + 1
    return np.asarray(ndimage.maximum_filter(columns_of(cells), (1, across, across), mode="constant", cval=0))[
        ..., None
    ]
