"""The null backend: a flat street drawn by arithmetic, with boxes for vehicles. It learned nothing.

It keeps every promise of a Backend (seeds, continuations, checkpoints, exact shapes) and needs no
weights and no torch, so that servers, clients and simulators can be tried and tested anywhere.
"""

import hashlib
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from scipy import ndimage
from scipy.spatial import cKDTree

from dyncity_sim.domain.conditions import Command, Conditions, Continuation, EgoPlan, SamplingOptions
from dyncity_sim.domain.frames import Pose, Poses, inverse, planar_from_poses, poses_from_planar, transform_points
from dyncity_sim.domain.generation import GeneratedChunk, ModelInfo, Timings
from dyncity_sim.domain.grid import CARLASC_GRID, FRAME_RATE_HZ, FRAMES_PER_CHUNK, LIDAR_HEIGHT_M
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.engine.backend import Checkpoint
from dyncity_sim.errors import ConfigError, InvalidInputError

MODEL_ID = "null-2"

STEP_US = 1_000_000 // FRAME_RATE_HZ
STEP_S = 1.0 / FRAME_RATE_HZ

ROAD_HALF_WIDTH_M = 4.0
SIDEWALK_HALF_WIDTH_M = 6.5
BUILDING_DISTANCE_M = 14.0
BUILDING_CELLS_HIGH = 7

VEHICLES = 8
VEHICLE_SIZE_M = (4.5, 1.9, 1.5)
VEHICLE_CLEARANCE_M = 7.0
FASTEST_VEHICLE_MPS = 12.0
CRUISE_MPS = 8.0
TURN_RATE_RADPS = 0.35

_MAGIC = b"DCN2"
_HEADER = np.dtype([("pose", "<f8", (4, 4)), ("time_us", "<i8")])
_VEHICLE = np.dtype("<f8")


@dataclass(frozen=True, eq=False)
class _Street:
    """What goes on from chunk to chunk.

    Attributes:
        pose_world_from_ego: of the last frame.
        time_us: of the last frame.
        vehicles: x, y, yaw, speed of each vehicle in the world frame at that time, ``(N, 4)``.
    """

    pose_world_from_ego: Pose
    time_us: int
    vehicles: Float[np.ndarray, "N 4"]

    def to_bytes(self) -> bytes:
        header = np.array((self.pose_world_from_ego, self.time_us), dtype=_HEADER)
        body = header.tobytes() + self.vehicles.astype(_VEHICLE).tobytes()
        return _MAGIC + hashlib.blake2s(body, digest_size=8).digest() + body

    @classmethod
    def from_bytes(cls, payload: bytes) -> "_Street":
        digest, body = payload[4:12], payload[12:]
        whole = len(body) >= _HEADER.itemsize and (len(body) - _HEADER.itemsize) % (4 * _VEHICLE.itemsize) == 0
        if payload[:4] != _MAGIC or hashlib.blake2s(body, digest_size=8).digest() != digest or not whole:
            raise InvalidInputError(
                "continuation.payload", f"{len(payload)} damaged bytes", f"a payload that {MODEL_ID} made"
            )
        header = np.frombuffer(body, dtype=_HEADER, count=1)[0]
        vehicles = np.frombuffer(body, dtype=_VEHICLE, offset=_HEADER.itemsize).reshape(-1, 4)
        return cls(header["pose"], int(header["time_us"]), vehicles)


