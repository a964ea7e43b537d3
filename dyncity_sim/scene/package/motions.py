"""What every entity of a scene does on the ground, as the writers of scenarios need it."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from dyncity_sim.domain.frames import Poses, planar_from_poses
from dyncity_sim.domain.grid import FRAME_RATE_HZ, LIDAR_BEHIND_M, LIDAR_HEIGHT_M
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.scene import Scene
from dyncity_sim.scene.road.lines import along_m

EGO_NAME = "hero"
"""CARLA's scenario runner looks for the ego under this name."""

EGO_SIZE_M = (4.7, 1.9, 1.5)
"""Length, width, height of the ego vehicle; occupancy does not show it."""

VERTEX_SPACING_M = 2.0
"""Distance of the vertices of a line that is followed at given speeds: more than a fast car drives in a tick."""

STANDING_M = 1.0
"""A line shorter than this is that of something that stands; a smoothed track wanders by that much."""


@dataclass(frozen=True, eq=False)
class Motion:
    """One entity over a scene.

    Attributes:
        name: of the entity.
        kind: what it is.
        size_m: length, width, height.
        times_s: ``(N,)`` seconds since the scene's first frame, at least 2.
        places: ``(N, 4)`` x, y, z (metres, world frame) of the ground under the box's middle, and its heading
            (radians, counter-clockwise, going on past a half turn, so that players interpolate the short way).
    """

    name: str
    kind: ActorKind
    size_m: tuple[float, float, float]
    times_s: Float64[np.ndarray, " N"]
    places: Float64[np.ndarray, "N 4"]


def motions_of(scene: Scene) -> list[Motion]:
    """The ego's motion, called EGO_NAME, and those of the tracks, called ``actor_<id>``.

    Something that is seen in one frame only is there until the next frame would be.
    """
    times_s = (scene.times_us - scene.times_us[0]) * 1e-6
    step_s = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 1 / FRAME_RATE_HZ
    lidar_m = -LIDAR_BEHIND_M, 0.0, LIDAR_HEIGHT_M
    places = _places(scene.ego_poses_world_from_ego, lidar_m)
    motions = [Motion(EGO_NAME, ActorKind.CAR, EGO_SIZE_M, *_lasting(times_s, places, step_s))]
    for track in scene.tracks:
        times_s = (track.times_us - scene.times_us[0]) * 1e-6
        places = _places(track.poses_world_from_actor, (0.0, 0.0, track.size_m[2] / 2))
        motions.append(Motion(f"actor_{track.id}", track.kind, track.size_m, *_lasting(times_s, places, step_s)))
    return motions


def line_and_speeds(
    motion: Motion, step_s: float
) -> tuple[Motion, Float64[np.ndarray, " S"], Float64[np.ndarray, " S"]] | None:
    """A motion as a line and the speeds to follow it at, for players that know no times; None of what stands.

    Who keeps to the speeds is at the motion's place on the line at the end of every step.

    Args:
        motion: what is to be followed.
        step_s: seconds between two speeds.

    Returns:
        the motion at vertices VERTEX_SPACING_M apart or more; ``(S,)`` seconds since the scene's first frame from
        which each speed holds; ``(S,)`` speeds in m/s, the last of them 0.
    """
    kept = _spaced(motion.places[:, :2])
    line = Motion(motion.name, motion.kind, motion.size_m, motion.times_s[kept], motion.places[kept])
    line_m, driven_m = along_m(line.places), along_m(motion.places)
    if line_m[-1] < STANDING_M:
        return None
    at_m = np.interp(driven_m, driven_m[kept], line_m)
    first_s, last_s = motion.times_s[[0, -1]]
    borders_s = np.append(np.arange(first_s, last_s - 1e-6, step_s), last_s)
    speeds_mps = np.diff(np.interp(borders_s, motion.times_s, at_m)) / np.diff(borders_s)
    return line, borders_s, np.append(speeds_mps, 0.0)


def _places(poses: Poses, origin_m: tuple[float, float, float]) -> Float64[np.ndarray, "N 4"]:
    """Places of things whose poses stand at ``origin_m`` of the ground under their middle."""
    ground = poses[:, :3, 3] - poses[:, :3, :3] @ np.asarray(origin_m)
    return np.column_stack([ground, np.unwrap(planar_from_poses(poses)[:, 2])])


def _lasting(
    times_s: Float64[np.ndarray, " N"], places: Float64[np.ndarray, "N 4"], step_s: float
) -> tuple[Float64[np.ndarray, " M"], Float64[np.ndarray, "M 4"]]:
    """Times and places as they are; a single place is held for a step."""
    if len(times_s) > 1:
        return times_s, places
    return np.array([times_s[0], times_s[0] + step_s]), places.repeat(2, axis=0)


def _spaced(points_m: Float64[np.ndarray, "N 2"]) -> list[int]:
    """Indices of points VERTEX_SPACING_M apart or more, and of the two ends."""
    kept = [0]
    for index, point in enumerate(points_m):
        if np.linalg.norm(point - points_m[kept[-1]]) >= VERTEX_SPACING_M:
            kept.append(index)
    if kept[-1] != len(points_m) - 1:
        kept.append(len(points_m) - 1)
    return kept
