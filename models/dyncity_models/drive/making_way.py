"""Vehicles that the ego would run into, and that face its way, drive off before it."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64

from dyncity_models.drive.forecast import Forecast
from dyncity_models.drive.ways import CURVATURES_PER_M, GAP_M, SAME_WAY_RAD, best_arc, runs_into
from dyncity_sim.domain.grid import FRAME_RATE_HZ, Grid, columns_of

ACCELERATIONS_MPS2 = (1.0, 2.0, 3.0)
"""What they try, the least that does; by the last a car comes to 50 km/h in 4.6 s."""


def making_way(
    coming: Forecast,
    sizes_m: Float64[np.ndarray, "N 2"],
    road: Bool[np.ndarray, "X Y"],
    ego_way: Bool[np.ndarray, "X Y"],
    planar: Float64[np.ndarray, "T 3"],
    grid: Grid,
) -> Forecast:
    """How they go on so that the ego, which drives as it is told, finds its way free, where that can be.

    A queue sets off together. Who faces another way, or has no road before it, or would have to be too fast, goes on as
    before.

    Args:
        coming: how who moved or stood at the end of a chunk would go on.
        sizes_m: length and width of each.
        road: columns of the frame that is known in which vehicles may drive.
        ego_way: columns of it that the ego passes over.
        planar: x, y, yaw of the ego in each frame of the next chunk, metres and radians in the world.
        grid: of the frames.
    """
    street = _Street(sizes_m, road, planar, (1 + np.arange(len(planar))) / FRAME_RATE_HZ, grid)
    perhaps = (coming.cells.any(axis=-1) & ego_way).any(axis=(1, 2)) | (coming.speeds_mps > 0)
    # From front to rear, so that those behind find the road free.
    for n in sorted(np.flatnonzero(_with_the_ego(coming) & perhaps).tolist(), key=lambda one: -coming.poses[one, 0]):
        if street.is_run_into(coming, n):
            tried = (street.set_off(coming, n, acceleration) for acceleration in ACCELERATIONS_MPS2)
            coming = next((t for t in tried if t is not None and not street.is_run_into(t, n)), coming)
    return coming


@dataclass(frozen=True, eq=False)
class _Street:
    """Arguments of ``making_way``, and the times of the next chunk's frames."""

    sizes_m: Float64[np.ndarray, "N 2"]
    road: Bool[np.ndarray, "X Y"]
    planar: Float64[np.ndarray, "T 3"]
    seconds: Float64[np.ndarray, " T"]
    grid: Grid

    def is_run_into(self, coming: Forecast, n: int) -> bool:
        """Whether the ego would drive through one of them."""
        return runs_into(coming.one(n).seen_from(self.planar, self.seconds), coming.half_extent_m)

    def set_off(self, coming: Forecast, n: int, acceleration_mps2: float) -> Forecast | None:
        """One of them and those that stand before it accelerate; None where the road is not free for that."""
        stand, with_the_ego = coming.rolled_m(self.seconds[-1:])[:, 0] == 0, _with_the_ego(coming)
        free = (self.road | coming.cells[n].any(axis=-1)) & ~coming.cells[stand & ~with_the_ego].any(axis=(0, 3))
        free |= coming.cells[stand & with_the_ego].any(axis=(0, 3))
        last_s = self.seconds[-1]
        wanted_m = coming.speeds_mps[n] * last_s + acceleration_mps2 * last_s**2 / 2
        arc_per_m, reach_m = best_arc(
            coming.poses[n], self.sizes_m[n], free, self.grid, wanted_m, CURVATURES_PER_M, GAP_M
        )
        if reach_m < wanted_m:
            return None
        alone = _accelerated(coming, n, arc_per_m, acceleration_mps2)
        faster, passed = alone, self._passed(alone, n)
        for other in np.flatnonzero(stand & with_the_ego & (np.arange(len(stand)) != n)).tolist():
            if (passed & coming.cells[other].any(axis=-1)).any():
                together = self.set_off(faster, other, acceleration_mps2)
                if together is None:
                    return None
                faster = together
        return faster

    def _passed(self, coming: Forecast, n: int) -> Bool[np.ndarray, "X Y"]:
        """Columns of the frame that is known which one of them passes over."""
        stays = np.tile(coming.planar, (len(self.seconds), 1))
        return np.asarray(columns_of(coming.one(n).seen_from(stays, self.seconds)).any(axis=0))


def _with_the_ego(coming: Forecast) -> Bool[np.ndarray, " N"]:
    return np.asarray(~coming.on_foot & (np.cos(coming.poses[:, 2]) > np.cos(SAME_WAY_RAD)))


def _accelerated(coming: Forecast, n: int, curvature_per_m: float, acceleration_mps2: float) -> Forecast:
    curvatures, brakings = coming.curvatures_per_m.copy(), coming.brakings_mps2.copy()
    curvatures[n], brakings[n] = curvature_per_m, -acceleration_mps2
    return replace(coming, curvatures_per_m=curvatures, brakings_mps2=brakings)
