"""Who stands where, from when until when."""

from dataclasses import dataclass

import numpy as np

from dyncity_sumo.columns import StaticColumns
from dyncity_sumo.places import Place, standing_places
from dyncity_sumo.roads import Streets

MEAN_STAY_S, SHORTEST_STAY_S = 60.0, 8.0
"""A stay lasts the shortest time and, on average, the other on top of it."""


@dataclass(frozen=True)
class Stay:
    """A person who stands from ``from_s`` until ``until_s`` of simulated time, and then walks away."""

    person: str
    place: Place
    from_s: float
    until_s: float


def plan_stays(
    streets: Streets, columns: StaticColumns, rng: np.random.Generator, people: float, duration_s: float
) -> list[Stay]:
    """Stays such that ``people`` stand at any time on average, in the order in which they begin.

    Fewer where the streets have no room for them: no sidewalks, no crossings, no shelters.
    """
    mean_s = SHORTEST_STAY_S + MEAN_STAY_S
    wanted = round(people * (1 + duration_s / mean_s))
    places = list(standing_places(streets, columns, rng, wanted))
    groups = sorted({place.group for place in places})
    # Some stand there from the start; the rest come as those leave.
    first = rng.random(len(groups)) < 1 / (1 + duration_s / mean_s)
    from_s = np.where(first, rng.uniform(0, 4, len(groups)), rng.uniform(0, duration_s, len(groups)))
    until_s = from_s + SHORTEST_STAY_S + rng.exponential(MEAN_STAY_S, len(groups))
    times = {group: (round(float(a), 2), float(b)) for group, a, b in zip(groups, from_s, until_s, strict=True)}
    ordered = sorted(places, key=lambda place: (times[place.group][0], place.group))
    return [Stay(f"ps{number}", place, *times[place.group]) for number, place in enumerate(ordered)]
