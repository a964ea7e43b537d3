"""How who moved or stood at the end of a chunk goes on in the next one."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float64

from dyncity_models.data.clips import UNOBSERVED
from dyncity_models.data.latents import MOVER_FRAMES
from dyncity_models.drive.classes import ROAD
from dyncity_models.drive.forecast import Forecast
from dyncity_models.drive.making_way import making_way
from dyncity_models.drive.memory import DriveMemory
from dyncity_models.drive.ways import brakings_mps2, passed_by_ego, walked_m, ways_driven
from dyncity_sim.domain.grid import FRAME_RATE_HZ, Grid, columns_of
from dyncity_sim.domain.taxonomy import CARLASC

PASSABLE = tuple(CARLASC.index(name) for name in ("free", "road", "sidewalk", "ground"))
HEADROOM_M = 2.0
"""Pedestrians walk where nothing else is known within this height of the lower side of the grid."""


def onward(
    memory: DriveMemory, planar: Float64[np.ndarray, "T 3"], heights_m: Float64[np.ndarray, " T"], grid: Grid
) -> Forecast:
    """Forecast from the last frames of a chunk: as fast as before, braking if need be.

    Vehicles drive on where there may be road and nobody walks, and make way for an ego that comes from behind;
    pedestrians walk straight on where nothing stands, but not into the ego's way.

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
    road = columns_of(seen == ROAD) | (seen == UNOBSERVED).all(axis=-1)
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
    brakings = brakings_mps2(was.speeds_mps, reach_m, chunk_s)
    on_their_ways = replace(was, curvatures_per_m=curvatures, brakings_mps2=brakings)
    return making_way(on_their_ways, sizes_m, road, ego_way, planar, grid)


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
