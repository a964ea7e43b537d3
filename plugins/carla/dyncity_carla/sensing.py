"""What a rig of semantic LiDARs and the actors' boxes say of the cells around the ego: pure, for recording and driving.

CarlaSC (MotionSC, Wilson et al. 2022) comes from the ego's LiDAR and others around it, uniform in [-20, 20]^2 m and 1
to 5 m above the road, all carried along by the car. A cell counts one for each return in it and one for each sample of
free space, taken every 1.5 m along a ray before its return; cells without a count are unobserved. Where cells were
observed, their class is that of most returns, or that of the actor whose box holds their centre.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8, UInt16, UInt32
from scipy.spatial import cKDTree

from dyncity_carla.frames import mirrored_points, pose_from_carla
from dyncity_carla.ports import LidarSpec, LidarSweep, RoadMap
from dyncity_sim.domain.frames import Pose, inverse, transform_points
from dyncity_sim.domain.grid import LIDAR_HEIGHT_M, Grid
from dyncity_sim.domain.recording import ActorKind, ActorState, RecordedFrame
from dyncity_sim.domain.taxonomy import CARLASC_RAW
from dyncity_sim.errors import SimulatorError

TAG_CLASSES = (
    "other",
    "road",
    "sidewalk",
    "building",
    "wall",
    "fence",
    "pole",
    "traffic_light",
    "traffic_sign",
    "vegetation",
    "terrain",
    "sky",
    "pedestrian",
    "pedestrian",
    "vehicle",
    "vehicle",
    "vehicle",
    "vehicle",
    "vehicle",
    "vehicle",
    "static",
    "dynamic",
    "other",
    "water",
    "road_line",
    "ground",
    "bridge",
    "rail_track",
    "guard_rail",
)
"""CarlaSC's raw class of each semantic tag of CARLA 0.9.16 (``carla.CityObjectLabel``); riders are pedestrians."""

LABEL_OF_TAG: UInt8[np.ndarray, "29"] = np.array([CARLASC_RAW.index(name) for name in TAG_CLASSES], dtype=np.uint8)
LABEL_OF_TAG.flags.writeable = False

REACH_M = 20.0
HEIGHTS_M = (1.0, 5.0)
FREE_STEP_M = 1.5
MEMORY_FRAMES = 20
"""Static returns of so many frames fill cells that nobody sees now."""

SMALLEST_HALF_M = 0.29
"""Half a cell's diagonal, rounded up: a box of at least this half width holds a cell's centre wherever it stands."""

ROAD_SPACING_M = 2.0
ROAD_PATCH = np.array([(x, y, 0.0) for x in np.linspace(-1.0, 1.0, 11) for y in np.linspace(-0.5, 0.5, 13)])
"""Points of a lane around a waypoint: metres along it, and widths of the lane across it."""
ROAD = CARLASC_RAW.index("road")
PEDESTRIAN, VEHICLE = CARLASC_RAW.index("pedestrian"), CARLASC_RAW.index("vehicle")

Points = Float64[np.ndarray, "N 3"]


def draw_rig(rng: np.random.Generator, lidars: int, points_per_sweep: int) -> tuple[LidarSpec, ...]:
    """A rig placed as CarlaSC's are; positions are right-handed in the ego frame, the first one at its origin."""
    specs = []
    for number in range(lidars):
        x_m, y_m = rng.uniform(-REACH_M, REACH_M, 2)
        height_m = rng.uniform(*HEIGHTS_M)
        position = (0.0, 0.0, 0.0) if number == 0 else (float(x_m), float(y_m), float(height_m) - LIDAR_HEIGHT_M)
        specs.append(LidarSpec(position, points_per_sweep=points_per_sweep))
    return tuple(specs)


class RoadSurface:
    """Points all over the driving lanes of a map, made where they are looked up: maps can be thousands of lanes large.

    Args:
        roads: the map.
    """

    def __init__(self, roads: RoadMap) -> None:
        waypoints = roads.waypoints(ROAD_SPACING_M)
        self._poses = np.stack([waypoint.pose_world_from_lane for waypoint in waypoints])
        self._widths_m = np.array([waypoint.width_m for waypoint in waypoints])
        self._tree = cKDTree(self._poses[:, :2, 3])

    def around(self, xy_m: Float64[np.ndarray, " 2"], radius_m: float) -> Points:
        """The points within a distance."""
        reach_m = float(np.hypot(ROAD_PATCH[:, 0].max(), self._widths_m.max() / 2))
        near = self._tree.query_ball_point(xy_m, radius_m + reach_m)
        patches = np.tile(ROAD_PATCH, (len(near), 1, 1))
        patches[..., 1] *= self._widths_m[near, None]
        points_m = transform_points(self._poses[near], patches).reshape(-1, 3)
        return points_m[np.hypot(*(points_m[:, :2] - xy_m).T) <= radius_m]


