"""The vehicles and pedestrians of one frame: their cells, their boxes and how they move."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float64, UInt8

from dyncity_models.drive.classes import on_foot, vehicles_and_riders
from dyncity_models.drive.memory import MOST_ROAD_USERS, MOTION
from dyncity_models.hexplane import cell_centres, compose, invert, transform
from dyncity_sim.domain.conditions import MAX_SPEED_MPS
from dyncity_sim.domain.frames import planar_from_poses, wrap_angle
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.scene import Track
from dyncity_sim.scene.actors.find import find_tracks
from dyncity_sim.scene.actors.headings import MOVING_SPEED_MPS

BODY_MARGIN_M = 0.4
"""Cells so far outside of a box still belong to whose box it is."""

UNSEEN_US = 200_000
"""Pedestrians who were last found so long before the last frame are there if they have cells there: they fall into
pieces."""

WALKING_MPS = 0.4
"""Who is on foot and slower than this stands: cells are too large to tell."""


def road_users_of(
    occupancy: OccupancySequence,
) -> tuple[UInt8[np.ndarray, "X Y Z"], Float64[np.ndarray, "V 7"]]:
    """The vehicles and pedestrians of the last frame, and how they moved in it.

    Args:
        occupancy: of a chunk; its classes are those of CARLASC.

    Returns:
        (The number of its vehicle or pedestrian for each cell of the last frame, 0 for none; ``memory.MOTION`` of each,
        in the ego frame of the last frame.)
    """
    shown = occupancy[-1:]
    last_us = int(shown.times_us[-1])
    ego = planar_from_poses(shown.poses_world_from_ego)[0]
    tracks = _still_there(find_tracks(occupancy), last_us)
    poses = np.array([in_ego(track, ego, last_us) for track in tracks]).reshape(-1, 3)
    cells = cells_of(tracks, poses, shown)
    there = np.flatnonzero(cells.any(axis=(1, 2, 3)))[:MOST_ROAD_USERS]
    tracks, poses, cells = [tracks[n] for n in there], poses[there], cells[there]
    numbers = np.arange(1, len(tracks) + 1, dtype=np.uint8)[:, None, None, None]
    # No cell belongs to two of them.
    numbered = (cells * numbers).sum(axis=0, dtype=np.uint8)
    moving = zip(poses, tracks, strict=True)
    motion = [(*pose, *track.size_m[:2], _speed_mps(track), _on_foot(track)) for pose, track in moving]
    return numbered, _facing_ahead(np.array(motion).reshape(-1, len(MOTION)))


def _still_there(tracks: Sequence[Track], last_us: int) -> list[Track]:
    """Those found in the last frame and, after them, pedestrians who were just before it: a vehicle that was stands in
    the cells of the one that it is taken for from then on."""

    def unseen_us(track: Track) -> int:
        return last_us - int(track.times_us[-1])

    there = [track for track in tracks if unseen_us(track) <= (UNSEEN_US if _on_foot(track) else 0)]
    return sorted(there, key=unseen_us)


def _speed_mps(track: Track) -> float:
    """At which it goes ahead in its last frame."""
    speed_mps = float(track.velocities_world_mps[-1] @ track.poses_world_from_actor[-1][:3, 0])
    stands = _on_foot(track) and speed_mps < WALKING_MPS
    return 0.0 if stands else float(np.clip(speed_mps, -MAX_SPEED_MPS, MAX_SPEED_MPS))


def _facing_ahead(motion: Float64[np.ndarray, "V 7"]) -> Float64[np.ndarray, "V 7"]:
    """The same with vehicles that go backwards facing the other way: the heading of a slow one is told from where a
    parked one would face."""
    backwards = motion[:, 5] < -MOVING_SPEED_MPS
    turned = motion.copy()
    turned[backwards, 2] = wrap_angle(turned[backwards, 2] + np.pi)
    turned[:, 5] = np.where(backwards, -turned[:, 5], np.maximum(turned[:, 5], 0.0))
    return turned


def _on_foot(track: Track) -> bool:
    return track.kind is ActorKind.PEDESTRIAN


def in_ego(track: Track, ego: Float64[np.ndarray, " 3"], time_us: int | None = None) -> Float64[np.ndarray, " 3"]:
    """x, y, yaw of a track in an ego frame that is given in the world, at its last sighting or going on from there."""
    pose = track.poses_world_from_actor[-1]
    unseen_s = 0.0 if time_us is None else (time_us - int(track.times_us[-1])) * 1e-6
    x_m, y_m = pose[:2, 3] + unseen_s * track.velocities_world_mps[-1, :2]
    world = torch.tensor([x_m, y_m, np.arctan2(pose[1, 0], pose[0, 0])], dtype=torch.float64)
    return np.asarray(compose(invert(torch.from_numpy(ego)), world).numpy())


def cells_of(
    tracks: list[Track], poses: Float64[np.ndarray, "N 3"], shown: OccupancySequence
) -> Bool[np.ndarray, "N X Y Z"]:
    """The cells of each, riders with their vehicles: what can move inside its box or just outside of it.

    Args:
        tracks: of the vehicles and pedestrians.
        poses: x, y, yaw of each in the ego frame.
        shown: the one frame; its classes are those of CARLASC.
    """
    grid, labels = shown.grid, shown.known_labels(0)
    driving, walking = vehicles_and_riders(labels), on_foot(labels)
    points = cell_centres(grid.shape[0], -grid.lower_m[0]).double()
    cells = np.zeros((len(tracks), *grid.shape), dtype=np.bool_)
    taken = np.zeros(grid.shape[:2], dtype=np.bool_)
    for n, (track, pose) in enumerate(zip(tracks, poses, strict=True)):
        local = transform(invert(torch.from_numpy(pose))[None, None], points).numpy()
        inside = (np.abs(local) <= np.array(track.size_m[:2]) / 2 + BODY_MARGIN_M).all(axis=-1) & ~taken
        cells[n] = (walking if _on_foot(track) else driving) & inside[..., None]
        taken |= cells[n].any(axis=-1)
    return cells
