"""The surface of static geometry as quads, merged as far as they go."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8

from dyncity_sim.domain.scene import StaticMap


@dataclass(frozen=True, eq=False)
class Surface:
    """The visible surface of one class.

    Attributes:
        label: class in the map's taxonomy.
        vertices_world_m: ``(V, 3)`` corners, each once.
        quads: ``(Q, 4)`` vertex indices, counter-clockwise seen from free space.
    """

    label: int
    vertices_world_m: Float64[np.ndarray, "V 3"]
    quads: Int64[np.ndarray, "Q 4"]


def surfaces(static_map: StaticMap) -> tuple[Surface, ...]:
    """Surface of each class that occurs, by label: the faces between an occupied and a free cell.

    Faces of a plane are merged into runs and runs of equal extent into rectangles (greedy meshing, Lysenko 2012).
    Faces at the border of the map are kept, so that every solid is closed, except towards below.
    """
    origin, size = np.asarray(static_map.origin_world_m), np.asarray(static_map.voxel_size_m)
    found = []
    for label, corners in quads_by_label(static_map.labels, merged=True):
        vertices, index = np.unique(corners.reshape(-1, 3), axis=0, return_inverse=True)
        quads = index.reshape(-1, 4).astype(np.int64)
        found.append(Surface(label, vertices * size + origin, quads))
    return tuple(found)


def quads_by_label(
    labels: UInt8[np.ndarray, "X Y Z"], merged: bool
) -> Iterator[tuple[int, Int64[np.ndarray, "Q 4 3"]]]:
    """Each class with a surface, and the corners of its quads in cells; ``merged`` into rectangles or one a face."""
    padded = np.pad(labels, 1)
    for label in np.unique(labels[labels > 0]):
        parts = [_quads_of_direction(padded, int(label), axis, side, merged) for axis in range(3) for side in (-1, 1)]
        corners = np.concatenate(parts)
        if len(corners):
            yield int(label), corners


def _quads_of_direction(
    padded: UInt8[np.ndarray, "X Y Z"], label: int, axis: int, side: int, merged: bool
) -> Int64[np.ndarray, "Q 4 3"]:
    """Corners, in cells of the unpadded map, of the quads that face along ``side`` of ``axis``."""
    inner = (slice(1, -1),) * 3
    neighbour = tuple(slice(1 + side, padded.shape[a] - 1 + side) if a == axis else slice(1, -1) for a in range(3))
    exposed = (padded[inner] == label) & (padded[neighbour] == 0)
    if axis == 2 and side == -1:
        exposed[:, :, 0] = False
    plane, row, start, stop, height = (_rectangles if merged else _cells)(np.moveaxis(exposed, axis, 0))
    u, v = [a for a in range(3) if a != axis]
    corners = np.zeros((len(plane), 4, 3), dtype=np.int64)
    corners[..., axis] = (plane + (side > 0))[:, None]
    corners[..., u] = np.stack([row, row + height, row + height, row], axis=1)
    corners[..., v] = np.stack([start, start, stop, stop], axis=1)
    # (u, v, axis) is a cyclic order of x, y, z for axes 0 and 2, an anticyclic one for axis 1.
    counter_clockwise = (side > 0) != (axis == 1)
    return corners if counter_clockwise else corners[:, ::-1]


def _cells(mask: Bool[np.ndarray, "P U V"]) -> tuple[np.ndarray, ...]:
    """Each cell of each plane, as ``_rectangles`` gives rectangles."""
    plane, row, start = np.nonzero(mask)
    return plane, row, start, start + 1, np.ones_like(row)


def _rectangles(mask: Bool[np.ndarray, "P U V"]) -> tuple[np.ndarray, ...]:
    """Cover each plane of a mask by disjoint rectangles: plane, first row, start, stop, number of rows."""
    edges = np.diff(np.pad(mask, ((0, 0), (0, 0), (1, 1))).astype(np.int8), axis=2)
    plane, row, start = np.nonzero(edges == 1)
    stop = np.nonzero(edges == -1)[2]
    order = np.lexsort((row, stop, start, plane))
    plane, row, start, stop = plane[order], row[order], start[order], stop[order]
    goes_on = np.zeros(len(row), dtype=np.bool_)
    goes_on[1:] = (
        (plane[1:] == plane[:-1]) & (start[1:] == start[:-1]) & (stop[1:] == stop[:-1]) & (row[1:] == row[:-1] + 1)
    )
    first = np.nonzero(~goes_on)[0]
    height = np.diff(np.append(first, len(row)))
    return plane[first], row[first], start[first], stop[first], height
