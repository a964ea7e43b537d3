"""Rigid bodies: the one shape that the frames of a chunk agree on for a vehicle, and where it is in each of them."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64, UInt8
from scipy import ndimage

from dyncity_models.drive.classes import FREE, PEDESTRIAN, VEHICLE
from dyncity_models.hexplane import compose, invert, transform
from dyncity_sim.domain.frames import planar_from_poses
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.scene import Track
from dyncity_sim.scene.actors.footprint import sides

VOTING_CELLS = 2
"""Cells of a shape along one of the grid, so that frames which cut a vehicle up differently add to each other."""

MARGIN_M = 0.2
"""Cells so far outside of a track's box still vote on its shape."""

LAYERS_MORE = 2
"""Layers over those that a box fills, for heights are medians."""


Shown = tuple[Int64[np.ndarray, "P 2"], UInt8[np.ndarray, "P Z"]]
"""Columns of the grid with cells of a body in a frame, and the labels that it has there."""


@dataclass(frozen=True, eq=False)
class Course:
    """Where a vehicle or a pedestrian is in each frame of a chunk.

    Attributes:
        ego_from_body: x, y, yaw in the ego frame of each, metres and radians; between sightings on a line, and before
            the first and after the last one as fast as then.
        above_ground: for each layer of the grid, how many lie between it and the one under the body.
        seen: the frames with a sighting.
    """

    ego_from_body: Float64[np.ndarray, "T 3"]
    above_ground: Int64[np.ndarray, "T Z"]
    seen: Int64[np.ndarray, " N"]

    @classmethod
    def of(cls, track: Track, chunk: OccupancySequence) -> Self:
        """The course of a track that was found in a chunk."""
        times_s, seen_s = (times_us.astype(np.float64) * 1e-6 for times_us in (chunk.times_us, track.times_us))
        sightings = planar_from_poses(track.poses_world_from_actor)
        sightings[:, 2] = np.unwrap(sightings[:, 2])
        planar = np.stack([np.interp(times_s, seen_s, sightings[:, axis]) for axis in range(3)], axis=-1)
        for end, beyond in ((0, times_s < seen_s[0]), (-1, times_s > seen_s[-1])):
            planar[beyond, :2] += (times_s[beyond] - seen_s[end])[:, None] * track.velocities_world_mps[end, :2]
        ground_m = np.interp(times_s, seen_s, track.poses_world_from_actor[:, 2, 3] - track.size_m[2] / 2)
        seen = np.searchsorted(chunk.times_us, track.times_us)
        over_ground_m = chunk.grid.centres(2) + (chunk.poses_world_from_ego[:, 2, 3] - ground_m)[:, None]
        above_ground = np.floor(over_ground_m / chunk.grid.voxel_size_m[2] + 0.5).astype(np.int64)
        return cls(_in_ego(planar, chunk), above_ground, seen)

    def in_world(self, chunk: OccupancySequence) -> Float64[np.ndarray, "T 3"]:
        """x, y, yaw in the world in each frame of its chunk."""
        ego = torch.from_numpy(planar_from_poses(chunk.poses_world_from_ego))
        return np.asarray(compose(ego, torch.from_numpy(self.ego_from_body)).numpy())

    def along(self, way: Float64[np.ndarray, "T 3"], chunk: OccupancySequence) -> Self:
        """Another course over the same ground, x, y, yaw in the world, that is seen in all frames."""
        return replace(self, ego_from_body=_in_ego(way, chunk), seen=np.arange(len(chunk)))

    def to_ego(self, frame: int, points_m: Float64[np.ndarray, "*P 2"]) -> Float64[np.ndarray, "*P 2"]:
        """Points of the body in the ego frame of a frame."""
        return np.asarray(transform(torch.from_numpy(self.ego_from_body[frame]), torch.from_numpy(points_m)).numpy())

    def to_body(self, frame: int, points_m: Float64[np.ndarray, "*P 2"]) -> Float64[np.ndarray, "*P 2"]:
        """Points of the ego frame of a frame in that of the body."""
        body_from_ego = invert(torch.from_numpy(self.ego_from_body[frame]))
        return np.asarray(transform(body_from_ego, torch.from_numpy(points_m)).numpy())


