"""A town in operation: its roads, what stands still, and traffic."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dyncity_sumo.bystanders import PAUSING_SHARE, Bystanders
from dyncity_sumo.demand import people_on_foot, write_demand
from dyncity_sumo.network import prepare_network
from dyncity_sumo.roads import Lane, RoadNetwork
from dyncity_sumo.routes import drivable_lanes
from dyncity_sumo.scenery import Scenery, build_scenery
from dyncity_sumo.stays import plan_stays
from dyncity_sumo.traffic import Traffic

WARM_UP_S = 30.0
"""Traffic runs this long before anyone looks: vehicles have to find their places."""


@dataclass(frozen=True, eq=False)
class Town:
    """A town whose traffic runs.

    Attributes:
        seed: what decided it.
        network: its roads.
        lanes: lanes a car may use, by id.
        scenery: what stands still.
        traffic: what moves.
        bystanders: those among it who stand.
    """

    seed: int
    network: RoadNetwork
    lanes: dict[str, Lane]
    scenery: Scenery
    traffic: Traffic
    bystanders: Bystanders

    def step(self) -> None:
        """Go on by one frame."""
        self.bystanders.step()
        self.traffic.step()


@contextmanager
def open_town(map_spec: str, seed: int, workdir: Path, duration_s: float, standing: float = 0.0) -> Iterator[Town]:
    """Build a town and start its traffic; it ends with the ``with`` block.

    Args:
        map_spec: see ``prepare_network``.
        seed: decides the town (where the map leaves that open), its buildings, its traffic.
        workdir: an existing folder for the files that SUMO runs on.
        duration_s: how long there is traffic, WARM_UP_S included.
        standing: share of the people on foot who stand, beside those who wait for a crossing to open.
    """
    network = prepare_network(map_spec, seed, workdir)
    scenery = build_scenery(network, seed)
    *_, demand_rng = np.random.default_rng([seed, 1]).spawn(3)
    stays_rng, pauses_rng = np.random.default_rng([seed, 6]).spawn(2)
    people = standing * people_on_foot(network)
    stays = plan_stays(network, scenery.columns, stays_rng, (1 - PAUSING_SHARE) * people, duration_s) if people else []
    demand_file = write_demand(network, demand_rng, duration_s, workdir / "demand.rou.xml", 1 - standing, stays)
    with Traffic(network.net_file, demand_file, seed, first_id=len(scenery.parked) + 1) as traffic:
        bystanders = Bystanders(traffic, stays, PAUSING_SHARE * people, pauses_rng)
        town = Town(seed, network, drivable_lanes(network), scenery, traffic, bystanders)
        for _ in range(round(WARM_UP_S * 10)):
            town.step()
        yield town
