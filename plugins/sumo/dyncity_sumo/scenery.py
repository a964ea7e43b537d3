"""What stands still in a town: its ground, its buildings, its parked cars; and what an ego sees among them."""

import zlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from dyncity_sim.domain.frames import Pose, inverse, transform_points
from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.recording import ActorKind, RecordedFrame
from dyncity_sumo.actors import KIND_CODES, ActorTable, merged
from dyncity_sumo.bodies import boxes_of
from dyncity_sumo.city import build_city, parking_spots
from dyncity_sumo.columns import StaticColumns
from dyncity_sumo.demand import VEHICLE_TYPES, drawn_types
from dyncity_sumo.roads import Streets
from dyncity_sumo.visibility import SensorRig, count_samples
from dyncity_sumo.voxelise import voxelise

OFF_GROUND_M = 0.8
"""This far from the built ground is on another road; kerbs and relief stay below."""


@dataclass(frozen=True, eq=False)
class Scenery:
    """A town without its traffic.

    Attributes:
        columns: what stands still.
        parked: parked cars, with the ids from 1 on; whatever moves has higher ones.
    """

    columns: StaticColumns
    parked: ActorTable

    def checksum(self) -> int:
        """CRC-32 of all its arrays: whether a town is regrown as it was, on another machine too."""
        crc = 0
        for array in (
            self.columns.origin_m,
            self.columns.ground_class,
            self.columns.ground_cm,
            self.columns.span_class,
            self.columns.span_lo_dm,
            self.columns.span_hi_dm,
            self.parked.kinds,
            self.parked.centres_m,
            self.parked.yaws_rad,
        ):
            crc = zlib.crc32(np.ascontiguousarray(array).data, crc)
        return crc

    def ground_m(self, xy_m: Float64[np.ndarray, "2"], otherwise_m: float) -> float:
        """World height of the built ground, averaged over a square metre; ``otherwise_m`` where none is built."""
        i, j = self.columns.index_of(xy_m)
        around = (slice(max(int(i) - 2, 0), int(i) + 3), slice(max(int(j) - 2, 0), int(j) + 3))
        built = self.columns.ground_class[around] > 0
        if i < 0 or j < 0 or not built.any():
            return otherwise_m
        return float(self.columns.ground_cm[around][built].mean()) / 100

    def carries(self, points_m: Float64[np.ndarray, "N 3"]) -> Bool[np.ndarray, " N"]:
        """Whether world points of roads and pavements are on the built ground: on and under bridges they are not.

        Columns hold one surface, which at a bridge is neither of the two roads. True where nothing is built.
        """
        index = self.columns.index_of(points_m[:, :2])
        within = np.asarray(((index >= 0) & (index < np.array(self.columns.shape))).all(axis=1))
        i, j = (index * within[:, None]).T
        built = within & (self.columns.ground_class[i, j] > 0)
        off_m = np.abs(self.columns.ground_cm[i, j] / 100 - points_m[:, 2])
        return np.asarray(~built | (off_m < OFF_GROUND_M))

    def frame(
        self, pose_world_from_ego: Pose, moving: ActorTable, rig: SensorRig, time_us: int, grid: Grid
    ) -> RecordedFrame:
        """What a simulator shows around an ego: labels, what the rig sees of them, and the actors behind them.

        Who moves on another road than the built ground is left out.

        Args:
            pose_world_from_ego: where the ego is; upright.
            moving: who moves around it, without the ego.
            rig: the ego's sensors.
            time_us: when.
            grid: of the frame.
        """
        reach_m = 1.5 * max(grid.upper_m[0], grid.upper_m[1]) + 8.0
        moving = moving[self.carries(moving.feet_m)]
        around = merged([table.near(pose_world_from_ego[:2, 3], reach_m) for table in (self.parked, moving)])
        actors = around[reaches_in(around, pose_world_from_ego, grid)]
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


def build_scenery(streets: Streets, seed: int) -> Scenery:
    """Grow the town that ``seed`` stands for around its streets: the same streets and seed give the same arrays."""
    city_rng, parking_rng = np.random.default_rng([seed, 1]).spawn(2)
    columns = build_city(streets, city_rng)
    return Scenery(columns, _parked_cars(parking_spots(streets, parking_rng), columns, parking_rng))


def reaches_in(actors: ActorTable, pose_world_from_ego: Pose, grid: Grid) -> Bool[np.ndarray, " N"]:
    """Which actors' boxes reach into the grid around an ego, by their extents along its axes."""
    centre_m = transform_points(inverse(pose_world_from_ego), actors.centres_m)
    yaw_rad = actors.yaws_rad - np.arctan2(pose_world_from_ego[1, 0], pose_world_from_ego[0, 0])
    cos, sin = np.abs(np.cos(yaw_rad)), np.abs(np.sin(yaw_rad))
    half_m = actors.sizes_m / 2
    extent_m = np.column_stack(
        [cos * half_m[:, 0] + sin * half_m[:, 1], sin * half_m[:, 0] + cos * half_m[:, 1], half_m[:, 2]]
    )
    inside = (centre_m + extent_m > np.asarray(grid.lower_m)) & (centre_m - extent_m < np.asarray(grid.upper_m))
    return np.asarray(inside.all(axis=1))


def _parked_cars(spots: Float64[np.ndarray, "N 3"], columns: StaticColumns, rng: np.random.Generator) -> ActorTable:
    """Cars and vans on parking spots, each a little off its mark."""
    parkers = [t for t in VEHICLE_TYPES if t.kind is ActorKind.CAR or t.id == "van_small"]
    chosen = drawn_types(parkers, len(spots), rng)
    size_m = np.array([t.size_m for t in chosen]).reshape(-1, 3)
    centre_m = np.zeros((len(spots), 3))
    centre_m[:, :2] = spots[:, :2] + rng.normal(0, 0.08, (len(spots), 2))
    i, j = np.clip(columns.index_of(centre_m[:, :2]), 0, np.array(columns.shape) - 1).T
    centre_m[:, 2] = columns.ground_cm[i, j] / 100 + size_m[:, 2] / 2
    backwards = np.where(rng.random(len(spots)) < 0.1, np.pi, 0.0)
    return ActorTable(
        np.arange(1, len(spots) + 1, dtype=np.uint16),
        np.array([KIND_CODES[t.kind] for t in chosen], dtype=np.uint8),
        centre_m,
        spots[:, 2] + backwards + rng.normal(0, 0.02, len(spots)),
        size_m,
        np.zeros(len(spots)),
    )
