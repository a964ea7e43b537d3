"""Tracks while a drive is still being made: chunk by chunk, each actor under one id for as long as it stays in sight.

A whole drive is tracked with all of it known (``scene.actors.find``). Here a chunk's tracks are made when the chunk
arrives, from what was seen so far, so that a simulator can show them; ids, kinds and sizes stay as they were first
told, and what was told is never changed.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.scene import Track
from dyncity_sim.scene.actors.find import instances_of, track_of
from dyncity_sim.scene.actors.tracking import Association, Tracklet

WINDOW_SIGHTINGS = 32
"""A chunk's tracks are smoothed together with at most so many of the sightings before it."""


class LiveTracks:
    """Tracks of a drive whose chunks arrive one after another."""

    def __init__(self) -> None:
        self._association = Association()
        self._last: dict[Tracklet, Track] = {}
        self._parts: dict[int, list[Track]] = {}

    @property
    def tracks(self) -> tuple[Track, ...]:
        """All that was told so far: one track for each id, with each of its poses once, sorted by id."""
        return tuple(_joined(parts) for parts in self._parts.values())

    def add(self, occupancy: OccupancySequence) -> tuple[Track, ...]:
        """The tracks of the next chunk's frames, sorted by id.

        A track has poses at those of these frames in which its actor was seen. One that was in sight to the end of
        the chunk before begins with its last pose there, so that what is between the two frames is known. An actor
        that was out of sight then is told under a new id when it comes back: whoever shows the tracks has taken it
        away. One that was seen too briefly to be told from flicker comes with the next chunk, from there on.

        Args:
            occupancy: frames that follow on those given before, in a taxonomy with the classes of CARLASC.
        """
        first = len(self._association.times_us)
        cell_m = float(np.mean(occupancy.grid.voxel_size_m[:2]))
        for frame, time_us in enumerate(occupancy.times_us):
            self._association.add(instances_of(occupancy, frame), int(time_us))
        seen = [tracklet for tracklet in self._association.tracklets() if tracklet.frames[-1] >= first]
        tracks = [self._track(tracklet, first, cell_m) for tracklet in seen]
        self._association.forget_closed()
        still_known = set(self._association.tracklets())
        self._last = {tracklet: last for tracklet, last in self._last.items() if tracklet in still_known}
        return tuple(sorted(tracks, key=lambda track: track.id))

    def _track(self, tracklet: Tracklet, first: int, cell_m: float) -> Track:
        start = max(0, bisect_left(tracklet.frames, first) - WINDOW_SIGHTINGS)
        recent = replace(tracklet, instances=tracklet.instances[start:], frames=tracklet.frames[start:])
        all_us = self._association.times_us
        times_us = np.array([all_us[frame] for frame in recent.frames], dtype=np.int64)
        before = self._last.get(tracklet)
        goes_on = before is not None and before.times_us[-1] == all_us[first - 1]
        number = before.id if before is not None and goes_on else len(self._parts) + 1
        track = track_of(number, recent, times_us, cell_m)
        told = before or track
        poses = track.poses_world_from_actor.copy()
        # The ground stays where it is when the height that was told first is another.
        poses[:, 2, 3] += (told.size_m[2] - track.size_m[2]) / 2
        same = replace(
            track,
            kind=told.kind,
            kind_confidence=told.kind_confidence,
            size_m=told.size_m,
            poses_world_from_actor=poses,
        )
        part = _part(same, np.array(recent.frames) >= first)
        self._last[tracklet] = part
        self._parts.setdefault(number, []).append(part)
        return _joined([_part(before, np.array([-1])), part]) if before is not None and goes_on else part


def _part(track: Track, chosen: np.ndarray) -> Track:
    return replace(
        track,
        poses_world_from_actor=track.poses_world_from_actor[chosen],
        times_us=track.times_us[chosen],
        velocities_world_mps=track.velocities_world_mps[chosen],
    )


def _joined(parts: Sequence[Track]) -> Track:
    return replace(
        parts[0],
        poses_world_from_actor=np.concatenate([part.poses_world_from_actor for part in parts]),
        times_us=np.concatenate([part.times_us for part in parts]),
        velocities_world_mps=np.concatenate([part.velocities_world_mps for part in parts]),
    )
