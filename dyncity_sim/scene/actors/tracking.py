"""Association of instances over a drive: which blobs of which frames are the same thing.

A Kalman filter predicts each track and the Hungarian method assigns instances to predictions (Bar-Shalom, Li,
Kirubarajan: Estimation with Applications to Tracking and Navigation, ch. 6). What comes back within a few seconds where
its motion leads to goes on under its id.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from dyncity_sim.scene.actors.footprint import Columns
from dyncity_sim.scene.actors.instances import Instance, joined
from dyncity_sim.scene.actors.motion import CENTRE_NOISE_M, State, first_state, predicted, smooth, updated
from dyncity_sim.scene.actors.nearness import shares_within

MAX_GAP_S = 0.55
"""A thing that frames show no more and that is not seen for longer than this is lost; it may return."""

RETURN_S = 3.0
"""A thing that is lost for longer than this, or between two frames, comes back under a new id."""

RETURN_NEAR_M = 1.0
RETURN_STRAY_MPS = 0.5
RETURN_STRAY_MPS2 = {True: 1.5, False: 0.5}
"""A thing returns within so many metres of where its motion leads to, more by the time that it was lost: across its
motion by a speed, and along it also by an acceleration."""

RETURN_SPEED_MPS = {True: 5.0, False: 1.5}
"""Largest change of velocity of a thing that was lost."""

RECENT_FRAMES = 15
"""So many of a lost thing's last and first sightings say how it moved."""

ALIKE_SHARE = 0.5
"""A thing that returns fills, at least by this ratio, as many columns as it did when it was lost."""

MIN_OBSERVATIONS = 3
"""Shorter tracks are flicker of the generator and are dropped, unless the whole drive is shorter."""

GATE = 13.8
"""Largest accepted squared Mahalanobis distance of the centre: 99.9 % of a two-dimensional Gaussian."""

COVERED_SHARE = 0.7
"""An instance covers a track when it holds this share of the footprint that is expected of the track; and it is a part
of a track when this share of it lies in that footprint."""

SAME_PLACE_SHARE = 0.5
"""What lies in the footprint that is expected of a track by this share is that track, however it got there."""

EXPECTED_FRAMES = 5
"""The largest footprint of so many sightings is what is expected next: a frame may show but a part."""

SAME_COLUMN_M = 0.4
"""Columns closer than this are the same place."""


@dataclass(eq=False)
class Tracklet:
    """The instances of one thing, in time order, with the filter's state after the last of them."""

    vehicle: bool
    instances: list[Instance]
    frames: list[int]
    state: State


class Association:
    """Finds out, frame by frame, which instances are the same thing.

    Attributes:
        times_us: times of the frames so far; a tracklet's ``frames`` are positions in this list.
    """

    def __init__(self) -> None:
        self.times_us: list[int] = []
        self._open: list[Tracklet] = []
        self._lost: list[Tracklet] = []
        self._closed: list[Tracklet] = []

    def add(self, found: Sequence[Instance], time_us: int) -> None:
        """Take the instances of the next frame."""
        frame = len(self.times_us)
        self.times_us.append(int(time_us))
        self._retire(frame)
        for vehicle in (True, False):
            seen = [i for i in found if i.vehicle == vehicle]
            tracks = [t for t in self._open if t.vehicle == vehicle]
            expected = [_expected(t, self.times_us) for t in tracks if len(t.frames) >= MIN_OBSERVATIONS]
            seen = _split_by_tracks(seen, expected)
            if vehicle:
                seen = _join_by_tracks(seen, expected)
            self._open.extend(_assign(tracks, seen, frame, self.times_us))
        self._take_back()

    def tracklets(self, min_observations: int = MIN_OBSERVATIONS) -> list[Tracklet]:
        """What was found so far, sorted by first sight; flicker is left out."""
        kept = [t for t in self._closed + self._lost + self._open if len(t.frames) >= min_observations]
        return sorted(kept, key=lambda t: (t.frames[0], *t.instances[0].centre_world_m))

    def forget_closed(self) -> None:
        """Drop what has not been seen for too long to come back."""
        self._closed.clear()

    def _retire(self, frame: int) -> None:
        """Move what was not seen for too long from the open to the lost, and from these to the closed."""
        unseen_s = {t: (self.times_us[frame] - self.times_us[t.frames[-1]]) * 1e-6 for t in self._open + self._lost}
        # Of frames that are far apart in time, the last one shows what is still there.
        most_s = {t: RETURN_S if t.frames[-1] == frame - 1 else MAX_GAP_S for t in self._open}
        gone = [t for t in self._open if unseen_s[t] > most_s[t]]
        self._open = [t for t in self._open if unseen_s[t] <= most_s[t]]
        waiting = self._lost + [t for t in gone if len(t.frames) >= MIN_OBSERVATIONS]
        self._lost = [t for t in waiting if unseen_s[t] <= RETURN_S]
        self._closed += [t for t in waiting if unseen_s[t] > RETURN_S]

    def _take_back(self) -> None:
        """Let tracks that have just become sure go on under the lost ones that they continue."""
        if not self._lost:
            return
        new = [t for t in self._open if len(t.frames) == MIN_OBSERVATIONS and t.frames[-1] == len(self.times_us) - 1]
        cost = np.array([[_return_cost(old, n, self.times_us) for n in new] for old in self._lost])
        for old, continued in [(self._lost[r], new[c]) for r, c in _chosen(cost)]:
            old.instances += continued.instances
            old.frames += continued.frames
            old.state = continued.state
            self._lost.remove(old)
            self._open[self._open.index(continued)] = old


