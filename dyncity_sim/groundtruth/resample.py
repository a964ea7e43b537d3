"""Cells of a frame as a writer stores them: in the drive's own grid, or taken over into another, cell by cell."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int64, Shaped, UInt8, UInt16

from dyncity_sim.domain.frames import Pose, transform_points
from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.ground_truth import LabelledFrame


@dataclass(frozen=True, eq=False)
class Cells:
    """What a frame says of each cell of a grid.

    Attributes:
        grid: where the cells lie.
        labels: class of each cell, ``(X, Y, Z)``; 0 where nothing is known.
        known: which cells the source knows, ``(X, Y, Z)``.
        instances: track id of each cell of a moving class, ``(X, Y, Z)``; 0 elsewhere.
        seen_by_lidar: known cells that a ray of a LiDAR hits or passes, ``(X, Y, Z)``.
        seen_by_camera: the same for cameras; all False in a rig without any.
    """

    grid: Grid
    labels: UInt8[np.ndarray, "X Y Z"]
    known: Bool[np.ndarray, "X Y Z"]
    instances: UInt16[np.ndarray, "X Y Z"]
    seen_by_lidar: Bool[np.ndarray, "X Y Z"]
    seen_by_camera: Bool[np.ndarray, "X Y Z"]


@dataclass(frozen=True, eq=False)
class Resampling:
    """Nearest neighbour: each cell of ``target`` takes what the cell of ``source`` around its centre holds.

    Attributes:
        source: grid of the frames, in the ego frame.
        target: grid that is wanted, in a frame of its own.
        pose_source_from_target: ``(4, 4)`` that frame in the ego frame.
    """

    source: Grid
    target: Grid
    pose_source_from_target: Pose

    @cached_property
    def _places(self) -> Int64[np.ndarray, "X Y Z"]:
        """Flat index into the source of each target cell; -1 outside."""
        axes = np.meshgrid(*(self.target.centres(axis) for axis in range(3)), indexing="ij")
        points = transform_points(self.pose_source_from_target, np.stack(axes, axis=-1).reshape(-1, 3))
        indices = self.source.indices(points)
        inside = self.source.contains(indices)
        places = np.full(len(points), -1, dtype=np.int64)
        places[inside] = np.ravel_multi_index(tuple(indices[inside].T), self.source.shape)
        return places.reshape(self.target.shape)

    def take(self, array: Shaped[np.ndarray, "X Y Z *C"], outside: float) -> Shaped[np.ndarray, "X Y Z *C"]:
        """``array`` of the source in the target's cells; ``outside`` where the source has no cell."""
        taken = array.reshape(-1, *array.shape[3:])[self._places]
        taken[self._places < 0] = outside
        return taken

    def cells(self, frame: LabelledFrame) -> Cells:
        """The cells of a frame in the target's grid; nothing is known outside the source's."""
        own = own_cells(frame, self.source)
        return Cells(
            self.target,
            self.take(own.labels, 0),
            self.take(own.known, False),
            self.take(own.instances, 0),
            self.take(own.seen_by_lidar, False),
            self.take(own.seen_by_camera, False),
        )


def own_cells(frame: LabelledFrame, grid: Grid) -> Cells:
    """The cells of a frame as they are."""
    known = np.ones(grid.shape, dtype=np.bool_) if frame.observed is None else frame.observed
    by_camera = np.zeros(grid.shape, dtype=np.bool_) if frame.seen_by_camera is None else frame.seen_by_camera
    labels, instances = frame.labels, frame.instances
    if frame.observed is not None:
        labels, instances = np.where(known, labels, 0), np.where(known, instances, 0)
    return Cells(grid, labels, known, instances, frame.seen_by_lidar & known, by_camera & known)
