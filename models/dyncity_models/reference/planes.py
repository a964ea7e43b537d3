"""Six latent planes and the padded rollout: what the autoencoder and the transformer of this family share."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dyncity_models.reference.config import ReferenceAutoencoderConfig


@dataclass(frozen=True)
class HexPlanes:
    """Planes of a chunk in the grid's frame; the first letter of a name is the rows, the second the columns."""

    xy: Float[Tensor, "B C X Y"]
    xz: Float[Tensor, "B C X Z"]
    yz: Float[Tensor, "B C Y Z"]
    tx: Float[Tensor, "B C T X"]
    ty: Float[Tensor, "B C T Y"]
    tz: Float[Tensor, "B C T Z"]

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self.xy, self.xz, self.yz, self.tx, self.ty, self.tz))

    def __len__(self) -> int:
        return len(self.xy)

    def map(self, function: Callable[[Tensor], Tensor]) -> "HexPlanes":
        """Each plane put through ``function``."""
        return HexPlanes(*(function(plane) for plane in self))


def pack(planes: HexPlanes) -> Float[Tensor, "B C H W"]:
    """The padded rollout (paper, section 3.3 and figure 4): planes that share an axis lie side by side.

    ::

        xy    xz    tx'
        ty    tz    0
        yz'   0     0        (' transposed)
    """
    t, y, z = planes.ty.shape[-2], planes.xy.shape[-1], planes.xz.shape[-1]
    batch, channels, x = planes.xy.shape[:3]
    rollout = planes.xy.new_zeros(batch, channels, x + t + z, y + z + t)
    for view, plane in zip(_views(rollout, t, x, y, z), planes, strict=True):
        view.copy_(plane)
    return rollout


def unpack(rollout: Float[Tensor, "B C H W"], config: ReferenceAutoencoderConfig) -> HexPlanes:
    """The planes of a rollout, as views; what its padding holds is not read."""
    return HexPlanes(*_views(rollout, *config.plane_cells.values()))


def rollout_mask(config: ReferenceAutoencoderConfig) -> Bool[Tensor, "H W"]:
    """True where a rollout holds cells of planes."""
    # On the CPU whatever is asked of other tensors: a network without values, on `meta`, still has its tokens.
    mask = torch.zeros(1, 1, *config.rollout_shape, dtype=torch.bool, device="cpu")
    for view in _views(mask, *config.plane_cells.values()):
        view.fill_(True)
    return mask[0, 0]


def _views(rollout: Tensor, t: int, x: int, y: int, z: int) -> tuple[Tensor, ...]:
    return (
        rollout[..., :x, :y],
        rollout[..., :x, y : y + z],
        rollout[..., x + t :, :y].mT,
        rollout[..., :x, y + z :].mT,
        rollout[..., x : x + t, :y],
        rollout[..., x : x + t, y : y + z],
    )
