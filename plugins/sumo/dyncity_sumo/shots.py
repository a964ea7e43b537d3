"""Captures of drives before they are rendered, in numbers that can be written down exactly.

Poses and actors are held at whole steps of the units below, so that what is rendered at once and what is rendered
from a file are the same to the last bit. Angles are whole parts of a turn: they wrap without a remainder.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from dyncity_sim.domain.frames import Pose, planar_from_poses, poses_from_planar
from dyncity_sumo.actors import ActorTable

EGO_STEPS_PER_M = 1000
EGO_STEPS_PER_TURN = 2**16
ACTOR_STEPS_PER_M = 100
ACTOR_STEPS_PER_MPS = 100
ACTOR_STEPS_PER_TURN = 2**13
"""Steps of 0.8 mrad."""

ACTOR_COLUMNS = ("id", "kind", "length", "width", "height", "x", "y", "z", "yaw", "speed")
"""What is known of an actor, each a whole number."""


@dataclass(frozen=True, eq=False)
class Shot:
    """One frame of one ego before it is rendered.

    Attributes:
        pose_world_from_ego: ``(4, 4)``, as ``held_pose`` gives it.
        actors: who moves around the ego, as ``held_actors`` gives them.
        time_us: simulated time.
    """

    pose_world_from_ego: Pose
    actors: ActorTable
    time_us: int


@dataclass(frozen=True, eq=False)
class Capture:
    """Consecutive shots of one ego.

    Attributes:
        shots: one per frame; the actors of each are those that reach into its grid, without the ego.
        ego_id: the ego's actor id.
        ego_kind: ``sumo``, ``own`` or ``off-nominal``.
        manoeuvre: ``turning``, ``straight`` or ``standing``.
    """

    shots: tuple[Shot, ...]
    ego_id: int
    ego_kind: str
    manoeuvre: str


def held_pose(pose_world_from_ego: Pose) -> Pose:
    """The upright pose that is held for an upright pose: within 0.5 mm and 0.05 mrad of it."""
    return pose_of(pose_codes(pose_world_from_ego))


def pose_codes(pose_world_from_ego: Pose) -> Int64[np.ndarray, "4"]:
    """An upright pose as steps of x, y, z and yaw."""
    x_m, y_m, yaw_rad = planar_from_poses(pose_world_from_ego)
    xyz = np.rint(np.array([x_m, y_m, pose_world_from_ego[2, 3]]) * EGO_STEPS_PER_M).astype(np.int64)
    return np.append(xyz, _turn_codes(yaw_rad, EGO_STEPS_PER_TURN))


def pose_of(codes: Int64[np.ndarray, "4"]) -> Pose:
    """The pose of steps of x, y, z and yaw."""
    x_m, y_m, z_m = codes[:3] / EGO_STEPS_PER_M
    return poses_from_planar(np.array([x_m, y_m, _turns(codes[3], EGO_STEPS_PER_TURN)]), z_m)


def held_actors(actors: ActorTable) -> ActorTable:
    """The actors that are held for these: within 0.5 cm, 0.4 mrad and 0.5 cm/s of them."""
    return actors_of(actor_codes(actors))


def actor_codes(actors: ActorTable) -> dict[str, Int64[np.ndarray, " N"]]:
    """Actors as steps, by the names of ACTOR_COLUMNS."""
    sizes = np.rint(actors.sizes_m * ACTOR_STEPS_PER_M).astype(np.int64)
    centres = np.rint(actors.centres_m * ACTOR_STEPS_PER_M).astype(np.int64)
    columns = (
        actors.ids.astype(np.int64),
        actors.kinds.astype(np.int64),
        *sizes.T,
        *centres.T,
        _turn_codes(actors.yaws_rad, ACTOR_STEPS_PER_TURN),
        np.rint(actors.speeds_mps * ACTOR_STEPS_PER_MPS).astype(np.int64),
    )
    return dict(zip(ACTOR_COLUMNS, columns, strict=True))


def actors_of(codes: Mapping[str, Int64[np.ndarray, " N"]]) -> ActorTable:
    """The actors of columns of steps."""
    return ActorTable(
        codes["id"].astype(np.uint16),
        codes["kind"].astype(np.uint8),
        np.column_stack([codes[name] for name in ("x", "y", "z")]) / ACTOR_STEPS_PER_M,
        _turns(codes["yaw"], ACTOR_STEPS_PER_TURN),
        np.column_stack([codes[name] for name in ("length", "width", "height")]) / ACTOR_STEPS_PER_M,
        codes["speed"] / ACTOR_STEPS_PER_MPS,
    )


def _turn_codes(angles_rad: Float64[np.ndarray, "..."], steps: int) -> Int64[np.ndarray, "..."]:
    """Angles as steps in [-steps / 2, steps / 2)."""
    codes = np.rint(angles_rad * (steps / (2 * np.pi))).astype(np.int64)
    return (codes + steps // 2) % steps - steps // 2


def _turns(codes: Int64[np.ndarray, "..."], steps: int) -> Float64[np.ndarray, "..."]:
    return codes * (2 * np.pi / steps)
