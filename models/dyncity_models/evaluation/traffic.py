"""How much of the traffic of a chunk is on its way: a generator that draws everybody at rest draws likely frames."""

from dataclasses import dataclass, field

import numpy as np

from dyncity_models.evaluation.dense import check_dense
from dyncity_models.evaluation.intervals import OF
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.scene import Track
from dyncity_sim.scene.actors.find import find_tracks

FOLLOWED_S = 0.7
"""Who is followed for less time is not counted: a cell of 0.4 m would be half of a pedestrian's way."""

DRIVING_MPS = 1.0
WALKING_MPS = 0.5
"""From first to last sighting; slower ones stand."""


@dataclass(frozen=True)
class TrafficMotion:
    """Road users of one chunk or drive that were followed for ``FOLLOWED_S`` or more.

    Attributes:
        vehicles: how many, two-wheelers among them.
        driving_share: share of them that drive; NaN without any.
        driving_mps: mean speed of those that drive, metres per second; NaN without any.
        pedestrians: how many.
        walking_share: share of them that walk; NaN without any.
    """

    vehicles: int
    driving_share: float = field(metadata={OF: "vehicles"})
    driving_mps: float = field(metadata={OF: "driving"})
    pedestrians: int
    walking_share: float = field(metadata={OF: "pedestrians"})

    @property
    def driving(self) -> int:
        """How many vehicles drive."""
        return round(self.vehicles * self.driving_share) if self.vehicles else 0


def traffic_motion(occupancy: OccupancySequence) -> TrafficMotion:
    """How many vehicles and pedestrians there are, and which of them are on their way.

    Raises:
        InvalidInputError: some cells were never observed.
    """
    check_dense(occupancy)
    followed = [t for t in find_tracks(occupancy) if t.times_us[-1] - t.times_us[0] >= FOLLOWED_S * 1e6]
    vehicles_mps = np.array([_speed_mps(t) for t in followed if t.kind is not ActorKind.PEDESTRIAN])
    walkers_mps = np.array([_speed_mps(t) for t in followed if t.kind is ActorKind.PEDESTRIAN])
    return TrafficMotion(
        vehicles=len(vehicles_mps),
        driving_share=_mean(vehicles_mps >= DRIVING_MPS),
        driving_mps=_mean(vehicles_mps[vehicles_mps >= DRIVING_MPS]),
        pedestrians=len(walkers_mps),
        walking_share=_mean(walkers_mps >= WALKING_MPS),
    )


def _speed_mps(track: Track) -> float:
    (first_m, last_m), (since_us, until_us) = track.poses_world_from_actor[[0, -1], :2, 3], track.times_us[[0, -1]]
    return float(np.hypot(*(last_m - first_m)) / ((until_us - since_us) * 1e-6))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
