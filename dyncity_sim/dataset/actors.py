"""The actors of a drive as columns: one row per actor and frame, sorted by frame, then id."""

from collections.abc import Mapping, Sequence

import numpy as np

from dyncity_sim.domain.frames import planar_from_poses, poses_from_planar
from dyncity_sim.domain.recording import ActorKind, ActorState, RecordedFrame

KINDS = tuple(kind.value for kind in ActorKind)
"""Kinds are stored as their position in this list, which a drive holds as ``actor_kinds``."""

COLUMNS = (
    "actor_kinds",
    "actor_frame",
    "actor_id",
    "actor_kind",
    "actor_centre_m",
    "actor_yaw_rad",
    "actor_size_m",
    "actor_speed_mps",
)
"""Names of what ``actor_columns`` gives."""


def actor_columns(frames: Sequence[RecordedFrame]) -> dict[str, np.ndarray]:
    """Columns of all actors of all frames.

    ``actor_frame`` int32, ``actor_id`` uint16, ``actor_kind`` uint8, ``actor_centre_m`` (N, 3) float64,
    ``actor_yaw_rad`` float64 (actors stand upright), ``actor_size_m`` (N, 3) float32, ``actor_speed_mps`` float32.
    """
    rows = [(number, actor) for number, frame in enumerate(frames) for actor in frame.actors]
    poses = np.array([actor.pose_world_from_actor for _, actor in rows]).reshape(-1, 4, 4)
    return {
        "actor_kinds": np.array(KINDS),
        "actor_frame": np.array([number for number, _ in rows], dtype=np.int32),
        "actor_id": np.array([actor.id for _, actor in rows], dtype=np.uint16),
        "actor_kind": np.array([KINDS.index(actor.kind.value) for _, actor in rows], dtype=np.uint8),
        "actor_centre_m": poses[:, :3, 3].astype(np.float64),
        "actor_yaw_rad": planar_from_poses(poses)[:, 2],
        "actor_size_m": np.array([actor.size_m for _, actor in rows], dtype=np.float32).reshape(-1, 3),
        "actor_speed_mps": np.array([actor.speed_mps for _, actor in rows], dtype=np.float32),
    }


def actors_of_frame(columns: Mapping[str, np.ndarray], frame: int) -> tuple[ActorState, ...]:
    """The actors of one frame, sorted by id."""
    first, last = np.searchsorted(columns["actor_frame"], [frame, frame + 1])
    rows = slice(int(first), int(last))
    centres_m = columns["actor_centre_m"][rows]
    poses = poses_from_planar(np.column_stack([centres_m[:, :2], columns["actor_yaw_rad"][rows]]))
    poses[:, 2, 3] = centres_m[:, 2]
    kinds = columns["actor_kinds"]
    states = []
    for pose, number, kind, size_m, speed_mps in zip(
        poses,
        columns["actor_id"][rows],
        columns["actor_kind"][rows],
        columns["actor_size_m"][rows],
        columns["actor_speed_mps"][rows],
        strict=True,
    ):
        length_m, width_m, height_m = (float(edge) for edge in size_m)
        states.append(
            ActorState(int(number), ActorKind(str(kinds[kind])), pose, (length_m, width_m, height_m), float(speed_mps))
        )
    return tuple(states)
