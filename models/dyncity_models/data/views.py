"""What an encoder may be shown of a chunk: sensor view, dense truth, or a known part of it.

Everything works on batches and on any device. Poses are planar (x, y, yaw) in any frame that a batch shares; with
coordinates of kilometres pass float64, or poses relative to the chunk.
"""

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from dyncity_models.data.clips import UNOBSERVED
from dyncity_models.hexplane import cell_centres, compose, invert, transform
from dyncity_sim.domain.conditions import LAYOUT_COLUMNS
from dyncity_sim.domain.taxonomy import CARLASC

FILLING_OFFSETS = (2, -2, 4, -4, 7, -7, 10, -10, 15, -15)
"""Frames from which cells under a mover are filled, as their distance from its own, the nearest first."""


def column_points(planar: Float[Tensor, "*F 3"], cells: int, half_extent_m: float) -> Float[Tensor, "*F X Y 2"]:
    """Where each column of the square maps around some poses lies, in the frame of the poses."""
    return transform(planar[..., None, None, :], cell_centres(cells, half_extent_m, planar.device))


def covered(
    points: Float[Tensor, "B *P 2"], planar: Float[Tensor, "B N 3"], half_extent_m: float
) -> Bool[Tensor, " B *P"]:
    """Whether points lie in the square grid of any of N ego poses."""
    flat = points.flatten(1, -2)
    local = transform(invert(planar)[:, :, None], flat[:, None])
    return (local.abs() < half_extent_m).all(dim=-1).any(dim=1).view(points.shape[:-1])


def hidden_by(
    points: Float[Tensor, "B *P 2"], centres: Float[Tensor, "B G 2"], radii_m: Float[Tensor, "B G"]
) -> Bool[Tensor, " B *P"]:
    """Whether points lie in any of G discs; a radius of 0 hides nothing."""
    flat = points.flatten(1, -2)
    distances = (flat[:, None] - centres[:, :, None]).square().sum(dim=-1)
    return (distances < radii_m.square()[..., None]).any(dim=1).view(points.shape[:-1])


def behind_line(
    points: Float[Tensor, "B *P 2"],
    origin: Float[Tensor, "B 2"],
    angle_rad: Float[Tensor, " B"],
    offset_m: Float[Tensor, " B"],
) -> Bool[Tensor, " B *P"]:
    """Whether points lie on the near side of a line ``offset_m`` from ``origin`` whose normal has that angle."""
    normal = torch.stack([angle_rad.cos(), angle_rad.sin()], dim=-1)
    ones = (1,) * (points.ndim - 2)
    along = ((points - origin.view(-1, *ones, 2)) * normal.view(-1, *ones, 2)).sum(dim=-1)
    return along < offset_m.view(-1, *ones)


def is_moving(labels: UInt8[Tensor, "*S"]) -> Bool[Tensor, "*S"]:
    """Cells of classes that can move."""
    found = torch.zeros_like(labels, dtype=torch.bool)
    for label in CARLASC.moving_labels:
        found |= labels == label
    return found


def known_tokens(
    labels_BTXYZ: UInt8[Tensor, "B T X Y Z"], known_columns: Bool[Tensor, "B T X Y"]
) -> UInt8[Tensor, "B T X Y Z"]:
    """The static part of a chunk where it is known: movers and unknown columns count as never observed."""
    return labels_BTXYZ.masked_fill(~known_columns[..., None] | is_moving(labels_BTXYZ), UNOBSERVED)


def remembered_tokens(
    labels_BTXYZ: UInt8[Tensor, "B T X Y Z"],
    recent_BNXYZ: UInt8[Tensor, "B N X Y Z"],
    planar: Float[Tensor, "B T 3"],
    recent_planar: Float[Tensor, "B N 3"],
    known_columns: Bool[Tensor, "B T X Y"],
    half_extent_m: float,
) -> UInt8[Tensor, "B T X Y Z"]:
    """The static part of a chunk as the drive before it would remember it.

    Cells that movers held in all recent frames were never seen empty: they count as never observed in the whole chunk,
    whoever is there now. Other cells with movers show what other frames show there. So nothing tells where movers of
    the chunk itself will be, but for the few cells that are never free while it lasts.

    Args:
        labels_BTXYZ: dense truth of the chunk.
        recent_BNXYZ: the same of some frames before it.
        planar: poses of the chunk's frames.
        recent_planar: poses of the frames before it.
        known_columns: where the static world is known.
        half_extent_m: of the grid.
    """
    frames, size = labels_BTXYZ.shape[1:3]
    points = column_points(planar, size, half_extent_m)
    static = labels_BTXYZ.masked_fill(is_moving(labels_BTXYZ), UNOBSERVED)
    filled = static
    for offset in FILLING_OFFSETS:
        source = (torch.arange(frames, device=static.device) + offset).clamp(0, frames - 1)
        shown = sampled(static[:, source], planar[:, source], points, half_extent_m)
        filled = torch.where(filled == UNOBSERVED, shown, filled)
    held = torch.ones_like(filled, dtype=torch.bool)
    for n in range(recent_BNXYZ.shape[1]):
        recent = recent_BNXYZ[:, n : n + 1].expand_as(static)
        pose = recent_planar[:, n : n + 1].expand_as(planar)
        held &= is_moving(sampled(recent, pose, points, half_extent_m))
    return filled.masked_fill(held | ~known_columns[..., None], UNOBSERVED)


