"""Association of instances over a drive: which blobs of which frames are the same thing.

A constant-velocity Kalman filter predicts each track, the Hungarian method assigns instances to
predictions, and a Rauch-Tung-Striebel pass smooths what was found (Bar-Shalom, Li, Kirubarajan:
Estimation with Applications to Tracking and Navigation, ch. 6 and 8).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float64, Int64
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from dyncity_sim.scene.instances import Instance

MAX_GAP_S = 0.55
"""A thing that is not seen for longer than this comes back under a new id."""

MIN_OBSERVATIONS = 3
"""Shorter tracks are flicker of the generator and are dropped."""

GATE = 13.8
"""Largest accepted squared Mahalanobis distance of the centre: 99.9 % of a two-dimensional Gaussian."""

CENTRE_NOISE_M = 0.25
"""Standard deviation of an instance's centre: about half a cell."""

ACCELERATION_NOISE_MPS2 = {True: 4.0, False: 2.0}
"""Standard deviation of the acceleration of vehicles (True) and pedestrians (False)."""

INITIAL_SPEED_NOISE_MPS = {True: 10.0, False: 1.5}
"""Standard deviation of the velocity of a vehicle (True) or pedestrian (False) seen for the first time."""

COVERED_SHARE = 0.7
"""An instance covers a track when it holds this share of the footprint that is expected of the track."""

SAME_COLUMN_M = 0.4
"""Columns closer than this are the same place."""

Matrix = Float64[np.ndarray, "4 4"]


@dataclass(eq=False)
class Tracklet:
    """The instances of one thing, in time order, with the filter's state after the last of them."""

    vehicle: bool
    instances: list[Instance] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)
    mean: np.ndarray = field(default_factory=lambda: np.zeros(4))
    covariance: np.ndarray = field(default_factory=lambda: np.eye(4))


class Association:
    """Finds out, frame by frame, which instances are the same thing.

    Attributes:
        times_us: times of the frames so far; a tracklet's ``frames`` are positions in this list.
    """

    def __init__(self) -> None:
        self.times_us: list[int] = []
        self._open: list[Tracklet] = []
        self._closed: list[Tracklet] = []

    def add(self, found: Sequence[Instance], time_us: int) -> None:
        """Take the instances of the next frame."""
        frame = len(self.times_us)
        self.times_us.append(int(time_us))
        still_open: list[Tracklet] = []
        for track in self._open:
            unseen_s = (self.times_us[frame] - self.times_us[track.frames[-1]]) * 1e-6
            (still_open if unseen_s <= MAX_GAP_S else self._closed).append(track)
        self._open = still_open
        for vehicle in (True, False):
            seen = [i for i in found if i.vehicle == vehicle]
            tracks = [t for t in self._open if t.vehicle == vehicle]
            expected = [_expected(t, self.times_us) for t in tracks if len(t.frames) >= MIN_OBSERVATIONS]
            seen = [part for i in seen for part in _split_by_tracks(i, expected)]
            self._open.extend(_assign(tracks, seen, frame, self.times_us))

    def tracklets(self) -> list[Tracklet]:
        """What was found so far, sorted by first sight; flicker is left out."""
        kept = [t for t in self._closed + self._open if len(t.frames) >= MIN_OBSERVATIONS]
        return sorted(kept, key=lambda t: (t.frames[0], *t.instances[0].centre_world_m))

    def forget_closed(self) -> None:
        """Drop what has not been seen for too long to come back."""
        self._closed.clear()


def associate(instances: Sequence[Sequence[Instance]], times_us: Int64[np.ndarray, " T"]) -> list[Tracklet]:
    """Tracklets of the instances of each frame, sorted by first sight; flicker is dropped."""
    association = Association()
    for found, time_us in zip(instances, times_us, strict=True):
        association.add(found, int(time_us))
    return association.tracklets()


def smooth(
    centres_m: Float64[np.ndarray, "N 2"], times_us: Int64[np.ndarray, " N"], vehicle: bool
) -> tuple[Float64[np.ndarray, "N 2"], Float64[np.ndarray, "N 2"]]:
    """Smoothed centres and velocities of one track (Rauch-Tung-Striebel over the whole of it)."""
    mean, covariance = _first(centres_m[0], vehicle)
    means, covariances, transitions, predicted = [mean], [covariance], [np.eye(4)], [(mean, covariance)]
    for centre, step_us in zip(centres_m[1:], np.diff(times_us), strict=True):
        transition, noise = _motion(step_us * 1e-6, vehicle)
        prior = (transition @ mean, transition @ covariance @ transition.T + noise)
        mean, covariance = _update(prior[0], prior[1], centre)
        means.append(mean)
        covariances.append(covariance)
        transitions.append(transition)
        predicted.append(prior)
    for n in range(len(means) - 2, -1, -1):
        prior_mean, prior_covariance = predicted[n + 1]
        gain = np.linalg.solve(prior_covariance, transitions[n + 1] @ covariances[n]).T
        means[n] = means[n] + gain @ (means[n + 1] - prior_mean)
        covariances[n] = covariances[n] + gain @ (covariances[n + 1] - prior_covariance) @ gain.T
    states = np.array(means)
    return states[:, :2], states[:, 2:]


