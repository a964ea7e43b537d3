"""People who stand: at crossings, under shelters, in pairs that talk, alone; and walkers who pause.

SUMO's people walk from the moment they appear until they vanish, and rest only before a closed crossing. Whoever
stands here is one of SUMO's own people, held in place at every step: cars and walkers heed them as they do all others.
"""

from collections.abc import Iterator

import numpy as np

from dyncity_sumo.places import Place
from dyncity_sumo.stays import Stay
from dyncity_sumo.traffic import STEP_US, Traffic

MEAN_PAUSE_S, SHORTEST_PAUSE_S = 10.0, 2.0
"""A pause lasts the shortest time and, on average, the other on top of it."""

PAUSING_SHARE = 0.25
"""Of those who stand, so many are walkers who paused."""


class Bystanders:
    """Holds people in their places while they stand.

    Args:
        traffic: whose people they are.
        stays: who stands where and when.
        pausing: walkers who pause at any time, on average.
        rng: who pauses, and how long.
    """

    def __init__(self, traffic: Traffic, stays: list[Stay], pausing: float, rng: np.random.Generator) -> None:
        self._traffic = traffic
        self._coming = sorted(stays, key=lambda stay: -stay.from_s)
        self._held: list[Stay] = []
        self._pauses_per_step = pausing / (SHORTEST_PAUSE_S + MEAN_PAUSE_S) * STEP_US / 1e6
        self._rng = rng
        traffic.withhold(stay.person for stay in stays)

    @property
    def standing(self) -> tuple[Stay, ...]:
        """The stays and pauses of now."""
        return tuple(self._held)

    def step(self) -> None:
        """Hold everyone who stands; before each step of traffic."""
        if not (self._coming or self._held or self._pauses_per_step):
            return
        now_s = self._traffic.time_us / 1e6
        people = self._traffic.people()
        while self._coming and self._coming[-1].from_s <= now_s:
            self._held.append(self._coming.pop())
        self._held += self._new_pauses(people, now_s)
        present = set(people)
        # SUMO lets people appear up to a step after their time.
        self._held = [s for s in self._held if now_s < s.until_s and (s.person in present or now_s < s.from_s + 1.0)]
        for stay in self._held:
            if stay.person in present:
                place = stay.place
                self._traffic.hold(stay.person, np.array([place.x_m, place.y_m]), place.yaw_rad)

    def _new_pauses(self, people: list[str], now_s: float) -> Iterator[Stay]:
        count = int(self._rng.poisson(self._pauses_per_step)) if self._pauses_per_step else 0
        held = {stay.person for stay in self._held}
        for _ in range(count if people else 0):
            person = people[int(self._rng.integers(len(people)))]
            xy_m, yaw_rad, on_sidewalk = self._traffic.person_state(person)
            seconds = SHORTEST_PAUSE_S + float(self._rng.exponential(MEAN_PAUSE_S))
            turned_rad = float(self._rng.normal(0, 0.8))
            if on_sidewalk and person not in held:
                place = Place(float(xy_m[0]), float(xy_m[1]), yaw_rad + turned_rad, "", 0.0, 0)
                yield Stay(person, place, now_s, now_s + seconds)
                held.add(person)
