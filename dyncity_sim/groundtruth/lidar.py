"""Semantic LiDAR: what a spinning sensor measures in one frame of occupancy."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64, UInt8, UInt16

from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.ground_truth import LidarSweep
from dyncity_sim.domain.sensors import LidarSensor
from dyncity_sim.errors import InvalidInputError

HDL64 = LidarSensor(
    elevations_rad=tuple(
        float(e)
        for e in np.deg2rad(np.concatenate([2.0 - np.arange(32) / 3.0, -8.0 - 5.0 / 6.0 - np.arange(32) / 2.0]))
    ),
    azimuth_steps=1800,
)
"""64 beams like Velodyne's HDL-64E: 32 from +2 degrees down in thirds of a degree, 32 from -8.83 degrees down in
halves, down to -24.33; 0.2 degrees between firings. It stands at the ego frame's origin, 1.8 m above the road."""

CELL_MARGIN_M = 1e-4
"""Points lie at least this far inside the cell they hit, so that float32 cannot round them into its neighbour."""


def ray_directions(sensor: LidarSensor) -> Float64[np.ndarray, "R 3"]:
    """Unit vectors of all rays in the ego frame, beam-major; firing 0 looks along the sensor's x."""
    elevation = np.asarray(sensor.elevations_rad)[:, None]
    azimuth = (2 * np.pi / sensor.azimuth_steps) * np.arange(sensor.azimuth_steps)[None]
    rays = [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation) + 0 * azimuth]
    return np.stack(rays, axis=-1).reshape(-1, 3) @ sensor.pose_ego_from_sensor[:3, :3].T


def lidar_sweep(
    labels: UInt8[np.ndarray, "X Y Z"],
    instances: UInt16[np.ndarray, "X Y Z"],
    velocities_ego_mps: Mapping[int, tuple[float, float, float]],
    grid: Grid,
    sensor: LidarSensor = HDL64,
) -> LidarSweep:
    """One turn of ``sensor`` over a frame, as an instant; rays that leave the grid give no point.

    Args:
        labels: class of each cell, 0 is free.
        instances: track id of each cell, 0 where there is none.
        velocities_ego_mps: velocity of each track over ground, along the axes of the ego frame.
        grid: where the cells lie in the ego frame.
        sensor: the LiDAR.

    Raises:
        InvalidInputError: the sensor stands outside the grid or inside an occupied cell.
        MissingExtraError: numba is not installed.
    """
    from dyncity_sim.groundtruth.traversal import first_hits

    lower, size = np.asarray(grid.lower_m), np.asarray(grid.voxel_size_m)
    position = sensor.position_ego_m
    _check_free(labels, position, grid)
    directions = ray_directions(sensor)
    cells, distances_m, axes = first_hits(labels, (position - lower) / size, directions / size)
    hits = (cells >= 0) & (distances_m >= sensor.min_range_m) & (distances_m <= sensor.max_range_m)
    rays = np.nonzero(hits)[0]
    hit = np.stack(np.unravel_index(cells[rays], grid.shape), axis=-1)
    points = position + distances_m[rays, None] * directions[rays]
    corner = lower + hit * size
    points = np.clip(points, corner + CELL_MARGIN_M, corner + size - CELL_MARGIN_M)
    incidence = np.abs(directions[rays, axes[rays]]).astype(np.float32)
    tracks = instances.reshape(-1)[cells[rays]]
    velocities = np.zeros((len(rays), 3), dtype=np.float32)
    for track, velocity in velocities_ego_mps.items():
        velocities[tracks == track] = velocity
    return LidarSweep(
        points_ego_m=points.astype(np.float32),
        labels=labels.reshape(-1)[cells[rays]],
        instances=tracks,
        incidence=incidence,
        intensity=incidence,
        velocities_ego_mps=velocities,
        beams=(rays // sensor.azimuth_steps).astype(np.uint16),
        firings=(rays % sensor.azimuth_steps).astype(np.int32),
        time_offsets_us=np.zeros(len(rays), dtype=np.int32),
    )


def _check_free(labels: UInt8[np.ndarray, "X Y Z"], position: Float64[np.ndarray, " 3"], grid: Grid) -> None:
    cell = grid.indices(position)
    if not grid.contains(cell):
        raise InvalidInputError("sensor.position_ego_m", position.tolist(), "a place inside the grid")
    if labels[tuple(cell)]:
        raise InvalidInputError(
            "sensor.position_ego_m",
            f"{position.tolist()}, inside a cell of class {int(labels[tuple(cell)])}",
            "a free cell",
            "Move the sensor, or leave this frame out.",
        )
