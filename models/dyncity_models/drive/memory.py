"""What a drive knows of its world: the static map so far and the movers of the last frames.

It travels inside the continuation (``packing.py``), so it is bounded: a square of columns that moves with the ego, up
and down, too. A cell is written once, by the first chunk that shows it, and never resampled afterwards; that is why
long drives do not drift.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8

from dyncity_models.data.clips import UNOBSERVED
from dyncity_models.drive.borders import IS_SURFACE, SURFACES, columns_at, surfaces_at
from dyncity_models.drive.classes import FREE
from dyncity_sim.domain.grid import LIDAR_HEIGHT_M, Grid, columns_of
from dyncity_sim.domain.taxonomy import CARLASC

COLUMNS = 320
"""Columns along each side of the remembered square (128 m at 0.4 m)."""

LAYERS_AROUND = 6
"""Layers over and under those of the ego's grid (2.2 m): how far its world may rise or fall."""

MOST_ROAD_USERS = 255
"""Vehicles and pedestrians that a continuation may number."""

MOTION = ("x_m", "y_m", "yaw_rad", "length_m", "width_m", "speed_mps", "on_foot")
"""What a continuation says of each of them, in the ego frame of the last frame; 1 is on foot, 0 a vehicle."""

VOTING_FRAMES = 6
"""Frames of a chunk, evenly spread, that vote on what it shows."""


