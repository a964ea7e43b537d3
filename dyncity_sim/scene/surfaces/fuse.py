"""Static geometry: all frames of a drive fused into one world-aligned map."""

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8
from scipy import ndimage

from dyncity_sim.domain.frames import Pose, inverse
from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.scene import StaticMap
from dyncity_sim.domain.taxonomy import GROUND_CLASSES, Taxonomy
from dyncity_sim.errors import InvalidInputError

OCCUPIED_SHARE = 0.4
"""A map cell is occupied when at least this share of the frames that see it, moving things aside, say so."""

LARGEST_MAP_BYTES = 16 * 10**9
"""A map that takes more memory than this, with the road that is made of it, is mostly a mistake in the poses."""

COLUMN_BYTES, CELL_BYTES = 40, 4
"""What each column of a map and each cell take at once, beside the votes, as measured."""

VOTED_AT_ONCE = 2**16
"""Cells whose votes are counted out at once."""


def fuse_static(occupancy: OccupancySequence) -> StaticMap:
    """Fuse all frames into one world-aligned map, by votes.

    Every frame votes for the class it shows at the centre of each map cell it covers; cells of moving
    classes and unobserved cells do not vote. Where a vehicle or pedestrian always stood, the ground
    under it is closed with the class of the nearest ground. The map ends where the frames end.

    Raises:
        InvalidInputError: the drive spans a map that would take more than LARGEST_MAP_BYTES.
    """
    grid, taxonomy = occupancy.grid, occupancy.taxonomy
    origin, shape = _extent(occupancy)
    seen = np.zeros(shape[:2], dtype=np.bool_)
    windows = [_window(pose, grid, origin, shape) for pose in occupancy.poses_world_from_ego]
    for window in windows:
        seen[window] = True
    number = np.full(shape[:2], -1, dtype=np.int64)
    number[seen] = np.arange(seen.sum())
    # One slot per class and column that any frame may cover: a drive is a thin band in its bounding box.
    counted = np.promote_types(np.uint16, np.min_scalar_type(len(occupancy)))
    slots = int(seen.sum()) * shape[2]
    _check_size(shape, grid, slots * len(taxonomy) * counted.itemsize)
    votes = np.zeros((slots, len(taxonomy)), dtype=counted)
    for frame, window in enumerate(windows):
        cells, labels = _look_up(occupancy, frame, origin, window, shape, number)
        votes.reshape(-1)[cells * len(taxonomy) + labels] += 1
    winners = np.empty(len(votes), dtype=np.uint8)
    hidden = np.empty(len(votes), dtype=np.bool_)
    for first in range(0, len(votes), VOTED_AT_ONCE):
        part = slice(first, first + VOTED_AT_ONCE)
        winners[part], hidden[part] = _winners(votes[part], taxonomy)
    del votes
    labels_map = np.zeros(shape, dtype=np.uint8)
    labels_map[seen] = winners.reshape(-1, shape[2])
    hidden_map = np.zeros(shape, dtype=np.bool_)
    hidden_map[seen] = hidden.reshape(-1, shape[2])
    _close_ground(labels_map, hidden_map, taxonomy)
    return StaticMap(labels_map, (float(origin[0]), float(origin[1]), float(origin[2])), grid.voxel_size_m)


def _extent(occupancy: OccupancySequence) -> tuple[Float64[np.ndarray, " 3"], tuple[int, int, int]]:
    """Lower corner and shape of the map; x and y lie on multiples of the cell, z on those of the first frame."""
    grid = occupancy.grid
    size = np.asarray(grid.voxel_size_m)
    bounds = np.array([_bounds(pose, grid) for pose in occupancy.poses_world_from_ego])
    phase = np.array([0.0, 0.0, occupancy.poses_world_from_ego[0, 2, 3] + grid.lower_m[2]])
    # A hair of slack keeps rounding in the poses from adding an empty layer.
    first = np.floor((bounds[:, 0].min(axis=0) - phase) / size + 1e-6)
    last = np.ceil((bounds[:, 1].max(axis=0) - phase) / size - 1e-6)
    x, y, z = (int(cells) for cells in last - first)
    _check_size((x, y, z), grid)
    return first * size + phase, (x, y, z)


def _check_size(shape: tuple[int, int, int], grid: Grid, votes_bytes: int = 0) -> None:
    """Raise InvalidInputError where a map takes more memory than LARGEST_MAP_BYTES."""
    needed = shape[0] * shape[1] * (COLUMN_BYTES + CELL_BYTES * shape[2]) + votes_bytes
    if needed > LARGEST_MAP_BYTES:
        x_m, y_m = shape[0] * grid.voxel_size_m[0], shape[1] * grid.voxel_size_m[1]
        raise InvalidInputError(
            "occupancy.poses_world_from_ego",
            f"a drive over {x_m:.0f} x {y_m:.0f} m, whose map takes {needed / 1e9:.3g} GB",
            f"one that takes at most {LARGEST_MAP_BYTES / 1e9:.3g} GB",
            "Convert a long drive in parts.",
        )