class Observer:
    """Turns the measurements of consecutive frames into recorded frames.

    Args:
        grid: where cells lie.
        road: the driving lanes, which are known without being seen; or None.
    """

    def __init__(self, grid: Grid, road: RoadSurface | None = None) -> None:
        self._grid, self._road = grid, road
        self._memory: deque[tuple[Points, UInt8[np.ndarray, " N"]]] = deque(maxlen=MEMORY_FRAMES)
        self._static = np.ones(len(CARLASC_RAW), dtype=np.bool_)
        self._static[list(CARLASC_RAW.moving_labels)] = False

    def frame(
        self,
        sweeps: Sequence[LidarSweep],
        actors: Sequence[ActorState],
        numbers: Mapping[int, int],
        ego_id: int,
        pose_world_from_ego: Pose,
        time_us: int,
    ) -> RecordedFrame:
        """What is known of the cells around the ego.

        Args:
            sweeps: one of each LiDAR, of the same tick.
            actors: all whose box may reach into the grid, but the ego.
            numbers: our id of each of the server's actors.
            ego_id: the server's id of the ego, whose own returns do not count.
            pose_world_from_ego: where the grid stands.
            time_us: time of the tick.
        """
        grid, classes = self._grid, len(CARLASC_RAW)
        pose_ego_from_world = inverse(pose_world_from_ego)
        returns = _returns_of(sweeps, ego_id, pose_ego_from_world)
        cells, inside = cells_of(returns.points_m, grid)
        found = returns.labels[inside]
        votes = np.bincount(cells * classes + found, minlength=grid.cells * classes).reshape(grid.cells, classes)
        returned = np.bincount(cells, minlength=grid.cells)
        counts = (returned + _free_samples(returns, grid)).astype(np.float32)
        labels = np.zeros(grid.shape, dtype=np.uint8)
        flat = labels.reshape(-1)
        self._recall(flat, pose_ego_from_world, counts == 0)
        flat[counts > 0] = 0
        flat[returned > 0] = votes[returned > 0].argmax(axis=1)
        ours = _numbered(returns.actor_ids[inside], numbers)
        owners = np.zeros(grid.cells, dtype=np.uint16)
        owners[cells[ours > 0]] = ours[ours > 0]
        owners[~np.isin(flat, (PEDESTRIAN, VEHICLE))] = 0
        instances = owners.reshape(grid.shape)
        kept = paint_boxes(labels, instances, actors, pose_world_from_ego, grid)
        static = inside & self._static[returns.labels]
        self._memory.append((transform_points(pose_world_from_ego, returns.points_m[static]), returns.labels[static]))
        return RecordedFrame(labels, counts.reshape(grid.shape), instances, kept, pose_world_from_ego, time_us, grid)

    def _recall(self, flat: UInt8[np.ndarray, " C"], pose_ego_from_world: Pose, unseen: Bool[np.ndarray, " C"]) -> None:
        """Fill what nobody sees now with the map's roads and with what was seen before."""
        grid = self._grid
        known = list(self._memory)
        if self._road is not None:
            ego_m = inverse(pose_ego_from_world)[:2, 3]
            road_m = self._road.around(ego_m, float(np.hypot(*grid.upper_m[:2])))
            known.insert(0, (road_m, np.full(len(road_m), ROAD, dtype=np.uint8)))
        for points_m, found in known:
            cells, inside = cells_of(transform_points(pose_ego_from_world, points_m), grid)
            hidden = unseen[cells]
            flat[cells[hidden]] = found[inside][hidden]


def labels_of_tags(tags: np.ndarray) -> UInt8[np.ndarray, " N"]:
    """CarlaSC's raw class of each semantic tag.

    Raises:
        SimulatorError: a tag that CARLA 0.9.16 does not have.
    """
    highest = int(tags.max(initial=0))
    if highest >= len(LABEL_OF_TAG):
        raise SimulatorError(
            f"A semantic LiDAR returned tag {highest}; CARLA 0.9.16 has tags 0 to {len(LABEL_OF_TAG) - 1}. Is the "
            "server of another version?"
        )
    return LABEL_OF_TAG[tags]


def cells_of(points_ego_m: Points, grid: Grid) -> tuple[Int64[np.ndarray, " M"], Bool[np.ndarray, " N"]]:
    """Flat index of the cell of each point inside of the grid, and which points those are."""
    cells, inside = np.zeros(len(points_ego_m), dtype=np.int64), np.ones(len(points_ego_m), dtype=np.bool_)
    # Axis by axis: reductions over so short an axis take many times as long.
    for axis, count in enumerate(grid.shape):
        index = np.floor((points_ego_m[:, axis] - grid.lower_m[axis]) / grid.voxel_size_m[axis]).astype(np.int64)
        inside &= (index >= 0) & (index < count)
        cells = cells * count + index
    return cells[inside], inside