class NullBackend:
    """Draws the street along the ego plan; vehicles start where the seed puts them and drive straight on.

    One step pushes vehicles apart that stand too close, so ``steps`` has an effect;
    ``guidance_scale`` has none. A command counts only where there is no plan. A known region is drawn over the street.
    """

    info = ModelInfo(
        model_id=MODEL_ID,
        family="null",
        grid=CARLASC_GRID,
        taxonomy=CARLASC,
        frames_per_chunk=FRAMES_PER_CHUNK,
        rate_hz=float(FRAME_RATE_HZ),
        conditions=("known_region", "continuation", "plan", "command"),
        samplers=("relaxation",),
        default_steps=8,
    )

    def warm_up(self) -> None:
        """Draw one chunk."""
        self.generate(Conditions(), SamplingOptions(seed=0), lambda _: None)

    def generate(self, conditions: Conditions, options: SamplingOptions, checkpoint: Checkpoint) -> GeneratedChunk:
        """Draw one chunk."""
        assert options.seed is not None
        began_s = time.monotonic()
        before = None if conditions.continuation is None else _Street.from_bytes(conditions.continuation.payload)
        region = conditions.known_region
        plan = conditions.plan or (
            EgoPlan(region.poses_world_from_ego, region.times_us)
            if region is not None
            else _plan_of_command(conditions.command, before)
        )
        path_xy = _extended_path(plan.poses_world_from_ego)
        if before is None:
            vehicles = _scattered(path_xy, np.random.default_rng(options.seed))
            for step in range(options.steps or self.info.default_steps):
                checkpoint(step)
                vehicles = _pushed_apart(vehicles)
            elapsed_s = 0.0
        else:
            checkpoint(0)
            vehicles = before.vehicles
            elapsed_s = (int(plan.times_us[0]) - before.time_us) * 1e-6
        sampled_s = time.monotonic()

        tree = cKDTree(path_xy)
        times_s = elapsed_s + (plan.times_us - plan.times_us[0]) * 1e-6
        labels = np.stack(
            [
                _drawn(pose, tree, _moved(vehicles, float(time_s)))
                for pose, time_s in zip(plan.poses_world_from_ego, times_s, strict=True)
            ]
        )
        if region is not None and region.observed is not None:
            labels = np.where(region.observed, region.labels, labels)
        after = _Street(plan.poses_world_from_ego[-1], int(plan.times_us[-1]), _moved(vehicles, float(times_s[-1])))
        return GeneratedChunk(
            OccupancySequence(labels, plan.poses_world_from_ego, plan.times_us, self.info.grid, self.info.taxonomy),
            Continuation(MODEL_ID, after.to_bytes()),
            options.seed,
            MODEL_ID,
            Timings(sampling_s=sampled_s - began_s, decoding_s=time.monotonic() - sampled_s),
        )

    def encode(self, occupancy: OccupancySequence) -> Continuation:
        """Take each connected blob of vehicle in the last frame for a vehicle that stands."""
        pose = occupancy.poses_world_from_ego[-1]
        is_vehicle = occupancy.labels[-1] == CARLASC.index("vehicle")
        if occupancy.observed is not None:
            is_vehicle &= occupancy.observed[-1]
        blobs, count = ndimage.label(is_vehicle)
        centres = np.reshape(ndimage.center_of_mass(is_vehicle, blobs, np.arange(1, count + 1)), (-1, 3))
        points_ego = np.asarray(occupancy.grid.lower_m) + (centres + 0.5) * np.asarray(occupancy.grid.voxel_size_m)
        points_world = transform_points(pose, points_ego)
        yaw = np.full(count, planar_from_poses(pose)[2])
        vehicles = np.column_stack([points_world[:, :2], yaw, np.zeros(count)])
        return Continuation(MODEL_ID, _Street(pose, int(occupancy.times_us[-1]), vehicles).to_bytes())


def load(weights: Path | None, options: Sequence[str] = ()) -> NullBackend:
    """The null backend; it has neither weights nor options.

    Raises:
        InvalidInputError: weights are named.
        ConfigError: an option is given.
    """
    if options:
        raise ConfigError("options", " ".join(options), "none with the null backend")
    if weights is not None:
        raise InvalidInputError("weights", str(weights), "none with the null backend")
    return NullBackend()


def _plan_of_command(command: Command | None, before: _Street | None) -> EgoPlan:
    """Stand, or drive on at CRUISE_MPS straight ahead or in an arc, from where the chunk before ended."""
    start = np.eye(4) if before is None else before.pose_world_from_ego
    start_us = 0 if before is None else before.time_us + STEP_US
    moving = command not in (None, Command.STATIC)
    turn = {Command.LEFT: TURN_RATE_RADPS, Command.RIGHT: -TURN_RATE_RADPS}.get(command, 0.0) if command else 0.0
    first = 0 if before is None else 1
    steps = np.arange(first, first + FRAMES_PER_CHUNK)
    yaw = turn * STEP_S * steps
    step_m = CRUISE_MPS * STEP_S * moving * (steps > 0)
    xy_yaw = np.column_stack([np.cumsum(step_m * np.cos(yaw)), np.cumsum(step_m * np.sin(yaw)), yaw])
    return EgoPlan(start @ poses_from_planar(xy_yaw), start_us + STEP_US * np.arange(FRAMES_PER_CHUNK))


def _extended_path(poses: Poses) -> Float[np.ndarray, "N 2"]:
    """Points of the ego's path, straight on for 60 m at both ends, at most a metre apart."""
    planar = planar_from_poses(poses)
    ahead = np.arange(1.0, 60.0)[:, None]
    headings = np.column_stack([np.cos(planar[:, 2]), np.sin(planar[:, 2])])
    between = [np.linspace(a, b, int(np.ceil(np.linalg.norm(b - a))) + 1) for a, b in itertools.pairwise(planar[:, :2])]
    behind = planar[0, :2] - ahead[::-1] * headings[0]
    return np.concatenate([behind, *between, planar[-1, :2] + ahead * headings[-1]])


