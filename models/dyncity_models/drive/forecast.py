"""Where the vehicles and pedestrians of one frame may be in the other frames of a chunk.

They go on at constant speed, vehicles along an arc, and brake where the way is not free. How fast they are, the last
frames of the chunk before say; a single known frame says where vehicles are, where they face and which of them are in a
lane, and their speeds are drawn.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from scipy.ndimage import binary_dilation

from dyncity_models.data.clips import UNOBSERVED
from dyncity_models.data.latents import MOVER_FRAMES
from dyncity_models.drive.memory import DriveMemory
from dyncity_models.drive.road_users import cells_of, in_ego
from dyncity_models.drive.ways import SAME_WAY_RAD, along_arc, brakings_mps2, passed_by_ego, walked_m, ways_driven
from dyncity_models.hexplane import cell_centres, compose, invert, transform
from dyncity_sim.domain.grid import FRAME_RATE_HZ, Grid
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.scene.actors.find import find_tracks

LANE_RING_COLUMNS = 2
LANE_SHARE = 0.95
"""A vehicle is in a lane when this share of the columns so near to it is road; a parked one has the kerb beside it."""

STANDING_SHARE = 0.3
SPEEDS_MPS = (4.0, 10.0)
"""Of the other vehicles in a lane: how many stand, and the speeds between which that of one that drives is drawn."""

PASSABLE = tuple(CARLASC.index(name) for name in ("free", "road", "sidewalk", "ground"))
HEADROOM_M = 2.0
"""Pedestrians walk where nothing else is known within this height of the lower side of the grid."""


@dataclass(frozen=True, eq=False)
class Forecast:
    """Vehicles and pedestrians of one frame and how they go on, at constant speed or braking; who stands, at 0 m/s.

    Attributes:
        frame: the one that is known; -1 for the last one before the chunk.
        planar: x, y, yaw of the ego in that frame, metres and radians in the world.
        cells: of each in the ego grid of that frame.
        poses: x, y, yaw of each in that ego frame.
        curvatures_per_m: of each one's arc, left positive.
        speeds_mps: of each in that frame.
        brakings_mps2: by which it loses speed from then on, until it stands.
        on_foot: which of them are pedestrians.
        half_extent_m: of the grid.
    """

    frame: int
    planar: Float64[np.ndarray, " 3"]
    cells: Bool[np.ndarray, "N X Y Z"]
    poses: Float64[np.ndarray, "N 3"]
    curvatures_per_m: Float64[np.ndarray, " N"]
    speeds_mps: Float64[np.ndarray, " N"]
    brakings_mps2: Float64[np.ndarray, " N"]
    on_foot: Bool[np.ndarray, " N"]
    half_extent_m: float

    @property
    def leaving(self) -> Bool[np.ndarray, "X Y Z"]:
        """Cells of the frame that are free once who was there has gone on."""
        return np.asarray(self.cells[self.speeds_mps > 0].any(axis=0))

    def only(self, chosen: Bool[np.ndarray, " N"]) -> "Forecast":
        """Some of them."""
        return replace(
            self,
            cells=self.cells[chosen],
            poses=self.poses[chosen],
            curvatures_per_m=self.curvatures_per_m[chosen],
            speeds_mps=self.speeds_mps[chosen],
            brakings_mps2=self.brakings_mps2[chosen],
            on_foot=self.on_foot[chosen],
        )

    def rolled_m(self, seconds: Float64[np.ndarray, " F"]) -> Float64[np.ndarray, "N F"]:
        """How far each has come since the frame that is known; negative before it, where it did not brake."""
        speeds, brakings = self.speeds_mps[:, None], self.brakings_mps2[:, None]
        until_it_stands = np.divide(speeds, brakings, out=np.full_like(speeds, np.inf), where=brakings > 0)
        rolling = np.minimum(seconds, until_it_stands)
        return np.asarray(speeds * rolling - brakings * np.maximum(rolling, 0.0) ** 2 / 2)

    def seen_from(
        self, planar: Float64[np.ndarray, "F 3"], seconds: Float64[np.ndarray, " F"]
    ) -> Bool[np.ndarray, "F X Y Z"]:
        """Cells with any of them in ego grids at other poses and times.

        Args:
            planar: x, y, yaw of the ego in the world.
            seconds: since the frame that is known; negative before it.
        """
        known_from_ego = compose(invert(torch.from_numpy(self.planar)), torch.from_numpy(planar))
        centres = cell_centres(self.cells.shape[1], self.half_extent_m).double()
        seen = np.zeros((len(planar), *self.cells.shape[1:]), dtype=np.bool_)
        for cells, pose, curvature, rolled_m in zip(
            self.cells, self.poses, self.curvatures_per_m, self.rolled_m(seconds), strict=True
        ):
            there = torch.from_numpy(along_arc(pose, curvature, rolled_m))
            middles = transform(invert(known_from_ego), there[:, :2]).numpy()
            frame, x, y = self._columns_near(middles, self._reach_m(cells, pose))
            points = transform(known_from_ego[frame], centres[x, y])
            known_from_moved = compose(torch.from_numpy(pose).expand_as(there), invert(there))
            known_x, known_y = self._columns_at(transform(known_from_moved[frame], points).numpy()).T
            inside = (known_x >= 0) & (known_x < len(centres)) & (known_y >= 0) & (known_y < len(centres))
            frame, x, y, known_x, known_y = (index[inside] for index in (frame, x, y, known_x, known_y))
            seen[frame, x, y] |= cells[known_x, known_y]
        return seen

    def _reach_m(self, cells: Bool[np.ndarray, "X Y Z"], pose: Float64[np.ndarray, " 3"]) -> float:
        """How far from a pose the farthest corner of the columns of some cells is."""
        size_m = 2 * self.half_extent_m / len(cells)
        centres_m = (np.argwhere(cells.any(axis=-1)) + 0.5) * size_m - self.half_extent_m
        return float(np.linalg.norm(centres_m - pose[:2], axis=1).max(initial=0.0)) + size_m

    def _columns_near(
        self, middles_m: Float64[np.ndarray, "F 2"], reach_m: float
    ) -> tuple[Int64[np.ndarray, " P"], Int64[np.ndarray, " P"], Int64[np.ndarray, " P"]]:
        """Frame, x and y of the columns of the grid in a square that reaches so far around a point of each frame."""
        size = self.cells.shape[1]
        reach = int(np.ceil(reach_m / (2 * self.half_extent_m) * size))
        along = np.arange(-reach, reach + 1)
        around = np.stack(np.meshgrid(along, along, indexing="ij"), axis=-1).reshape(-1, 2)
        columns = self._columns_at(middles_m)[:, None] + around
        frame, which = np.nonzero(((columns >= 0) & (columns < size)).all(axis=-1))
        return frame, *columns[frame, which].T

    def _columns_at(self, points_m: Float64[np.ndarray, "P 2"]) -> Int64[np.ndarray, "P 2"]:
        """Columns that points lie in, of the grid or beyond it."""
        return np.floor((points_m / (2 * self.half_extent_m) + 0.5) * self.cells.shape[1]).astype(np.int64)


def forecast(
    region: OccupancySequence, frame: int, planar: Float64[np.ndarray, "T 3"], rng: np.random.Generator
) -> Forecast:
    """Draw how the vehicles of one frame drive; of pedestrians one frame says too little.

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

    ego_way = passed_by_ego(ego, planar[frame:], grid)
    left_s = float(region.times_us[-1] - region.times_us[frame]) * 1e-6
    sizes_m = np.array([track.size_m[:2] for track in tracks]).reshape(-1, 2)
    curvatures, reach_m = ways_driven(cells, poses, sizes_m, wanted_mps * left_s, road, ego_way, grid)
    speeds_mps = reach_m / left_s if left_s > 0 else wanted_mps
    nobody, no_braking = np.zeros(len(cells), dtype=np.bool_), np.zeros(len(cells))
    return Forecast(frame, ego, cells, poses, curvatures, speeds_mps, no_braking, nobody, -grid.lower_m[0])