def associate(instances: Sequence[Sequence[Instance]], times_us: Int64[np.ndarray, " T"]) -> list[Tracklet]:
    """Tracklets of the instances of each frame, sorted by first sight; flicker is dropped."""
    association = Association()
    for found, time_us in zip(instances, times_us, strict=True):
        association.add(found, int(time_us))
    return association.tracklets(min(MIN_OBSERVATIONS, len(times_us)))


def _return_cost(old: Tracklet, new: Tracklet, times_us: Sequence[int]) -> float:
    """How far, in shares of what is allowed, a track begins from where a lost one's motion leads; or infinity."""
    fewer, more = sorted(
        float(np.median([len(i.columns_world_m) for i in track.instances[-RECENT_FRAMES:]])) for track in (old, new)
    )
    if old.vehicle != new.vehicle or old.frames[-1] >= new.frames[0] or fewer < ALIKE_SHARE * more:
        return np.inf
    (place, velocity), (back, returning) = (_motion_of(t, times_us, end) for t, end in ((old, -1), (new, 0)))
    lost_s = (times_us[new.frames[0]] - times_us[old.frames[-1]]) * 1e-6
    off_m = back - (place + velocity * lost_s)
    speed_mps = float(np.linalg.norm(velocity))
    along = velocity / speed_mps if speed_mps > RETURN_STRAY_MPS else np.zeros(2)
    reach_across_m = RETURN_NEAR_M + RETURN_STRAY_MPS * lost_s
    reach_along_m = reach_across_m + RETURN_STRAY_MPS2[old.vehicle] * lost_s**2 / 2
    ahead_m = float(off_m @ along)
    aside_m = float(np.linalg.norm(off_m - ahead_m * along))
    cost = float(np.hypot(ahead_m / reach_along_m, aside_m / reach_across_m))
    changed_mps = float(np.linalg.norm(returning - velocity))
    return cost if cost <= 1 and changed_mps <= RETURN_SPEED_MPS[old.vehicle] else np.inf


def _motion_of(track: Tracklet, times_us: Sequence[int], end: int) -> tuple[np.ndarray, np.ndarray]:
    """Smoothed centre and velocity at the first (0) or last (-1) of a track's sightings."""
    chosen = slice(-RECENT_FRAMES, None) if end else slice(RECENT_FRAMES)
    centres = np.array([i.centre_world_m for i in track.instances[chosen]])
    path_m, velocities = smooth(centres, np.array([times_us[f] for f in track.frames[chosen]]), track.vehicle)
    return path_m[end], velocities[end]


def _expected(track: Tracklet, times_us: Sequence[int]) -> Columns:
    """Where a track's footprint is expected: the largest of the last ones, carried along with its velocity."""
    mean = track.state[0]
    step_s = (times_us[-1] - times_us[track.frames[-1]]) * 1e-6
    footprint = max((i.columns_world_m for i in track.instances[-EXPECTED_FRAMES:]), key=len)
    return footprint - footprint.mean(axis=0) + mean[:2] + mean[2:] * step_s


