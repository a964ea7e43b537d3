"""Whether a car has room: its footprint on the carriageway, and clear of everyone else's."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64

from dyncity_sumo.actors import ActorTable
from dyncity_sumo.city.canvas import ROAD, ROAD_LINE
from dyncity_sumo.columns import StaticColumns
from dyncity_sumo.ego import STEP_S, Motion

_ALONG, _ACROSS = np.meshgrid(np.linspace(-0.5, 0.5, 9), np.linspace(-0.5, 0.5, 5))


def share_on_road(
    motions: Sequence[Motion], size_m: tuple[float, float, float], margin_m: float, columns: StaticColumns
) -> Float64[np.ndarray, " T"]:
    """Share of a car's footprint, ``margin_m`` larger on all sides, that is free carriageway at each motion."""
    xy_m, yaws_rad = _planar(motions)
    along_m = _ALONG.ravel() * (size_m[0] + 2 * margin_m)
    across_m = _ACROSS.ravel() * (size_m[1] + 2 * margin_m)
    cos, sin = np.cos(yaws_rad)[:, None], np.sin(yaws_rad)[:, None]
    points_m = xy_m[:, None] + np.stack([cos * along_m - sin * across_m, sin * along_m + cos * across_m], axis=-1)
    index = columns.index_of(points_m)
    inside = ((index >= 0) & (index < np.array(columns.shape))).all(axis=-1)
    i, j = np.moveaxis(np.clip(index, 0, np.array(columns.shape) - 1), -1, 0)
    on_road = inside & np.isin(columns.ground_class[i, j], (ROAD, ROAD_LINE)) & ~columns.is_blocked((i, j))
    return np.asarray(on_road.mean(axis=1))


def meets_others(
    motions: Sequence[Motion], size_m: tuple[float, float, float], margin_m: float, others: ActorTable
) -> Bool[np.ndarray, " T"]:
    """Whether a car, ``margin_m`` larger on all sides, overlaps anyone at each of consecutive motions.

    The first motion is one step from now; until then and later everyone goes straight on at their speed. For where
    the car is now, give ``others`` without speed.
    """
    xy_m, yaws_rad = _planar(motions)
    times_s = STEP_S * np.arange(1, len(motions) + 1)
    heading = np.column_stack([np.cos(others.yaws_rad), np.sin(others.yaws_rad)])
    theirs_m = others.centres_m[:, :2] + times_s[:, None, None] * others.speeds_mps[:, None] * heading
    apart_m = theirs_m - xy_m[:, None]
    own_half = np.array(size_m[:2]) / 2 + margin_m
    turn = others.yaws_rad - yaws_rad[:, None]
    # Two rectangles are apart when they are along a side of either (separating axes, Gottschalk et al. 1996).
    own_axes, their_axes = _axes(yaws_rad)[:, None], _axes(others.yaws_rad)[None]
    cos, sin = np.abs(np.cos(turn)), np.abs(np.sin(turn))
    their_half = others.sizes_m[:, :2] / 2
    seen_by_own = np.stack(
        [cos * their_half[:, 0] + sin * their_half[:, 1], sin * their_half[:, 0] + cos * their_half[:, 1]], axis=-1
    )
    own_seen = np.stack([cos * own_half[0] + sin * own_half[1], sin * own_half[0] + cos * own_half[1]], axis=-1)
    along_own = np.abs(np.einsum("tnad,tnd->tna", np.broadcast_to(own_axes, (*turn.shape, 2, 2)), apart_m))
    along_theirs = np.abs(np.einsum("tnad,tnd->tna", np.broadcast_to(their_axes, (*turn.shape, 2, 2)), apart_m))
    overlap = (along_own < own_half + seen_by_own).all(axis=-1) & (along_theirs < their_half + own_seen).all(axis=-1)
    return np.asarray(overlap.any(axis=1))


def _planar(motions: Sequence[Motion]) -> tuple[Float64[np.ndarray, "T 2"], Float64[np.ndarray, " T"]]:
    return np.array([(m.x_m, m.y_m) for m in motions]), np.array([m.yaw_rad for m in motions])


def _axes(yaws_rad: Float64[np.ndarray, " N"]) -> Float64[np.ndarray, "N 2 2"]:
    """Unit vectors along and across."""
    cos, sin = np.cos(yaws_rad), np.sin(yaws_rad)
    return np.stack([np.stack([cos, sin], axis=-1), np.stack([-sin, cos], axis=-1)], axis=-2)