def onward(
    memory: DriveMemory, planar: Float64[np.ndarray, "T 3"], heights_m: Float64[np.ndarray, " T"], grid: Grid
) -> Forecast:
    """How who moved or stood at the end of a chunk goes on in the next one: as fast as before, braking if need be.

    Vehicles drive on where there may be road and nobody walks; pedestrians walk straight on where nothing stands, but
    not into the ego's way.

    Args:
        memory: of the drive, as the chunk left it; its last frame is one frame period before the next chunk.
        planar: x, y, yaw of the ego in each frame of the next chunk, metres and radians in the world.
        heights_m: of the ego in each frame.
        grid: of the frames.
    """
    was, sizes_m = _as_they_were(memory, grid), memory.motion[:, 3:5]
    ego, walk, drive = was.planar, was.on_foot, ~was.on_foot
    seen = memory.seen_from(ego[None], heights_m[:1], grid)[0]
    # Where nothing is known there may be road.
    road = (seen == CARLASC.index("road")).any(axis=-1) | (seen == UNOBSERVED).all(axis=-1)
    road &= ~was.cells[walk].any(axis=(0, 3))
    ego_way = passed_by_ego(ego, planar, grid)
    low = grid.centres(2) < grid.lower_m[2] + HEADROOM_M
    open_ground = np.isin(seen[..., low], (*PASSABLE, UNOBSERVED)).all(axis=-1) & ~ego_way
    chunk_s = len(planar) / FRAME_RATE_HZ
    wanted_m = was.speeds_mps * chunk_s
    curvatures, reach_m = np.zeros((2, len(wanted_m)))
    curvatures[drive], reach_m[drive] = ways_driven(
        was.cells[drive], was.poses[drive], sizes_m[drive], wanted_m[drive], road, ego_way, grid
    )
    reach_m[walk] = walked_m(was.poses[walk], sizes_m[walk], wanted_m[walk], open_ground, grid)
    return replace(was, curvatures_per_m=curvatures, brakings_mps2=brakings_mps2(was.speeds_mps, reach_m, chunk_s))


