"""Pedestrians of a chunk in all frames that they are in view in, where a decoder shows them in some.

A pedestrian fills a few cells, and a decoder draws each frame by itself: most of those that it draws flicker.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from dyncity_models.drive.bodies import Course
from dyncity_models.drive.classes import FREE, PEDESTRIAN, on_foot
from dyncity_models.drive.drawing import ROOM_SHARE
from dyncity_models.drive.ways import middles_m, under_ego
from dyncity_sim.domain.occupancy import OccupancySequence

LEAST_SIGHTINGS = 5
"""Who is seen in fewer frames of a chunk, of those that show where it would be, is noise."""

AROUND_M = 0.8
"""Cells of a pedestrian are so near to where it is."""

BORDER_M = 2.0
"""Who is so near to the border of the view may be in it for a frame or two."""

NOBODY = -1


@dataclass(frozen=True, eq=False)
class Pedestrian:
    """Somebody on foot in a chunk.

    Attributes:
        course: where they are in each frame.
        cells: of the frames with a sighting, by number.
    """

    course: Course
    cells: Mapping[int, Int64[np.ndarray, "N 3"]]

    def moved_to(self, frame: int, chunk: OccupancySequence) -> Int64[np.ndarray, "M 3"]:
        """The cells of the nearest sighting where they are in a frame, of these those in the grid."""
        seen = self._nearest(frame)
        way_m = self.course.ego_from_body[frame, :2] - self.course.ego_from_body[seen, :2]
        steps = np.round(way_m / np.array(chunk.grid.voxel_size_m[:2])).astype(np.int64)
        moved = self.cells[seen] + np.array([*steps, 0])
        return moved[chunk.grid.contains(moved)]

    def free_in(
        self, frame: int, labels: UInt8[np.ndarray, "X Y Z"], chunk: OccupancySequence
    ) -> Int64[np.ndarray, "M 3"] | None:
        """Those of its moved cells that are free in a frame; None where most are not, or where the ego is."""
        moved = self.moved_to(frame, chunk)
        free = moved[np.isin(labels[tuple(moved.T)], (FREE, PEDESTRIAN))]
        enough = len(free) >= ROOM_SHARE * len(self.cells[self._nearest(frame)])
        return free if enough and not under_ego(moved, chunk.grid).any() else None

    def _nearest(self, frame: int) -> int:
        return min(self.cells, key=lambda seen: abs(seen - frame))


def steady_pedestrians(
    chunk: OccupancySequence, courses: Sequence[Course], strangers: Collection[int] = ()
) -> tuple[UInt8[np.ndarray, "T X Y Z"], list[Pedestrian]]:
    """(The labels of a chunk without pedestrians, those who are more than noise). Riders are their vehicles'.

    Args:
        chunk: without unobserved cells; its classes are those of CARLASC.
        courses: of the chunk's pedestrians.
        strangers: numbers of those that are not to be there at all.
    """
    labels = chunk.labels.copy()
    walking = [np.argwhere(frame) for frame in on_foot(chunk.labels)]
    owners = [_owners(cells, courses, frame, chunk) for frame, cells in enumerate(walking)]
    for frame, (cells, owner) in enumerate(zip(walking, owners, strict=True)):
        gone = cells[(owner != NOBODY) | ~_near_border(cells, chunk)]
        labels[frame][tuple(gone.T)] = FREE
    there = []
    for number, course in enumerate(courses):
        own = {int(frame): walking[frame][owners[frame] == number] for frame in course.seen}
        shown = {frame: cells for frame, cells in own.items() if len(cells)}
        in_view = [frame for frame in range(len(chunk)) if _in_view(course, frame, chunk)]
        if shown and number not in strangers and len(shown) >= min(LEAST_SIGHTINGS, len(in_view)):
            there.append(Pedestrian(course, shown))
    return labels, there


def with_pedestrians(
    labels: UInt8[np.ndarray, "T X Y Z"], pedestrians: Sequence[Pedestrian], chunk: OccupancySequence
) -> UInt8[np.ndarray, "T X Y Z"]:
    """Labels with pedestrians where they were seen, and in the frames that lack them.

    Between two sightings and beyond them a pedestrian has the cells of the nearest one, moved along its way, as long as
    there is room and the ego is not there.

    Args:
        labels: of the frames without them.
        pedestrians: who is to be there.
        chunk: grid and poses of the frames.
    """
    drawn = labels.copy()
    for pedestrian in pedestrians:
        for frame, cells in pedestrian.cells.items():
            drawn[frame][tuple(cells.T)] = PEDESTRIAN
    for pedestrian in pedestrians:
        _complete(drawn, pedestrian, chunk)
    return drawn


def _complete(labels: UInt8[np.ndarray, "T X Y Z"], pedestrian: Pedestrian, chunk: OccupancySequence) -> None:
    """Draw a pedestrian into the frames that lack it, from its sightings outwards."""
    first, last = min(pedestrian.cells), max(pedestrian.cells)
    for frames in (range(first, last + 1), range(first - 1, -1, -1), range(last + 1, len(chunk))):
        for frame in frames:
            if frame in pedestrian.cells:
                continue
            free = pedestrian.free_in(frame, labels[frame], chunk)
            if free is not None:
                labels[frame][tuple(free.T)] = PEDESTRIAN
            elif not first <= frame <= last:
                break


def _owners(
    cells: Int64[np.ndarray, "N 3"], courses: Sequence[Course], frame: int, chunk: OccupancySequence
) -> Int64[np.ndarray, " N"]:
    """Of each cell of a frame the number of the nearest pedestrian who is seen there; ``NOBODY`` where none is."""
    owners, nearest_m = np.full(len(cells), NOBODY), np.full(len(cells), AROUND_M)
    for number, course in enumerate(courses):
        if frame in course.seen:
            away_m = np.linalg.norm(middles_m(cells, chunk.grid) - course.ego_from_body[frame, :2], axis=1)
            closer = away_m <= nearest_m
            owners[closer], nearest_m[closer] = number, away_m[closer]
    return owners


def _near_border(cells: Int64[np.ndarray, "N 3"], chunk: OccupancySequence) -> Bool[np.ndarray, " N"]:
    most_m = np.array(chunk.grid.upper_m[:2]) - BORDER_M
    return np.asarray((np.abs(middles_m(cells, chunk.grid)) > most_m).any(axis=1))


def _in_view(course: Course, frame: int, chunk: OccupancySequence) -> bool:
    lower_m, upper_m = np.array(chunk.grid.lower_m[:2]), np.array(chunk.grid.upper_m[:2])
    place_m = course.ego_from_body[frame, :2]
    return bool(((place_m > lower_m) & (place_m < upper_m)).all())
