"""Oblique pictures of voxel frames: an orthographic camera behind and to the right of the ego.

One template of pixels (``camera``), painted once per visible voxel from back to front, renders a frame without cracks
and without a depth buffer. Light is a directional sun with cast shadows plus ambient occlusion at voxel corners,
interpolated over each face.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64, UInt8

from dyncity_sim.domain.frames import Poses
from dyncity_sim.domain.grid import EGO_LOWER_M, EGO_UPPER_M, Grid
from dyncity_sim.domain.taxonomy import Taxonomy
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.preview.camera import ObliqueCamera, VoxelTemplate, voxel_template
from dyncity_sim.preview.light import FACE_AXES, corner_light

Image = UInt8[np.ndarray, "H W 3"]

SUPERSAMPLING = 2
BACKGROUND_TOP = np.array([222.0, 229.0, 236.0], dtype=np.float32)
BACKGROUND_BOTTOM = np.array([246.0, 247.0, 248.0], dtype=np.float32)
UNKNOWN_GROUND = np.array([232.0, 231.0, 227.0], dtype=np.float32)
EGO_COLOUR = np.array([247.0, 147.0, 30.0], dtype=np.float32)
PLAN_COLOUR = np.array([255.0, 190.0, 70.0], dtype=np.float32)
PLAN_HALF_WIDTH_M = 0.35
FACE_LIGHT = np.array([1.0, 0.70, 0.83], dtype=np.float32)
"""Light on each of the three faces."""


def render_oblique(
    labels: UInt8[np.ndarray, "X Y Z"],
    grid: Grid,
    taxonomy: Taxonomy,
    width: int = 1000,
    camera: ObliqueCamera | None = None,
    plan_ego_from_ego: Poses | None = None,
    draw_ego: bool = True,
) -> Image:
    """A picture of one frame.

    Args:
        labels: one frame.
        grid: where its cells lie.
        taxonomy: gives the colours.
        width: width of the picture in pixels, about: cells are a whole number of pixels.
        camera: where from; behind and to the right of the ego when None.
        plan_ego_from_ego: ``(N, 4, 4)`` poses of the ego's way in this frame's ego frame, drawn as a ribbon.
        draw_ego: whether the ego is drawn, as a box of a car's size.

    Raises:
        InvalidInputError: labels of another shape or out of the taxonomy, or a width under 64.
    """
    if labels.shape != grid.shape:
        raise InvalidInputError("labels", f"shape {labels.shape}", f"{grid.shape}, the grid's")
    if not 64 <= width <= 8192:
        raise InvalidInputError("width", width, "64 to 8192 pixels")
    taxonomy.check(labels, "labels")
    template = voxel_template((camera or ObliqueCamera()).basis(grid, int(width * SUPERSAMPLING * 0.96)))

    solid = labels > 0
    with_floor = np.concatenate([np.ones((*grid.shape[:2], 1), dtype=np.bool_), solid], axis=2)
    cells = _visible_cells(with_floor)
    canvas, origin = _canvas(with_floor.shape, template.basis)
    hit = _paint(cells, template, canvas, origin)

    covered = np.flatnonzero(hit >= 0)
    shown = _Shown(cells, template, covered, *np.divmod(hit[covered], np.int32(len(template.face))))
    colour = _cell_colours(cells, labels, taxonomy).take(shown.cell, axis=0)
    if plan_ego_from_ego is not None:
        _tint_plan(colour, shown, plan_ego_from_ego, grid)
    colour *= _shade(shown, corner_light(with_floor, cells))[:, None]
    if draw_ego:
        _paint_ego(colour, shown, canvas, origin, grid)

    picture = _background(canvas).reshape(-1, 3)
    picture[covered] = colour
    return _downsample(picture.reshape(*canvas, 3))


@dataclass(frozen=True, eq=False)
class _Shown:
    """What each of the P covered picture pixels shows.

    Attributes:
        cells: the visible cells, of which ``cell`` is an index.
        template: the pixels of a voxel, of which ``pixel`` is an index.
        covered: flat index of each picture pixel.
        cell: which cell it shows.
        pixel: which pixel of that cell's template.
    """

    cells: Int32[np.ndarray, "N 3"]
    template: VoxelTemplate
    covered: Int64[np.ndarray, " P"]
    cell: Int32[np.ndarray, " P"]
    pixel: Int32[np.ndarray, " P"]

    def position(self, rows: Int64[np.ndarray, " R"]) -> Float32[np.ndarray, "R 3"]:
        """Where on the voxels some of the pixels lie, in cells."""
        corner = self.cells.take(self.cell[rows], axis=0).astype(np.float32)
        return corner + self.template.position.take(self.pixel[rows], axis=0)


def _visible_cells(solid: Bool[np.ndarray, "X Y Z"]) -> Int32[np.ndarray, "N 3"]:
    """Occupied cells with a free neighbour above, behind or to the right, from back to front."""
    padded = np.pad(solid, ((1, 0), (1, 0), (0, 1)))
    buried = padded[1:, 1:, 1:] & padded[:-1, 1:, :-1] & padded[1:, :-1, :-1]
    visible = solid & ~buried
    # Larger x and y lie further away, larger z covers what is below.
    order = np.argwhere(visible[::-1, ::-1])
    order[:, 0] = solid.shape[0] - 1 - order[:, 0]
    order[:, 1] = solid.shape[1] - 1 - order[:, 1]
    return order.astype(np.int32)


def _canvas(shape: tuple[int, ...], basis: np.ndarray) -> tuple[tuple[int, int], np.ndarray]:
    """Supersampled (height, width) of the picture, and the pixel (right, down) of the grid's lower corner."""
    corners = np.stack(np.meshgrid(*[(0, n) for n in shape], indexing="ij"), axis=-1).reshape(-1, 3) @ basis
    lower, upper = corners.min(axis=0), corners.max(axis=0)
    margin = np.array([0.02, 0.02]) * (upper - lower)[0]
    size = np.ceil(upper - lower + 2 * margin).astype(int)
    size += -size % SUPERSAMPLING
    return (int(size[1]), int(size[0])), (np.rint(margin) - lower).astype(np.int64)


