"""3D boxes of the tracks in one frame, and the cells that belong to each."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8, UInt16

from dyncity_sim.domain.frames import Pose, inverse, transform_points
from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.ground_truth import Box3D
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.scene import Track
from dyncity_sim.domain.taxonomy import Taxonomy

CELL_REACH_M = 0.6
"""Cells whose centre lies this far outside a box may still belong to it: half a cell's diagonal, and box error."""

MOVING_SPEED_MPS = 0.5
"""From this speed on an actor moves, for formats that tell moving from standing ones."""

TWO_WHEELERS = (ActorKind.MOTORCYCLE, ActorKind.BICYCLE)


def boxes_in_frame(tracks: Sequence[Track], pose_world_from_ego: Pose, time_us: int, grid: Grid) -> tuple[Box3D, ...]:
    """Boxes of the tracks that have a pose at ``time_us`` and may reach over the grid, in order of the tracks."""
    pose_ego_from_world = inverse(pose_world_from_ego)
    boxes = []
    for track in tracks:
        step = int(np.searchsorted(track.times_us, time_us))
        if step == len(track) or track.times_us[step] != time_us:
            continue
        pose = pose_ego_from_world @ track.poses_world_from_actor[step]
        if not _is_over(grid, pose, beyond_m=float(np.hypot(*track.size_m[:2])) / 2):
            continue
        velocity = pose_ego_from_world[:3, :3] @ track.velocities_world_mps[step]
        x, y, z = (float(v) for v in velocity)
        boxes.append(Box3D(track.id, track.kind, pose, track.size_m, (x, y, z)))
    return tuple(boxes)


def instance_cells(
    labels: UInt8[np.ndarray, "X Y Z"], boxes: Sequence[Box3D], grid: Grid, taxonomy: Taxonomy
) -> UInt16[np.ndarray, "X Y Z"]:
    """Track id of each cell of a moving class; 0 elsewhere, and where no box is near.

    A cell belongs to the box it lies deepest in, or failing that to the nearest within CELL_REACH_M.
    Pedestrian cells belong to pedestrians or to riders' two-wheelers, vehicle cells to vehicles.
    """
    instances = np.zeros(labels.shape, dtype=np.uint16)
    for name in ("vehicle", "pedestrian"):
        cells = np.argwhere(labels == taxonomy.index(name))
        candidates = [b for b in boxes if _may_own(b.kind, name)]
        if not len(cells) or not candidates:
            continue
        centres = np.asarray(grid.lower_m) + (cells + 0.5) * np.asarray(grid.voxel_size_m)
        outside_m = np.stack([_distance_outside(b, centres) for b in candidates])
        nearest = outside_m.argmin(axis=0)
        ids = np.array([b.track_id for b in candidates])
        owned = outside_m[nearest, np.arange(len(cells))] <= CELL_REACH_M
        instances[tuple(cells[owned].T)] = ids[nearest[owned]]
    return instances


def labelled_boxes(boxes: Sequence[Box3D], instances: UInt16[np.ndarray, "X Y Z"], grid: Grid) -> tuple[Box3D, ...]:
    """Those of the boxes whose centre lies over the grid, and those who come or leave with cells of theirs in it."""
    owners = set(np.unique(instances).tolist())
    return tuple(box for box in boxes if box.track_id in owners or _is_over(grid, box.pose_ego_from_actor))


def _is_over(grid: Grid, pose_ego_from_actor: Pose, beyond_m: float = 0.0) -> bool:
    """Whether a place lies over the grid, or at most ``beyond_m`` beside it."""
    lower, upper = np.asarray(grid.lower_m[:2]) - beyond_m, np.asarray(grid.upper_m[:2]) + beyond_m
    place = pose_ego_from_actor[:2, 3]
    return bool(((place >= lower) & (place <= upper)).all())


def _may_own(kind: ActorKind, name: str) -> bool:
    if name == "vehicle":
        return kind is not ActorKind.PEDESTRIAN
    return kind is ActorKind.PEDESTRIAN or kind in TWO_WHEELERS


def _distance_outside(box: Box3D, points_ego_m: np.ndarray) -> np.ndarray:
    """Distance of points from a box's faces along the worst axis, metres; negative inside."""
    local = transform_points(inverse(box.pose_ego_from_actor), points_ego_m)
    return np.asarray((np.abs(local) - np.asarray(box.size_m) / 2).max(axis=1))
