"""Which cells sensors see: emulated LiDARs cast rays through the labelled grid.

CarlaSC's ground truth (MotionSC, Wilson et al. 2022) comes from the ego's LiDAR and others around it, uniform in
[-20, 20]^2 m and 1 to 5 m above the road, all carried along by the car. A cell counts one for each return in it and
one for each free-space sample, taken every 1.5 m along a ray before its return. Cells without a count are unobserved.
"""

from dataclasses import dataclass

import numba
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from dyncity_sim.domain.grid import LIDAR_HEIGHT_M, Grid

REACH_M = 20.0
"""The other sensors stand within this distance of the ego along x and along y."""

HEIGHTS_M = (1.0, 5.0)
"""Heights of the other sensors above the road."""

FEWEST_SENSORS, MOST_SENSORS = 10, 20
"""Sensors of one drive, the ego's own included."""

FREE_STEP_M = 1.5
"""Distance between free-space samples along a ray."""

RINGS, COLUMNS_PER_RING = 24, 300
"""Rays of one sensor: elevations times azimuths."""

LOWEST_RAD, HIGHEST_RAD = np.deg2rad(-50.0), np.deg2rad(8.0)
"""Elevations of the outermost rings."""


@dataclass(frozen=True, eq=False)
class SensorRig:
    """Sensors fixed to the ego over one drive.

    Attributes:
        positions_m: ``(S, 3)`` in the ego frame; the first is the ego's own LiDAR at the origin.
        directions: ``(S, R, 3)`` unit vectors of each sensor's rays in the ego frame.
    """

    positions_m: Float64[np.ndarray, "S 3"]
    directions: Float64[np.ndarray, "S R 3"]


def draw_rig(rng: np.random.Generator) -> SensorRig:
    """A rig of FEWEST_SENSORS to MOST_SENSORS sensors, as CarlaSC places them."""
    sensors = int(rng.integers(FEWEST_SENSORS, MOST_SENSORS + 1))
    positions_m = np.zeros((sensors, 3))
    positions_m[1:, :2] = rng.uniform(-REACH_M, REACH_M, (sensors - 1, 2))
    positions_m[1:, 2] = rng.uniform(*HEIGHTS_M, sensors - 1) - LIDAR_HEIGHT_M
    # Rings crowd towards the horizon, where equal steps in angle would leave the far road unseen.
    share = np.linspace(-1.0, 1.0, RINGS)
    below = share < 0
    elevation_rad = np.where(below, LOWEST_RAD * np.abs(share) ** 1.7, HIGHEST_RAD * share)
    azimuth_rad = np.arange(COLUMNS_PER_RING) * (2 * np.pi / COLUMNS_PER_RING)
    phase_rad = rng.uniform(0, 2 * np.pi, (sensors, RINGS, 1))
    turned_rad = azimuth_rad[None, None, :] + phase_rad
    level = np.cos(elevation_rad)[None, :, None]
    directions = np.stack(
        [
            level * np.cos(turned_rad),
            level * np.sin(turned_rad),
            np.broadcast_to(np.sin(elevation_rad)[None, :, None], turned_rad.shape),
        ],
        axis=-1,
    )
    return SensorRig(positions_m, np.ascontiguousarray(directions.reshape(sensors, -1, 3)))


def count_samples(labels: UInt8[np.ndarray, "X Y Z"], rig: SensorRig, grid: Grid) -> Float32[np.ndarray, "X Y Z"]:
    """How often the rig samples each cell: returns plus free-space samples.

    A sensor inside of something solid, or above it where that reaches the grid's ceiling, sees nothing.
    """
    assert grid.shape[2] <= 32
    counts = np.zeros(grid.shape, np.float32)
    levels = (labels != 0) @ (np.uint32(1) << np.arange(grid.shape[2], dtype=np.uint32))
    _cast(
        levels.astype(np.uint32),
        rig.positions_m,
        rig.directions,
        np.asarray(grid.lower_m),
        np.asarray(grid.voxel_size_m),
        counts,
    )
    return counts


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _cast(
    levels: np.ndarray,
    positions_m: np.ndarray,
    directions: np.ndarray,
    lower_m: np.ndarray,
    voxel_m: np.ndarray,
    counts: np.ndarray,
) -> None:
    """Walk each ray over the columns of the grid (Amanatides and Woo 1987) with the levels of a column as bits."""
    nx, ny, nz = counts.shape
    for sensor in range(len(positions_m)):
        start_x = (positions_m[sensor, 0] - lower_m[0]) / voxel_m[0]
        start_y = (positions_m[sensor, 1] - lower_m[1]) / voxel_m[1]
        start_z = (positions_m[sensor, 2] - lower_m[2]) / voxel_m[2]
        x0, y0 = int(np.floor(start_x)), int(np.floor(start_y))
        z0 = min(int(np.floor(start_z)), nz - 1)
        if x0 < 0 or y0 < 0 or x0 >= nx or y0 >= ny or z0 < 0 or (levels[x0, y0] >> z0) & 1:
            continue
        for ray in range(directions.shape[1]):
            step_x = directions[sensor, ray, 0] / voxel_m[0]
            step_y = directions[sensor, ray, 1] / voxel_m[1]
            step_z = directions[sensor, ray, 2] / voxel_m[2]
            x, y = x0, y0
            sx = 1 if step_x > 0 else -1
            sy = 1 if step_y > 0 else -1
            per_x = abs(1 / step_x) if step_x != 0 else np.inf
            per_y = abs(1 / step_y) if step_y != 0 else np.inf
            next_x = ((x + 1 - start_x) if sx > 0 else (start_x - x)) * per_x if step_x != 0 else np.inf
            next_y = ((y + 1 - start_y) if sy > 0 else (start_y - y)) * per_y if step_y != 0 else np.inf
            enter, z_enter = 0.0, start_z
            end = -1.0
            while True:
                leave = min(next_x, next_y)
                z_leave = start_z + leave * step_z
                z_low, z_high = min(z_enter, z_leave), max(z_enter, z_leave)
                if z_low < nz and z_high >= 0:
                    first = max(int(z_low), 0)
                    last = min(int(z_high), nz - 1)
                    mask = ((1 << (last + 1)) - 1) ^ ((1 << first) - 1)
                    met = levels[x, y] & mask
                    if met:
                        if step_z > 0:
                            z = first
                            while not (met >> z) & 1:
                                z += 1
                            face = float(z)
                        else:
                            z = last
                            while not (met >> z) & 1:
                                z -= 1
                            face = float(z + 1)
                        counts[x, y, z] += 1
                        end = enter
                        if step_z != 0:
                            end = max(enter, (face - start_z) / step_z)
                        break
                if (step_z > 0 and z_leave >= nz) or (step_z < 0 and z_leave < 0):
                    end = leave
                    break
                enter, z_enter = leave, z_leave
                if next_x < next_y:
                    x += sx
                    next_x += per_x
                    if x < 0 or x >= nx:
                        end = leave
                        break
                else:
                    y += sy
                    next_y += per_y
                    if y < 0 or y >= ny:
                        end = leave
                        break
            distance = FREE_STEP_M
            while distance < end:
                fz = int(np.floor(start_z + distance * step_z))
                if 0 <= fz < nz:
                    fx = min(max(int(start_x + distance * step_x), 0), nx - 1)
                    fy = min(max(int(start_y + distance * step_y), 0), ny - 1)
                    if not (levels[fx, fy] >> fz) & 1:
                        counts[fx, fy, fz] += 1
                distance += FREE_STEP_M
