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

RAYS = 6_000
"""Rays of one sensor."""

LEVEL_SHARE = 0.25
"""Share of a sensor's rays that go level or upwards, to walls and crowns; the rest point at the road."""

HIGHEST_RAD = np.deg2rad(10.0)
"""Elevation of the steepest ray upwards."""

NEAREST_M, FARTHEST_M = 1.0, 40.0
"""Distances at which the downward rays would meet a flat road."""

GOLDEN_ANGLE_RAD = np.pi * (3 - np.sqrt(5))


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
    """A rig of FEWEST_SENSORS to MOST_SENSORS sensors, placed as CarlaSC's are.

    A spinning LiDAR's rings leave bare stripes between them, which a real one fills by moving on. These rays turn by
    the golden angle instead, and the downward ones are even in the distance at which they meet the road: as many
    cells are seen with a fraction of the rays.
    """
    sensors = int(rng.integers(FEWEST_SENSORS, MOST_SENSORS + 1))
    positions_m = np.zeros((sensors, 3))
    positions_m[1:, :2] = rng.uniform(-REACH_M, REACH_M, (sensors - 1, 2))
    positions_m[1:, 2] = rng.uniform(*HEIGHTS_M, sensors - 1) - LIDAR_HEIGHT_M
    level = int(RAYS * LEVEL_SHARE)
    distance_m = rng.permutation(np.linspace(NEAREST_M, FARTHEST_M, RAYS - level))
    height_m = positions_m[:, 2, None] + LIDAR_HEIGHT_M
    upward_rad = np.broadcast_to(rng.permutation(np.linspace(0, HIGHEST_RAD, level)), (sensors, level))
    elevation_rad = np.concatenate([-np.arctan2(height_m, distance_m), upward_rad], axis=1)
    azimuth_rad = GOLDEN_ANGLE_RAD * np.arange(RAYS) + rng.uniform(0, 2 * np.pi, (sensors, 1))
    directions = np.stack(
        [
            np.cos(elevation_rad) * np.cos(azimuth_rad),
            np.cos(elevation_rad) * np.sin(azimuth_rad),
            np.sin(elevation_rad),
        ],
        axis=-1,
    )
    return SensorRig(positions_m, np.stack([_in_walking_order(rays) for rays in directions]))


def blind_rig() -> SensorRig:
    """A rig without sensors: every cell stays unobserved, and a frame costs a fraction of its usual time."""
    return SensorRig(np.zeros((0, 3)), np.zeros((0, RAYS, 3)))


def _in_walking_order(rays: Float64[np.ndarray, "R 3"]) -> Float64[np.ndarray, "R 3"]:
    """Rays of one direction after each other: they meet the same cells, which then are in the cache."""
    sector = np.floor(np.arctan2(rays[:, 1], rays[:, 0]) * (48 / (2 * np.pi)))
    return rays[np.lexsort((rays[:, 2], sector))]


def count_samples(labels: UInt8[np.ndarray, "X Y Z"], rig: SensorRig, grid: Grid) -> Float32[np.ndarray, "X Y Z"]:
    """How often the rig samples each cell: returns plus free-space samples.

    What reaches the grid's ceiling is taken to go on above it (walls, crowns, buses): it stops rays up there unseen,
    and a sensor inside of it sees nothing.
    """
    assert grid.shape[2] <= 32
    counts = np.zeros(grid.shape, np.uint16)
    levels = ((labels != 0) @ (np.uint32(1) << np.arange(grid.shape[2], dtype=np.uint32))).astype(np.uint32)
    _cast(
        levels,
        _clearance(levels),
        rig.positions_m,
        rig.directions,
        np.asarray(grid.lower_m),
        np.asarray(grid.voxel_size_m),
        counts,
    )
    return counts.astype(np.float32)


@numba.njit(cache=True)
def _clearance(levels: np.ndarray) -> np.ndarray:
    """Chebyshev distance, in cells, from each column to the next with anything above its lowest level, or the edge."""
    nx, ny = levels.shape
    clear = np.empty((nx, ny), np.int32)
    for x in range(nx):
        for y in range(ny):
            if levels[x, y] > 1:
                clear[x, y] = 0
            elif x == 0 or y == 0 or y == ny - 1:
                clear[x, y] = 1
            else:
                clear[x, y] = 1 + min(clear[x - 1, y - 1], clear[x - 1, y], clear[x - 1, y + 1], clear[x, y - 1])
    for x in range(nx - 1, -1, -1):
        for y in range(ny - 1, -1, -1):
            if clear[x, y] == 0:
                continue
            if x == nx - 1 or y == ny - 1 or y == 0:
                clear[x, y] = 1
            else:
                onward = min(clear[x + 1, y + 1], clear[x + 1, y], clear[x + 1, y - 1], clear[x, y + 1])
                clear[x, y] = min(clear[x, y], 1 + onward)
    return clear


@numba.njit(cache=True)
def _cast(
    levels: np.ndarray,
    clear: np.ndarray,
    positions_m: np.ndarray,
    directions: np.ndarray,
    lower_m: np.ndarray,
    voxel_m: np.ndarray,
    counts: np.ndarray,
) -> None:
    """Walk each ray over the columns of the grid (Amanatides and Woo 1987) with the levels of a column as bits.

    Positions along a ray are metres, across the grid they are cells. Over ground with nothing on it a ray leaps as
    far as ``clear`` allows.
    """
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
            sx = 1 if step_x > 0 else 0
            sy = 1 if step_y > 0 else 0
            per_x = 1 / step_x if step_x != 0 else 0.0
            per_y = 1 / step_y if step_y != 0 else 0.0
            fastest = max(abs(step_x), abs(step_y))
            to_ground = (1.0 - start_z) / step_z if step_z < 0 else np.inf
            x, y = x0, y0
            enter = 0.0
            end = 0.0
            while True:
                if clear[x, y] > 2 and enter < to_ground:
                    leap = min(enter + (clear[x, y] - 1) / fastest, to_ground)
                    x, y = int(start_x + leap * step_x), int(start_y + leap * step_y)
                    enter = leap
                leave_x = (x + sx - start_x) * per_x if per_x != 0 else np.inf
                leave_y = (y + sy - start_y) * per_y if per_y != 0 else np.inf
                leave = max(min(leave_x, leave_y), enter)
                z_enter, z_leave = start_z + enter * step_z, start_z + leave * step_z
                z_low, z_high = min(z_enter, z_leave), max(z_enter, z_leave)
                end = leave
                if z_high >= nz and (levels[x, y] >> (nz - 1)) & 1 and (step_z > 0 or z_enter >= nz):
                    if z_enter < nz:
                        counts[x, y, nz - 1] += 1
                    end = enter
                    break
                if z_low < nz and z_high >= 0:
                    first, last = max(int(z_low), 0), min(int(z_high), nz - 1)
                    met = levels[x, y] & (((1 << (last + 1)) - 1) ^ ((1 << first) - 1))
                    if met:
                        z, face = first, float(first)
                        if step_z > 0:
                            while not (met >> z) & 1:
                                z += 1
                            face = float(z)
                        else:
                            z = last
                            while not (met >> z) & 1:
                                z -= 1
                            face = float(z + 1)
                        counts[x, y, z] += 1
                        end = max(enter, (face - start_z) / step_z) if step_z != 0 else enter
                        break
                if (step_z > 0 and z_leave >= nz) or (step_z < 0 and z_leave < 0):
                    break
                enter = leave
                if leave_x < leave_y:
                    x += 2 * sx - 1
                    if x < 0 or x >= nx:
                        break
                else:
                    y += 2 * sy - 1
                    if y < 0 or y >= ny:
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
