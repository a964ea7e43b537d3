"""Where the vehicles and pedestrians of one frame may be in the other frames of a chunk.

They go on at constant speed, vehicles along an arc, and brake where the way is not free. How fast they are, the last
frames of the chunk before say (``onward.py``), or it is drawn (``one_frame.py``).
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64

from dyncity_models.drive.ways import along_arc
from dyncity_models.hexplane import cell_centres, compose, invert, transform
from dyncity_sim.domain.grid import columns_of


@dataclass(frozen=True, eq=False)
class Forecast:
    """Vehicles and pedestrians of one frame and how they go on, at constant speed or braking; who stands, at 0 m/s.

    Attributes:
        frame: the one that is known; -1 for the last one before the chunk.
        planar: x, y, yaw of the ego in that frame, metres and radians in the world.
        cells: of each in the ego grid of that frame.
        poses: x, y, yaw of each in that ego frame.
        curvatures_per_m: of each one's arc, left positive.
        speeds_mps: of each in that frame.
        brakings_mps2: by which it loses speed from then on, until it stands; who speeds up, less than 0.
        on_foot: which of them are pedestrians.
        half_extent_m: of the grid.
    """

    frame: int
    planar: Float64[np.ndarray, " 3"]
    cells: Bool[np.ndarray, "N X Y Z"]
    poses: Float64[np.ndarray, "N 3"]
    curvatures_per_m: Float64[np.ndarray, " N"]
    speeds_mps: Float64[np.ndarray, " N"]
    brakings_mps2: Float64[np.ndarray, " N"]
    on_foot: Bool[np.ndarray, " N"]
    half_extent_m: float

    @property
    def leaving(self) -> Bool[np.ndarray, "X Y Z"]:
        """Cells of the frame that are free once who was there has gone on."""
        return np.asarray(self.cells[self.speeds_mps > 0].any(axis=0))

    def only(self, chosen: Bool[np.ndarray, " N"]) -> "Forecast":
        """Some of them."""
        return replace(
            self,
            cells=self.cells[chosen],
            poses=self.poses[chosen],
            curvatures_per_m=self.curvatures_per_m[chosen],
            speeds_mps=self.speeds_mps[chosen],
            brakings_mps2=self.brakings_mps2[chosen],
            on_foot=self.on_foot[chosen],
        )

    def one(self, n: int) -> "Forecast":
        """One of them alone."""
        return self.only(np.arange(len(self.cells)) == n)

    def rolled_m(self, seconds: Float64[np.ndarray, " F"]) -> Float64[np.ndarray, "N F"]:
        """How far each has come since the frame that is known; negative before it, where it did not brake."""
        speeds, brakings = self.speeds_mps[:, None], self.brakings_mps2[:, None]
        until_it_stands = np.divide(speeds, brakings, out=np.full_like(speeds, np.inf), where=brakings > 0)
        rolling = np.minimum(seconds, until_it_stands)
        return np.asarray(speeds * rolling - brakings * np.maximum(rolling, 0.0) ** 2 / 2)

    def speeds_mps_at(self, second: float) -> Float64[np.ndarray, " N"]:
        """How fast each is some time after the frame that is known."""
        return np.asarray(np.maximum(self.speeds_mps - self.brakings_mps2 * second, 0.0))

    def poses_at(self, planar: Float64[np.ndarray, " 3"], second: float) -> Float64[np.ndarray, "N 3"]:
        """x, y, yaw of each in the ego frame at another pose, some time after the frame that is known."""
        rolled_m = self.rolled_m(np.array([second]))
        ways = zip(self.poses, self.curvatures_per_m, rolled_m, strict=True)
        there = np.array([along_arc(pose, curvature, rolled)[0] for pose, curvature, rolled in ways]).reshape(-1, 3)
        ego_from_known = compose(invert(torch.from_numpy(planar)), torch.from_numpy(self.planar))
        return np.asarray(compose(ego_from_known.expand(len(there), 3), torch.from_numpy(there)).numpy())

    def seen_from(
        self, planar: Float64[np.ndarray, "F 3"], seconds: Float64[np.ndarray, " F"]
    ) -> Bool[np.ndarray, "F X Y Z"]:
        """Cells with any of them in ego grids at other poses and times.

        Args:
            planar: x, y, yaw of the ego in the world.
            seconds: since the frame that is known; negative before it.
        """
        known_from_ego = compose(invert(torch.from_numpy(self.planar)), torch.from_numpy(planar))
        centres = cell_centres(self.cells.shape[1], self.half_extent_m).double()
        seen = np.zeros((len(planar), *self.cells.shape[1:]), dtype=np.bool_)
        for cells, pose, curvature, rolled_m in zip(
            self.cells, self.poses, self.curvatures_per_m, self.rolled_m(seconds), strict=True
        ):
            there = torch.from_numpy(along_arc(pose, curvature, rolled_m))
            middles = transform(invert(known_from_ego), there[:, :2]).numpy()
            frame, x, y = self._columns_near(middles, self._reach_m(cells, pose))
            points = transform(known_from_ego[frame], centres[x, y])
            known_from_moved = compose(torch.from_numpy(pose).expand_as(there), invert(there))
            known_x, known_y = self._columns_at(transform(known_from_moved[frame], points).numpy()).T
            inside = (known_x >= 0) & (known_x < len(centres)) & (known_y >= 0) & (known_y < len(centres))
            frame, x, y, known_x, known_y = (index[inside] for index in (frame, x, y, known_x, known_y))
            seen[frame, x, y] |= cells[known_x, known_y]
        return seen

    def _reach_m(self, cells: Bool[np.ndarray, "X Y Z"], pose: Float64[np.ndarray, " 3"]) -> float:
        """How far from a pose the farthest corner of the columns of some cells is."""
        size_m = 2 * self.half_extent_m / len(cells)
        centres_m = (np.argwhere(columns_of(cells)) + 0.5) * size_m - self.half_extent_m
        return float(np.linalg.norm(centres_m - pose[:2], axis=1).max(initial=0.0)) + size_m

    def _columns_near(
        self, middles_m: Float64[np.ndarray, "F 2"], reach_m: float
    ) -> tuple[Int64[np.ndarray, " P"], Int64[np.ndarray, " P"], Int64[np.ndarray, " P"]]:
        """Frame, x and y of the columns of the grid in a square that reaches so far around a point of each frame."""
        size = self.cells.shape[1]
        reach = int(np.ceil(reach_m / (2 * self.half_extent_m) * size))
        along = np.arange(-reach, reach + 1)
        around = np.stack(np.meshgrid(along, along, indexing="ij"), axis=-1).reshape(-1, 2)
        columns = self._columns_at(middles_m)[:, None] + around
        frame, which = np.nonzero(((columns >= 0) & (columns < size)).all(axis=-1))
        return frame, *columns[frame, which].T

    def _columns_at(self, points_m: Float64[np.ndarray, "P 2"]) -> Int64[np.ndarray, "P 2"]:
        """Columns that points lie in, of the grid or beyond it."""
        return np.floor((points_m / (2 * self.half_extent_m) + 0.5) * self.cells.shape[1]).astype(np.int64)