def paint_boxes(
    labels: UInt8[np.ndarray, "X Y Z"],
    instances: UInt16[np.ndarray, "X Y Z"],
    actors: Sequence[ActorState],
    pose_world_from_ego: Pose,
    grid: Grid,
) -> tuple[ActorState, ...]:
    """Give the cells whose centres lie in actors' boxes their class and id; returns the actors that reach into the
    grid, sorted by id."""
    kept = []
    pose_ego_from_world = inverse(pose_world_from_ego)
    for actor in sorted(actors, key=lambda actor: actor.id):
        pose_ego_from_actor = pose_ego_from_world @ actor.pose_world_from_actor
        halves = np.array(actor.size_m) / 2
        reach = np.abs(pose_ego_from_actor[:3, :3]) @ halves
        lower = np.maximum(grid.indices(pose_ego_from_actor[:3, 3] - reach), 0)
        upper = np.minimum(grid.indices(pose_ego_from_actor[:3, 3] + reach) + 1, grid.shape)
        if (lower >= upper).any():
            continue
        kept.append(actor)
        window = tuple(slice(int(lo), int(hi)) for lo, hi in zip(lower, upper, strict=True))
        centres = np.stack(
            np.meshgrid(*(grid.centres(axis)[window[axis]] for axis in range(3)), indexing="ij"), axis=-1
        )
        local = transform_points(inverse(pose_ego_from_actor), centres.reshape(-1, 3)).reshape(centres.shape)
        halves[:2] = np.maximum(halves[:2], SMALLEST_HALF_M)
        inside = (np.abs(local) <= halves).all(axis=-1)
        labels[window][inside] = PEDESTRIAN if actor.kind is ActorKind.PEDESTRIAN else VEHICLE
        instances[window][inside] = actor.id
    return tuple(kept)


@dataclass(frozen=True, eq=False)
class _Returns:
    """What all LiDARs of a rig got back in one tick, in the ego frame.

    Attributes:
        sensors_m, points_m: ``(N, 3)`` ends of each ray.
        labels: ``(N,)`` raw classes of what was hit.
        actor_ids: ``(N,)`` the server's actor that was hit, or 0.
    """

    sensors_m: Points
    points_m: Points
    labels: UInt8[np.ndarray, " N"]
    actor_ids: UInt32[np.ndarray, " N"]


def _returns_of(sweeps: Sequence[LidarSweep], ego_id: int, pose_ego_from_world: Pose) -> _Returns:
    """The returns of all but the ego's own body."""
    sensors, points = [np.zeros((0, 3))], [np.zeros((0, 3))]
    tags, actor_ids = [np.zeros(0, dtype=np.uint32)], [np.zeros(0, dtype=np.uint32)]
    for sweep in sweeps:
        other = sweep.actor_ids != ego_id
        pose_ego_from_sensor = pose_ego_from_world @ pose_from_carla(sweep.sensor)
        hits = transform_points(pose_ego_from_sensor, mirrored_points(sweep.points_m[other].astype(np.float64)))
        sensors.append(np.broadcast_to(pose_ego_from_sensor[:3, 3], hits.shape))
        points.append(hits)
        tags.append(sweep.tags[other])
        actor_ids.append(sweep.actor_ids[other])
    labels = labels_of_tags(np.concatenate(tags))
    return _Returns(np.concatenate(sensors), np.concatenate(points), labels, np.concatenate(actor_ids))


def _free_samples(returns: _Returns, grid: Grid) -> Int64[np.ndarray, " C"]:
    """How many samples of the free space before returns lie in each cell, FREE_STEP_M apart from the sensor on."""
    sensors_m = np.ascontiguousarray(returns.sensors_m.T)
    rays = returns.points_m.T - sensors_m
    ranges = np.linalg.norm(rays, axis=0)
    rays /= np.maximum(ranges, 1e-9)
    samples = np.zeros(grid.cells, dtype=np.int64)
    distance_m = FREE_STEP_M
    while (going := ranges > distance_m + FREE_STEP_M / 2).any():
        sensors_m, rays, ranges = sensors_m[:, going], rays[:, going], ranges[going]
        samples += np.bincount(cells_of((sensors_m + distance_m * rays).T, grid)[0], minlength=grid.cells)
        distance_m += FREE_STEP_M
    return samples


def _numbered(actor_ids: UInt32[np.ndarray, " N"], numbers: Mapping[int, int]) -> UInt16[np.ndarray, " N"]:
    """Our id of each of the server's actors, 0 where there is none."""
    theirs, places = np.unique(actor_ids, return_inverse=True)
    return np.array([numbers.get(int(actor), 0) for actor in theirs], dtype=np.uint16)[places]
