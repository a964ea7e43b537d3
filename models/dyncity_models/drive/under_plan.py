"""What a drive remembers of where a plan leads: at the heights of the plan, and not what the ego would drive through.

A chunk shows the world 25 m ahead, where a plan of 1.6 s does not reach: that a street branches off there, or falls,
only a later plan tells. A network that is to draw a street into blocks that it is told to keep draws neither.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8
from scipy.spatial import cKDTree

from dyncity_models.data.clips import UNOBSERVED
from dyncity_models.drive.memory import DriveMemory
from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.taxonomy import CARLASC

FREE, ROAD = CARLASC.index("free"), CARLASC.index("road")

STEP_M = 0.4
"""Distance of the places at which a plan is looked at."""

ACROSS_M = (-1.0, 0.0, 1.0)
"""Where the ego's wheels and its middle pass."""

LEAST_M = 1.2
"""A plan that leaves the known road for less cuts a corner."""

AROUND_M = 8.0
"""Half of the width of a street with its sidewalks."""

AHEAD_M = 40.0


def remembered_under(
    memory: DriveMemory, planar: Float64[np.ndarray, "T 3"], heights_m: Float64[np.ndarray, " T"], grid: Grid
) -> DriveMemory:
    """The memory with the road of a plan under its wheels, and without the static world where it finds none.

    The nearest place of the plan says by how many layers a column is raised or lowered. Where the plan leaves the
    road that is known, what is known around there and ahead of there is forgotten.

    Args:
        memory: of the drive, centred on the plan.
        planar: x, y, yaw of the ego in the world in each frame of the plan.
        heights_m: of the ego in each frame.
        grid: of the frames.
    """
    poses, heights_m = _densely(planar, heights_m)
    passed = _passed_over(memory, poses, grid)
    lifts = _lifts(passed, memory.road_layers(heights_m, grid))
    # Over what is free and no more, the road may lie under all that was seen.
    holds = ~np.isin(passed, (FREE, UNOBSERVED)).all(axis=-1)
    off = poses[(holds & (passed != ROAD).all(axis=-1)).all(axis=-1)]
    leaves = len(off) * STEP_M >= LEAST_M
    if not leaves and not lifts.any():
        return memory
    columns, labels = memory.columns_world(grid), memory.labels
    if lifts.any():
        _, nearest = cKDTree(poses[:, :2]).query(columns)
        labels = _raised(labels, lifts[nearest])
    if leaves:
        labels = np.where(_around_and_ahead(columns, off)[..., None], UNOBSERVED, labels).astype(np.uint8)
    return replace(memory, labels=labels)


def _densely(
    planar: Float64[np.ndarray, "T 3"], heights_m: Float64[np.ndarray, " T"]
) -> tuple[Float64[np.ndarray, "P 3"], Float64[np.ndarray, " P"]]:
    """Poses along a plan in even steps, and their heights."""
    driven_m = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(planar[:, :2], axis=0).T))])
    places_m = np.arange(0.0, driven_m[-1] + 1e-9, STEP_M)
    values = np.column_stack([planar[:, :2], np.unwrap(planar[:, 2]), heights_m]).T
    x, y, yaw, height_m = (np.interp(places_m, driven_m, value) for value in values)
    return np.column_stack([x, y, yaw]), height_m


def _passed_over(memory: DriveMemory, poses: Float64[np.ndarray, "P 3"], grid: Grid) -> UInt8[np.ndarray, "P K L"]:
    """The columns under the ego's wheels and its middle."""
    aside = np.stack([-np.sin(poses[:, 2]), np.cos(poses[:, 2])], axis=-1)
    return memory.columns_at(poses[:, None, :2] + np.array(ACROSS_M)[:, None] * aside[:, None], grid)


def _lifts(passed: UInt8[np.ndarray, "P K L"], wanted: Int64[np.ndarray, " P"]) -> Int64[np.ndarray, " P"]:
    """By how many layers the road has to be raised at each place to be the ego's; where none is, as at the nearest."""
    road = (passed == ROAD).any(axis=1)
    known = np.flatnonzero(road.any(axis=-1))
    if not len(known):
        return np.zeros(len(passed), dtype=np.int64)
    top = road.shape[-1] - 1 - road[known, ::-1].argmax(axis=-1)
    nearest = np.abs(np.arange(len(passed))[:, None] - known).argmin(axis=-1)
    return np.asarray((wanted[known] - top)[nearest])


def _raised(labels: UInt8[np.ndarray, "N N L"], lifts: Int64[np.ndarray, "N N"]) -> UInt8[np.ndarray, "N N L"]:
    """Columns raised by whole layers; what comes into view from beyond is unknown."""
    raised = labels.copy()
    columns = np.nonzero(lifts)
    source = np.arange(labels.shape[-1]) - lifts[columns][:, None]
    found = np.take_along_axis(labels[columns], source.clip(0, labels.shape[-1] - 1), axis=-1)
    raised[columns] = np.where((source >= 0) & (source < labels.shape[-1]), found, UNOBSERVED)
    return raised


def _around_and_ahead(
    columns: Float64[np.ndarray, "N N 2"], off: Float64[np.ndarray, "P 3"]
) -> Bool[np.ndarray, "N N"]:
    """Columns near some poses, and in front of the last one: in a street's width that widens by 45 degrees."""
    away_m, _ = cKDTree(off[:, :2]).query(columns)
    ahead = np.array([np.cos(off[-1, 2]), np.sin(off[-1, 2])])
    along_m, aside_m = (columns - off[-1, :2]) @ ahead, np.abs((columns - off[-1, :2]) @ (ahead[::-1] * [-1, 1]))
    in_front = (along_m > 0) & (along_m < AHEAD_M) & (aside_m < AROUND_M + along_m)
    return np.asarray((away_m <= AROUND_M) | in_front)