@dataclass(frozen=True, eq=False)
class DriveMemory:
    """The static world around the ego, and who was moving in it.

    Attributes:
        labels: ``(N, N, L)`` static labels, ``UNOBSERVED`` where nothing is known; ``LAYERS_AROUND`` layers lie under
            the ``Z`` of an ego at ``height_m``, and as many over them.
        world_from_memory: x, y, yaw of the memory's axes, which never change over a drive.
        corner: cell index of ``labels[0, 0]`` along the memory's axes.
        height_m: world height of an ego whose layers are in the middle; that of the ego, to less than a layer, where
            the memory was centred.
        movers: columns with vehicles, then pedestrians, in the last frames, ``(M, X, Y)``.
        movers_planar: x, y, yaw of the ego in the world for each of ``movers``.
        road_users: cells of the last frame (that of ``movers[0]``): the number, from 1, of who fills them, or 0.
        motion: ``MOTION`` of each of these.
    """

    labels: UInt8[np.ndarray, "N N L"]
    world_from_memory: Float64[np.ndarray, " 3"]
    corner: Int64[np.ndarray, " 2"]
    height_m: float
    movers: Bool[np.ndarray, "M X Y"]
    movers_planar: Float64[np.ndarray, "M 3"]
    road_users: UInt8[np.ndarray, "X Y Z"]
    motion: Float64[np.ndarray, "V 7"]

    @classmethod
    def empty(cls, planar: Float64[np.ndarray, " 3"], height_m: float, grid: Grid) -> "DriveMemory":
        """Nothing known, centred on an ego pose."""
        return cls(
            np.full((COLUMNS, COLUMNS, grid.shape[2] + 2 * LAYERS_AROUND), UNOBSERVED, dtype=np.uint8),
            np.array(planar, dtype=np.float64),
            np.full(2, -COLUMNS // 2, dtype=np.int64),
            height_m,
            np.zeros((0, *grid.shape[:2]), dtype=np.bool_),
            np.zeros((0, 3)),
            np.zeros(grid.shape, dtype=np.uint8),
            np.zeros((0, len(MOTION))),
        )

    def centred_on(self, xy_world: Float64[np.ndarray, " 2"], height_m: float, grid: Grid) -> "DriveMemory":
        """The square moved (by whole cells) so that a point of the world and an ego's height are in its middle."""
        corner = np.floor(self._axes(xy_world) / grid.voxel_size_m[0]).astype(np.int64) - COLUMNS // 2
        shift = corner - self.corner
        (lift,) = self.lifts(np.array([height_m]), grid)
        labels = np.full_like(self.labels, UNOBSERVED)
        if (np.abs(shift) < COLUMNS).all():
            kept = [slice(max(0, s), COLUMNS + min(0, s)) for s in shift]
            place = [slice(max(0, -s), COLUMNS + min(0, -s)) for s in shift]
            labels[place[0], place[1]] = _layers(self.labels, lift, self.labels.shape[-1])[kept[0], kept[1]]
        centred_m = self.height_m + lift * grid.voxel_size_m[2]
        return replace(self, labels=labels, corner=corner, height_m=centred_m)

    def seen_from(
        self,
        planar: Float64[np.ndarray, "T 3"],
        heights_m: Float64[np.ndarray, " T"],
        grid: Grid,
        straight: bool = False,
    ) -> UInt8[np.ndarray, "T X Y Z"]:
        """Known static labels of the nearest columns in the ego grids of some frames, ``UNOBSERVED`` elsewhere.

        With ``straight``, borders of surfaces and buildings lie where most of what is around says (``borders``).
        """
        points = self._axes(columns_seen_from(planar, grid))
        points = points / grid.voxel_size_m[0] - self.corner
        nearest = np.floor(points).astype(np.int64).clip(0, COLUMNS - 1)
        lifts = self.lifts(heights_m, grid)
        labels, lowest = self._between(lifts, grid, under=1)
        index = columns_at(labels, points) if straight else nearest
        found = labels[index[..., 0], index[..., 1]]
        if straight:
            found = np.where(IS_SURFACE[found], surfaces_at(labels, points)[..., None], found)
        inside = (points >= 0) & (points < COLUMNS)
        found[~(inside[..., 0] & inside[..., 1])] = UNOBSERVED
        views = [_layers(one, lift - lowest, grid.shape[2] + 1) for one, lift in zip(found, lifts, strict=True)]
        return with_surfaces_under(np.stack(views))

    def known_on_canvas(
        self, anchor: Float64[np.ndarray, " 3"], height_m: float, cells: int, half_extent_m: float, grid: Grid
    ) -> Bool[np.ndarray, "C C"]:
        """Canvas cells of which most of what an ego at ``height_m`` would see of the static world is known."""
        index, inside = self._index(_cell_centres_world(anchor[None], cells, half_extent_m)[0], grid)
        (lift,) = self.lifts(np.array([height_m]), grid)
        seen = _layers(self.labels, LAYERS_AROUND + lift, grid.shape[2])
        # Of a column that is free over what is not known, the ground is not known.
        grounded = (seen[..., 0] != UNOBSERVED) | columns_of(IS_SURFACE[seen])
        known_column = grounded & ((seen != UNOBSERVED).sum(axis=-1) > seen.shape[-1] // 2)
        return known_column[index[..., 0], index[..., 1]] & inside

    def learn(
        self,
        labels: UInt8[np.ndarray, "T X Y Z"],
        planar: Float64[np.ndarray, "T 3"],
        heights_m: Float64[np.ndarray, " T"],
        grid: Grid,
        evidence: Bool[np.ndarray, "T X Y"] | None = None,
        voting_frames: int = VOTING_FRAMES,
    ) -> "DriveMemory":
        """Add what some frames show where nothing was known, by majority over frames; movers do not vote."""
        lifts = self.lifts(heights_m, grid)
        before, lowest = self._between(lifts, grid)
        votes = np.zeros((*before.shape, UNOBSERVED), dtype=np.uint8)
        columns = np.argwhere(columns_of(before == UNOBSERVED))
        world = self._world(columns, grid)
        voters = np.unique(np.linspace(0, len(labels) - 1, min(voting_frames, len(labels))).astype(int))
        for frame in voters:
            ego = _in_frame_of(planar[frame], world)
            cell = np.floor((ego - np.array(grid.lower_m[:2])) / np.array(grid.voxel_size_m[:2])).astype(np.int64)
            inside = ((cell >= 0) & (cell < np.array(grid.shape[:2]))).all(axis=-1)
            if evidence is not None:
                inside[inside] &= evidence[frame][cell[inside, 0], cell[inside, 1]]
            here, there = columns[inside], cell[inside]
            shown = _layers(labels[frame][there[:, 0], there[:, 1]], lowest - lifts[frame], before.shape[-1])
            _vote(votes, here, shown)
        votes[..., list(CARLASC.moving_labels)] = 0
        decided = np.where(votes.any(axis=-1), votes.argmax(axis=-1), UNOBSERVED).astype(np.uint8)
        # On a slope frames round the height of a road up or down: where as many do one as the other, it is there.
        surfaces = votes[..., SURFACES].max(axis=-1)
        tied = (decided == FREE) & (surfaces == votes[..., FREE])
        decided[tied] = SURFACES[votes[tied][:, SURFACES].argmax(axis=-1)]
        learnt, first = self.labels.copy(), LAYERS_AROUND + lowest
        learnt[..., first : first + before.shape[-1]] = np.where(before == UNOBSERVED, decided, before)
        return replace(self, labels=learnt)

    def columns_world(self, grid: Grid) -> Float64[np.ndarray, "N N 2"]:
        """World x, y of the middle of each column."""
        columns = np.argwhere(np.ones((COLUMNS, COLUMNS), dtype=np.bool_))
        return self._world(columns, grid).reshape(COLUMNS, COLUMNS, 2)

    def labels_at(self, points_world: Float64[np.ndarray, "*P 2"], grid: Grid) -> UInt8[np.ndarray, "*P L"]:
        """Labels of the columns that points of the world lie in, ``UNOBSERVED`` beyond the square."""
        index, inside = self._index(points_world, grid)
        return np.where(inside[..., None], self.labels[index[..., 0], index[..., 1]], UNOBSERVED).astype(np.uint8)

    def _axes(self, xy_world: Float64[np.ndarray, "... 2"]) -> Float64[np.ndarray, "... 2"]:
        return _in_frame_of(self.world_from_memory, xy_world)

    def _world(self, columns: Int64[np.ndarray, "L 2"], grid: Grid) -> Float64[np.ndarray, "L 2"]:
        x, y, yaw = self.world_from_memory
        along = (columns + self.corner + 0.5) * grid.voxel_size_m[0]
        return np.stack(
            [
                np.cos(yaw) * along[:, 0] - np.sin(yaw) * along[:, 1] + x,
                np.sin(yaw) * along[:, 0] + np.cos(yaw) * along[:, 1] + y,
            ],
            axis=-1,
        )

    def _index(
        self, points_world: Float64[np.ndarray, "... 2"], grid: Grid
    ) -> tuple[Int64[np.ndarray, "... 2"], Bool[np.ndarray, "..."]]:
        index = np.floor(self._axes(points_world) / grid.voxel_size_m[0]).astype(np.int64) - self.corner
        inside = ((index >= 0) & (index < COLUMNS)).all(axis=-1)
        return index.clip(0, COLUMNS - 1), inside

    def _between(
        self, lifts: Int64[np.ndarray, " T"], grid: Grid, under: int = 0
    ) -> tuple[UInt8[np.ndarray, "N N K"], int]:
        """(The remembered layers that egos of some lifts see, and some ``under`` them, the lowest ego's lift)."""
        lowest, highest = (int(lift) for lift in np.clip([lifts.min(), lifts.max()], -LAYERS_AROUND, LAYERS_AROUND))
        first, count = LAYERS_AROUND + lowest - under, highest - lowest + grid.shape[2] + under
        return _layers(self.labels, first, count), lowest

    def lifts(self, heights_m: Float64[np.ndarray, " P"], grid: Grid) -> Int64[np.ndarray, " P"]:
        """By how many layers the road under egos lies over that of one at ``height_m``, in the layer that it is in."""
        road_m = -LIDAR_HEIGHT_M - grid.lower_m[2]
        return np.floor((heights_m - self.height_m + road_m) / grid.voxel_size_m[2]).astype(np.int64)


def columns_seen_from(planar: Float64[np.ndarray, "T 3"], grid: Grid) -> Float64[np.ndarray, "T X Y 2"]:
    """World x, y of the middle of each column of the ego grids at some poses."""
    return _cell_centres_world(planar, grid.shape[0], -grid.lower_m[0])


def raised(labels: UInt8[np.ndarray, "*N L"], lifts: Int64[np.ndarray, "*N"]) -> UInt8[np.ndarray, "*N L"]:
    """Columns raised by whole layers; what comes into view from beyond is unknown."""
    moved, columns = labels.copy(), np.nonzero(lifts)
    source = np.arange(labels.shape[-1]) - lifts[columns][:, None]
    found = np.take_along_axis(labels[columns], source.clip(0, labels.shape[-1] - 1), axis=-1)
    moved[columns] = np.where((source >= 0) & (source < labels.shape[-1]), found, UNOBSERVED)
    return moved


def _in_frame_of(
    planar: Float64[np.ndarray, " 3"], xy_world: Float64[np.ndarray, "... 2"]
) -> Float64[np.ndarray, "... 2"]:
    """Points of the world in the frame of a pose."""
    x, y, yaw = planar
    dx, dy = xy_world[..., 0] - x, xy_world[..., 1] - y
    return np.stack([np.cos(yaw) * dx + np.sin(yaw) * dy, -np.sin(yaw) * dx + np.cos(yaw) * dy], axis=-1)


def _cell_centres_world(
    planar: Float64[np.ndarray, "T 3"], cells: int, half_extent_m: float
) -> Float64[np.ndarray, "T X Y 2"]:
    """World x, y of each column of the square maps around some poses."""
    axis = (np.arange(cells) + 0.5) * (2 * half_extent_m / cells) - half_extent_m
    x, y = np.meshgrid(axis, axis, indexing="ij")
    cos, sin = np.cos(planar[:, 2])[:, None, None], np.sin(planar[:, 2])[:, None, None]
    return np.stack(
        [cos * x - sin * y + planar[:, 0, None, None], sin * x + cos * y + planar[:, 1, None, None]], axis=-1
    )


def _layers(labels: UInt8[np.ndarray, "... L"], first: int, count: int) -> UInt8[np.ndarray, "... K"]:
    """Some layers, from ``first`` on; those that are not there are unknown."""
    there = slice(max(0, first), max(0, min(first + count, labels.shape[-1])))
    found = labels[..., there]
    if found.shape[-1] == count:
        return found
    padded = np.full((*labels.shape[:-1], count), UNOBSERVED, dtype=np.uint8)
    padded[..., there.start - first : there.start - first + found.shape[-1]] = found
    return padded


def with_surfaces_under(labels: UInt8[np.ndarray, "T X Y L"]) -> UInt8[np.ndarray, "T X Y Z"]:
    """All layers but the first, whose surfaces are shown in the second where a column has no other.

    The road under the ego lies 0.2 m over the lower side of its grid, and heights are rounded to layers: without them
    the road ahead would have a hole wherever it falls by a layer.
    """
    under, shown = labels[..., 0], labels[..., 1:].copy()
    bare = IS_SURFACE[under] & ~columns_of(IS_SURFACE[shown]) & np.isin(shown[..., 0], (FREE, UNOBSERVED))
    shown[bare, 0] = under[bare]
    return shown


def _vote(
    votes: UInt8[np.ndarray, "N N Z K"], columns: Int64[np.ndarray, "L 2"], shown: UInt8[np.ndarray, "L Z"]
) -> None:
    known = shown < votes.shape[-1]
    column, z = known.nonzero()
    votes[columns[column, 0], columns[column, 1], z, shown[known]] += 1
