"""Where the vehicles of one frame may be in the other frames of a chunk.

The motion is constant speed along an arc, the simplest of a vehicle that steers (Schubert et al. 2008, *Comparison and
Evaluation of Advanced Motion Models for Vehicle Tracking*: constant turn rate and velocity), or braking where the way
is not free. How fast vehicles are, the last frames of the chunk before say; a single known frame says where they are,
where they face and which of them are in a lane, and their speeds are drawn.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float64
from scipy.ndimage import binary_dilation

from dyncity_models.data.clips import UNOBSERVED
from dyncity_models.data.latents import MOVER_FRAMES
from dyncity_models.hexplane import cell_centres, compose, invert, transform
from dyncity_models.memory import DriveMemory
from dyncity_models.vehicles import cells_of, in_ego
from dyncity_sim.domain.grid import EGO_LOWER_M, EGO_UPPER_M, FRAME_RATE_HZ, Grid
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.scene.actors.find import find_tracks

LANE_RING_COLUMNS = 2
LANE_SHARE = 0.95
"""A vehicle is in a lane when this share of the columns so near to it is road; a parked one has the kerb beside it."""

SAME_WAY_RAD = np.deg2rad(45.0)
"""Vehicles in a lane that face the ego's way to within this drive as fast as the ego."""

STANDING_SHARE = 0.3
SPEEDS_MPS = (4.0, 10.0)
"""Of the other vehicles in a lane: how many stand, and the speeds between which that of one that drives is drawn."""

CURVATURES_PER_M = (0.0, 0.02, -0.02, 0.04, -0.04, 0.08, -0.08)
"""Arcs that a vehicle may drive, the most usual first."""

GAP_M = 2.0
"""What a vehicle keeps free before it where it cannot go on."""

MOST_BRAKING_MPS2 = 8.0
"""Of an emergency stop on a dry road."""

STEP_M = 0.4
"""Distance of the places at which a way is looked at."""


@dataclass(frozen=True, eq=False)
class Forecast:
    """Vehicles of one frame and how they drive, each along an arc, at constant speed or braking; parked ones at 0 m/s.

    Attributes:
        frame: the one that is known; -1 for the last one before the chunk.
        planar: x, y, yaw of the ego in that frame, metres and radians in the world.
        cells: of each vehicle in the ego grid of that frame.
        poses: x, y, yaw of each in that ego frame.
        curvatures_per_m: of each one's arc, left positive.
        speeds_mps: of each in that frame.
        brakings_mps2: by which it loses speed from then on, until it stands.
        half_extent_m: of the grid.
    """

    frame: int
    planar: Float64[np.ndarray, " 3"]
    cells: Bool[np.ndarray, "N X Y Z"]
    poses: Float64[np.ndarray, "N 3"]
    curvatures_per_m: Float64[np.ndarray, " N"]
    speeds_mps: Float64[np.ndarray, " N"]
    brakings_mps2: Float64[np.ndarray, " N"]
    half_extent_m: float

    @property
    def leaving(self) -> Bool[np.ndarray, "X Y Z"]:
        """Cells of the frame that are free once their vehicle has driven on."""
        return np.asarray(self.cells[self.speeds_mps > 0].any(axis=0))

    def only(self, chosen: Bool[np.ndarray, " N"]) -> "Forecast":
        """Some of the vehicles."""
        return replace(
            self,
            cells=self.cells[chosen],
            poses=self.poses[chosen],
            curvatures_per_m=self.curvatures_per_m[chosen],
            speeds_mps=self.speeds_mps[chosen],
            brakings_mps2=self.brakings_mps2[chosen],
        )

    def rolled_m(self, seconds: Float64[np.ndarray, " F"]) -> Float64[np.ndarray, "N F"]:
        """How far each vehicle has come since the frame that is known; negative before it, where it did not brake."""
        speeds, brakings = self.speeds_mps[:, None], self.brakings_mps2[:, None]
        until_it_stands = np.divide(speeds, brakings, out=np.full_like(speeds, np.inf), where=brakings > 0)
        rolling = np.minimum(seconds, until_it_stands)
        return np.asarray(speeds * rolling - brakings * np.maximum(rolling, 0.0) ** 2 / 2)

    def seen_from(
        self, planar: Float64[np.ndarray, "F 3"], seconds: Float64[np.ndarray, " F"]
    ) -> Bool[np.ndarray, "F X Y Z"]:
        """Cells with vehicles in ego grids at other poses and times.

        Args:
            planar: x, y, yaw of the ego in the world.
            seconds: since the frame that is known; negative before it.
        """
        size = self.cells.shape[1]
        known_from_ego = compose(invert(torch.from_numpy(self.planar)), torch.from_numpy(planar))
        points = transform(known_from_ego[:, None, None], cell_centres(size, self.half_extent_m).double())
        seen = np.zeros((len(planar), *self.cells.shape[1:]), dtype=np.bool_)
        for cells, pose, curvature, rolled_m in zip(
            self.cells, self.poses, self.curvatures_per_m, self.rolled_m(seconds), strict=True
        ):
            there = torch.from_numpy(along_arc(pose, curvature, rolled_m))
            known_from_moved = compose(torch.from_numpy(pose).expand_as(there), invert(there))
            source = transform(known_from_moved[:, None, None], points).numpy()
            index = np.floor((source / (2 * self.half_extent_m) + 0.5) * size).astype(np.int64)
            inside = ((index >= 0) & (index < size)).all(axis=-1)
            x, y = np.moveaxis(index.clip(0, size - 1), -1, 0)
            seen |= cells[x, y] & inside[..., None]
        return seen


