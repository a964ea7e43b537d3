"""A scene as frames of occupancy around its ego, for pictures: the map cut out, and its tracks' boxes put in."""

import numpy as np
from jaxtyping import UInt8

from dyncity_sim.domain.frames import Pose, inverse, transform_points
from dyncity_sim.domain.grid import CARLASC_GRID, Grid
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.scene import Scene, StaticMap, Track
from dyncity_sim.domain.taxonomy import CARLASC


def scene_frames(scene: Scene, frames: slice = slice(None)) -> OccupancySequence:
    """What a scene holds at its times, or at some of them, by the class at the middle of each cell of CarlaSC's grid.

    Cells within a track's box are of its class. Cells of the map are turned with the ego by their nearest
    neighbour: good to look at, not to learn from.
    """
    poses, times_us = scene.ego_poses_world_from_ego[frames], scene.times_us[frames]
    labels = [_frame(scene, pose, int(time_us)) for pose, time_us in zip(poses, times_us, strict=True)]
    return OccupancySequence(np.stack(labels), poses, times_us, CARLASC_GRID, CARLASC)


def class_name(kind: ActorKind) -> str:
    """The class of the cells of an actor."""
    return "pedestrian" if kind is ActorKind.PEDESTRIAN else "vehicle"


def _frame(scene: Scene, pose: Pose, time_us: int) -> UInt8[np.ndarray, "X Y Z"]:
    centres = np.stack(np.meshgrid(*(CARLASC_GRID.centres(axis) for axis in range(3)), indexing="ij"), axis=-1)
    world = transform_points(pose, centres.reshape(-1, 3))
    labels = _at(scene.static_map, world)
    for track in scene.tracks:
        for step in np.flatnonzero(track.times_us == time_us):
            labels[_inside(track, int(step), world)] = CARLASC.index(class_name(track.kind))
    return labels.reshape(CARLASC_GRID.shape)


def _at(static_map: StaticMap, points_world_m: np.ndarray) -> UInt8[np.ndarray, " N"]:
    """The map's class at points, 0 outside of it."""
    cells = Grid(static_map.labels.shape, static_map.origin_world_m, static_map.voxel_size_m)
    # Layers of the map and of the grid may lie on each other exactly: a hair keeps rounding from mixing them up.
    index = cells.indices(points_world_m + np.array([0.0, 0.0, 1e-6]))
    inside = cells.contains(index)
    labels = np.zeros(len(index), dtype=np.uint8)
    labels[inside] = static_map.labels[tuple(index[inside].T)]
    return labels


def _inside(track: Track, step: int, points_world_m: np.ndarray) -> np.ndarray:
    local = transform_points(inverse(track.poses_world_from_actor[step]), points_world_m)
    return np.asarray((np.abs(local) <= np.asarray(track.size_m) / 2).all(axis=1))
