"""How the vehicles of a single known frame may drive, which says where they are and where they face, and no more."""

import numpy as np
from jaxtyping import Bool, Float64
from scipy.ndimage import binary_dilation

from dyncity_models.drive.forecast import Forecast
from dyncity_models.drive.road_users import cells_of, in_ego
from dyncity_models.drive.ways import SAME_WAY_RAD, passed_by_ego, ways_driven
from dyncity_sim.domain.frames import driven_ahead_m
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.scene.actors.find import find_tracks

LANE_RING_COLUMNS = 2
LANE_SHARE = 0.95
"""A vehicle is in a lane when this share of the columns so near to it is road; a parked one has the kerb beside it."""

STANDING_SHARE = 0.3
SPEEDS_MPS = (4.0, 10.0)
"""Of the other vehicles in a lane: how many stand, and the speeds between which that of one that drives is drawn."""


def forecast(
    region: OccupancySequence, frame: int, planar: Float64[np.ndarray, "T 3"], rng: np.random.Generator
) -> Forecast:
    """Draw how the vehicles of one frame drive; of pedestrians one frame says too little.

    A vehicle beside a kerb stands. One in a lane that faces the ego's way drives at the ego's mean speed ahead, so
    that it stands with the ego; of the others some stand, and the rest drive at drawn speeds. Each takes the least
    bent arc on which it stays on the road and keeps off vehicles that stand and off the ego's way, and drives as far on
    it as there is road.

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
    ego_mps = max(0.0, driven_ahead_m(planar) / span_s)
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


def _in_lane(
    columns: Bool[np.ndarray, "X Y"], vehicles: Bool[np.ndarray, "X Y"], road: Bool[np.ndarray, "X Y"]
) -> bool:
    around = binary_dilation(columns, iterations=LANE_RING_COLUMNS) & ~vehicles
    return bool(around.any() and road[around].mean() >= LANE_SHARE)