@dataclass(frozen=True, eq=False)
class _Expected:
    """Where a track's footprint is expected: its last one, carried along with its velocity.

    Attributes:
        columns_world_m: ``(C, 2)``.
        centre_world_m: ``(2,)`` their middle.
        reach_m: distance of the farthest column from the middle.
    """

    columns_world_m: Float64[np.ndarray, "C 2"]
    centre_world_m: Float64[np.ndarray, " 2"]
    reach_m: float


def _expected(track: Tracklet, times_us: Sequence[int]) -> _Expected:
    step_s = (times_us[-1] - times_us[track.frames[-1]]) * 1e-6
    footprint = track.instances[-1].columns_world_m
    expected = footprint - footprint.mean(axis=0) + track.mean[:2] + track.mean[2:] * step_s
    centre = expected.mean(axis=0)
    return _Expected(expected, centre, float(np.linalg.norm(expected - centre, axis=1).max()))


def _split_by_tracks(instance: Instance, tracks: Sequence[_Expected]) -> list[Instance]:
    """The instance, or its parts when it covers several tracks that were apart before.

    Each column goes to the track whose last footprint, carried along with its velocity, comes nearest.
    """
    if len(tracks) < 2:
        return [instance]
    centre = instance.centre_world_m
    reach_m = float(np.linalg.norm(instance.columns_world_m - centre, axis=1).max()) + SAME_COLUMN_M
    apart_m = np.linalg.norm(np.stack([track.centre_world_m for track in tracks]) - centre, axis=1)
    # Tracks farther away than this share no column with the instance.
    near = [track for track, away_m in zip(tracks, apart_m, strict=True) if away_m <= reach_m + track.reach_m]
    if len(near) < 2:
        return [instance]
    tree = cKDTree(instance.columns_world_m)
    footprints = [
        track.columns_world_m
        for track in near
        if (tree.query(track.columns_world_m)[0] < SAME_COLUMN_M).mean() > COVERED_SHARE
    ]
    if len(footprints) < 2:
        return [instance]
    distances = np.array([cKDTree(f).query(instance.columns_world_m)[0] for f in footprints])
    nearest = distances.argmin(axis=0)
    parts = [instance.columns_world_m[nearest == n] for n in range(len(footprints))]
    return [replace(instance, columns_world_m=part) for part in parts if len(part)]


def _assign(tracks: list[Tracklet], seen: list[Instance], frame: int, times_us: Sequence[int]) -> list[Tracklet]:
    """Extend ``tracks`` by what was seen, and return new tracks for the rest."""
    centres = np.array([i.centre_world_m for i in seen]).reshape(-1, 2)
    cost = np.full((len(tracks), len(seen)), np.inf)
    priors: list[tuple[np.ndarray, Matrix]] = []
    for row, track in enumerate(tracks):
        transition, noise = _motion((times_us[frame] - times_us[track.frames[-1]]) * 1e-6, track.vehicle)
        prior = transition @ track.mean, transition @ track.covariance @ transition.T + noise
        priors.append(prior)
        spread = prior[1][:2, :2] + np.eye(2) * CENTRE_NOISE_M**2
        offset = centres - prior[0][:2]
        cost[row] = np.einsum("ni,ni->n", offset, np.linalg.solve(spread, offset.T).T)
    taken = set()
    for row, column in zip(*linear_sum_assignment(np.minimum(cost, GATE * 10)), strict=True):
        if cost[row, column] > GATE:
            continue
        track = tracks[row]
        track.mean, track.covariance = _update(priors[row][0], priors[row][1], centres[column])
        track.instances.append(seen[column])
        track.frames.append(frame)
        taken.add(int(column))
    new = []
    for column, instance in enumerate(seen):
        if column not in taken:
            mean, covariance = _first(centres[column], instance.vehicle)
            new.append(Tracklet(instance.vehicle, [instance], [frame], mean, covariance))
    return new


def _first(centre_m: np.ndarray, vehicle: bool) -> tuple[np.ndarray, Matrix]:
    position, speed = CENTRE_NOISE_M**2, INITIAL_SPEED_NOISE_MPS[vehicle] ** 2
    return np.array([*centre_m, 0.0, 0.0]), np.diag([position, position, speed, speed])


def _motion(step_s: float, vehicle: bool) -> tuple[Matrix, Matrix]:
    """Transition and noise of a discrete white-noise acceleration over ``step_s``."""
    transition = np.eye(4)
    transition[[0, 1], [2, 3]] = step_s
    effect = np.array([[step_s**2 / 2, 0], [0, step_s**2 / 2], [step_s, 0], [0, step_s]])
    return transition, effect @ effect.T * ACCELERATION_NOISE_MPS2[vehicle] ** 2


def _update(mean: np.ndarray, covariance: Matrix, centre_m: np.ndarray) -> tuple[np.ndarray, Matrix]:
    """The state after its first two entries were measured."""
    spread = covariance[:2, :2] + np.eye(2) * CENTRE_NOISE_M**2
    gain = np.linalg.solve(spread, covariance[:2]).T
    return mean + gain @ (centre_m - mean[:2]), covariance - gain @ covariance[:2]
