"""Rays of sensors, what they can meet in a frame, and what they met."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Int8, Int64, UInt8, UInt16

from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.sensors import CameraSensor, LidarSensor, SensorRig
from dyncity_sim.domain.taxonomy import Taxonomy
from dyncity_sim.errors import InvalidInputError


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What the rays of one frame can meet.

    Attributes:
        labels: class of each cell, 0 is free.
        instances: track id of each cell of a moving class, 0 elsewhere.
        grid: where the cells lie in the ego frame.
        taxonomy: what labels mean.
        frame: number of the frame in its drive, for errors.
    """

    labels: UInt8[np.ndarray, "X Y Z"]
    instances: UInt16[np.ndarray, "X Y Z"]
    grid: Grid
    taxonomy: Taxonomy
    frame: int = 0


@dataclass(frozen=True, eq=False)
class Rays:
    """Rays in the ego frame.

    Attributes:
        origins_m: ``(R, 3)``.
        directions: ``(R, 3)``; distances along a ray are in units of their length.
        reach: ``(R,)`` distance up to which a ray goes.
    """

    origins_m: Float64[np.ndarray, "R 3"]
    directions: Float64[np.ndarray, "R 3"]
    reach: Float64[np.ndarray, " R"]

    def __len__(self) -> int:
        return len(self.directions)

    def __getitem__(self, chosen: Int[np.ndarray, " C"] | Bool[np.ndarray, " R"]) -> "Rays":
        return Rays(self.origins_m[chosen], self.directions[chosen], self.reach[chosen])

    def moved(self, poses: Float64[np.ndarray, "R 4 4"]) -> "Rays":
        """Each ray carried along by a rigid transform of its own."""
        origins = np.einsum("rij,rj->ri", poses[:, :3, :3], self.origins_m) + poses[:, :3, 3]
        return Rays(origins, np.einsum("rij,rj->ri", poses[:, :3, :3], self.directions), self.reach)

    def at(self, distances: Float[np.ndarray, " R"]) -> Float64[np.ndarray, "R 3"]:
        """The point of each ray at a distance of its own, in the ego frame."""
        return self.origins_m + distances[:, None] * self.directions


@dataclass(frozen=True, eq=False)
class Hits:
    """First occupied cell along each ray.

    Attributes:
        cells: flat index of the cell, -1 where nothing was hit.
        distances: where the ray enters it, in the unit of its direction; infinity where nothing was hit.
        axes: axis across which the ray enters it, -1 where the ray starts in it or hits nothing.
    """

    cells: Int64[np.ndarray, " R"]
    distances: Float64[np.ndarray, " R"]
    axes: Int8[np.ndarray, " R"]


@dataclass(frozen=True, eq=False)
class Seen:
    """What the rays of one sensor say of the cells.

    Attributes:
        cells: cells that a ray hits or passes through, ``(X, Y, Z)``.
        met: rays that meet a cell of each track first, by track id.
        crossed: rays that would meet one were nothing else in the world, by track id.
    """

    cells: Bool[np.ndarray, "X Y Z"]
    met: Int64[np.ndarray, " I"]
    crossed: Int64[np.ndarray, " I"]


def cast(
    labels: UInt8[np.ndarray, "X Y Z"],
    grid: Grid,
    rays: Rays,
    seen: Bool[np.ndarray, "X Y Z"] | None = None,
    instances: UInt16[np.ndarray, "X Y Z"] | None = None,
    crossed: Int64[np.ndarray, " I"] | None = None,
) -> Hits:
    """First occupied cell along each ray; ``seen`` and ``crossed`` are filled in as by ``trace``.

    Raises:
        MissingExtraError: numba is not installed.
    """
    from dyncity_sim.groundtruth.sensors.traversal import trace

    size = np.asarray(grid.voxel_size_m)
    origins, directions = (rays.origins_m - np.asarray(grid.lower_m)) / size, rays.directions / size
    return Hits(*trace(labels, origins, directions, rays.reach, seen, instances, crossed))


def by_track(instances: UInt16[np.ndarray, " N"], count: int) -> Int64[np.ndarray, " I"]:
    """How many of ``instances`` are each track's, by id below ``count``."""
    return np.bincount(instances, minlength=count).astype(np.int64)


def check_rig(rig: SensorRig, grid: Grid) -> None:
    """Raise InvalidInputError for a sensor that stands outside the grid."""
    for sensor in rig.sensors:
        if not grid.contains(grid.indices(sensor.position_ego_m)):
            raise InvalidInputError(
                f"{sensor.name}.position_m",
                f"{sensor.position_ego_m.tolist()} in the ego frame, outside the grid",
                f"a place between {grid.lower_m} and {grid.upper_m}",
            )


def check_free(
    labels: UInt8[np.ndarray, "X Y Z"],
    origins_m: Float64[np.ndarray, "R 3"],
    around: Surroundings,
    sensor: LidarSensor | CameraSensor,
) -> None:
    """Raise InvalidInputError where a ray starts outside the grid or in an occupied cell of ``labels``."""
    cells = around.grid.indices(origins_m)
    outside = ~around.grid.contains(cells)
    if outside.any():
        raise InvalidInputError(
            f"{sensor.name}.position_m",
            f"{origins_m[outside][0].tolist()} in the ego frame of frame {around.frame}, outside the grid",
            f"a place between {around.grid.lower_m} and {around.grid.upper_m}",
        )
    classes = labels[tuple(cells.T)]
    if classes.any():
        first = int(np.argmax(classes > 0))
        raise InvalidInputError(
            f"{sensor.name}.position_m",
            f"{origins_m[first].tolist()} in the ego frame of frame {around.frame}, inside cell "
            f"{tuple(cells[first].tolist())} of class {around.taxonomy.names[classes[first]]!r}",
            "a free cell",
            "Move the sensor, or leave this frame out.",
        )