def _split_by_tracks(seen: Sequence[Instance], tracks: Sequence[Columns]) -> list[Instance]:
    """The instances, those in parts that cover several tracks that were apart before.

    Each column goes to the track whose last footprint, carried along with its velocity, comes nearest.
    """
    covered = shares_within(tracks, [i.columns_world_m for i in seen], SAME_COLUMN_M) > COVERED_SHARE
    whole_or_parts = []
    for number, instance in enumerate(seen):
        footprints = [track for track, covers in zip(tracks, covered[:, number], strict=True) if covers]
        if len(footprints) < 2:
            whole_or_parts.append(instance)
            continue
        nearest = np.argmin([cKDTree(f).query(instance.columns_world_m)[0] for f in footprints], axis=0)
        whole_or_parts += [instance.part(nearest == n) for n in range(len(footprints)) if (nearest == n).any()]
    return whole_or_parts


def _join_by_tracks(seen: Sequence[Instance], tracks: Sequence[Columns]) -> list[Instance]:
    """The vehicles, those joined that lie in the footprint that is expected of one track."""
    if not tracks:
        return list(seen)
    held = shares_within([i.columns_world_m for i in seen], tracks, SAME_COLUMN_M)
    pieces: dict[int, list[Instance]] = {}
    for number, instance in enumerate(seen):
        owner = int(held[number].argmax())
        owned = held[number, owner] > COVERED_SHARE and not instance.has_rider
        pieces.setdefault(owner if owned else -1 - number, []).append(instance)
    return [joined(parts) if len(parts) > 1 else parts[0] for parts in pieces.values()]


def _assign(tracks: list[Tracklet], seen: list[Instance], frame: int, times_us: Sequence[int]) -> list[Tracklet]:
    """Extend ``tracks`` by what was seen, and return new tracks for the rest."""
    centres = np.array([i.centre_world_m for i in seen]).reshape(-1, 2)
    cost = np.full((len(tracks), len(seen)), np.inf)
    priors: list[State] = []
    for row, track in enumerate(tracks):
        prior = predicted(track.state, (times_us[frame] - times_us[track.frames[-1]]) * 1e-6, track.vehicle)
        priors.append(prior)
        spread = prior[1][:2, :2] + np.eye(2) * CENTRE_NOISE_M**2
        offset = centres - prior[0][:2]
        cost[row] = np.einsum("ni,ni->n", offset, np.linalg.solve(spread, offset.T).T)
    pairs = _chosen(np.where(cost > GATE, np.inf, cost))
    # Two things are never in one place: what no motion explains but lies where a track is expected is that track.
    rows = [n for n in range(len(tracks)) if n not in {row for row, _ in pairs}]
    columns = [n for n in range(len(seen)) if n not in {column for _, column in pairs}]
    expected = [_expected(tracks[row], times_us) for row in rows]
    apart = 1 - shares_within([seen[column].columns_world_m for column in columns], expected, SAME_COLUMN_M).T
    pairs += [(rows[r], columns[c]) for r, c in _chosen(np.where(apart > 1 - SAME_PLACE_SHARE, np.inf, apart))]
    for row, column in pairs:
        track = tracks[row]
        track.state = updated(priors[row], centres[column])
        track.instances.append(seen[column])
        track.frames.append(frame)
    new = [n for n in range(len(seen)) if n not in {column for _, column in pairs}]
    return [Tracklet(seen[n].vehicle, [seen[n]], [frame], first_state(centres[n], seen[n].vehicle)) for n in new]


def _chosen(cost: Float64[np.ndarray, "R C"]) -> list[tuple[int, int]]:
    """Rows and columns assigned to each other at the least cost, none at an infinite one."""
    if not np.isfinite(cost).any():
        return []
    most = float(cost[np.isfinite(cost)].max())
    rows, columns = linear_sum_assignment(np.minimum(cost, 10 * max(most, 1.0)))
    return [(int(r), int(c)) for r, c in zip(rows, columns, strict=True) if np.isfinite(cost[r, c])]
