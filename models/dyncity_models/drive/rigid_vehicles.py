"""Vehicles of a chunk as what they are: bodies of one shape that go where vehicles can, from first sight to last.

A decoder draws each frame by itself, so that a vehicle may swell, fray, fall into pieces or jump by a cell. Here it is
drawn again, in one shape and along its track.
"""

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8
from scipy import ndimage

from dyncity_models.drive.bodies import FREE, PEDESTRIAN, VEHICLE, Body
from dyncity_models.drive.driving_on import driven_on
from dyncity_models.drive.ways import GRAZED_SHARE, columns_of, within_ego
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

    Args:
        chunk: without unobserved cells; its classes are those of CARLASC.
        ways: x, y, yaw in the world of vehicles that were to drive on, in each frame.
    """
    movers = _vehicles_and_riders(chunk.labels)
    labels = np.where(movers, FREE, chunk.labels).astype(np.uint8)
    drawn = np.zeros(labels.shape, dtype=np.bool_)
    vehicles = [track for track in find_tracks(chunk) if _is_vehicle(track)]
    onward = {} if ways is None else driven_on(vehicles, chunk, ways)
    stopping = []
    for number, track in enumerate(vehicles):
        body = Body.voted(track, chunk, movers)
        if number in onward:
            stopping.append((body, body.along(onward[number], chunk)))
        else:
            _draw(body, chunk, labels, drawn)
    # After all others, who stay where the network has them.
    for body, driving in stopping:
        _draw(driving if _is_free(driving, chunk, labels) else body, chunk, labels, drawn)
    for frame, cells in enumerate(movers):
        kept = _cut_by_border(cells, drawn[frame]) & (labels[frame] == FREE)
        labels[frame][kept] = chunk.labels[frame][kept]
    return labels


def _vehicles_and_riders(labels: UInt8[np.ndarray, "T X Y Z"]) -> Bool[np.ndarray, "T X Y Z"]:
    """A rider has a vehicle's cell in the column, and somebody who walks by has none."""
    vehicle = labels == VEHICLE
    return np.asarray(vehicle | ((labels == PEDESTRIAN) & columns_of(vehicle)[..., None]))


def _is_vehicle(track: Track) -> bool:
    return track.kind is not ActorKind.PEDESTRIAN and max(track.size_m[:2]) >= SHORTEST_M


def _draw(
    body: Body, chunk: OccupancySequence, labels: UInt8[np.ndarray, "T X Y Z"], drawn: Bool[np.ndarray, "T X Y Z"]
) -> None:
    """Put a body that the ego would not run into into the free cells of the frames that it is in."""
    if _run_into(body, chunk):
        return
    first, last = int(body.path.seen[0]), int(body.path.seen[-1])
    for frames in (range(first, last + 1), range(first - 1, -1, -1), range(last + 1, len(chunk))):
        for frame in frames:
            columns, found = body.shown_in(frame, chunk)
            x, y = columns.T
            room = (labels[frame, x, y] == FREE) & (found != FREE)
            if not first <= frame <= last and not _goes_on(room, found, columns, chunk):
                break
            labels[frame, x, y] = np.where(room, found, labels[frame, x, y])
            drawn[frame, x, y] |= room


def _run_into(body: Body, chunk: OccupancySequence) -> bool:
    """Whether the ego would drive through a body."""
    shown = (body.shown_in(frame, chunk)[0] for frame in body.path.seen)
    return any(len(columns) and _under_ego(columns, chunk).mean() > GRAZED_SHARE for columns in shown)


def _is_free(body: Body, chunk: OccupancySequence, labels: UInt8[np.ndarray, "T X Y Z"]) -> bool:
    """Whether a body has room in all frames that it is in view in, and the ego would not run into it."""
    for frame in body.path.seen:
        columns, found = body.shown_in(frame, chunk)
        if not _has_room((labels[frame][tuple(columns.T)] == FREE) & (found != FREE), found):
            return False
    return not _run_into(body, chunk)


def _under_ego(columns: Int64[np.ndarray, "P 2"], chunk: OccupancySequence) -> Bool[np.ndarray, " P"]:
    centres_m = np.stack([chunk.grid.centres(axis)[columns[:, axis]] for axis in range(2)], axis=-1)
    return within_ego(centres_m)


def _goes_on(
    room: Bool[np.ndarray, "P Z"],
    found: UInt8[np.ndarray, "P Z"],
    columns: Int64[np.ndarray, "P 2"],
    chunk: OccupancySequence,
) -> bool:
    """Whether a body is in view where it has not been sighted, has room there, and keeps off the ego."""
    return bool(len(columns)) and _has_room(room, found) and not _under_ego(columns, chunk).any()


def _has_room(room: Bool[np.ndarray, "P Z"], found: UInt8[np.ndarray, "P Z"]) -> bool:
    return bool(room.sum() >= ROOM_SHARE * (found != FREE).sum())


def _cut_by_border(cells: Bool[np.ndarray, "X Y Z"], drawn: Bool[np.ndarray, "X Y Z"]) -> Bool[np.ndarray, "X Y Z"]:
    """Cells of blobs at the border of a frame in which no body was drawn."""
    blobs, _ = ndimage.label(columns_of(cells))
    border = np.ones(blobs.shape, dtype=np.bool_)
    border[1:-1, 1:-1] = False
    cut = np.setdiff1d(blobs[border], blobs[columns_of(drawn)])
    return cells & np.isin(blobs, cut[cut > 0])[..., None]
