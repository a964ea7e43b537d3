"""Parts of chunks that training takes for known: sides, surroundings, first frames."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dyncity_models.reference.config import ReferenceAutoencoderConfig
from dyncity_models.reference.planes import HexPlanes

KINDS = (0.5, 0.25)
"""Shares of samples of which one side is known, and the inside or the outside of a square; of the rest, all columns."""


def drawn_regions(count: int, config: ReferenceAutoencoderConfig, generator: torch.Generator) -> HexPlanes:
    """Which cells of each plane are settled, one channel each, as bool, for chunks that are known in part.

    Columns of a region are one side of a straight cut, the inside or the outside of a square, or all. It is known
    in all frames, or in the first few, which is certain where it has all columns. As in
    ``backends.reference.region.settled``, a cell of xy, xz, yz is settled when the columns it covers are in the
    region, because what stands still is carried to all frames; a cell of tx, ty, tz when they are and its frame is.

    Args:
        count: B.
        config: shapes.
        generator: draws on the device of the result.
    """
    device, cells = generator.device, config.plane_cells

    def uniform() -> Float[Tensor, "B 1 1"]:
        return torch.rand(count, 1, 1, generator=generator, device=device)

    x, y, frames = ((torch.arange(cells[axis], device=device) + 0.5) / cells[axis] for axis in "xyt")
    x_X1, y_1Y = x[:, None], y[None, :]
    cut, kind, turned = 0.25 + 0.5 * uniform(), uniform(), uniform() < 0.5
    side = torch.where(uniform() < 0.5, x_X1, y_1Y) < cut
    square = torch.maximum((x_X1 - 0.5).abs(), (y_1Y - 0.5).abs()) < 0.5 * cut
    everywhere = kind >= sum(KINDS)
    columns: Bool[Tensor, "B X Y"] = (torch.where(kind < KINDS[0], side, square) ^ turned) | everywhere
    first = (frames < uniform()[..., 0] * (1 - 1 / cells["t"])) | (frames == frames[0])
    known_frames: Bool[Tensor, "B T"] = first | ((uniform() < 0.5) & ~everywhere)[..., 0]

    rows, lines = columns.all(2), columns.all(1)
    of_z = torch.ones(cells["z"], dtype=torch.bool, device=device)
    return HexPlanes(
        xy=columns[:, None],
        xz=(rows[:, :, None] & of_z)[:, None],
        yz=(lines[:, :, None] & of_z)[:, None],
        tx=(known_frames[:, :, None] & rows[:, None])[:, None],
        ty=(known_frames[:, :, None] & lines[:, None])[:, None],
        tz=(known_frames[:, :, None] & rows.all(1)[:, None, None] & of_z)[:, None],
    )
