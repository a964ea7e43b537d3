"""A town in operation: its roads, everything that stands still, parked cars, and traffic."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from dyncity_sim.domain.frames import Pose, inverse, transform_points
from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.recording import ActorKind, RecordedFrame
from dyncity_sumo.actors import KIND_CODES, ActorTable, merged
from dyncity_sumo.bodies import boxes_of
from dyncity_sumo.city import build_city, parking_spots
from dyncity_sumo.columns import StaticColumns
from dyncity_sumo.demand import VEHICLE_TYPES, write_demand
from dyncity_sumo.network import prepare_network
from dyncity_sumo.roads import Lane, RoadNetwork
from dyncity_sumo.routes import drivable_lanes
from dyncity_sumo.traffic import Traffic
from dyncity_sumo.visibility import SensorRig, count_samples
from dyncity_sumo.voxelise import voxelise

WARM_UP_S = 30.0
"""Traffic runs this long before anyone looks: vehicles have to find their places."""


@dataclass(frozen=True, eq=False)
class Town:
    """A town whose traffic runs.

    Attributes:
        network: its roads.
        lanes: lanes a car may use, by id.
        columns: what stands still.
        parked: parked cars; their ids come before all others.
        traffic: what moves.
    """

    network: RoadNetwork
    lanes: dict[str, Lane]
    columns: StaticColumns
    parked: ActorTable
    traffic: Traffic

    def ground_m(self, xy_m: Float64[np.ndarray, "2"], otherwise_m: float) -> float:
        """World height of the built ground, averaged over a square metre; ``otherwise_m`` where none is built."""
        i, j = self.columns.index_of(xy_m)
        around = (slice(max(int(i) - 2, 0), int(i) + 3), slice(max(int(j) - 2, 0), int(j) + 3))
        built = self.columns.ground_class[around] > 0
        if i < 0 or j < 0 or not built.any():
            return otherwise_m
        return float(self.columns.ground_cm[around][built].mean()) / 100

    def frame(
        self, pose_world_from_ego: Pose, moving: ActorTable, ego_id: int, rig: SensorRig, time_us: int, grid: Grid
    ) -> RecordedFrame:
        """What a simulator shows around an ego: labels, what the rig sees of them, and the actors behind them."""
        xy_m = pose_world_from_ego[:2, 3]
        reach_m = 1.5 * max(grid.upper_m[0], grid.upper_m[1]) + 8.0
        around = merged([self.parked.near(xy_m, reach_m), moving[moving.ids != ego_id].near(xy_m, reach_m)])
        actors = around[_reaches_in(around, pose_world_from_ego, grid)]
        voxels = voxelise(self.columns, boxes_of(actors), pose_world_from_ego, grid)
        return RecordedFrame(
            voxels.labels,
            count_samples(voxels.labels, rig, grid),
            voxels.instances,
            tuple(actors.states()),
            pose_world_from_ego,
            time_us,
            grid,
        )


@contextmanager
def open_town(map_spec: str, seed: int, workdir: Path, duration_s: float) -> Iterator[Town]:
    """Build a town and start its traffic; it ends with the ``with`` block.

    Args:
        map_spec: see ``prepare_network``.
        seed: decides the town (where the map leaves that open), its buildings, its traffic.
        workdir: an existing folder for the files that SUMO runs on.
        duration_s: how long there is traffic, WARM_UP_S included.
    """
    network = prepare_network(map_spec, seed, workdir)
    city_rng, parking_rng, demand_rng = np.random.default_rng([seed, 1]).spawn(3)
    columns = build_city(network, city_rng)
    spots = parking_spots(network, parking_rng)
    demand_file = write_demand(network, demand_rng, duration_s, workdir / "demand.rou.xml")
    with Traffic(network.net_file, demand_file, seed) as traffic:
        parked = _parked_cars(spots, columns, traffic.reserve_ids(len(spots)), parking_rng)
        town = Town(network, drivable_lanes(network), columns, parked, traffic)
        for _ in range(round(WARM_UP_S * 10)):
            traffic.step()
        yield town


def _parked_cars(
    spots: Float64[np.ndarray, "N 3"], columns: StaticColumns, ids: range, rng: np.random.Generator
) -> ActorTable:
    """Cars and vans on parking spots, each a little off its mark."""
    parkers = [t for t in VEHICLE_TYPES if t.kind is ActorKind.CAR or t.id == "van_small"]
    shares = np.array([t.share for t in parkers])
    chosen = [parkers[i] for i in rng.choice(len(parkers), len(spots), p=shares / shares.sum())]
    size_m = np.array([t.size_m for t in chosen]).reshape(-1, 3)
    centre_m = np.zeros((len(spots), 3))
    centre_m[:, :2] = spots[:, :2] + rng.normal(0, 0.08, (len(spots), 2))
    i, j = np.clip(columns.index_of(centre_m[:, :2]), 0, np.array(columns.shape) - 1).T
    centre_m[:, 2] = columns.ground_cm[i, j] / 100 + size_m[:, 2] / 2
    backwards = np.where(rng.random(len(spots)) < 0.1, np.pi, 0.0)
    return ActorTable(
        np.array(ids, dtype=np.uint16),
        np.array([KIND_CODES[t.kind] for t in chosen], dtype=np.uint8),
        centre_m,
        spots[:, 2] + backwards + rng.normal(0, 0.02, len(spots)),
        size_m,
        np.zeros(len(spots)),
    )


def _reaches_in(actors: ActorTable, pose_world_from_ego: Pose, grid: Grid) -> np.ndarray:
    """Which actors' boxes reach into the grid, by their extents along its axes."""
    centre_m = transform_points(inverse(pose_world_from_ego), actors.centres_m)
    yaw_rad = actors.yaws_rad - np.arctan2(pose_world_from_ego[1, 0], pose_world_from_ego[0, 0])
    cos, sin = np.abs(np.cos(yaw_rad)), np.abs(np.sin(yaw_rad))
    half_m = actors.sizes_m / 2
    extent_m = np.column_stack(
        [cos * half_m[:, 0] + sin * half_m[:, 1], sin * half_m[:, 0] + cos * half_m[:, 1], half_m[:, 2]]
    )
    inside = (centre_m + extent_m > np.asarray(grid.lower_m)) & (centre_m - extent_m < np.asarray(grid.upper_m))
    return np.asarray(inside.all(axis=1))
