"""The projection module: attention over the axes that a plane does not have (paper, section 3.1)."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

NORM_EPS = 1e-5


class ProjectionAttention(nn.Module):
    """Self-attention without biases on queries, keys and values; heads are ``channels / heads`` wide."""

    def __init__(self, channels: int, heads: int, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.heads, self.attention_dropout = heads, attention_dropout
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.out = nn.Linear(channels, channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_NLC: Float[Tensor, "N L C"], read: int | None = None) -> Float[Tensor, "N M C"]:
        """Attend over each sequence.

        Args:
            x_NLC: sequences.
            read: compute the output of the first ``read`` tokens only; they attend to all tokens all the same.
        """
        channels = x_NLC.shape[-1]
        if read is None:
            q, k, v = self.qkv(x_NLC).chunk(3, dim=-1)
        else:
            q = F.linear(x_NLC[:, :read], self.qkv.weight[:channels])
            k, v = F.linear(x_NLC, self.qkv.weight[channels:]).chunk(2, dim=-1)
        q, k, v = (rearrange(part, "n l (h d) -> n h l d", h=self.heads) for part in (q, k, v))
        dropout = self.attention_dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        return self.dropout(self.out(rearrange(attended, "n h l d -> n l (h d)")))


class ProjectionLayer(nn.Module):
    """Attention and MLP, each on normalised input and added to it."""

    def __init__(self, channels: int, heads: int, mlp_width: int, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=NORM_EPS)
        self.attention = ProjectionAttention(channels, heads, dropout, attention_dropout)
        self.norm2 = nn.LayerNorm(channels, eps=NORM_EPS)
        self.lift = nn.Linear(channels, mlp_width)
        self.lower = nn.Linear(mlp_width, channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_NLC: Float[Tensor, "N L C"], read: int | None = None) -> Float[Tensor, "N M C"]:
        """One layer; of the first ``read`` tokens only where that is all that is wanted."""
        x_NLC = x_NLC[:, :read] + self.attention(self.norm1(x_NLC), read)
        hidden = self.dropout(F.gelu(self.lift(self.norm2(x_NLC)), approximate="none"))
        return x_NLC + self.dropout(self.lower(hidden))


class Projection(nn.Module):
    """Replaces the axes that are projected away by what a transformer makes of the cells along them.

    The published code appends a learned token to each sequence and then reads the output at index 0, which is the
    first cell (of frame 0, of x = 0, ...), not the token. So does this, and the last layer computes that output only.

    Args:
        axes: the axes that stay, a plane's name or ``xyz``.
        away: cells of each axis that goes, in the order t, x, y, z.
        channels: width.
        depth: layers.
        heads: attention heads.
        mlp_width: hidden width of the MLP.
        dropout: after attention and in the MLP.
        attention_dropout: of attention weights.
    """

    def __init__(
        self,
        axes: str,
        away: dict[str, int],
        channels: int,
        depth: int,
        heads: int,
        mlp_width: int,
        dropout: float,
        attention_dropout: float,
    ) -> None:
        super().__init__()
        self.axes, self.away = axes, "".join(away)
        tokens = 1
        for cells in away.values():
            tokens *= cells
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, channels))
        self.positions = nn.Parameter(0.02 * torch.randn(1, tokens + 1, channels))
        self.layers = nn.ModuleList(
            ProjectionLayer(channels, heads, mlp_width, dropout, attention_dropout) for _ in range(depth)
        )
        convolution = nn.Conv3d if len(axes) == 3 else nn.Conv2d
        self.head_lift = convolution(channels, channels, 1)
        self.head_lower = convolution(channels, channels, 1)

    def forward(self, volume: Float[Tensor, "B C *axes"], volume_axes: str) -> Float[Tensor, "B C *kept"]:
        """Project a volume whose axes after B and C are the letters of ``volume_axes``."""
        pattern = f"b c {' '.join(volume_axes)} -> (b {' '.join(self.axes)}) ({' '.join(self.away)}) c"
        sequences_NLC = rearrange(volume, pattern)
        cells = {axis: volume.shape[2 + volume_axes.index(axis)] for axis in self.axes}
        read_NC = self.read_first(sequences_NLC)
        kept = " ".join(self.axes)
        plane = rearrange(read_NC, f"(b {kept}) c -> b c {kept}", **cells)
        return self.head_lower(torch.tanh(self.head_lift(plane)))

    def read_first(self, sequences_NLC: Float[Tensor, "N L C"]) -> Float[Tensor, "N C"]:
        """The transformer's output at index 0 of each sequence."""
        token = self.token.expand(len(sequences_NLC), -1, -1)
        x_NLC = torch.cat([sequences_NLC, token], dim=1) + self.positions
        for layer in self.layers[:-1]:
            x_NLC = layer(x_NLC)
        return self.layers[-1](x_NLC, read=1)[:, 0]
