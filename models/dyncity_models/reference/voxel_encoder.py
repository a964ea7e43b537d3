"""Per-frame 3D convolutions, in front of the projections."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

NORM_EPS = 1e-5
SLOPE = 0.1


class ResidualVoxels(nn.Module):
    """``x + f(x)``: two 3x3x3 convolutions, replicate-padded, each normalised over its instance."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(channels, channels, 3, padding=1, padding_mode="replicate")
        self.conv2 = nn.Conv3d(channels, channels, 3, padding=1, padding_mode="replicate")

    def forward(self, x_NCXYZ: Float[Tensor, "N C X Y Z"]) -> Float[Tensor, "N C X Y Z"]:
        """Add the block's correction; nothing follows the sum."""
        hidden = F.leaky_relu(F.instance_norm(self.conv1(x_NCXYZ), eps=NORM_EPS), SLOPE)
        return x_NCXYZ + F.instance_norm(self.conv2(hidden), eps=NORM_EPS)


class HalveVoxels(nn.Module):
    """A strided convolution over the axes that are halved, normalised, and a residual block."""

    def __init__(self, channels: int, stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, channels, stride, stride=stride)
        self.residual = ResidualVoxels(channels)

    def forward(self, x_NCXYZ: Float[Tensor, "N C X Y Z"]) -> Float[Tensor, "N C X2 Y2 Z2"]:
        """Features at the lower resolution."""
        return self.residual(F.instance_norm(self.conv(x_NCXYZ), eps=NORM_EPS))


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

    def forward(self, x_NCXYZ: Float[Tensor, "N C X Y Z"]) -> Float[Tensor, "N C2 X2 Y2 Z2"]:
        """Encode N frames."""
        x_NCXYZ = self.residual(self.stem(x_NCXYZ))
        for level in self.levels:
            x_NCXYZ = level(x_NCXYZ)
        return x_NCXYZ


def halving(down: tuple[int, int, int], level: int) -> tuple[int, int, int]:
    """Strides of one level of halving, counted from 0."""
    x, y, z = (2 if level < steps else 1 for steps in down)
    return x, y, z


def embed_labels(table_KC: Float[Tensor, "K C"], labels_BTXYZ: Tensor, one_hot_time: bool) -> Tensor:
    """Embedded labels of all frames, ``(B T) C X Y Z``; ``one_hot_time`` adds T channels that say which frame it is."""
    batch, frames, *grid = labels_BTXYZ.shape
    embedded = F.embedding(labels_BTXYZ.flatten(0, 1).long(), table_KC).movedim(-1, 1)
    if not one_hot_time:
        return embedded
    which = torch.eye(frames, dtype=embedded.dtype, device=embedded.device).repeat(batch, 1)
    return torch.cat([embedded, which[:, :, None, None, None].expand(-1, -1, *grid)], dim=1)