def forecast(
    region: OccupancySequence, frame: int, planar: Float64[np.ndarray, "T 3"], rng: np.random.Generator
) -> Forecast:
    """Draw how the vehicles of one frame drive.

    A vehicle beside a kerb stands. One in a lane that faces the ego's way drives at the ego's mean speed, so that
    it stands with the ego; of the others some stand, and the rest drive at drawn speeds. Each takes the least bent arc
    on which it stays on the road and keeps off vehicles that stand and off the ego's way, and drives as far on it as
    there is road.

    Args:
        region: holds the frame; its classes are those of CARLASC.
        frame: the one that is known.
        planar: x, y, yaw of the ego in each frame of the chunk, metres and radians in the world.
        rng: draws who stands and the speeds of the others.
    """
    shown, grid = region[frame : frame + 1], region.grid
    tracks = [track for track in find_tracks(shown) if track.kind is not ActorKind.PEDESTRIAN]
    ego = np.asarray(planar[frame])
    poses = np.array([in_ego(track, ego) for track in tracks]).reshape(-1, 3)
    cells = cells_of(tracks, poses, shown)
    span_s = float(region.times_us[-1] - region.times_us[0]) * 1e-6
    ego_mps = float(np.linalg.norm(np.diff(planar[:, :2], axis=0), axis=1).sum()) / span_s
    same_way = np.cos(poses[:, 2]) > np.cos(SAME_WAY_RAD)
    drawn_mps = np.where(rng.random(len(tracks)) < STANDING_SHARE, 0.0, rng.uniform(*SPEEDS_MPS, len(tracks)))
    road = (shown.known_labels(0) == region.taxonomy.index("road")).any(axis=-1)
    vehicles = np.asarray(cells.any(axis=(0, 3)))
    in_lane = np.array([_in_lane(np.asarray(one.any(axis=-1)), vehicles, road) for one in cells], dtype=np.bool_)
    wanted_mps = np.where(in_lane, np.where(same_way, ego_mps, drawn_mps), 0.0)

    left_s = float(region.times_us[-1] - region.times_us[frame]) * 1e-6
    sizes_m = np.array([track.size_m[:2] for track in tracks]).reshape(-1, 2)
    curvatures, reach_m = _ways(cells, poses, sizes_m, wanted_mps * left_s, road, ego, planar[frame:], grid)
    speeds_mps = reach_m / left_s if left_s > 0 else wanted_mps
    return Forecast(frame, ego, cells, poses, curvatures, speeds_mps, np.zeros(len(cells)), -grid.lower_m[0])


