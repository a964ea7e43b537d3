"""Planes and the canvas they lie in: the contract between an autoencoder and its transformer.

The canvas is the flattened ego frame of one frame of the chunk (x forward, y left, metres). Planar
poses ``canvas_from_ego`` are (x, y, yaw): where an ego frame stands on the canvas. Feature maps are
``(B, C, X, Y)`` with cell centres spread evenly over a square of known half extent.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Planes:
    """Latent planes of a chunk.

    Attributes:
        xy: what stands still, ``(B, C, X, Y)`` on the canvas.
        tx: what changes, over time and canvas x, ``(B, C, P, X)`` with one P per frame pair.
        ty: what changes, over time and canvas y, ``(B, C, P, Y)``.
        xz, yz, tz: the same over height, ``(B, C, X, Z)``, ``(B, C, Y, Z)``, ``(B, C, P, Z)``; of autoencoders with
            ``height_planes`` alone.
    """

    xy: Float[Tensor, "B C X Y"]
    tx: Float[Tensor, "B C P X"]
    ty: Float[Tensor, "B C P Y"]
    xz: Float[Tensor, "B C X Z"] | None = None
    yz: Float[Tensor, "B C Y Z"] | None = None
    tz: Float[Tensor, "B C P Z"] | None = None

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.named().values())

    def __len__(self) -> int:
        return len(self.xy)

    def named(self) -> dict[str, Tensor]:
        """The planes that there are, by name."""
        return {name: plane for name, plane in vars(self).items() if plane is not None}

    def to(self, device: torch.device | str) -> "Planes":
        """The same planes on another device."""
        return Planes(*(plane.to(device) for plane in self))

    def flat(self) -> Float[Tensor, "B N"]:
        """All cells of a chunk in one row, for what knows nothing of planes."""
        return torch.cat([plane.flatten(1) for plane in self], dim=1)

    def shaped(self, flat_BN: Float[Tensor, "B N"]) -> "Planes":
        """Rows as ``flat`` gives them, of any number, back in planes of this one's shapes."""
        parts = flat_BN.split([plane[0].numel() for plane in self], dim=1)
        return Planes(*(part.unflatten(1, plane.shape[1:]) for part, plane in zip(parts, self, strict=True)))


def canvas_poses(planar_world: Float[Tensor, "B T 3"], anchor_frame: int) -> Float[Tensor, "B T 3"]:
    """Planar poses (x, y, yaw) of each frame on the canvas, from planar poses in any common frame."""
    anchor = planar_world[:, anchor_frame : anchor_frame + 1]
    relative = compose(invert(anchor), planar_world)
    yaw = relative[..., 2:]
    # World yaws jump by a full turn where a heading crosses west; relative to the anchor they must not.
    return torch.cat([relative[..., :2], torch.atan2(yaw.sin(), yaw.cos())], dim=-1)


def invert(pose: Float[Tensor, "... 3"]) -> Float[Tensor, "... 3"]:
    """The planar transform that undoes ``pose``."""
    x, y, yaw = pose.unbind(-1)
    cos, sin = yaw.cos(), yaw.sin()
    return torch.stack([-cos * x - sin * y, sin * x - cos * y, -yaw], dim=-1)


def compose(a_from_b: Float[Tensor, "... 3"], b_from_c: Float[Tensor, "... 3"]) -> Float[Tensor, "... 3"]:
    """``a_from_c``: planar transforms multiplied."""
    xy = transform(a_from_b, b_from_c[..., :2])
    yaw = a_from_b[..., 2:] + b_from_c[..., 2:]
    return torch.cat([xy, yaw.expand(*xy.shape[:-1], 1)], dim=-1)


def transform(a_from_b: Float[Tensor, "... 3"], points: Float[Tensor, "... 2"]) -> Float[Tensor, "... 2"]:
    """Points of frame b in frame a."""
    x, y, yaw = a_from_b.unbind(-1)
    cos, sin = yaw.cos(), yaw.sin()
    return torch.stack(
        [
            cos * points[..., 0] - sin * points[..., 1] + x,
            sin * points[..., 0] + cos * points[..., 1] + y,
        ],
        dim=-1,
    )


def cell_centres(cells: int, half_extent_m: float, device: torch.device | None = None) -> Float[Tensor, "X Y 2"]:
    """Metres of the centres of a square map of ``cells`` x ``cells``."""
    axis = (torch.arange(cells, device=device) + 0.5) * (2 * half_extent_m / cells) - half_extent_m
    return torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1)


def sampling_grid(
    source_from_target: Float[Tensor, "N 3"], target_cells: int, target_half_m: float, source_half_m: float
) -> Float[Tensor, "N X Y 2"]:
    """Where each cell of a target map lies in a source map, in ``grid_sample``'s coordinates.

    ``grid_sample`` (align_corners=False) wants the last axis first: y of the source, then x, in [-1, 1].
    """
    centres = cell_centres(target_cells, target_half_m, source_from_target.device)
    points = transform(source_from_target[:, None, None], centres[None])
    return points.flip(-1) / source_half_m