def sampled(
    labels: UInt8[Tensor, "B T X Y Z"],
    planar: Float[Tensor, "B T 3"],
    points: Float[Tensor, "B T X Y 2"],
    half_extent_m: float,
) -> UInt8[Tensor, "B T X Y Z"]:
    """The nearest columns of ego grids at some points, never observed outside of them."""
    size = labels.shape[2]
    local = transform(invert(planar)[..., None, None, :], points)
    index = torch.floor((local / (2 * half_extent_m) + 0.5) * size).long()
    inside = ((index >= 0) & (index < size)).all(dim=-1)
    x, y = index.clamp(0, size - 1).unbind(-1)
    batch, frame = (torch.arange(n, device=labels.device) for n in labels.shape[:2])
    found = labels[batch[:, None, None, None], frame[None, :, None, None], x, y]
    return found.masked_fill(~inside[..., None], UNOBSERVED)


def mover_columns(labels_BNXYZ: UInt8[Tensor, "B N X Y Z"]) -> Bool[Tensor, "B M X Y"]:
    """Columns that hold a vehicle in each of N frames, then columns that hold a pedestrian: M = 2 N."""
    vehicle, pedestrian = CARLASC.index("vehicle"), CARLASC.index("pedestrian")
    return torch.cat([(labels_BNXYZ == label).any(dim=-1) for label in (vehicle, pedestrian)], dim=1)


def vehicle_layout(labels_BTXYZ: UInt8[Tensor, "B T X Y Z"]) -> Bool[Tensor, "B T X4 Y4"]:
    """Where vehicles stand: each cell of ``LAYOUT_COLUMNS`` x ``LAYOUT_COLUMNS`` columns that holds one in any."""
    columns = (labels_BTXYZ == CARLASC.index("vehicle")).any(dim=-1)
    size = LAYOUT_COLUMNS
    return columns.unflatten(-1, (-1, size)).unflatten(-3, (-1, size)).any(dim=-1).any(dim=-2)


def moved_to_canvas(
    columns: Bool[Tensor, "B M X Y"],
    planar: Float[Tensor, "B M 3"],
    canvas_planar: Float[Tensor, "B 3"],
    grid_half_extent_m: float,
    canvas_half_extent_m: float,
    cells: int,
) -> Bool[Tensor, "B M C C"]:
    """Column masks of ego frames drawn on a canvas; a canvas cell is set when any of its four quarters is."""
    grid_from_canvas = compose(invert(planar), canvas_planar[:, None])
    points = column_points(grid_from_canvas, 2 * cells, canvas_half_extent_m)
    size = columns.shape[-1]
    index = torch.floor((points / (2 * grid_half_extent_m) + 0.5) * size).long()
    inside = ((index >= 0) & (index < size)).all(dim=-1)
    index = index.clamp(0, size - 1)
    flat = (index[..., 0] * size + index[..., 1]).flatten(2)
    drawn = columns.flatten(2).gather(2, flat).view_as(inside) & inside
    return drawn.unflatten(-1, (cells, 2)).unflatten(-3, (cells, 2)).any(dim=-1).any(dim=-2)


def known_latent_mask(known: Bool[Tensor, "B C C"]) -> Bool[Tensor, "B 1 X Y"]:
    """Latent cells (two canvas cells wide) that lie well inside the known part of a canvas."""
    unknown = (~known).float()[:, None]
    return F.max_pool2d(F.max_pool2d(unknown, 2), 3, stride=1, padding=1) == 0