def _paint(
    cells: np.ndarray, template: VoxelTemplate, canvas: tuple[int, int], origin: np.ndarray
) -> Int32[np.ndarray, " H*W"]:
    """Which pixel of which voxel each picture pixel shows: ``cell * pixels + pixel``, or -1."""
    hit = np.full(canvas[0] * canvas[1], -1, dtype=np.int32)
    anchor = cells @ template.basis + origin
    flat_anchor = anchor[:, 1] * canvas[1] + anchor[:, 0]
    flat_offset = template.offsets[:, 1] * canvas[1] + template.offsets[:, 0]
    number = np.arange(len(cells), dtype=np.int32)[:, None] * len(flat_offset)
    # Of repeated indices NumPy keeps the last value: the nearest voxel, as cells come from back to front.
    hit[flat_anchor[:, None] + flat_offset] = number + np.arange(len(flat_offset), dtype=np.int32)
    return hit


def _cell_colours(cells: np.ndarray, labels: np.ndarray, taxonomy: Taxonomy) -> Float32[np.ndarray, "N 3"]:
    """Colour of each cell: its class, a little lighter with height and a little uneven from cell to cell."""
    is_floor = cells[:, 2] == 0
    label = labels[cells[:, 0], cells[:, 1], np.maximum(cells[:, 2] - 1, 0)]
    colour = taxonomy.palette.astype(np.float32)[label]
    height = (cells[:, 2] - 1).astype(np.float32) / max(labels.shape[2] - 1, 1)
    grain = _grain(cells)
    uneven = np.full(256, 0.035, dtype=np.float32)
    uneven[[taxonomy.names.index(n) for n in ("vegetation",) if n in taxonomy.names]] = 0.16
    uneven[list(taxonomy.moving_labels)] = 0.0
    colour = colour + (255 - colour) * (0.22 * height)[:, None]
    colour *= (1 + uneven[label] * grain)[:, None]
    colour[is_floor] = UNKNOWN_GROUND
    return colour


def _grain(cells: Int32[np.ndarray, "N 3"]) -> Float32[np.ndarray, " N"]:
    """A number in [-0.5, 0.5] for each cell that looks random and never changes."""
    mixed = (cells.astype(np.uint64) * np.array([73856093, 19349663, 83492791], dtype=np.uint64)).T
    mixed = mixed[0] ^ mixed[1] ^ mixed[2]
    mixed = (mixed ^ (mixed >> np.uint64(13))) * np.uint64(1540483477) % np.uint64(2**32)
    return ((mixed >> np.uint64(12)) % np.uint64(1024)).astype(np.float32) / 1023 - 0.5


def _shade(shown: _Shown, light: Float32[np.ndarray, "N 12"]) -> Float32[np.ndarray, " P"]:
    """Light at each pixel: its face's, times that of the face's four corners, bilinear."""
    template = shown.template
    u, v = _face_coordinates(template).T
    face_light = FACE_LIGHT[template.face] * _edge_shade(template)
    first_corner = shown.cell * np.int32(12) + (4 * template.face).astype(np.int32).take(shown.pixel)
    shade = np.zeros(len(shown.pixel), dtype=np.float32)
    for corner, weight in enumerate(((1 - u) * (1 - v), (1 - u) * v, u * (1 - v), u * v)):
        shade += light.take(first_corner + np.int32(corner)) * (weight * face_light).take(shown.pixel)
    return shade


