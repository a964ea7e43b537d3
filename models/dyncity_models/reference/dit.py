"""The diffusion transformer over padded rollouts (paper, section 3.3)."""

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from dyncity_models.attention import AttentionModule
from dyncity_models.layers import sinusoidal_embedding
from dyncity_models.reference.conditions import ConditionEmbedding, EmbeddedConditions, ReferenceConditions
from dyncity_models.reference.config import ReferenceAutoencoderConfig, ReferenceTransformerConfig
from dyncity_models.reference.planes import rollout_mask
from dyncity_sim.errors import ConfigError

NORM_EPS = 1e-6
TIME_CHANNELS = 256


class SelfAttention(AttentionModule):
    """Self-attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x_BLD: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        """Attend over all tokens of a sample."""
        q, k, v = rearrange(self.qkv(x_BLD), "b l (n h d) -> n b h l d", n=3, h=self.heads)
        return self.out(rearrange(self.kernel(q, k, v, None, 0.0), "b h l d -> b l (h d)"))


class CrossAttention(AttentionModule):
    """Attention from the tokens to those of the plane conditions."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self, x_BLD: Float[Tensor, "B L D"], y_BLD: Float[Tensor, "B L D"] | None
    ) -> Float[Tensor, "B L D"] | Float[Tensor, "1 1 D"]:
        """Attend; without plane conditions every key is the same, and so is every output."""
        if y_BLD is None:
            value = self.kv.bias[self.kv.out_features // 2 :]
            return self.out(value)[None, None]
        q = rearrange(self.q(x_BLD), "b l (h d) -> b h l d", h=self.heads)
        k, v = rearrange(self.kv(y_BLD), "b l (n h d) -> n b h l d", n=2, h=self.heads).expand(
            -1, len(x_BLD), -1, -1, -1
        )
        return self.out(rearrange(self.kernel(q, k, v, None, 0.0), "b h l d -> b l (h d)"))


class Block(nn.Module):
    """Attention and MLP under adaLN-Zero (Peebles & Xie 2023), with ungated cross-attention between them."""

    def __init__(self, width: int, heads: int, cross_attention: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=NORM_EPS)
        self.attention = SelfAttention(width, heads)
        self.cross = CrossAttention(width, heads) if cross_attention else None
        self.lift = nn.Linear(width, 4 * width)
        self.lower = nn.Linear(4 * width, width)
        self.modulation = nn.Linear(width, 6 * width)

    def forward(
        self,
        x_BLD: Float[Tensor, "B L D"],
        condition: Float[Tensor, "B M D"],
        y_BLD: Float[Tensor, "B L D"] | None,
    ) -> Float[Tensor, "B L D"]:
        """One block; ``condition`` has one entry per token, or one for all tokens of a sample."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(F.silu(condition)).chunk(6, dim=-1)
        x_BLD = torch.addcmul(x_BLD, gate1, self.attention(torch.addcmul(shift1, self.norm(x_BLD), 1 + scale1)))
        if self.cross is not None:
            x_BLD = x_BLD + self.cross(self.norm(x_BLD), y_BLD)
        hidden = F.gelu(self.lift(torch.addcmul(shift2, self.norm(x_BLD), 1 + scale2)), approximate="tanh")
        return torch.addcmul(x_BLD, gate2, self.lower(hidden))


class TimeEmbedding(nn.Module):
    """Cosines, then sines of the diffusion step, and an MLP."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lift = nn.Linear(TIME_CHANNELS, width)
        self.lower = nn.Linear(width, width)

    def forward(self, step_B: Int64[Tensor, " B"]) -> Float[Tensor, "B D"]:
        """Embed steps of the unrespaced process, 0 to 999."""
        return self.lower(F.silu(self.lift(sinusoidal_embedding(step_B, TIME_CHANNELS).to(self.lift.weight.dtype))))


class ReferenceTransformer(nn.Module):
    """Predicts the noise of a rollout and how to interpolate its log-variance.

    Patches that lie wholly in the rollout's padding are no tokens; their outputs are exactly 0.
    """

    tokens: Tensor

    def __init__(self, config: ReferenceTransformerConfig, planes: ReferenceAutoencoderConfig) -> None:
        super().__init__()
        self.config, self.planes = config, planes
        width, patch = config.width, config.patch
        cells = planes.plane_cells
        if patch < 1 or any(count % patch for count in cells.values()) or cells["x"] != cells["y"]:
            raise ConfigError(
                "autoencoder.plane_cells",
                cells,
                f"as many cells along x as along y, and multiples of the patch {patch}",
            )
        rows, columns = planes.rollout_shape
        self.patches = rows // patch, columns // patch
        self.embed = nn.Conv2d(planes.latent_channels, width, patch, stride=patch)
        self.positions = nn.Parameter(
            position_embedding(self.patches[0], self.patches[1], width)[None], requires_grad=False
        )
        mask = F.max_pool2d(rollout_mask(planes).float()[None], patch)[0] > 0
        self.register_buffer("tokens", mask.flatten().nonzero()[:, 0], persistent=False)
        self.time = TimeEmbedding(width)
        self.conditions = ConditionEmbedding(config, planes)
        self.blocks = nn.ModuleList(Block(width, config.heads, config.cross_attention) for _ in range(config.depth))
        self.final_norm = nn.LayerNorm(width, elementwise_affine=False, eps=NORM_EPS)
        self.final_modulation = nn.Linear(width, 2 * width)
        self.final = nn.Linear(width, patch * patch * 2 * planes.latent_channels)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.embed.weight.view(self.embed.out_channels, -1))
        for layer in (self.time.lift, self.time.lower):
            nn.init.normal_(layer.weight, std=0.02)
        # adaLN-Zero: every block starts as the identity, and the output at 0.
        for name, weight in self.named_parameters():
            if "modulation" in name or name.startswith("final."):
                nn.init.zeros_(weight)

    def forward(
        self, noisy: Float[Tensor, "B C H W"], step_B: Int64[Tensor, " B"], conditions: ReferenceConditions
    ) -> Float[Tensor, "B C2 H W"]:
        """Noise (the first C channels) and log-variance fraction (the last C) of rollouts at a step of 0 to 999."""
        return self.predict(noisy, step_B, self.conditions(conditions, self.positions, self.tokens))

    def predict(
        self, noisy: Float[Tensor, "B C H W"], step_B: Int64[Tensor, " B"], embedded: EmbeddedConditions
    ) -> Float[Tensor, "B C2 H W"]:
        """The same from conditions that are embedded already, as in a sampling loop."""
        tokens_BLD = rearrange(self.embed(noisy), "b d h w -> b (h w) d") + self.positions
        tokens_BLD = tokens_BLD[:, self.tokens]
        condition = self.time(step_B)[:, None] + embedded.everywhere[:, None]
        if embedded.per_token is not None:
            condition = condition + embedded.per_token
        for block in self.blocks:
            tokens_BLD = block(tokens_BLD, condition, embedded.per_token)
        shift, scale = self.final_modulation(F.silu(condition)).chunk(2, dim=-1)
        patches = self.final(self.final_norm(tokens_BLD) * (1 + scale) + shift)
        return self._unpatch(patches, noisy.shape)

    def _unpatch(self, patches: Float[Tensor, "B L P"], shape: torch.Size) -> Float[Tensor, "B C2 H W"]:
        rows, columns = self.patches
        full = patches.new_zeros(len(patches), rows * columns, patches.shape[-1])
        full = full.index_copy(1, self.tokens, patches)
        patch = self.config.patch
        return rearrange(
            full, "b (h w) (p q c) -> b c (h p) (w q)", h=rows, w=columns, p=patch, q=patch, c=2 * shape[1]
        )


def position_embedding(rows: int, columns: int, width: int) -> Float[Tensor, "L D"]:
    """Fixed embedding of a row-major grid: the first half of the channels encodes the column, the second the row.

    Each half is sines, then cosines, at frequencies from 1 down to 1e-4 (Dosovitskiy et al. 2021, as in MAE).
    """
    quarter = width // 4
    # In double precision, because the published tables are.
    frequencies = 1e-4 ** (torch.arange(quarter, dtype=torch.float64) / quarter)
    row, column = torch.meshgrid(torch.arange(rows).double(), torch.arange(columns).double(), indexing="ij")
    angles = [axis.flatten()[:, None] * frequencies for axis in (column, row)]
    return torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=-1).float()
