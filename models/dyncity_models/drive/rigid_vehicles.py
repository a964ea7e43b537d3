"""Vehicles of a chunk as what they are: bodies of one shape that go where vehicles can, from first sight to last.

A decoder draws each frame by itself, so that a vehicle may swell, fray, fall into pieces or jump by a cell. Here it is
drawn again, in one shape of a size that vehicles have, and along its track.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64, UInt8
from scipy import ndimage

from dyncity_models.drive.bodies import Body
from dyncity_models.drive.classes import FREE, PEDESTRIAN, VEHICLE, vehicles_and_riders
from dyncity_models.drive.drawing import Drawn
from dyncity_models.drive.driving_on import driven_on
from dyncity_models.drive.sizes import usual_sizes
from dyncity_sim.domain.grid import columns_of
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.scene import Track

SHORTEST_M = 1.3
"""What is shorter is a splinter: even a bicycle is 1.6 m long."""

NARROWEST_CAR_M = 1.3
"""What is narrower has two wheels, and is no box."""


def with_rigid_vehicles(
    chunk: OccupancySequence, tracks: Sequence[Track], ways: Float64[np.ndarray, "T N 3"] | None = None
) -> UInt8[np.ndarray, "T X Y Z"]:
    """The labels of a chunk with each vehicle drawn anew, in one shape along its track.

    It is there from first to last sighting, and before and after as long as it has room and keeps off the ego. Whom the
    ego would run into is not there at all. Who was to drive on and stops, or begins elsewhere than where it was to be,
    goes its better way (``driven_on``) if it has room. What the border of the grid cuts and no track explains stays as
    it is; what else is no track was no vehicle, and goes. With four wheels it is a box, of a usual size
    (``usual_sizes``) if no vehicle has that which was drawn, and if there is room. Of two in one place the larger one
    is there.

    Args:
        chunk: without unobserved cells; its classes are those of CARLASC.
        tracks: of the chunk's vehicles.
        ways: x, y, yaw in the world of vehicles that were there before, in each frame.
    """
    movers = vehicles_and_riders(chunk.labels)
    labels = np.where(movers, FREE, chunk.labels).astype(np.uint8)
    drawn = np.zeros(labels.shape, dtype=np.bool_)
    vehicles = [track for track in tracks if max(track.size_m[:2]) >= SHORTEST_M]
    onward = {} if ways is None else driven_on(vehicles, chunk, ways)
    bodies = [_body_of(track, chunk, movers) for track in vehicles]
    better = [_better(*one, onward.get(number), chunk) for number, one in enumerate(zip(bodies, vehicles, strict=True))]
    # Those that are changed come after all others, who stay where and as the network has them, and small ones last.
    by_rank = sorted(zip(bodies, better, strict=True), key=lambda one: (bool(one[1]), -one[0].size))
    for body, choices in by_rank:
        wanted = (Drawn.of(choice, chunk) for choice in choices)
        chosen = next((one for one in wanted if one.is_free(labels)), None) or Drawn.of(body, chunk)
        if not chosen.is_in_another(drawn):
            chosen.put_into(labels, drawn)
    for frame, cells in enumerate(movers):
        kept = _cut_by_border(cells, drawn[frame]) & (labels[frame] == FREE)
        labels[frame][kept] = chunk.labels[frame][kept]
    return labels


def _body_of(track: Track, chunk: OccupancySequence, movers: Bool[np.ndarray, "T X Y Z"]) -> Body:
    """What frames agree on, made a box where all of a vehicle with four wheels was in view."""
    body = Body.voted(track, chunk, movers)
    four_wheels = bool((body.labels == VEHICLE).any()) and not _ridden(body) and body.sides_m[1] >= NARROWEST_CAR_M
    return body.boxed() if four_wheels and body.is_seen_whole(chunk) else body


def _ridden(body: Body) -> bool:
    return bool((body.labels == PEDESTRIAN).any())


def _better(body: Body, track: Track, way: Float64[np.ndarray, "T 3"] | None, chunk: OccupancySequence) -> list[Body]:
    """What a vehicle should rather be, most of all first: of a usual size, and on the way that it was to drive."""
    usual = _of_usual_sizes(body, track) if body.is_seen_whole(chunk) else []
    return usual if way is None else [one.along(way, chunk) for one in (*usual, body)] + usual


def _of_usual_sizes(body: Body, track: Track) -> list[Body]:
    if not (body.labels != FREE).any():
        return []
    length_m, width_m = body.sides_m
    speed_mps = float(np.linalg.norm(track.velocities_world_mps[:, :2], axis=1).max())
    sizes = usual_sizes((length_m, width_m, track.size_m[2]), _ridden(body), speed_mps)
    return [body.resized(size / body.sides_m) for size in sizes]


def _cut_by_border(cells: Bool[np.ndarray, "X Y Z"], drawn: Bool[np.ndarray, "X Y Z"]) -> Bool[np.ndarray, "X Y Z"]:
    """Cells of blobs at the border of a frame in which no body was drawn."""
    blobs, _ = ndimage.label(columns_of(cells))
    border = np.ones(blobs.shape, dtype=np.bool_)
    border[1:-1, 1:-1] = False
    cut = np.setdiff1d(blobs[border], blobs[columns_of(drawn)])
    return cells & np.isin(blobs, cut[cut > 0])[..., None]
