"""The projection module: attention over the axes that a plane does not have (paper, section 3.1)."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dyncity_models.attention import AttentionModule

NORM_EPS = 1e-5


class ProjectionAttention(AttentionModule):
    """Self-attention without biases on queries, keys and values; heads are ``channels / heads`` wide."""

    def __init__(self, channels: int, heads: int, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.heads, self.attention_dropout = heads, attention_dropout
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.out = nn.Linear(channels, channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_NLC: Float[Tensor, "N L C"]) -> Float[Tensor, "N L C"]:
        """Attend over each sequence."""
        q, k, v = rearrange(self.qkv(x_NLC), "n l (three h d) -> three n h l d", three=3, h=self.heads)
        attended = self.kernel(q, k, v, None, self._dropout_now)
        return self.dropout(self.out(rearrange(attended, "n h l d -> n l (h d)")))

    def first(self, x_NLC: Float[Tensor, "N L C"]) -> Float[Tensor, "N 1 C"]:
        """The output of the first token, without keys and values of the others.

        Scores are ``(Wq x0) . (Wk x) = (Wk' Wq x0) . x``, and values can be projected after they are averaged, so that
        all heads attend to the tokens themselves.
        """
        query, key, value = rearrange(self.qkv.weight, "(three h d) c -> three h d c", three=3, h=self.heads)
        q_NHD = torch.einsum("nc,hdc->nhd", x_NLC[:, 0], query)
        q_NHC = torch.einsum("nhd,hdc->nhc", q_NHD, key)
        x_N1LC = x_NLC[:, None]
        mixed_N1HC = self.kernel(q_NHC[:, None], x_N1LC, x_N1LC, query.shape[1] ** -0.5, self._dropout_now)
        attended = torch.einsum("nhc,hdc->nhd", mixed_N1HC[:, 0], value)
        return self.dropout(self.out(attended.flatten(1)[:, None]))

    @property
    def _dropout_now(self) -> float:
        return self.attention_dropout if self.training else 0.0


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

    def forward(self, x_NLC: Float[Tensor, "N L C"]) -> Float[Tensor, "N L C"]:
        """One layer."""
        return self._mlp(x_NLC + self.attention(self.norm1(x_NLC)))

    def first(self, x_NLC: Float[Tensor, "N L C"]) -> Float[Tensor, "N 1 C"]:
        """The first token of one layer; it attends to all tokens all the same."""
        return self._mlp(x_NLC[:, :1] + self.attention.first(self.norm1(x_NLC)))

    def _mlp(self, x_NLC: Float[Tensor, "N L C"]) -> Float[Tensor, "N L C"]:
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

    def forward(self, volume: Float[Tensor, "B *axes C"], volume_axes: str) -> Float[Tensor, "B *kept C"]:
        """Project a volume whose axes between B and C are the letters of ``volume_axes``."""
        kept, away = " ".join(self.axes), " ".join(self.away)
        sequences_NLC = rearrange(volume, f"b {' '.join(volume_axes)} c -> (b {kept}) ({away}) c")
        cells = {axis: volume.shape[1 + volume_axes.index(axis)] for axis in self.axes}
        read_NC = self.read_first(sequences_NLC)
        for number, head in enumerate((self.head_lift, self.head_lower)):
            read_NC = F.linear(torch.tanh(read_NC) if number else read_NC, head.weight.flatten(1), head.bias)
        return rearrange(read_NC, f"(b {kept}) c -> b {kept} c", **cells)

    def read_first(self, sequences_NLC: Float[Tensor, "N L C"]) -> Float[Tensor, "N C"]:
        """The transformer's output at index 0 of each sequence."""
        token = self.token.expand(len(sequences_NLC), -1, -1)
        x_NLC = torch.cat([sequences_NLC, token], dim=1).add_(self.positions)
        for layer in self.layers[:-1]:
            x_NLC = layer(x_NLC)
        last = self.layers[-1]
        assert isinstance(last, ProjectionLayer)
        return last.first(x_NLC)[:, 0]
