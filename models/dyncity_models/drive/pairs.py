"""Who of some is who of others, by how near they are."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64


def nearest_pairs(away_m: Float64[np.ndarray, "N M"], most_m: float = np.inf) -> Iterator[tuple[int, int]]:
    """Pairs (n, m) of those that are at most so far apart, the nearest first; each one is in one pair at most.

    Args:
        away_m: how far each is from each other one, infinity where the two cannot be one.
        most_m: farther ones are not the same.
    """
    left_m = np.where(away_m <= most_m, away_m, np.inf)
    while np.isfinite(left_m).any():
        n, m = (int(index) for index in np.unravel_index(left_m.argmin(), left_m.shape))
        left_m[n], left_m[:, m] = np.inf, np.inf
        yield n, m
