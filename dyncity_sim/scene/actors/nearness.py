"""How near many footprints come to many others, by one search over all of their columns at once."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64
from scipy.spatial import cKDTree

from dyncity_sim.scene.actors.footprint import Columns


def shares_within(
    parts: Sequence[Columns], wholes: Sequence[Columns], near_m: float
) -> Float64[np.ndarray, "{len(parts)} {len(wholes)}"]:
    """Share of each part's columns that lie in each whole: nearer than ``near_m`` to a column of it."""
    count = len(wholes)
    if not parts or not wholes:
        return np.zeros((len(parts), count))
    near, part, whole = _near_columns(parts, wholes, near_m)
    near = near[near["v"] < near_m]
    # A column that lies near several of one whole lies in it once.
    columns, inside = np.divmod(np.unique(near["i"] * count + whole[near["j"]]), count)
    held = np.bincount(part[columns] * count + inside, minlength=len(parts) * count).reshape(len(parts), count)
    return held / np.array([[len(columns_m)] for columns_m in parts])


def gaps_m(parts: Sequence[Columns], wholes: Sequence[Columns], most_m: float) -> list[tuple[float, int, int]]:
    """Parts and wholes that come as near as ``most_m`` to each other: (their least distance, part, whole), sorted."""
    if not parts or not wholes:
        return []
    near, part, whole = _near_columns(parts, wholes, most_m)
    apart_m = np.full((len(parts), len(wholes)), np.inf)
    np.minimum.at(apart_m, (part[near["i"]], whole[near["j"]]), near["v"])
    return sorted((float(apart_m[p, w]), int(p), int(w)) for p, w in zip(*np.nonzero(apart_m < np.inf), strict=True))


def _near_columns(
    some: Sequence[Columns], others: Sequence[Columns], most_m: float
) -> tuple[np.ndarray, Int64[np.ndarray, " S"], Int64[np.ndarray, " O"]]:
    """Pairs of columns (i, j, distance v) at most so far apart; which footprint each column of both sides is of."""
    trees = [cKDTree(np.concatenate(side)) for side in (some, others)]
    owners = [np.repeat(np.arange(len(side)), [len(columns_m) for columns_m in side]) for side in (some, others)]
    return trees[0].sparse_distance_matrix(trees[1], most_m, output_type="ndarray"), *owners
