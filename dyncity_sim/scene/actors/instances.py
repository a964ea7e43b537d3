"""Instances: the moving things of one frame, cut out of its labels and expressed in the world frame."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
from jaxtyping import Bool, Float64, UInt8
from scipy import ndimage

from dyncity_sim.domain.frames import Pose, transform_points
from dyncity_sim.domain.grid import Grid, columns_of
from dyncity_sim.domain.taxonomy import GROUND_CLASSES, Taxonomy
from dyncity_sim.scene.actors.footprint import (
    LOW_VEHICLE_M,
    doubled_axis,
    fits_one_vehicle,
    is_fragment,
    split_touching,
)
from dyncity_sim.scene.actors.nearness import gaps_m

MIN_VEHICLE_CELLS = 6
"""Vehicle blobs of fewer cells are noise (a bicycle fills about 10)."""

MIN_PEDESTRIAN_CELLS = 2
"""Pedestrian blobs of fewer cells are noise."""

TWO_WHEELER_LENGTH_M = 2.9
TWO_WHEELER_WIDTH_M = 1.4
"""A vehicle blob under both measures can carry a rider on top."""

JOINED_GAP_CELLS = 2.3
"""Middles of columns at most so many cells apart, one free column between them, are joined."""

ALIKE_HEIGHTS = 0.6
"""Parts of a tall vehicle are as tall as each other, at least by this ratio."""


@dataclass(frozen=True, eq=False)
class Instance:
    """One blob of a moving class in one frame.

    Attributes:
        vehicle: True for vehicles (with their riders), False for pedestrians.
        has_rider: a pedestrian blob sits on top of this small vehicle.
        columns_world_m: centres of the grid columns it fills, ``(C, 2)``.
        tops_world_m: height of the top of each column, ``(C,)``.
        bottom_world_m: height of the ground it stands on.
        cut_yaw_rad: direction, in the world, in which it reaches out of the grid, so that part of it may lie outside;
            None where it does not touch the border.
        ego_world_m: where the ego was, ``(2,)``; the border is cut off on the far side of it.
        ego_yaw_rad: where the ego was heading.
    """

    vehicle: bool
    has_rider: bool
    columns_world_m: Float64[np.ndarray, "C 2"]
    tops_world_m: Float64[np.ndarray, " C"]
    bottom_world_m: float
    cut_yaw_rad: float | None
    ego_world_m: Float64[np.ndarray, " 2"]
    ego_yaw_rad: float

    @property
    def truncated(self) -> bool:
        """It touches the border of the grid."""
        return self.cut_yaw_rad is not None

    @cached_property
    def centre_world_m(self) -> Float64[np.ndarray, " 2"]:
        """Centroid of the columns."""
        return self.columns_world_m.mean(axis=0)

    @cached_property
    def axis(self) -> complex:
        """Principal axis of the columns as a doubled angle (``doubled_axis``)."""
        return doubled_axis(self.columns_world_m)

    @property
    def height_m(self) -> float:
        """From the ground to its top."""
        return float(self.tops_world_m.max()) - self.bottom_world_m

    def part(self, chosen: Bool[np.ndarray, " C"]) -> Self:
        """Some of its columns."""
        return replace(self, columns_world_m=self.columns_world_m[chosen], tops_world_m=self.tops_world_m[chosen])


def joined(parts: Sequence[Instance]) -> Instance:
    """One instance of all columns of several that were seen in one frame."""
    return replace(
        parts[0],
        has_rider=any(part.has_rider for part in parts),
        columns_world_m=np.concatenate([part.columns_world_m for part in parts]),
        tops_world_m=np.concatenate([part.tops_world_m for part in parts]),
        bottom_world_m=min(part.bottom_world_m for part in parts),
        cut_yaw_rad=next((part.cut_yaw_rad for part in parts if part.truncated), None),
    )


def join_fragments(instances: Sequence[Instance], cell_m: float) -> list[Instance]:
    """The same things, fragments of vehicles joined to what they belong to.

    A fragment, such as the cab of a truck or a bonnet behind a row of cells that nobody saw, is joined to the nearest
    other vehicle with at most one free column between them, if one vehicle can have the shape of both.

    Args:
        instances: of one frame.
        cell_m: edge of a cell seen from above.
    """
    left = [_Piece(one, _is_fragment(one, cell_m)) for one in instances]
    while (pair := _nearest_parts(left, cell_m)) is not None:
        whole = joined([piece.instance for piece in pair])
        left = [piece for piece in left if piece not in pair] + [_Piece(whole, _is_fragment(whole, cell_m))]
    return [piece.instance for piece in left]


@dataclass(frozen=True, eq=False)
class _Piece:
    instance: Instance
    fragment: bool


def _is_fragment(instance: Instance, cell_m: float) -> bool:
    return instance.vehicle and not instance.has_rider and is_fragment(instance.columns_world_m, cell_m)


def _nearest_parts(pieces: Sequence[_Piece], cell_m: float) -> tuple[_Piece, _Piece] | None:
    """The fragment and the vehicle that come closest to each other, of those that belong together, in order."""
    alone = [piece for piece in pieces if piece.instance.vehicle and not piece.instance.has_rider]
    fragments = [n for n, piece in enumerate(alone) if piece.fragment]
    footprints = [piece.instance.columns_world_m for piece in alone]
    gaps = gaps_m([footprints[n] for n in fragments], footprints, JOINED_GAP_CELLS * cell_m)
    near = [(apart_m, fragments[part], whole) for apart_m, part, whole in gaps if fragments[part] != whole]
    for _, first, second in sorted((apart_m, min(pair), max(pair)) for apart_m, *pair in near):
        pair = alone[first], alone[second]
        if _fit_together(pair[0].instance, pair[1].instance, cell_m):
            return pair
    return None


def _fit_together(a: Instance, b: Instance, cell_m: float) -> bool:
    lower_m, higher_m = sorted((a.height_m, b.height_m))
    tall = higher_m >= LOW_VEHICLE_M and lower_m >= ALIKE_HEIGHTS * higher_m
    return fits_one_vehicle(np.concatenate([a.columns_world_m, b.columns_world_m]), tall, cell_m)


@dataclass(frozen=True, eq=False)
class _Blob:
    """Grid indices of one connected footprint, the highest layer of each of its columns, and the lowest of all."""

    columns: np.ndarray
    tops: np.ndarray
    lowest: int

    @property
    def highest(self) -> int:
        return int(self.tops.max())


def find_instances(
    labels: UInt8[np.ndarray, "X Y Z"],
    pose_world_from_ego: Pose,
    grid: Grid,
    taxonomy: Taxonomy,
) -> list[Instance]:
    """Blobs of vehicles and pedestrians, by connected footprints seen from above.

    Columns are connected through their sides, so that two cars with one free column between them stay
    two; those that touch are split where no one vehicle has such a shape. A pedestrian blob on top of a
    small vehicle is its rider and joins it.
    """
    vehicles = _blobs(labels == taxonomy.index("vehicle"), MIN_VEHICLE_CELLS)
    pedestrians = _blobs(labels == taxonomy.index("pedestrian"), MIN_PEDESTRIAN_CELLS)
    ground = np.isin(labels, [taxonomy.index(name) for name in GROUND_CLASSES])
    instances: list[Instance] = []
    for blob in vehicles:
        riders = [p for p in pedestrians if _rides(p, blob)] if _carries_riders(blob, grid) else []
        pedestrians = [p for p in pedestrians if p not in riders]
        parts = [_join([blob, *riders])] if riders else _split(blob, grid)
        instances.extend(_instance(part, True, bool(riders), ground, pose_world_from_ego, grid) for part in parts)
    instances.extend(_instance(blob, False, False, ground, pose_world_from_ego, grid) for blob in pedestrians)
    return instances


def _blobs(mask: Bool[np.ndarray, "X Y Z"], min_cells: int) -> list[_Blob]:
    numbered, count = ndimage.label(columns_of(mask))
    blobs = []
    for number, window in enumerate(ndimage.find_objects(numbered, count), start=1):
        footprint = numbered[window] == number
        cells = mask[window] & footprint[..., None]
        if cells.sum() < min_cells:
            continue
        columns = np.argwhere(footprint)
        filled = cells[tuple(columns.T)]
        tops = filled.shape[1] - 1 - filled[:, ::-1].argmax(axis=1)
        corner = np.array([window[0].start, window[1].start])
        blobs.append(_Blob(columns + corner, tops, int(filled.argmax(axis=1).min())))
    return blobs


def _split(blob: _Blob, grid: Grid) -> list[_Blob]:
    cell_m = float(np.mean(grid.voxel_size_m[:2]))
    height_m = (blob.highest - blob.lowest + 1) * grid.voxel_size_m[2]
    masks = split_touching(blob.columns * np.asarray(grid.voxel_size_m[:2]), height_m, cell_m)
    return [_Blob(blob.columns[mask], blob.tops[mask], blob.lowest) for mask in masks]


def _carries_riders(vehicle: _Blob, grid: Grid) -> bool:
    extent_m = np.ptp(vehicle.columns, axis=0) * np.asarray(grid.voxel_size_m[:2])
    return bool(np.hypot(*extent_m) < np.hypot(TWO_WHEELER_LENGTH_M, TWO_WHEELER_WIDTH_M))


def _rides(pedestrian: _Blob, vehicle: _Blob) -> bool:
    if pedestrian.lowest <= vehicle.lowest or pedestrian.highest <= vehicle.highest:
        return False
    gap = np.abs(pedestrian.columns[:, None] - vehicle.columns[None]).max(axis=-1).min()
    return bool(gap <= 1)


def _join(blobs: list[_Blob]) -> _Blob:
    columns, which = np.unique(np.concatenate([b.columns for b in blobs]), axis=0, return_inverse=True)
    tops = np.zeros(len(columns), dtype=np.int64)
    np.maximum.at(tops, which, np.concatenate([b.tops for b in blobs]))
    return _Blob(columns, tops, min(b.lowest for b in blobs))


def _instance(
    blob: _Blob,
    vehicle: bool,
    has_rider: bool,
    ground: Bool[np.ndarray, "X Y Z"],
    pose_world_from_ego: Pose,
    grid: Grid,
) -> Instance:
    x, y = grid.centres(0)[blob.columns[:, 0]], grid.centres(1)[blob.columns[:, 1]]
    below = blob.lowest - 1
    stands_on_layer_below = below >= 0 and bool(ground[blob.columns[:, 0], blob.columns[:, 1], below].any())
    floor = below if stands_on_layer_below else blob.lowest
    # The top lies, on average, on the upper side of the highest cell; the ground in the middle of its own layer.
    # What fills the highest layer alone, with no ground under it, reaches half a layer out of the grid.
    layer_m = grid.voxel_size_m[2]
    tops_m = grid.lower_m[2] + (np.maximum(blob.tops, floor + 1) + 0.5) * layer_m + layer_m / 2
    bottom_m = grid.centres(2)[floor]
    columns = transform_points(pose_world_from_ego, np.stack([x, y, np.full_like(x, bottom_m)], axis=-1))
    ego_yaw_rad = float(np.arctan2(pose_world_from_ego[1, 0], pose_world_from_ego[0, 0]))
    cut_yaw_rad = _cut_yaw(blob, grid)
    return Instance(
        vehicle=vehicle,
        has_rider=has_rider,
        columns_world_m=columns[:, :2],
        tops_world_m=columns[:, 2].mean() + tops_m - bottom_m,
        bottom_world_m=float(columns[:, 2].mean()),
        cut_yaw_rad=None if cut_yaw_rad is None else ego_yaw_rad + cut_yaw_rad,
        ego_world_m=pose_world_from_ego[:2, 3],
        ego_yaw_rad=ego_yaw_rad,
    )


def _cut_yaw(blob: _Blob, grid: Grid) -> float | None:
    """Direction, in the ego frame, of the border that most of a blob's columns lie at."""
    last = np.asarray(grid.shape[:2]) - 1
    at_border = np.concatenate([(blob.columns == last).sum(axis=0), (blob.columns == 0).sum(axis=0)])
    return float(np.argmax(at_border)) * np.pi / 2 if at_border.any() else None
