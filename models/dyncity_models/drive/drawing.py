"""Bodies drawn into the frames of a chunk: where they have room, and where neither others nor the ego are."""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from dyncity_models.drive.bodies import Body, Shown, largest_piece
from dyncity_models.drive.classes import FREE, VEHICLE
from dyncity_models.drive.ways import GRAZED_SHARE, under_ego
from dyncity_sim.domain.grid import columns_of
from dyncity_sim.domain.occupancy import OccupancySequence

OVERLAPPING_SHARE = 0.15
"""Of the columns of a vehicle, seen from above; one that others cover more of was drawn twice."""

ROOM_SHARE = 0.7
"""Where less of a body has room, it does not go on beyond its sightings."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """A body in each frame of a chunk.

    Attributes:
        seen: the frames with a sighting.
        shown: where it is in each frame.
        chunk: as generated.
    """

    seen: Int64[np.ndarray, " N"]
    shown: list[Shown]
    chunk: OccupancySequence

    @classmethod
    def of(cls, body: Body, chunk: OccupancySequence) -> Self:
        """A body on its course."""
        return cls(body.course.seen, [body.shown_in(frame, chunk) for frame in range(len(chunk))], chunk)

    @cached_property
    def runs_into_ego(self) -> bool:
        """Whether the ego would drive through it."""
        shown = (self.shown[frame][0] for frame in self.seen)
        return any(len(columns) and under_ego(columns, self.chunk.grid).mean() > GRAZED_SHARE for columns in shown)

    def is_in_another(self, drawn: Bool[np.ndarray, "T X Y Z"]) -> bool:
        """Whether others were drawn where it is, in the mean over its sightings: two vehicles are not in one place."""
        shares = [
            drawn[frame][tuple(self.shown[frame][0].T)].any(axis=-1).mean()
            for frame in self.seen
            if len(self.shown[frame][0])
        ]
        return bool(shares) and float(np.mean(shares)) > OVERLAPPING_SHARE

    def is_free(self, labels: UInt8[np.ndarray, "T X Y Z"]) -> bool:
        """Whether it has room wherever it is in view, beside other vehicles, and keeps off the ego."""
        for frame in self.seen:
            columns, found = self.shown[frame]
            if not _has_room((labels[frame][tuple(columns.T)] == FREE) & (found != FREE), found):
                return False
            if (labels[frame][tuple(_with_neighbours(columns, self.chunk).T)] == VEHICLE).any():
                return False
        return not self.runs_into_ego

    def put_into(self, labels: UInt8[np.ndarray, "T X Y Z"], drawn: Bool[np.ndarray, "T X Y Z"]) -> None:
        """Draw it into the free cells of the frames that it is in, unless the ego would run into it."""
        if self.runs_into_ego:
            return
        first, last = int(self.seen[0]), int(self.seen[-1])
        for frames in (range(first, last + 1), range(first - 1, -1, -1), range(last + 1, len(self.chunk))):
            for frame in frames:
                columns, found = self.shown[frame]
                x, y = columns.T
                room = _of_one_piece(columns, (labels[frame, x, y] == FREE) & (found != FREE))
                if not first <= frame <= last and not self._goes_on(room, found, columns):
                    break
                labels[frame, x, y] = np.where(room, found, labels[frame, x, y])
                drawn[frame, x, y] |= room

    def _goes_on(
        self, room: Bool[np.ndarray, "P Z"], found: UInt8[np.ndarray, "P Z"], columns: Int64[np.ndarray, "P 2"]
    ) -> bool:
        """Whether it is in view where it has not been sighted, has room there, and keeps off the ego."""
        return bool(len(columns)) and _has_room(room, found) and not under_ego(columns, self.chunk.grid).any()


def _with_neighbours(columns: Int64[np.ndarray, "P 2"], chunk: OccupancySequence) -> Int64[np.ndarray, "Q 2"]:
    """Columns and those that share a side with one, for vehicles that touch are taken for one."""
    sides = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])
    return (columns[:, None] + sides).reshape(-1, 2).clip(0, np.array(chunk.grid.shape[:2]) - 1)


def _of_one_piece(columns: Int64[np.ndarray, "P 2"], cells: Bool[np.ndarray, "P Z"]) -> Bool[np.ndarray, "P Z"]:
    """Cells of the largest piece, seen from above: what something in between cuts off would be a splinter."""
    if not cells.any():
        return cells
    x, y = (columns - columns.min(axis=0)).T
    filled = np.zeros((x.max() + 1, y.max() + 1), dtype=np.bool_)
    filled[x, y] = columns_of(cells)
    return cells & largest_piece(filled)[x, y][:, None]


def _has_room(room: Bool[np.ndarray, "P Z"], found: UInt8[np.ndarray, "P Z"]) -> bool:
    return bool(room.sum() >= ROOM_SHARE * (found != FREE).sum())