def onward(
    memory: DriveMemory, planar: Float64[np.ndarray, "T 3"], heights_m: Float64[np.ndarray, " T"], grid: Grid
) -> Forecast:
    """How the vehicles at the end of a chunk drive on in the next one: as fast as they were, and brake if they must.

    Args:
        memory: of the drive, as the chunk left it; its last frame is one frame period before the next chunk.
        planar: x, y, yaw of the ego in each frame of the next chunk, metres and radians in the world.
        heights_m: of the ego in each frame.
        grid: of the frames.
    """
    was = _as_they_were(memory, grid)
    cells, poses, ego, speeds_mps = was.cells, was.poses, was.planar, was.speeds_mps
    seen = memory.seen_from(ego[None], heights_m[:1], grid)[0]
    # Where nothing is known there may be road.
    road = (seen == CARLASC.index("road")).any(axis=-1) | (seen == UNOBSERVED).all(axis=-1)
    chunk_s = len(planar) / FRAME_RATE_HZ
    curvatures, reach_m = _ways(cells, poses, memory.motion[:, 3:5], speeds_mps * chunk_s, road, ego, planar, grid)
    return replace(was, curvatures_per_m=curvatures, brakings_mps2=_brakings_mps2(speeds_mps, reach_m, chunk_s))


def waiting(memory: DriveMemory, grid: Grid) -> Forecast:
    """Vehicles at the end of a chunk, standing, each as far as it covers what it did half a second before.

    Args:
        memory: of the drive, as the chunk left it.
        grid: of its frames.
    """
    was = _as_they_were(memory, grid)
    before_s = (min(MOVER_FRAMES) - max(MOVER_FRAMES)) / FRAME_RATE_HZ
    covered = was.cells & was.seen_from(was.planar[None], np.array([before_s]))
    return replace(was, cells=covered, speeds_mps=np.zeros(len(covered)))


def _as_they_were(memory: DriveMemory, grid: Grid) -> Forecast:
    """The vehicles at the end of a chunk, going straight on at the speeds that they had."""
    # What was unpacked is read-only, and torch wants to write.
    ego, motion = memory.movers_planar[0].copy(), memory.motion.copy()
    cells = memory.vehicles[None] == np.arange(1, len(motion) + 1)[:, None, None, None]
    none = np.zeros(len(motion))
    return Forecast(-1, ego, cells, motion[:, :3], none, motion[:, 5], none, -grid.lower_m[0])


def _ways(
    cells: Bool[np.ndarray, "N X Y Z"],
    poses: Float64[np.ndarray, "N 3"],
    sizes_m: Float64[np.ndarray, "N 2"],
    wanted_m: Float64[np.ndarray, " N"],
    road: Bool[np.ndarray, "X Y"],
    ego: Float64[np.ndarray, " 3"],
    planar: Float64[np.ndarray, "F 3"],
    grid: Grid,
) -> tuple[Float64[np.ndarray, " N"], Float64[np.ndarray, " N"]]:
    """Curvatures of the ways of vehicles that want to come some metres far, and how far each is free."""
    free = (road | cells.any(axis=(0, 3))) & ~cells[wanted_m == 0].any(axis=(0, 3))
    ego_way = _ego_way(ego, planar, grid)
    same_way = np.cos(poses[:, 2]) > np.cos(SAME_WAY_RAD)
    curvatures, reach_m = np.zeros((2, len(cells)))
    # Who cannot drive is in the way of those behind: the ego's way is looked at last, from its front to its rear.
    for n in sorted(np.flatnonzero(wanted_m), key=lambda one: (same_way[one], -poses[one, 0])):
        way = free if same_way[n] else free & ~ego_way
        curvatures[n], reach_m[n] = _best_arc(poses[n], sizes_m[n], way, grid, wanted_m[n])
        if reach_m[n] == 0:
            free &= ~cells[n].any(axis=-1)
    return curvatures, reach_m


