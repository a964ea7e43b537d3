"""Motion of the ego and of actors: velocities of points on them, and where they were within a turn of a LiDAR."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from scipy.spatial.transform import Rotation

from dyncity_sim.domain.frames import Pose, Poses, inverse
from dyncity_sim.domain.scene import Track
from dyncity_sim.domain.sensors import LidarSensor

STILL = 1e-9
"""A transform this close to the identity is the identity, so that rays along cell borders keep to their side."""


@dataclass(frozen=True, eq=False)
class Motion:
    """Velocity of a rigid body at one time, along the axes of the ego frame.

    Attributes:
        centre_ego_m: a point of the body.
        velocity_ego_mps: velocity of that point over ground.
        spin_ego_radps: angular velocity over ground.
    """

    centre_ego_m: Float64[np.ndarray, " 3"]
    velocity_ego_mps: Float64[np.ndarray, " 3"]
    spin_ego_radps: Float64[np.ndarray, " 3"]

    def velocities(self, points_ego_m: Float64[np.ndarray, "N 3"]) -> Float64[np.ndarray, "N 3"]:
        """Velocity over ground of points of the body, m/s."""
        return self.velocity_ego_mps + np.cross(self.spin_ego_radps, points_ego_m - self.centre_ego_m)


@dataclass(frozen=True, eq=False)
class Turn:
    """How the ego and the actors moved while a LiDAR turned.

    Attributes:
        offsets_us: time of each firing relative to the end of the turn, ``(N,)`` microseconds.
        pose_now_from_then: ``(N, 4, 4)``; ego frame at each firing to that at the end of the turn.
        pose_then_from_now: ``(N, 4, 4)`` of each actor that moved, by track id: where, in the ego frame at the end of
            the turn, its cells of that time were at each firing.
    """

    offsets_us: Int64[np.ndarray, " N"]
    pose_now_from_then: Poses
    pose_then_from_now: Mapping[int, Poses]


def motion_of(track: Track, time_us: int, pose_world_from_ego: Pose) -> Motion:
    """Motion of a track at one of its times. Spin is that between the poses before and after; 0 where it has one."""
    step = int(np.searchsorted(track.times_us, time_us))
    first, last = max(step - 1, 0), min(step + 1, len(track) - 1)
    spin = np.zeros(3)
    if first < last:
        before, after = track.poses_world_from_actor[[first, last], :3, :3]
        spent_s = (track.times_us[last] - track.times_us[first]) * 1e-6
        spin = Rotation.from_matrix(after @ before.T).as_rotvec() / spent_s
    rotation_ego_from_world = pose_world_from_ego[:3, :3].T
    centre = inverse(pose_world_from_ego) @ track.poses_world_from_actor[step][:, 3]
    return Motion(
        centre[:3], rotation_ego_from_world @ track.velocities_world_mps[step], rotation_ego_from_world @ spin
    )


def turn_of(
    sensor: LidarSensor,
    time_us: int,
    poses_world_from_ego: Poses,
    times_us: Int64[np.ndarray, " T"],
    tracks: Sequence[Track],
) -> Turn:
    """The turn of ``sensor`` that ends at ``time_us``, one of ``times_us``.

    Args:
        sensor: the LiDAR.
        time_us: time of the frame.
        poses_world_from_ego: ``(T, 4, 4)``.
        times_us: ``(T,)``.
        tracks: actors with a pose at ``time_us``.
    """
    steps = np.arange(1, sensor.azimuth_steps + 1) / sensor.azimuth_steps
    offsets_us = np.rint((steps - 1) * sensor.period_s * 1e6).astype(np.int64)
    at_us = time_us + offsets_us
    pose_world_from_now = poses_at(poses_world_from_ego, times_us, np.array([time_us]))[0]
    pose_now_from_world = inverse(pose_world_from_now)
    moved: dict[int, Poses] = {}
    for track in tracks:
        poses, known_us = _with_motion(track)
        pose_now_from_actor = inverse(pose_now_from_world @ poses_at(poses, known_us, np.array([time_us]))[0])
        then = _settled(pose_now_from_world @ poses_at(poses, known_us, at_us) @ pose_now_from_actor)
        if (then != np.eye(4)).any():
            moved[track.id] = then
    return Turn(offsets_us, _settled(pose_now_from_world @ poses_at(poses_world_from_ego, times_us, at_us)), moved)


def poses_at(poses: Poses, times_us: Int64[np.ndarray, " T"], at_us: Int64[np.ndarray, " N"]) -> Poses:
    """Poses between the given ones: positions along lines, rotations at constant rate (Shoemake, SIGGRAPH 1985).

    The first and the last motion go on before and after; a single pose stands.
    """
    if len(poses) == 1:
        return np.repeat(poses, len(at_us), axis=0)
    step = np.clip(np.searchsorted(times_us, at_us, side="right") - 1, 0, len(times_us) - 2)
    share = (at_us - times_us[step]) / (times_us[step + 1] - times_us[step])
    before, after = poses[step], poses[step + 1]
    turned = Rotation.from_matrix(np.swapaxes(before[:, :3, :3], 1, 2) @ after[:, :3, :3]).as_rotvec()
    result = np.tile(np.eye(4), (len(at_us), 1, 1))
    result[:, :3, :3] = before[:, :3, :3] @ Rotation.from_rotvec(share[:, None] * turned).as_matrix()
    result[:, :3, 3] = before[:, :3, 3] + share[:, None] * (after[:, :3, 3] - before[:, :3, 3])
    return result


def _with_motion(track: Track) -> tuple[Poses, Int64[np.ndarray, " T"]]:
    """Poses and times of a track; where there is one alone, another second of its velocity before it."""
    if len(track) > 1:
        return track.poses_world_from_actor, track.times_us
    before = track.poses_world_from_actor.copy()
    before[0, :3, 3] -= track.velocities_world_mps[0]
    second_us = np.array([1_000_000], dtype=np.int64)
    return (
        np.concatenate([before, track.poses_world_from_actor]),
        np.concatenate([track.times_us - second_us, track.times_us]),
    )


def _settled(poses: Poses) -> Poses:
    still = np.abs(poses - np.eye(4)).max(axis=(1, 2)) < STILL
    return np.where(still[:, None, None], np.eye(4), poses)