def _bounds(pose: Pose, grid: Grid) -> Float64[np.ndarray, "2 3"]:
    corners = np.stack(np.meshgrid(*zip(grid.lower_m, grid.upper_m, strict=True), indexing="ij"), -1).reshape(-1, 3)
    world = corners @ pose[:3, :3].T + pose[:3, 3]
    return np.stack([world.min(axis=0), world.max(axis=0)])


def _window(
    pose: Pose, grid: Grid, origin: Float64[np.ndarray, " 3"], shape: tuple[int, int, int]
) -> tuple[slice, slice]:
    """The map columns around one frame."""
    bounds = (_bounds(pose, grid)[:, :2] - origin[:2]) / np.asarray(grid.voxel_size_m[:2])
    lower = np.maximum(np.floor(bounds[0]).astype(int), 0)
    upper = np.minimum(np.ceil(bounds[1]).astype(int), shape[:2])
    return slice(int(lower[0]), int(upper[0])), slice(int(lower[1]), int(upper[1]))


def _look_up(
    occupancy: OccupancySequence,
    frame: int,
    origin: Float64[np.ndarray, " 3"],
    window: tuple[slice, slice],
    shape: tuple[int, int, int],
    number: Int64[np.ndarray, "X Y"],
) -> tuple[Int64[np.ndarray, " N"], UInt8[np.ndarray, " N"]]:
    """Slots of the map cells that a frame covers, each once, and what the frame shows at their centres."""
    grid = occupancy.grid
    size = np.asarray(grid.voxel_size_m)
    pose_ego_from_world = inverse(occupancy.poses_world_from_ego[frame])
    columns = np.arange(window[0].start, window[0].stop), np.arange(window[1].start, window[1].stop)
    centres = [origin[axis] + (index + 0.5) * size[axis] for axis, index in enumerate((*columns, np.arange(shape[2])))]
    inside = np.ones((len(centres[0]), len(centres[1]), len(centres[2])), dtype=np.bool_)
    flat = np.zeros(inside.shape, dtype=np.int64)
    for axis in range(3):
        a, b, c = pose_ego_from_world[axis, :3]
        offset = pose_ego_from_world[axis, 3] - grid.lower_m[axis]
        position = a * centres[0][:, None, None] + b * centres[1][:, None] + (c * centres[2] + offset)
        # Map cells on the very border between two layers must not flicker between frames by rounding.
        index = np.floor(position / size[axis] + 1e-9).astype(np.int64)
        inside &= (index >= 0) & (index < grid.shape[axis])
        flat = flat * grid.shape[axis] + index
    flat = flat[inside]
    slots = (number[window][:, :, None] * shape[2] + np.arange(shape[2]))[inside]
    labels = occupancy.labels[frame].reshape(-1)[flat]
    if occupancy.observed is not None:
        known = occupancy.observed[frame].reshape(-1)[flat]
        return slots[known], labels[known]
    return slots, labels


def _winners(votes: np.ndarray, taxonomy: Taxonomy) -> tuple[UInt8[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
    """Class of each slot, and whether moving things were all that was ever seen there."""
    moving = votes[:, list(taxonomy.moving_labels)].sum(axis=1, dtype=np.int64)
    still = votes.astype(np.int32)
    still[:, list(taxonomy.moving_labels)] = 0
    occupied = still[:, 1:].sum(axis=1)
    solid = (occupied > 0) & (occupied >= OCCUPIED_SHARE * (occupied + still[:, 0]))
    winners = np.where(solid, still[:, 1:].argmax(axis=1) + 1, 0).astype(np.uint8)
    return winners, (moving > 0) & (occupied + still[:, 0] == 0)


def _close_ground(labels: UInt8[np.ndarray, "X Y Z"], hidden: Bool[np.ndarray, "X Y Z"], taxonomy: Taxonomy) -> None:
    """Give columns without ground, in which only moving things were seen, the ground of their nearest neighbour."""
    ground = np.zeros(labels.shape, dtype=np.bool_)
    for name in GROUND_CLASSES:
        ground |= labels == taxonomy.index(name)
    holes = hidden.any(axis=2) & ~(labels > 0).any(axis=2)
    has_ground = ground.any(axis=2)
    if not holes.any() or not has_ground.any():
        return
    nearest = ndimage.distance_transform_edt(~has_ground, return_distances=False, return_indices=True)
    source = nearest[0][holes], nearest[1][holes]
    layer = ground.argmax(axis=2)[source]
    x, y = np.nonzero(holes)
    labels[x, y, layer] = labels[(*source, layer)]
