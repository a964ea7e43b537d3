"""Building blocks that both halves of a model share."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dyncity_models.config import GROUPS


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with group norm and SiLU; starts as the identity (zero-initialised last layer)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(GROUPS, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, x_BCXY: Float[Tensor, "B C X Y"]) -> Float[Tensor, "B C X Y"]:
        """Add the block's correction to its input."""
        hidden = self.conv1(F.silu(self.norm1(x_BCXY)))
        return x_BCXY + self.conv2(F.silu(self.norm2(hidden)))


class Upsample(nn.Module):
    """Doubles X and Y by a 3x3 convolution and a pixel shuffle."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out * 4, 3, padding=1)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x_BCXY: Float[Tensor, "B C X Y"]) -> Float[Tensor, "B C2 X2 Y2"]:
        """Return features at twice the resolution."""
        return self.shuffle(self.conv(x_BCXY))


class Attention(nn.Module):
    """Multi-head self-attention with RMS-normalised queries and keys, by PyTorch's fused kernel."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_norm = nn.RMSNorm(width // heads, eps=1e-6, elementwise_affine=False)
        self.k_norm = nn.RMSNorm(width // heads, eps=1e-6, elementwise_affine=False)
        self.out = nn.Linear(width, width)

    def forward(self, x_BLD: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        """Attend over all tokens of a sample."""
        batch, tokens, width = x_BLD.shape
        qkv = self.qkv(x_BLD).view(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        q, k = self.q_norm(q).to(v.dtype), self.k_norm(k).to(v.dtype)
        attended = F.scaled_dot_product_attention(q, k, v)
        return self.out(attended.transpose(1, 2).reshape(batch, tokens, width))


class Mlp(nn.Module):
    """Linear, GELU (tanh form), linear."""

    def __init__(self, width_in: int, hidden: int, width_out: int) -> None:
        super().__init__()
        self.lift = nn.Linear(width_in, hidden)
        self.lower = nn.Linear(hidden, width_out)

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... D2"]:
        """Apply to the last axis."""
        return self.lower(F.gelu(self.lift(x), approximate="tanh"))


def sinusoidal_embedding(values: Float[Tensor, " B"], width: int) -> Float[Tensor, "B D"]:
    """Cosines then sines of ``values`` at ``width / 2`` geometric frequencies (Vaswani et al. 2017, section 3.5)."""
    half = width // 2
    frequencies = torch.exp(-math.log(1e4) * torch.arange(half, device=values.device) / half)
    angles = values.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def position_embedding_2d(rows: int, columns: int, width: int) -> Float[Tensor, "L D"]:
    """Sine-cosine embedding of a row-major grid: the first half of the channels encodes the column."""
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    halves = [sinusoidal_embedding(axis.flatten().float(), width // 2) for axis in (column, row)]
    return torch.cat(halves, dim=-1)
