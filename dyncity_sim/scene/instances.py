"""Instances: the moving things of one frame, cut out of its labels and expressed in the world frame."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, UInt8
from scipy import ndimage

from dyncity_sim.domain.frames import Pose, transform_points
from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.taxonomy import Taxonomy
from dyncity_sim.scene.footprint import split_touching

MIN_VEHICLE_CELLS = 6
"""Vehicle blobs of fewer cells are noise (a bicycle fills about 10)."""

MIN_PEDESTRIAN_CELLS = 2
"""Pedestrian blobs of fewer cells are noise."""

TWO_WHEELER_LENGTH_M = 2.9
TWO_WHEELER_WIDTH_M = 1.4
"""A vehicle blob under both measures can carry a rider on top."""

GROUND_CLASSES = ("road", "ground", "sidewalk")
"""Classes that things stand on."""


@dataclass(frozen=True, eq=False)
class Instance:
    """One blob of a moving class in one frame.

    Attributes:
        vehicle: True for vehicles (with their riders), False for pedestrians.
        has_rider: a pedestrian blob sits on top of this small vehicle.
        columns_world_m: centres of the grid columns it fills, ``(C, 2)``.
        bottom_world_m: height of the ground it stands on.
        top_world_m: height of its top.
        truncated: it touches the border of the grid, so that part of it may lie outside.
        ego_world_m: where the ego was, ``(2,)``; the border is cut off on the far side of it.
        ego_yaw_rad: where the ego was heading.
    """

    vehicle: bool
    has_rider: bool
    columns_world_m: Float64[np.ndarray, "C 2"]
    bottom_world_m: float
    top_world_m: float
    truncated: bool
    ego_world_m: Float64[np.ndarray, " 2"]
    ego_yaw_rad: float

    @property
    def centre_world_m(self) -> Float64[np.ndarray, " 2"]:
        """Centroid of the columns."""
        return self.columns_world_m.mean(axis=0)


@dataclass(frozen=True, eq=False)
class _Blob:
    """Grid indices of one connected footprint and the layers it spans."""

    columns: np.ndarray
    lowest: int
    highest: int


def find_instances(
    labels: UInt8[np.ndarray, "X Y Z"],
    pose_world_from_ego: Pose,
    grid: Grid,
    taxonomy: Taxonomy,
    inflation_cells: float = 0.0,
) -> list[Instance]:
    """Blobs of vehicles and pedestrians, by connected footprints seen from above.

    Columns are connected through their sides, so that two cars with one free column between them stay
    two; those that touch are split where no one vehicle has such a shape. A pedestrian blob on top of a
    small vehicle is its rider and joins it. ``inflation_cells`` as in ``footprint``: 0 or 1.
    """
    raised_m = (1 - inflation_cells) * grid.voxel_size_m[2] / 2
    vehicles = _blobs(labels == taxonomy.index("vehicle"), MIN_VEHICLE_CELLS)
    pedestrians = _blobs(labels == taxonomy.index("pedestrian"), MIN_PEDESTRIAN_CELLS)
    ground = np.isin(labels, [taxonomy.index(name) for name in GROUND_CLASSES])
    instances: list[Instance] = []
    for blob in vehicles:
        riders = [p for p in pedestrians if _rides(p, blob, grid)]
        pedestrians = [p for p in pedestrians if p not in riders]
        parts = [_join([blob, *riders])] if riders else _split(blob, grid)
        instances.extend(
            _instance(part, True, bool(riders), ground, pose_world_from_ego, grid, raised_m) for part in parts
        )
    instances.extend(_instance(blob, False, False, ground, pose_world_from_ego, grid, raised_m) for blob in pedestrians)
    return instances


def _blobs(mask: Bool[np.ndarray, "X Y Z"], min_cells: int) -> list[_Blob]:
    numbered, count = ndimage.label(mask.any(axis=2))
    blobs = []
    for number, window in enumerate(ndimage.find_objects(numbered, count), start=1):
        footprint = numbered[window] == number
        cells = mask[window] & footprint[..., None]
        if cells.sum() < min_cells:
            continue
        layers = np.nonzero(cells.any(axis=(0, 1)))[0]
        corner = np.array([window[0].start, window[1].start])
        blobs.append(_Blob(np.argwhere(footprint) + corner, int(layers[0]), int(layers[-1])))
    return blobs


def _split(blob: _Blob, grid: Grid) -> list[_Blob]:
    cell_m = float(np.mean(grid.voxel_size_m[:2]))
    height_m = (blob.highest - blob.lowest + 1) * grid.voxel_size_m[2]
    masks = split_touching(blob.columns * np.asarray(grid.voxel_size_m[:2]), height_m, 0.0, cell_m)
    return [_Blob(blob.columns[mask], blob.lowest, blob.highest) for mask in masks]


def _rides(pedestrian: _Blob, vehicle: _Blob, grid: Grid) -> bool:
    extent_m = np.sort(np.ptp(vehicle.columns, axis=0) * np.asarray(grid.voxel_size_m[:2]))
    small = np.hypot(*extent_m) < np.hypot(TWO_WHEELER_LENGTH_M, TWO_WHEELER_WIDTH_M)
    if not small or pedestrian.lowest <= vehicle.lowest or pedestrian.highest <= vehicle.highest:
        return False
    gap = np.abs(pedestrian.columns[:, None] - vehicle.columns[None]).max(axis=-1).min()
    return bool(gap <= 1)


def _join(blobs: list[_Blob]) -> _Blob:
    columns = np.unique(np.concatenate([b.columns for b in blobs]), axis=0)
    return _Blob(columns, min(b.lowest for b in blobs), max(b.highest for b in blobs))


def _instance(
    blob: _Blob,
    vehicle: bool,
    has_rider: bool,
    ground: Bool[np.ndarray, "X Y Z"],
    pose_world_from_ego: Pose,
    grid: Grid,
    raised_m: float,
) -> Instance:
    x, y = grid.centres(0)[blob.columns[:, 0]], grid.centres(1)[blob.columns[:, 1]]
    below = blob.lowest - 1
    stands_on_layer_below = below >= 0 and bool(ground[blob.columns[:, 0], blob.columns[:, 1], below].any())
    floor = below if stands_on_layer_below else blob.lowest
    # The top lies, on average, on the upper side of the highest cell where centres decide, and in its
    # middle where any touch does; the ground lies in the middle of its own layer.
    bottom_m, top_m = grid.centres(2)[floor], grid.centres(2)[max(blob.highest, floor + 1)] + raised_m
    columns = transform_points(pose_world_from_ego, np.stack([x, y, np.full_like(x, bottom_m)], axis=-1))
    last = np.asarray(grid.shape[:2]) - 1
    return Instance(
        vehicle=vehicle,
        has_rider=has_rider,
        columns_world_m=columns[:, :2],
        bottom_world_m=float(columns[:, 2].mean()),
        top_world_m=float(columns[:, 2].mean() + top_m - bottom_m),
        truncated=bool(((blob.columns == 0) | (blob.columns == last)).any()),
        ego_world_m=pose_world_from_ego[:2, 3],
        ego_yaw_rad=float(np.arctan2(pose_world_from_ego[1, 0], pose_world_from_ego[0, 0])),
    )
