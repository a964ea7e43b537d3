"""The padded rollout of three planes: one image, in which planes that share an axis lie side by side.

That of DynamicCity (Bian et al. 2025, section 3.3 and figure 4) without its planes over height::

    xy    tx'
    ty    0         (' transposed)
"""

from jaxtyping import Float
from torch import Tensor

from dyncity_models.hexplane import Planes


def rolled_out(
    xy: Float[Tensor, "B C1 X Y"], tx: Float[Tensor, "B C2 P X"], ty: Float[Tensor, "B C2 P Y"], shared: int
) -> Float[Tensor, "B C H W"]:
    """Planes in one image, with zeros wherever there is nothing.

    The first ``shared`` channels of all planes are the same ones in the image; those of xy alone follow, then those of
    tx and ty.
    """
    own = xy.shape[1]
    rows, columns, pairs = xy.shape[2], xy.shape[3], tx.shape[2]
    image = xy.new_zeros(len(xy), own + tx.shape[1] - shared, rows + pairs, columns + pairs)
    image[:, :own, :rows, :columns] = xy
    for plane, view in ((tx.mT, image[:, :, :rows, columns:]), (ty, image[:, :, rows:, :columns])):
        view[:, :shared] = plane[:, :shared]
        view[:, own:] = plane[:, shared:]
    return image


def unrolled(image: Float[Tensor, "B C H W"], pairs: int) -> Planes:
    """Planes as views of an image; what its padding holds is not read."""
    still, below = image[:, :, :-pairs], image[:, :, -pairs:]
    return Planes(still[..., :-pairs], still[..., -pairs:].mT, below[..., :-pairs])