def _face_coordinates(template: VoxelTemplate) -> Float32[np.ndarray, "K 2"]:
    axes = np.array(FACE_AXES)[template.face, 1:]
    return np.take_along_axis(template.position, axes, axis=1)


def _edge_shade(template: VoxelTemplate) -> Float32[np.ndarray, " K"]:
    """A thin darker rim on every face, so that single voxels can be told apart."""
    rim = np.abs(_face_coordinates(template) - 0.5).max(axis=1) > 0.41
    return np.where(rim, np.array([0.975, 0.93, 0.93])[template.face], 1.0).astype(np.float32)


def _tint_plan(colour: np.ndarray, shown: _Shown, plan: Poses, grid: Grid) -> None:
    """Blend the ego's way into the ground it runs over (in place)."""
    way = plan[:, :2, 3]
    size, lower = np.asarray(grid.voxel_size_m[:2]), np.asarray(grid.lower_m[:2])
    corner = shown.cells[:, :2] * size + lower
    near = (corner > way.min(axis=0) - 2 * size - PLAN_HALF_WIDTH_M).all(axis=1)
    near &= (corner < way.max(axis=0) + size + PLAN_HALF_WIDTH_M).all(axis=1) & (shown.cells[:, 2] <= 1)
    rows = np.flatnonzero(near.take(shown.cell))
    xy = shown.position(rows)[:, :2] * size + lower
    distance = np.full(len(rows), np.inf)
    for start, end in pairwise(way):
        step = end - start
        along = np.clip((xy - start) @ step / max(step @ step, 1e-9), 0, 1)
        distance = np.minimum(distance, np.linalg.norm(xy - start - along[:, None] * step, axis=1))
    blend = 0.75 * np.clip((PLAN_HALF_WIDTH_M - distance) / 0.1, 0, 1)[:, None]
    colour[rows] = (1 - blend) * colour[rows] + blend * PLAN_COLOUR


def _paint_ego(colour: np.ndarray, shown: _Shown, canvas: tuple[int, int], origin: np.ndarray, grid: Grid) -> None:
    """Draw the ego's box over every pixel whose voxel lies behind it (in place)."""
    basis = shown.template.basis
    size, lower = np.asarray(grid.voxel_size_m), np.asarray(grid.lower_m)
    # The floor layer below the grid shifts heights by one cell.
    box_lower = (np.asarray(EGO_LOWER_M) - lower) / size + np.array([0, 0, 1])
    box_upper = (np.asarray(EGO_UPPER_M) - lower) / size + np.array([0, 0, 1])
    # Along a ray all points share a pixel: the null space of the basis, pointing away from the camera.
    ray = np.linalg.svd(basis.T.astype(np.float64))[2][2]
    ray = ray if ray[0] > 0 else -ray
    centre = ((box_lower + box_upper) / 2) @ basis + origin
    reach = np.abs((box_upper - box_lower)[:, None] * basis).sum(axis=0) / 2 + 2
    down, right = np.divmod(shown.covered, canvas[1])
    rows = np.flatnonzero((np.abs(right - centre[0]) < reach[0]) & (np.abs(down - centre[1]) < reach[1]))
    position = shown.position(rows)
    enter = (np.where(ray > 0, box_lower, box_upper) - position) / ray
    leave = (np.where(ray > 0, box_upper, box_lower) - position) / ray
    near, far = enter.max(axis=1), leave.min(axis=1)
    in_front = (near < far) & (near <= 0)
    face = np.array([1, 2, 0])[enter.argmax(axis=1)[in_front]]
    surface = (position + near[:, None] * ray)[in_front]
    relative = (surface - box_lower) / (box_upper - box_lower)
    window = (face == 0) & ((np.abs(relative[:, 0] - 0.68) < 0.06) | (np.abs(relative[:, 0] - 0.14) < 0.04))
    window &= np.abs(relative[:, 1] - 0.5) < 0.40
    paint = EGO_COLOUR * FACE_LIGHT[face][:, None]
    paint[window] *= 0.35
    colour[rows[in_front]] = paint


def _background(canvas: tuple[int, int]) -> Float32[np.ndarray, "H W 3"]:
    """A soft vertical gradient."""
    down = np.linspace(0, 1, canvas[0], dtype=np.float32)[:, None, None]
    column = (1 - down) * BACKGROUND_TOP + down * BACKGROUND_BOTTOM
    return np.broadcast_to(column, (*canvas, 3)).copy()


def _downsample(picture: Float32[np.ndarray, "H W 3"]) -> Image:
    """Box-filtered to the final size."""
    n = SUPERSAMPLING
    total = sum(picture[i::n, j::n] for i in range(n) for j in range(n))
    return np.clip(np.rint(total / n**2), 0, 255).astype(np.uint8)
