"""Two things are never in one place: tracks whose boxes lie in each other are parts of one thing, if one fits.

A row of parked cars whose cells touch is cut anew in every frame, and not always at the same places.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Int64

from dyncity_sim.domain.overlap import overlap_shares
from dyncity_sim.domain.scene import Track
from dyncity_sim.scene.actors.footprint import (
    LONGEST_LOW_VEHICLE_M,
    LOW_VEHICLE_M,
    ONE_TALL_VEHICLE_M,
    WIDEST_VEHICLE_M,
)
from dyncity_sim.scene.actors.instances import joined
from dyncity_sim.scene.actors.tracking import MIN_OBSERVATIONS, Tracklet

ONE_THING_SHARE = 0.25
"""Vehicles of which one lies in the other by this share of the smaller, for most of the time, are one."""


def in_one_place(tracklets: Sequence[Tracklet], track_of: Callable[[Tracklet], Track]) -> list[Track]:
    """Tracks of all tracklets, those of one vehicle joined.

    Args:
        tracklets: of a whole drive, sorted by first sight, as their tracks are.
        track_of: makes the track of one.
    """
    parts = [(tracklet, track_of(tracklet)) for tracklet in tracklets]
    depths: dict[tuple[Tracklet, Tracklet], float] = {}
    while (pair := _deepest([p for p in parts if _may_be_part(p[0])], depths)) is not None:
        first, second = (part[0] for part in pair)
        whole = _together(first, second)
        track = track_of(whole)
        if not _fits_one(track):
            depths[first, second] = 0.0
            continue
        parts = [(whole, track) if part is pair[0] else part for part in parts if part is not pair[1]]
    return [track for _, track in parts]


def _may_be_part(tracklet: Tracklet) -> bool:
    return tracklet.vehicle and not any(instance.has_rider for instance in tracklet.instances)


def _deepest(
    parts: Sequence[tuple[Tracklet, Track]], depths: dict[tuple[Tracklet, Tracklet], float]
) -> tuple[tuple[Tracklet, Track], tuple[Tracklet, Track]] | None:
    """The two tracks that lie in each other the most, of those by enough; ``depths`` is given what is new to it."""
    best, found = ONE_THING_SHARE, None
    for number, other in _meeting([track for _, track in parts]):
        (first, track), (second, other_track) = parts[number], parts[other]
        if (first, second) not in depths:
            depths[first, second] = _depth(track, other_track)
        if depths[first, second] > best:
            best, found = depths[first, second], (parts[number], parts[other])
    return found


def _meeting(tracks: Sequence[Track]) -> Int64[np.ndarray, "P 2"]:
    """Numbers of those that may come near each other at any time; quick."""
    places = [track.poses_world_from_actor[:, :2, 3] for track in tracks]
    lowest, highest = (np.array([end(p, axis=0) for p in places]).reshape(-1, 2) for end in (np.min, np.max))
    gaps_m = (lowest[:, None] - highest[None]).max(axis=-1)
    reach_m = np.array([np.hypot(*track.size_m[:2]) for track in tracks])
    near = np.maximum(gaps_m, gaps_m.T) < (reach_m[:, None] + reach_m[None]) / 2
    return np.argwhere(np.triu(near, 1))


def _depth(first: Track, second: Track) -> float:
    """By which share of the smaller one lies in the other for most of the time that shows both."""
    shares = overlap_shares(first, second)
    return float(np.median(shares)) if len(shares) >= MIN_OBSERVATIONS else 0.0


def _together(first: Tracklet, second: Tracklet) -> Tracklet:
    """The sightings of both, joined in the frames that show both."""
    seen = dict(zip(first.frames, first.instances, strict=True))
    for frame, instance in zip(second.frames, second.instances, strict=True):
        seen[frame] = joined([seen[frame], instance]) if frame in seen else instance
    frames = sorted(seen)
    return replace(first, frames=frames, instances=[seen[frame] for frame in frames])


def _fits_one(track: Track) -> bool:
    length_m, width_m, height_m = track.size_m
    longest_m = LONGEST_LOW_VEHICLE_M if height_m < LOW_VEHICLE_M else ONE_TALL_VEHICLE_M[0]
    return max(length_m, width_m) <= longest_m and min(length_m, width_m) <= WIDEST_VEHICLE_M