def _scattered(path_xy: Float[np.ndarray, "N 2"], rng: np.random.Generator) -> Float[np.ndarray, "N 4"]:
    """Vehicles in both lanes along the path: x, y, yaw, speed."""
    at = rng.integers(0, len(path_xy) - 1, VEHICLES)
    along = path_xy[np.minimum(at + 2, len(path_xy) - 1)] - path_xy[np.maximum(at - 2, 0)]
    with_us = rng.random(VEHICLES) < 0.5
    yaw = np.arctan2(along[:, 1], along[:, 0]) + np.where(with_us, 0.0, np.pi)
    # Two vehicles on one spot have no direction to be pushed apart in.
    ahead_m = rng.uniform(-0.5, 0.5, VEHICLES)
    heading = np.column_stack([np.cos(yaw), np.sin(yaw)])
    # Right-hand traffic: a lane's centre lies to the right of its own direction.
    right = np.column_stack([np.sin(yaw), -np.cos(yaw)])
    lane_xy = (
        path_xy[at] + np.where(with_us, 0.0, ROAD_HALF_WIDTH_M * 0.8)[:, None] * right + ahead_m[:, None] * heading
    )
    return np.column_stack([lane_xy, yaw, rng.uniform(0.0, FASTEST_VEHICLE_MPS, VEHICLES)])


def _pushed_apart(vehicles: Float[np.ndarray, "N 4"]) -> Float[np.ndarray, "N 4"]:
    """Each vehicle moved along its own axis, away from those nearer than the clearance."""
    offset = vehicles[:, None, :2] - vehicles[None, :, :2]
    distance = np.linalg.norm(offset, axis=-1)
    heading = np.column_stack([np.cos(vehicles[:, 2]), np.sin(vehicles[:, 2])])
    ahead = np.sign(np.einsum("ijk,ik->ij", offset, heading))
    push = np.where(distance < VEHICLE_CLEARANCE_M, ahead * (VEHICLE_CLEARANCE_M - distance) / 2, 0.0)
    np.fill_diagonal(push, 0.0)
    pushed = vehicles.copy()
    pushed[:, :2] += push.sum(axis=1)[:, None] * heading
    return pushed


def _moved(vehicles: Float[np.ndarray, "N 4"], time_s: float) -> Float[np.ndarray, "N 4"]:
    """Vehicles after ``time_s`` of driving straight on."""
    moved = vehicles.copy()
    moved[:, 0] += vehicles[:, 3] * time_s * np.cos(vehicles[:, 2])
    moved[:, 1] += vehicles[:, 3] * time_s * np.sin(vehicles[:, 2])
    return moved


def _drawn(pose_world_from_ego: Pose, path: cKDTree, vehicles: Float[np.ndarray, "N 4"]) -> UInt8[np.ndarray, "X Y Z"]:
    """One frame in CARLASC classes on CARLASC_GRID; the street lies LIDAR_HEIGHT_M under the ego."""
    grid = CARLASC_GRID
    x, y = np.meshgrid(grid.centres(0), grid.centres(1), indexing="ij")
    points_ego = np.stack([x, y, np.full_like(x, -LIDAR_HEIGHT_M)], axis=-1)
    points_world = transform_points(pose_world_from_ego, points_ego.reshape(-1, 3))[:, :2]
    distance = path.query(points_world)[0].reshape(x.shape)

    ground = int(grid.indices(np.array([0.0, 0.0, -LIDAR_HEIGHT_M]))[2])
    labels = np.zeros(grid.shape, dtype=np.uint8)
    labels[:, :, ground] = np.select(
        [distance < ROAD_HALF_WIDTH_M, distance < SIDEWALK_HALF_WIDTH_M],
        [CARLASC.index("road"), CARLASC.index("sidewalk")],
        CARLASC.index("ground"),
    )
    labels[distance > BUILDING_DISTANCE_M, :BUILDING_CELLS_HIGH] = CARLASC.index("building")

    poses = poses_from_planar(vehicles[:, :3])
    length, width, height = VEHICLE_SIZE_M
    top = int(grid.indices(np.array([0.0, 0.0, height - LIDAR_HEIGHT_M]))[2])
    for pose_actor_from_world in inverse(poses):
        local = transform_points(pose_actor_from_world, np.column_stack([points_world, np.zeros(len(points_world))]))
        inside = (np.abs(local[:, 0]) < length / 2) & (np.abs(local[:, 1]) < width / 2)
        labels[inside.reshape(x.shape), ground + 1 : top + 1] = CARLASC.index("vehicle")
    return labels
