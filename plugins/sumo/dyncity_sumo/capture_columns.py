"""Captures as columns of whole numbers, and back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from dyncity_sumo.actors import ACTOR_KINDS
from dyncity_sumo.shots import ACTOR_COLUMNS, Capture, Shot, actor_codes, actors_of, pose_codes, pose_of

POSE_COLUMNS = ("x", "y", "z", "yaw")
"""What is known of a pose, each a whole number."""


@dataclass(frozen=True)
class DriveNotes:
    """What is said of a capture beside its frames.

    Attributes:
        frames: how many.
        ego_id: the ego's actor id.
        ego: ``sumo``, ``own`` or ``off-nominal``: who drives, and how.
        manoeuvre: ``turning``, ``straight`` or ``standing``.
    """

    frames: int
    ego_id: int
    ego: str
    manoeuvre: str

    def __post_init__(self) -> None:
        if not isinstance(self.frames, int) or self.frames < 1:
            raise ValueError(f"a drive of {self.frames!r} frames")


def columns_of(captures: Sequence[Capture]) -> dict[str, Int64[np.ndarray, " N"]]:
    """Columns of captures, which follow each other.

    ``frame_x``, ``frame_y``, ``frame_z``, ``frame_yaw`` and ``frame_time_us`` have a row for each frame.
    ``actor_frame`` (which counts through all captures) and an ``actor_`` column for each of ACTOR_COLUMNS have a row
    for each actor and frame, by capture, then actor, then frame: what changes evenly lies in a row.
    """
    shots = [shot for capture in captures for shot in capture.shots]
    poses = np.stack([pose_codes(shot.pose_world_from_ego) for shot in shots])
    columns = {f"frame_{name}": poses[:, axis] for axis, name in enumerate(POSE_COLUMNS)}
    columns["frame_time_us"] = np.array([shot.time_us for shot in shots], dtype=np.int64)
    tables = [actor_codes(shot.actors) for shot in shots]
    actors = {name: np.concatenate([table[name] for table in tables]) for name in ACTOR_COLUMNS}
    frame = np.repeat(np.arange(len(shots)), [len(shot.actors) for shot in shots])
    drive = np.repeat(np.arange(len(captures)), [len(capture.shots) for capture in captures])
    order = np.lexsort((frame, actors["id"], drive[frame]))
    columns["actor_frame"] = frame[order]
    return columns | {f"actor_{name}": column[order] for name, column in actors.items()}


def captures_of(columns: Mapping[str, Int64[np.ndarray, " N"]], drives: Sequence[DriveNotes]) -> list[Capture]:
    """The captures whose columns these are.

    Raises:
        KeyError: a column is missing.
        ValueError: columns do not fit each other or ``drives``, or hold what no actor has.
    """
    frames = sum(drive.frames for drive in drives)
    _check_frames(columns, frames)
    _check_actors(columns, frames)
    # Columns lie in the order that compresses best; a table of actors is sorted by id.
    order = np.lexsort((columns["actor_id"], columns["actor_frame"]))
    actors = actors_of({name: columns[f"actor_{name}"][order] for name in ACTOR_COLUMNS})
    starts = np.searchsorted(columns["actor_frame"][order], np.arange(frames + 1))
    poses = np.column_stack([columns[f"frame_{name}"] for name in POSE_COLUMNS])
    shots = [
        Shot(pose_of(pose), actors[np.arange(start, end)], int(time_us))
        for pose, time_us, start, end in zip(poses, columns["frame_time_us"], starts[:-1], starts[1:], strict=True)
    ]
    ends = np.cumsum([drive.frames for drive in drives])
    return [
        Capture(tuple(shots[end - drive.frames : end]), drive.ego_id, drive.ego, drive.manoeuvre)
        for drive, end in zip(drives, ends, strict=True)
    ]


def _check_frames(columns: Mapping[str, Int64[np.ndarray, " N"]], frames: int) -> None:
    for name in (*POSE_COLUMNS, "time_us"):
        if len(columns[f"frame_{name}"]) != frames:
            raise ValueError(f"{len(columns[f'frame_{name}'])} rows of frame_{name}, expected {frames}")


def _check_actors(columns: Mapping[str, Int64[np.ndarray, " N"]], frames: int) -> None:
    rows = len(columns["actor_frame"])
    for name in ACTOR_COLUMNS:
        if len(columns[f"actor_{name}"]) != rows:
            raise ValueError(f"{len(columns[f'actor_{name}'])} rows of actor_{name}, expected {rows}")
    for name, lowest, highest in (
        ("frame", 0, frames - 1),
        ("id", 1, 2**16 - 1),
        ("kind", 0, len(ACTOR_KINDS) - 1),
        *((edge, 1, 10_000) for edge in ("length", "width", "height")),
    ):
        column = columns[f"actor_{name}"]
        if rows and not (lowest <= column.min() and column.max() <= highest):
            raise ValueError(f"actor_{name} from {column.min()} to {column.max()}, expected [{lowest}, {highest}]")
