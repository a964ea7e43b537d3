"""Tracks over time: who is where at any moment between their first and last pose."""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from dyncity_sim.domain.frames import Pose
from dyncity_sim.domain.scene import Track


class Timeline:
    """Poses of tracks at any time.

    Args:
        tracks: sorted or not.
    """

    def __init__(self, tracks: Sequence[Track]) -> None:
        self._tracks = tuple(sorted(tracks, key=lambda track: track.id))

    def at(self, time_us: int) -> Iterator[tuple[Track, Pose]]:
        """Each track that exists then, with its pose: its own at its own times, in between the way from one to the
        next at constant speed and turn."""
        for track in self._tracks:
            if track.times_us[0] <= time_us <= track.times_us[-1]:
                yield track, pose_at(track, time_us)


def pose_at(track: Track, time_us: int) -> Pose:
    """The pose of a track at a time between its first and last."""
    index = int(np.searchsorted(track.times_us, time_us))
    if track.times_us[index] == time_us:
        pose: Pose = track.poses_world_from_actor[index]
        return pose
    times_us = track.times_us[index - 1 : index + 1]
    share = float((time_us - times_us[0]) / (times_us[1] - times_us[0]))
    return between(track.poses_world_from_actor[index - 1], track.poses_world_from_actor[index], share)


def between(first: Pose, second: Pose, share: float) -> Pose:
    """The pose at a share of the way from one to another: straight, and turning about one axis."""
    pose = np.eye(4)
    pose[:3, 3] = (1 - share) * first[:3, 3] + share * second[:3, 3]
    turn = Slerp([0.0, 1.0], Rotation.from_matrix(np.stack([first[:3, :3], second[:3, :3]])))
    pose[:3, :3] = turn([share]).as_matrix()[0]
    return pose
