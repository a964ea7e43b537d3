"""Vehicles of a chunk as what they are: bodies of one shape that go where vehicles can, from first sight to last.

A decoder draws each frame by itself, so that a vehicle may swell, fray, fall into pieces or jump by a cell. Here it is
drawn again, in one shape of a size that vehicles have, and along its track.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8
from scipy import ndimage

from dyncity_models.drive.bodies import FREE, PEDESTRIAN, VEHICLE, Body, Shown
from dyncity_models.drive.driving_on import driven_on
from dyncity_models.drive.sizes import usual_sizes
from dyncity_models.drive.ways import GRAZED_SHARE, within_ego
from dyncity_sim.domain.grid import columns_of
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.scene import Track
from dyncity_sim.scene.actors.find import find_tracks

SHORTEST_M = 1.3
"""What is shorter is a splinter: even a bicycle is 1.6 m long."""

ROOM_SHARE = 0.7
"""Where less of a body has room, it does not go on beyond its sightings."""


def with_rigid_vehicles(
    chunk: OccupancySequence, ways: Float64[np.ndarray, "T N 3"] | None = None
) -> UInt8[np.ndarray, "T X Y Z"]:
    """The labels of a chunk with each vehicle drawn anew, in one shape along its track.

    It is there from first to last sighting, and before and after as long as it has room and keeps off the ego. Whom the
    ego would run into is not there at all. Who was to drive on and stops (``driven_on``) drives on if it has room. What
    the border of the grid cuts and no track explains stays as it is; what else is no track was no vehicle, and goes.
    Who is of a size that no vehicle has becomes one of a usual size (``usual_sizes``) if that has room.

    Args:
        chunk: without unobserved cells; its classes are those of CARLASC.
        ways: x, y, yaw in the world of vehicles that were to drive on, in each frame.
    """
    movers = _vehicles_and_riders(chunk.labels)
    labels = np.where(movers, FREE, chunk.labels).astype(np.uint8)
    drawn = np.zeros(labels.shape, dtype=np.bool_)
    vehicles = [track for track in find_tracks(chunk) if _is_vehicle(track)]
    onward = {} if ways is None else driven_on(vehicles, chunk, ways)
    bodies = [Body.voted(track, chunk, movers) for track in vehicles]
    better = [_better(*one, onward.get(number), chunk) for number, one in enumerate(zip(bodies, vehicles, strict=True))]
    # Those that are changed come after all others, who stay where and as the network has them.
    for body, choices in sorted(zip(bodies, better, strict=True), key=lambda one: bool(one[1])):
        wanted = (_Drawn.of(choice, chunk) for choice in choices)
        chosen = next((one for one in wanted if one.is_free(labels)), None) or _Drawn.of(body, chunk)
        chosen.put_into(labels, drawn)
    for frame, cells in enumerate(movers):
        kept = _cut_by_border(cells, drawn[frame]) & (labels[frame] == FREE)
        labels[frame][kept] = chunk.labels[frame][kept]
    return labels


def _vehicles_and_riders(labels: UInt8[np.ndarray, "T X Y Z"]) -> Bool[np.ndarray, "T X Y Z"]:
    """A rider has a vehicle's cell in the column, and somebody who walks by has none."""
    vehicle = labels == VEHICLE
    return np.asarray(vehicle | ((labels == PEDESTRIAN) & columns_of(vehicle)[..., None]))


def _better(body: Body, track: Track, way: Float64[np.ndarray, "T 3"] | None, chunk: OccupancySequence) -> list[Body]:
    """What a vehicle should rather be, most of all first: of a usual size, and on the way that it was to drive."""
    usual = _of_usual_sizes(body, track) if body.is_seen_whole(chunk) else []
    return usual if way is None else [one.along(way, chunk) for one in (*usual, body)] + usual


def _of_usual_sizes(body: Body, track: Track) -> list[Body]:
    if not (body.labels != FREE).any():
        return []
    (length_m, width_m), ridden = body.sides_m, bool((body.labels == PEDESTRIAN).any())
    speed_mps = float(np.linalg.norm(track.velocities_world_mps[:, :2], axis=1).max())
    sizes = usual_sizes((length_m, width_m, track.size_m[2]), ridden, speed_mps)
    return [body.resized(size / body.sides_m) for size in sizes]


def _is_vehicle(track: Track) -> bool:
    return track.kind is not ActorKind.PEDESTRIAN and max(track.size_m[:2]) >= SHORTEST_M


@dataclass(frozen=True, eq=False)
class _Drawn:
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
    def of(cls, body: Body, chunk: OccupancySequence) -> "_Drawn":
        return cls(body.path.seen, [body.shown_in(frame, chunk) for frame in range(len(chunk))], chunk)

    @cached_property
    def runs_into_ego(self) -> bool:
        """Whether the ego would drive through it."""
        shown = (self.shown[frame][0] for frame in self.seen)
        return any(len(columns) and self._under_ego(columns).mean() > GRAZED_SHARE for columns in shown)

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
                room = (labels[frame, x, y] == FREE) & (found != FREE)
                if not first <= frame <= last and not self._goes_on(room, found, columns):
                    break
                labels[frame, x, y] = np.where(room, found, labels[frame, x, y])
                drawn[frame, x, y] |= room

    def _goes_on(
        self, room: Bool[np.ndarray, "P Z"], found: UInt8[np.ndarray, "P Z"], columns: Int64[np.ndarray, "P 2"]
    ) -> bool:
        """Whether it is in view where it has not been sighted, has room there, and keeps off the ego."""
        return bool(len(columns)) and _has_room(room, found) and not self._under_ego(columns).any()

    def _under_ego(self, columns: Int64[np.ndarray, "P 2"]) -> Bool[np.ndarray, " P"]:
        centres_m = np.stack([self.chunk.grid.centres(axis)[columns[:, axis]] for axis in range(2)], axis=-1)
        return within_ego(centres_m)


def _with_neighbours(columns: Int64[np.ndarray, "P 2"], chunk: OccupancySequence) -> Int64[np.ndarray, "Q 2"]:
    """Columns and those that share a side with one, for vehicles that touch are taken for one."""
    sides = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])
    return (columns[:, None] + sides).reshape(-1, 2).clip(0, np.array(chunk.grid.shape[:2]) - 1)


def _has_room(room: Bool[np.ndarray, "P Z"], found: UInt8[np.ndarray, "P Z"]) -> bool:
    return bool(room.sum() >= ROOM_SHARE * (found != FREE).sum())


def _cut_by_border(cells: Bool[np.ndarray, "X Y Z"], drawn: Bool[np.ndarray, "X Y Z"]) -> Bool[np.ndarray, "X Y Z"]:
    """Cells of blobs at the border of a frame in which no body was drawn."""
    blobs, _ = ndimage.label(columns_of(cells))
    border = np.ones(blobs.shape, dtype=np.bool_)
    border[1:-1, 1:-1] = False
    cut = np.setdiff1d(blobs[border], blobs[columns_of(drawn)])
    return cells & np.isin(blobs, cut[cut > 0])[..., None]
