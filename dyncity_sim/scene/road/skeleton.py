"""The middle lines of an area of cells: thinning, and the graph of what is left."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8
from scipy.ndimage import convolve, label

EIGHT = np.ones((3, 3), dtype=np.int64)

SMALLEST_LOOP = 8
"""A loop of fewer cells is not one."""

RING = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
"""The neighbours of a cell, around it, from P2 to P9 in the paper's words."""


@dataclass(frozen=True, eq=False)
class SkeletonEdge:
    """A line of cells between two nodes of a skeleton.

    Attributes:
        cells: ``(N, 2)`` neighbouring cells, in order.
        nodes: the node that it starts at and the one that it ends at; 0 is a free end.
    """

    cells: Int64[np.ndarray, "N 2"]
    nodes: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Skeleton:
    """Edges and nodes of a skeleton.

    Attributes:
        edges: lines of cells.
        nodes: ``(K, 2)`` mean cell of each node; node number n is row n - 1.
    """

    edges: tuple[SkeletonEdge, ...]
    nodes: Float64[np.ndarray, "K 2"]


def skeleton_of(area: Bool[np.ndarray, "X Y"], inner_radius: Float64[np.ndarray, "X Y"]) -> Skeleton:
    """The skeleton of an area without its spurs.

    A spur is a free branch that leaves the largest disc around its node by less than half of that disc's radius:
    the lines into the corners of a road's end are such.

    Args:
        area: cells of the area.
        inner_radius: distance from each cell to the nearest cell out of the area, in cells.
    """
    lines = thinned(area)
    while True:
        graph = _graph(lines)
        spurs = [edge for edge in graph.edges if _is_spur(edge, graph, inner_radius)]
        if not spurs:
            return graph
        for spur in spurs:
            lines[spur.cells[:, 0], spur.cells[:, 1]] = False
        lines = thinned(lines)


def thinned(area: Bool[np.ndarray, "X Y"]) -> Bool[np.ndarray, "X Y"]:
    """Lines of one cell's width with the same topology (Guo and Hall 1989, algorithm A1: 8-connected)."""
    image = np.pad(area, 1)
    while True:
        before = image
        for table in _deletable():
            image = image & ~table[_ring_code(image)]
        if (image == before).all():
            return image[1:-1, 1:-1]


def _ring_code(image: Bool[np.ndarray, "X Y"]) -> UInt8[np.ndarray, "X Y"]:
    """One bit for each neighbour; the border of the image, which is free, reads as free all around."""
    code = np.zeros(image.shape, dtype=np.uint8)
    inner = code[1:-1, 1:-1]
    for bit, (dx, dy) in enumerate(RING):
        inner |= image[1 + dx : image.shape[0] - 1 + dx, 1 + dy : image.shape[1] - 1 + dy].astype(np.uint8) << bit
    return code


@cache
def _deletable() -> tuple[Bool[np.ndarray, "256"], Bool[np.ndarray, "256"]]:
    """Which neighbourhoods lose their middle in each of the two passes."""
    tables = np.zeros((2, 256), dtype=np.bool_)
    for code in range(256):
        p2, p3, p4, p5, p6, p7, p8, p9 = (bool(code >> bit & 1) for bit in range(8))
        parts = (not p2 and (p3 or p4)) + (not p4 and (p5 or p6)) + (not p6 and (p7 or p8)) + (not p8 and (p9 or p2))
        pairs = min(
            (p9 or p2) + (p3 or p4) + (p5 or p6) + (p7 or p8),
            (p2 or p3) + (p4 or p5) + (p6 or p7) + (p8 or p9),
        )
        if parts == 1 and 2 <= pairs <= 3:
            tables[0, code] = not ((p6 or p7 or not p9) and p8)
            tables[1, code] = not ((p2 or p3 or not p5) and p4)
    return tables[0], tables[1]


def _graph(lines: Bool[np.ndarray, "X Y"]) -> Skeleton:
    neighbours = convolve(lines.astype(np.int64), EIGHT, mode="constant") - 1
    is_node = lines & (neighbours >= 3)
    numbers, count = label(is_node, EIGHT)
    pieces, piece_count = label(lines & ~is_node, EIGHT)
    cells = np.argwhere(pieces)
    order = np.argsort(pieces[pieces > 0], kind="stable")
    by_piece = np.split(cells[order], np.cumsum(np.bincount(pieces[pieces > 0], minlength=piece_count + 1)[1:-1]))
    padded = np.pad(numbers, 1)
    edges = _without_knots([_edge(piece, padded) for piece in by_piece if len(piece)])
    nodes = [np.argwhere(numbers == number).mean(axis=0) for number in range(1, count + 1)]
    return Skeleton(edges, np.array(nodes).reshape(-1, 2))


def _without_knots(edges: list[SkeletonEdge]) -> tuple[SkeletonEdge, ...]:
    """Edges without the small loops that thinning leaves where spurs were; a node of one edge is a free end."""
    edges = [edge for edge in edges if not (edge.nodes[0] == edge.nodes[1] > 0 and len(edge.cells) < SMALLEST_LOOP)]
    ends = [node for edge in edges for node in edge.nodes]

    def end(node: int) -> int:
        return node if ends.count(node) > 1 else 0

    return tuple(SkeletonEdge(edge.cells, (end(edge.nodes[0]), end(edge.nodes[1]))) for edge in edges)


def _edge(piece: Int64[np.ndarray, "N 2"], padded_nodes: Int64[np.ndarray, "X Y"]) -> SkeletonEdge:
    """The cells of one line in order, and the nodes that touch its ends."""
    left = {(int(x), int(y)) for x, y in piece}
    ends = [cell for cell in sorted(left) if sum((cell[0] + dx, cell[1] + dy) in left for dx, dy in RING) < 2]
    cell = ends[0] if ends else min(left)
    walked = [cell]
    left.remove(cell)
    while following := [(cell[0] + dx, cell[1] + dy) for dx, dy in RING if (cell[0] + dx, cell[1] + dy) in left]:
        # Along a staircase the nearer of two next cells comes first.
        cell = min(following, key=lambda c: (abs(c[0] - walked[-1][0]) + abs(c[1] - walked[-1][1]), c))
        walked.append(cell)
        left.remove(cell)
    first, last = (_touching(padded_nodes, walked[end]) for end in (0, -1))
    if len(walked) == 1 and len(first) == 2:
        return SkeletonEdge(np.array(walked), (first[0], first[1]))
    return SkeletonEdge(np.array(walked), (first[0] if first else 0, last[-1] if last and len(walked) > 1 else 0))


def _touching(padded_nodes: Int64[np.ndarray, "X Y"], cell: tuple[int, int]) -> list[int]:
    around = padded_nodes[cell[0] : cell[0] + 3, cell[1] : cell[1] + 3]
    return [int(number) for number in np.unique(around[around > 0])]


def _is_spur(edge: SkeletonEdge, graph: Skeleton, inner_radius: Float64[np.ndarray, "X Y"]) -> bool:
    if (edge.nodes[0] == 0) == (edge.nodes[1] == 0):
        return False
    node = graph.nodes[max(edge.nodes) - 1]
    tip = edge.cells[0] if edge.nodes[0] == 0 else edge.cells[-1]
    length = np.linalg.norm(tip - node)
    radius = inner_radius[tuple(np.round(node).astype(int))]
    return bool(length + inner_radius[tuple(tip)] < 1.5 * radius)
