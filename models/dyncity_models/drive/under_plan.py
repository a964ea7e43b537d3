"""Where the ego is told to drive through what a drive takes for something else than road, the drive was wrong.

A chunk shows the world 25 m ahead, where a plan of 1.6 s does not reach: that a street branches off there, only a later
plan tells. A network that is to draw a street into blocks that it is told to keep draws neither.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float64
from scipy.spatial import cKDTree

from dyncity_models.data.clips import UNOBSERVED
from dyncity_models.drive.classes import FREE, ROAD
from dyncity_models.drive.ground import STEP_M, Ground
from dyncity_models.drive.memory import DriveMemory

ACROSS_M = (-1.0, 0.0, 1.0)
"""Where the ego's wheels and its middle pass."""

LEAST_M = 1.2
"""A plan that leaves the known road for less cuts a corner."""

AROUND_M = 8.0
"""Half of the width of a street with its sidewalks."""

AHEAD_M = 40.0
"""So far ahead of where a plan leaves the road nothing is taken for known."""


def without_what_is_driven_through(memory: DriveMemory, ground: Ground) -> DriveMemory:
    """The memory without the static world around where a plan leaves the road that is known, and ahead of there.

    Args:
        memory: of the drive.
        ground: of the plan.
    """
    off = ground.driven[_off_road(memory, ground)]
    if len(off) * STEP_M < LEAST_M:
        return memory
    forgotten = _around_and_ahead(memory.columns_world(ground.grid), off)
    return replace(memory, labels=np.where(forgotten[..., None], UNOBSERVED, memory.labels).astype(np.uint8))


def _off_road(memory: DriveMemory, ground: Ground) -> Bool[np.ndarray, " D"]:
    """Whether most of what the ego passes over at each place is known to be something, and no road.

    A wheel alone cuts a corner. Over what is free and no more, the road may lie under all that was seen.
    """
    places = ground.driven
    aside = np.stack([-np.sin(places[:, 2]), np.cos(places[:, 2])], axis=-1)
    passed = memory.labels_at(places[:, None, :2] + np.array(ACROSS_M)[:, None] * aside[:, None], ground.grid)
    something = ~np.isin(passed, (FREE, UNOBSERVED)).all(axis=-1)
    off = something & (passed != ROAD).all(axis=-1)
    return np.asarray(2 * off.sum(axis=-1) > len(ACROSS_M))


def _around_and_ahead(
    columns: Float64[np.ndarray, "N N 2"], off: Float64[np.ndarray, "P 3"]
) -> Bool[np.ndarray, "N N"]:
    """Columns near some poses, and in front of the last one: in a street's width that widens by 45 degrees."""
    away_m, _ = cKDTree(off[:, :2]).query(columns)
    ahead = np.array([np.cos(off[-1, 2]), np.sin(off[-1, 2])])
    along_m, aside_m = (columns - off[-1, :2]) @ ahead, np.abs((columns - off[-1, :2]) @ (ahead[::-1] * [-1, 1]))
    in_front = (along_m > 0) & (along_m < AHEAD_M) & (aside_m < AROUND_M + along_m)
    return np.asarray((away_m <= AROUND_M) | in_front)