def _brakings_mps2(
    speeds_mps: Float64[np.ndarray, " N"], reach_m: Float64[np.ndarray, " N"], left_s: float
) -> Float64[np.ndarray, " N"]:
    """The constant decelerations by which vehicles come no farther in some time, if brakes can do that."""
    excess_m = speeds_mps * left_s - reach_m
    stop = np.divide(speeds_mps**2, 2 * reach_m, out=np.full_like(reach_m, np.inf), where=reach_m > 0)
    slow_down = 2 * excess_m / left_s**2
    needed = np.where(2 * reach_m <= speeds_mps * left_s, stop, slow_down)
    return np.where(excess_m > 1e-6, np.minimum(needed, MOST_BRAKING_MPS2), 0.0)


def along_arc(
    pose: Float64[np.ndarray, " 3"], curvature_per_m: float, rolled_m: Float64[np.ndarray, " F"]
) -> Float64[np.ndarray, "F 3"]:
    """x, y, yaw after some metres along an arc that begins at a pose."""
    half = curvature_per_m * rolled_m / 2
    # The chord of an arc of this length; numpy's sinc has pi in it.
    chord_m = rolled_m * np.sinc(half / np.pi)
    return np.column_stack(
        [pose[0] + chord_m * np.cos(pose[2] + half), pose[1] + chord_m * np.sin(pose[2] + half), pose[2] + 2 * half]
    )


def _in_lane(
    columns: Bool[np.ndarray, "X Y"], vehicles: Bool[np.ndarray, "X Y"], road: Bool[np.ndarray, "X Y"]
) -> bool:
    around = binary_dilation(columns, iterations=LANE_RING_COLUMNS) & ~vehicles
    return bool(around.any() and road[around].mean() >= LANE_SHARE)


def _ego_way(ego: Float64[np.ndarray, " 3"], planar: Float64[np.ndarray, "F 3"], grid: Grid) -> Bool[np.ndarray, "X Y"]:
    """Columns that the ego's body passes over."""
    points = cell_centres(grid.shape[0], -grid.lower_m[0]).double()
    ego_from_world = invert(torch.from_numpy(ego))
    passed = np.zeros(grid.shape[:2], dtype=np.bool_)
    for pose in compose(ego_from_world.expand(len(planar), 3), torch.from_numpy(np.ascontiguousarray(planar))):
        local = transform(invert(pose)[None, None], points).numpy()
        passed |= within_ego(local)
    return passed


def within_ego(points_m: Float64[np.ndarray, "*P 2"]) -> Bool[np.ndarray, "*P"]:
    """Whether points of the ego frame lie where the ego's own body is."""
    return np.asarray(((points_m > EGO_LOWER_M[:2]) & (points_m < EGO_UPPER_M[:2])).all(axis=-1))


def _best_arc(
    pose: Float64[np.ndarray, " 3"],
    size_m: Float64[np.ndarray, " 2"],
    free: Bool[np.ndarray, "X Y"],
    grid: Grid,
    wanted_m: float,
) -> tuple[float, float]:
    """Curvature of the least bent of the arcs that reach farthest, and how far, at most what is wanted."""
    front_m, half_width_m = size_m[0] / 2, size_m[1] / 2
    steps_m = np.arange(front_m + STEP_M, front_m + wanted_m + GAP_M, STEP_M)
    reaches = []
    for curvature in CURVATURES_PER_M:
        x, y, yaw = along_arc(pose, curvature, steps_m).T
        aside = np.array([-half_width_m, 0.0, half_width_m])[:, None]
        points = np.stack([x - aside * np.sin(yaw), y + aside * np.cos(yaw), np.zeros((3, len(x)))], axis=-1)
        index = grid.indices(points)
        inside = grid.contains(index)
        # Nothing is known outside of the grid, and a vehicle may well drive out of it.
        blocked = inside & ~free[tuple(np.moveaxis(index[..., :2].clip(0, np.array(free.shape) - 1), -1, 0))]
        first = blocked.any(axis=0)
        clear_m = steps_m[first.argmax()] - front_m - GAP_M if first.any() else wanted_m
        reaches.append(min(max(clear_m, 0.0), wanted_m))
    best = int(np.argmax(np.array(reaches) - 1e-6 * np.arange(len(reaches))))
    return CURVATURES_PER_M[best], float(reaches[best])