@dataclass(frozen=True, eq=False)
class Body:
    """A vehicle of one shape on its course, its riders included.

    Attributes:
        labels: of its cells along, across and above the ground, free where it has none.
        cell_m: edges of these cells seen from above.
        course: where it is.
    """

    labels: UInt8[np.ndarray, "U V W"]
    cell_m: Float64[np.ndarray, " 2"]
    course: Course

    @classmethod
    def voted(cls, track: Track, chunk: OccupancySequence, movers: Bool[np.ndarray, "T X Y Z"]) -> Self:
        """The shape that at least half of the frames show which have it in view.

        Left and right of a vehicle are alike, so that each side votes on both.

        Args:
            track: of the vehicle.
            chunk: in which it was found.
            movers: cells of vehicles and their riders.
        """
        grid, course = chunk.grid, Course.of(track, chunk)
        cell_m = np.array(grid.voxel_size_m[:2]) / VOTING_CELLS
        length, width = (2 * np.ceil((np.array(track.size_m[:2]) / 2 + MARGIN_M) / cell_m)).astype(np.int64)
        layers = int(np.ceil(track.size_m[2] / grid.voxel_size_m[2])) + LAYERS_MORE
        along, across = ((np.arange(n) + 0.5 - n / 2) * m for n, m in zip((length, width), cell_m, strict=True))
        points = np.stack(np.meshgrid(along, across, indexing="ij"), axis=-1)
        vehicle, rider, views = np.zeros((3, length, width, layers))
        for frame in course.seen:
            index = np.floor((course.to_ego(frame, points) - grid.lower_m[:2]) / grid.voxel_size_m[:2]).astype(np.int64)
            inside = ((index >= 0) & (index < grid.shape[:2])).all(axis=-1)
            above = course.above_ground[frame]
            shown = (above >= 0) & (above < layers)
            at = (*(axis[:, None] for axis in np.nonzero(inside)), above[shown])
            x, y = index[inside].T
            found = np.where(movers[frame, x, y], chunk.labels[frame, x, y], FREE)[:, shown]
            vehicle[at] += found == VEHICLE
            rider[at] += found == PEDESTRIAN
            views[at] += 1
        vehicle, rider, views = (votes + votes[:, ::-1] for votes in (vehicle, rider, views))
        labels = np.where(vehicle + rider > views / 2, np.where(rider > vehicle, PEDESTRIAN, VEHICLE), FREE)
        return cls(_in_one_piece(labels.astype(np.uint8)), cell_m, course)

    def along(self, way: Float64[np.ndarray, "T 3"], chunk: OccupancySequence) -> Self:
        """The same shape on another way, x, y, yaw in the world in each frame, over the same ground."""
        return replace(self, course=self.course.along(way, chunk))

    def is_seen_whole(self, chunk: OccupancySequence) -> bool:
        """Whether all of it lies in the grid in a frame with a sighting."""
        reach_m = np.array(self.labels.shape[:2]) * self.cell_m / 2
        corners_m = reach_m * np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0], [-1.0, 1.0]])
        lower_m, upper_m = np.array(chunk.grid.lower_m[:2]), np.array(chunk.grid.upper_m[:2])
        seen = (self.course.to_ego(frame, corners_m) for frame in self.course.seen)
        return any(bool(((lower_m <= at_m) & (at_m <= upper_m)).all()) for at_m in seen)

    @property
    def size(self) -> int:
        """How many cells it has in all frames with a sighting together."""
        return int((self.labels != FREE).sum()) * len(self.course.seen)

    @property
    def sides_m(self) -> Float64[np.ndarray, " 2"]:
        """Length and width of the rectangle behind the shape seen from above, which a few stray cells do not change."""
        columns = np.argwhere((self.labels != FREE).any(axis=-1))
        return np.array(sides(columns.astype(np.float64), 0.0, 1.0)) * self.cell_m

    def boxed(self) -> Self:
        """The rectangle behind the shape, in each part of its length as high all across as most of the shape is there.

        What frames agree on of a vehicle that each shows a little otherwise is narrow at its ends, as no vehicle is.
        """
        solid = self.labels != FREE
        middle = np.argwhere(solid.any(axis=-1)).mean(axis=0) + 0.5
        along, across = (
            np.abs(np.arange(count) + 0.5 - m) < side_m / cell_m / 2
            for count, m, side_m, cell_m in zip(solid.shape[:2], middle, self.sides_m, self.cell_m, strict=True)
        )
        width = solid.any(axis=-1).sum(axis=1)
        shown = np.flatnonzero(width)
        nearest = shown[np.abs(np.arange(len(width))[:, None] - shown).argmin(axis=1)]
        profile = (2 * solid.sum(axis=1) >= width[:, None])[nearest]
        filled = along[:, None, None] & across[:, None] & profile[:, None]
        return replace(self, labels=np.where(filled, VEHICLE, FREE).astype(np.uint8))

    def resized(self, factors: Float64[np.ndarray, " 2"]) -> Self:
        """The same shape so many times as long and as wide, around the same middle."""
        return replace(self, cell_m=self.cell_m * factors)

    def shown_in(self, frame: int, chunk: OccupancySequence) -> Shown:
        """Where it is in a frame of a chunk."""
        grid, size = chunk.grid, np.array(self.labels.shape[:2])
        middle_m, reach_m = self.course.ego_from_body[frame, :2], np.hypot(*(size * self.cell_m)) / 2
        first, last = (
            np.floor((middle_m + side * reach_m - grid.lower_m[:2]) / grid.voxel_size_m[:2]).astype(np.int64)
            for side in (-1, 1)
        )
        x, y = (np.arange(max(a, 0), min(b + 1, n)) for a, b, n in zip(first, last, grid.shape, strict=False))
        centres_m = np.stack(np.meshgrid(grid.centres(0)[x], grid.centres(1)[y], indexing="ij"), axis=-1)
        index = np.floor(self.course.to_body(frame, centres_m) / self.cell_m + size / 2).astype(np.int64)
        inside = ((index >= 0) & (index < size)).all(axis=-1)
        above, layers = self.course.above_ground[frame], self.labels.shape[2]
        u, v = np.moveaxis(index.clip(0, size - 1), -1, 0)
        found = self.labels[u[..., None], v[..., None], above.clip(0, layers - 1)]
        there = _in_one_piece(np.where(inside[..., None] & (above >= 0) & (above < layers), found, FREE))
        filled = np.argwhere((there != FREE).any(axis=-1))
        return filled + np.array([x[:1].sum(), y[:1].sum()]), there[tuple(filled.T)]


def _in_ego(planar: Float64[np.ndarray, "T 3"], chunk: OccupancySequence) -> Float64[np.ndarray, "T 3"]:
    ego_from_world = invert(torch.from_numpy(planar_from_poses(chunk.poses_world_from_ego)))
    return np.asarray(compose(ego_from_world, torch.from_numpy(planar)).numpy())


def _in_one_piece(labels: UInt8[np.ndarray, "X Y Z"]) -> UInt8[np.ndarray, "X Y Z"]:
    return np.where(largest_piece((labels != FREE).any(axis=-1))[..., None], labels, FREE).astype(np.uint8)


def largest_piece(columns: Bool[np.ndarray, "X Y"]) -> Bool[np.ndarray, "X Y"]:
    """The largest piece of some columns; those that touch at a corner alone are not connected."""
    numbered, count = ndimage.label(columns)
    if count < 2:
        return columns
    return np.asarray(numbered == 1 + int(np.bincount(numbered.ravel())[1:].argmax()))
