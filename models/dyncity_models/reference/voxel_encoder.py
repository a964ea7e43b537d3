"""Per-frame 3D convolutions, in front of the projections."""

from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from dyncity_models.reference.volumes import convolve, instance_norm, normalised_leaky, replicate_borders


class ResidualVoxels(nn.Module):
    """``x + f(x)``: two 3x3x3 convolutions, replicate-padded, each normalised over its instance."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(channels, channels, 3, padding=1, padding_mode="replicate")
        self.conv2 = nn.Conv3d(channels, channels, 3, padding=1, padding_mode="replicate")

    def forward(self, x_NCXYZ: Float[Tensor, "N C X Y Z"]) -> Float[Tensor, "N C X Y Z"]:
        """Add the block's correction; nothing follows the sum."""
        hidden = normalised_leaky(convolve(self.conv1, x_NCXYZ))
        return x_NCXYZ + instance_norm(convolve(self.conv2, hidden))


class HalveVoxels(nn.Module):
    """A strided convolution over the axes that are halved, normalised, and a residual block."""

    def __init__(self, channels: int, stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, channels, stride, stride=stride)
        self.residual = ResidualVoxels(channels)

    def forward(self, x_NCXYZ: Float[Tensor, "N C X Y Z"]) -> Float[Tensor, "N C X2 Y2 Z2"]:
        """Features at the lower resolution."""
        return self.residual(instance_norm(convolve(self.conv, x_NCXYZ)))


class VoxelEncoder(nn.Module):
    """Features of single frames (paper, section 3.1).

    Normalisation uses the statistics of each frame, in evaluation too, and has no weights.

    Args:
        channels_in: width of the embedded labels.
        channels: width of everything after.
        down: halvings of X, Y, Z; an axis with fewer of them rests in the last levels.
    """

    def __init__(self, channels_in: int, channels: int, down: tuple[int, int, int]) -> None:
        super().__init__()
        self.stem = nn.Conv3d(channels_in, channels, 3, padding=1, padding_mode="replicate")
        self.residual = ResidualVoxels(channels)
        self.levels = nn.ModuleList(HalveVoxels(channels, halving(down, level)) for level in range(max(down)))

    def forward(
        self,
        labels_NXYZ: UInt8[Tensor, "N X Y Z"],
        table_KC: Float[Tensor, "K C"],
        frames_N: Int64[Tensor, " N"] | None = None,
    ) -> Float[Tensor, "N X2 Y2 Z2 C2"]:
        """Encode frames.

        Args:
            labels_NXYZ: labels.
            table_KC: embedding of each label.
            frames_N: place of each frame in its chunk, for an encoder whose input has a channel for each place, which
                is 1 there. As such a channel is the same everywhere, borders included, it comes to a constant.
        """
        bordered = replicate_borders(labels_NXYZ, 1)
        embedded_NCXYZ = F.embedding(bordered.int(), table_KC).movedim(-1, 1)
        x_NCXYZ = convolve(self.stem, embedded_NCXYZ, bordered=True)
        if frames_N is not None:
            constant_NC = self.stem.weight.sum((2, 3, 4))[:, table_KC.shape[1] + frames_N].T
            x_NCXYZ = x_NCXYZ.add_(constant_NC[..., None, None, None])
        x_NCXYZ = self.residual(x_NCXYZ)
        for level in self.levels:
            x_NCXYZ = level(x_NCXYZ)
        return x_NCXYZ.movedim(1, -1)


def halving(down: tuple[int, int, int], level: int) -> tuple[int, int, int]:
    """Strides of one level of halving, counted from 0."""
    x, y, z = (2 if level < steps else 1 for steps in down)
    return x, y, z
