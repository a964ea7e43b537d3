"""Motion of one thing: where it is and how fast, out of noisy centres, along paths that such a thing can take.

Velocity is taken to wander as the integral of white noise. While a thing is followed, a Kalman filter predicts where
it comes next (Bar-Shalom, Li, Kirubarajan: Estimation with Applications to Tracking and Navigation, ch. 6). When all
is known, the most likely path is one sparse system of linear equations (Barfoot, Tong, Sarkka: Batch Continuous-Time
Trajectory Estimation as Exactly Sparse Gaussian Process Regression, RSS 2014), solved a few times over so that
sightings far off the path lose their weight (Huber 1964).
"""

import numpy as np
from jaxtyping import Float64, Int64
from scipy.linalg import solveh_banded

CENTRE_NOISE_M = 0.25
"""Standard deviation of an instance's centre: about half a cell."""

WANDER_M2PS3 = {True: 1.6, False: 0.4}
"""Spectral density of the acceleration of vehicles (True) and pedestrians (False): over 0.1 s it changes their velocity
by 0.4 and 0.2 m/s."""

ACCELERATION_NOISE_MPS2 = {True: 4.0, False: 2.0}
"""Standard deviation of the acceleration, constant from sighting to sighting, that a prediction allows for."""

INITIAL_SPEED_NOISE_MPS = {True: 10.0, False: 1.5}
"""Standard deviation of the velocity of a vehicle (True) or pedestrian (False) seen for the first time."""

MOST_ACCELERATION_MPS2 = {True: 8.0, False: 5.0}
"""What tyres and soles give in a street, braking and turning together."""

REWEIGHTINGS = 3
SMOOTHEST = 1e-5
"""Share of the spectral density at which a path is all but a straight line at constant speed."""

Centres = Float64[np.ndarray, "N 2"]
Times = Int64[np.ndarray, " N"]
State = tuple[Float64[np.ndarray, " 4"], Float64[np.ndarray, "4 4"]]
"""Mean and covariance of (x, y, velocity x, velocity y)."""


def first_state(centre_m: Float64[np.ndarray, " 2"], vehicle: bool) -> State:
    """What one sighting says."""
    position, speed = CENTRE_NOISE_M**2, INITIAL_SPEED_NOISE_MPS[vehicle] ** 2
    return np.array([*centre_m, 0.0, 0.0]), np.diag([position, position, speed, speed])


def predicted(state: State, step_s: float, vehicle: bool) -> State:
    """The state after a step of unknown acceleration."""
    mean, covariance = state
    transition = np.eye(4)
    transition[[0, 1], [2, 3]] = step_s
    effect = np.array([[step_s**2 / 2, 0], [0, step_s**2 / 2], [step_s, 0], [0, step_s]])
    noise = effect @ effect.T * ACCELERATION_NOISE_MPS2[vehicle] ** 2
    return transition @ mean, transition @ covariance @ transition.T + noise


def updated(state: State, centre_m: Float64[np.ndarray, " 2"]) -> State:
    """The state after its position was measured."""
    mean, covariance = state
    spread = covariance[:2, :2] + np.eye(2) * CENTRE_NOISE_M**2
    gain = np.linalg.solve(spread, covariance[:2]).T
    return mean + gain @ (centre_m - mean[:2]), covariance - gain @ covariance[:2]


def smooth(
    centres_m: Centres, times_us: Times, vehicle: bool, noise_m: Float64[np.ndarray, " N"] | None = None
) -> tuple[Centres, Centres]:
    """The most likely path of one thing and its velocities, metres and metres per second.

    Where the likeliest path asks for more than ``MOST_ACCELERATION_MPS2``, smoother paths are tried until one does
    not; the last is all but a straight line at constant speed.

    Args:
        centres_m: where the thing was seen.
        times_us: when, strictly increasing.
        vehicle: a vehicle, or else a pedestrian.
        noise_m: standard deviation of each centre; ``CENTRE_NOISE_M`` when left out.
    """
    base_m = np.full(len(centres_m), CENTRE_NOISE_M) if noise_m is None else noise_m
    steps_s = np.diff(times_us) * 1e-6
    share = 1.0
    path_m, velocities = _robust(centres_m, steps_s, vehicle, base_m, share)
    while share > SMOOTHEST and most_acceleration_mps2(path_m, velocities, steps_s) > MOST_ACCELERATION_MPS2[vehicle]:
        share /= 4
        path_m, velocities = _robust(centres_m, steps_s, vehicle, base_m, share)
    return path_m, velocities


def most_acceleration_mps2(path_m: Centres, velocities: Centres, steps_s: Float64[np.ndarray, " M"]) -> float:
    """Largest acceleration along a path, by its velocities and by its positions; 0 where there is none."""
    if len(steps_s) < 2:
        return 0.0
    moved = np.diff(path_m, axis=0) / steps_s[:, None]
    by_positions = np.diff(moved, axis=0) / ((steps_s[1:] + steps_s[:-1]) / 2)[:, None]
    by_velocities = np.diff(velocities, axis=0) / steps_s[:, None]
    return float(max(np.linalg.norm(a, axis=1).max() for a in (by_positions, by_velocities)))


def _robust(
    centres_m: Centres, steps_s: np.ndarray, vehicle: bool, base_m: np.ndarray, share: float
) -> tuple[Centres, Centres]:
    density = WANDER_M2PS3[vehicle] * share
    noise_m = base_m
    for _ in range(REWEIGHTINGS):
        path_m, velocities = _likeliest(centres_m, steps_s, density, noise_m, INITIAL_SPEED_NOISE_MPS[vehicle])
        off_m = np.linalg.norm(centres_m - path_m, axis=1)
        noise_m = base_m * np.sqrt(np.maximum(1.0, off_m / (2 * base_m)))
    return path_m, velocities


def _likeliest(
    centres_m: Centres, steps_s: np.ndarray, density: float, noise_m: np.ndarray, speed_noise_mps: float
) -> tuple[Centres, Centres]:
    """Positions and velocities of largest likelihood: a banded system over (position, velocity) of each time."""
    count = len(centres_m)
    diagonal, above1, above2, above3 = (np.zeros(2 * count) for _ in range(4))
    diagonal[0::2] = 1 / noise_m**2
    diagonal[1] = 1 / speed_noise_mps**2
    # Inverse of the noise [[dt^3/3, dt^2/2], [dt^2/2, dt]] density that a step adds.
    pp, pv, vv = 12 / (density * steps_s**3), -6 / (density * steps_s**2), 4 / (density * steps_s)
    # (next - F before)^T W (next - F before), with F = [[1, dt], [0, 1]], spread over the band.
    carried_pv, carried_vv = pp * steps_s + pv, pp * steps_s**2 + 2 * pv * steps_s + vv
    diagonal[0:-2:2] += pp
    diagonal[1:-2:2] += carried_vv
    diagonal[2::2] += pp
    diagonal[3::2] += vv
    above1[1:-2:2] += carried_pv
    above1[3::2] += pv
    above2[2::2] = -pp
    above2[3::2] = -(pv * steps_s + vv)
    above1[2::2] = -carried_pv
    above3[3::2] = -pv
    # Around the middle, for world coordinates may be far larger than the path.
    middle_m = centres_m.mean(axis=0)
    right = np.zeros((2 * count, 2))
    right[0::2] = (centres_m - middle_m) / noise_m[:, None] ** 2
    states = solveh_banded(np.stack([above3, above2, above1, diagonal]), right)
    return states[0::2] + middle_m, states[1::2]