def waiting(memory: DriveMemory, grid: Grid) -> Forecast:
    """Who moved or stood at the end of a chunk, standing, as far as they cover what they did half a second before.

    Args:
        memory: of the drive, as the chunk left it.
        grid: of its frames.
    """
    was = _as_they_were(memory, grid)
    before_s = (min(MOVER_FRAMES) - max(MOVER_FRAMES)) / FRAME_RATE_HZ
    covered = was.cells & was.seen_from(was.planar[None], np.array([before_s]))
    return replace(was, cells=covered, speeds_mps=np.zeros(len(covered)))


def _as_they_were(memory: DriveMemory, grid: Grid) -> Forecast:
    """Who moved or stood at the end of a chunk, going straight on at the speeds that they had."""
    # What was unpacked is read-only, and torch wants to write.
    ego, motion = memory.movers_planar[0].copy(), memory.motion.copy()
    cells = memory.road_users[None] == np.arange(1, len(motion) + 1)[:, None, None, None]
    none = np.zeros(len(motion))
    return Forecast(-1, ego, cells, motion[:, :3], none, motion[:, 5], none, motion[:, 6] == 1, -grid.lower_m[0])


def _in_lane(
    columns: Bool[np.ndarray, "X Y"], vehicles: Bool[np.ndarray, "X Y"], road: Bool[np.ndarray, "X Y"]
) -> bool:
    around = binary_dilation(columns, iterations=LANE_RING_COLUMNS) & ~vehicles
    return bool(around.any() and road[around].mean() >= LANE_SHARE)
