"""The diffusion transformer over the planes of the family ``anchored``."""

import math

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from dyncity_models.anchored.rollout import rolled_out, unrolled
from dyncity_models.conditioning import (
    MOVER_CHANNELS,
    PATH_CHANNELS,
    CanvasConditions,
    ConditionEmbedding,
    path_maps,
)
from dyncity_models.config import AutoencoderConfig, DiffusionTransformerConfig
from dyncity_models.hexplane import Planes
from dyncity_models.layers import Attention, Mlp, ResidualBlock, position_embedding_2d, sinusoidal_embedding
from dyncity_sim.errors import ConfigError


class Block(nn.Module):
    """Attention and MLP, modulated by a vector that all blocks share plus a bias of its own (adaLN-single).

    A block of the second half first merges the tokens of its twin in the first half (U-ViT, Bao et al. 2023).
    """

    def __init__(self, width: int, heads: int, merges: bool) -> None:
        super().__init__()
        self.merge = nn.Linear(2 * width, width) if merges else None
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.mlp = Mlp(width, 4 * width, width)
        self.modulation_bias = nn.Parameter(torch.zeros(6, width))

    def forward(
        self, x_BLD: Float[Tensor, "B L D"], modulation: Float[Tensor, "B 6 D"], twin_BLD: Float[Tensor, "B L D"] | None
    ) -> Float[Tensor, "B L D"]:
        """One block."""
        if self.merge is not None:
            assert twin_BLD is not None
            x_BLD = self.merge(torch.cat([x_BLD, twin_BLD], dim=-1))
        shift1, scale1, gate1, shift2, scale2, gate2 = (modulation + self.modulation_bias)[:, :, None].unbind(1)
        x_BLD = x_BLD + gate1 * self.attention(self.norm1(x_BLD) * (1 + scale1) + shift1)
        return x_BLD + gate2 * self.mlp(self.norm2(x_BLD) * (1 + scale2) + shift2)


class DiffusionTransformer(nn.Module):
    """Predicts the flow-matching velocity of noisy, normalised planes.

    Tokens are patches of xy (through a convolutional stem that also sees the ego path, the known
    static world and the movers before the chunk), then of tx, then of ty. With the condition ``layout``, maps of
    where vehicles stand come with each plane: as they are with xy, their maxima along y with tx and along x with ty.

    With ``config.rollout`` all planes lie in one padded image (``rollout``), and stem, patches, positions and head are
    those of the image, whose padding gives tokens, too.

    Raises:
        ConfigError: planes that cannot be cut into such patches.
    """

    def __init__(self, config: DiffusionTransformerConfig, planes: AutoencoderConfig) -> None:
        super().__init__()
        _check_patches(config, planes)
        self.config, self.planes = config, planes
        width, patch, stem, latent = config.width, config.patch, config.stem_channels, planes.latent_channels
        map_channels = 2 * latent + 1 + PATH_CHANNELS + 4 * MOVER_CHANNELS
        time_channels = latent
        if config.takes_layout:
            map_channels += 4 * planes.pairs + 1
            time_channels += 2 + 1
        if config.rollout:
            map_channels += time_channels - latent
        self.fold = nn.PixelUnshuffle(2)
        self.stem = nn.Sequential(nn.Conv2d(map_channels, stem, 3, padding=1), ResidualBlock(stem))
        self.patch_xy = nn.Conv2d(stem, width, patch, stride=patch)
        time_patch = config.time_patch
        if not config.rollout:
            self.patch_tx = nn.Conv2d(time_channels, width, time_patch, stride=time_patch)
            self.patch_ty = nn.Conv2d(time_channels, width, time_patch, stride=time_patch)
        self.position = nn.Parameter(self._positions())

        self.time = Mlp(256, width, width)
        self.condition = ConditionEmbedding(planes.frames, width)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        half = config.depth // 2
        self.blocks = nn.ModuleList(Block(width, config.heads, merges=i >= half) for i in range(config.depth))

        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.final_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.unpatch_xy = nn.Linear(width, stem * patch * patch)
        self.head_xy = nn.Sequential(
            nn.Conv2d(2 * stem, stem, 3, padding=1),
            ResidualBlock(stem),
            nn.SiLU(),
            nn.Conv2d(stem, latent, 3, padding=1),
        )
        last = [self.modulation[1], self.final_modulation[1], self.head_xy[-1]]
        if not config.rollout:
            self.unpatch_tx = nn.Linear(width, latent * time_patch * time_patch)
            self.unpatch_ty = nn.Linear(width, latent * time_patch * time_patch)
            last += [self.unpatch_tx, self.unpatch_ty]
        for layer in last:
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def _positions(self) -> Float[Tensor, "L D"]:
        width = self.config.width
        space, (time, along) = self._cells_xy, self._cells_time
        if self.config.rollout:
            return position_embedding_2d(space + time, space + time, width)
        tables = [position_embedding_2d(space, space, width)]
        tables += [position_embedding_2d(time, along, width).roll(7 * (i + 1), dims=-1) for i in range(2)]
        return torch.cat(tables)

    @property
    def _cells_xy(self) -> int:
        return self.planes.latent_cells // self.config.patch

    @property
    def _cells_time(self) -> tuple[int, int]:
        return self.planes.pairs // self.config.time_patch, self.planes.latent_cells // self.config.time_patch

    def forward(self, noisy: Planes, time_B: Float[Tensor, " B"], conditions: CanvasConditions) -> Planes:
        """Velocity (noise minus data) at ``time_B`` in [0, 1], where 1 is pure noise."""
        canvas = self.planes.canvas
        maps = path_maps(conditions.canvas_from_ego, self.planes.latent_cells, canvas.half_extent_m)
        maps = maps * conditions.plan_given[:, None, None, None]
        static = [noisy.xy, conditions.known_xy, conditions.known_mask, maps, self.fold(conditions.movers)]
        xy, tx, ty = static, [noisy.tx], [noisy.ty]
        if self.config.takes_layout:
            for inputs, layout in zip((xy, tx, ty), self._layout_inputs(conditions), strict=True):
                inputs += layout
        stem, patched = self._patched(*(torch.cat(maps, dim=1) for maps in (xy, tx, ty)))
        tokens = torch.cat([rearrange(p, "b d h w -> b (h w) d") for p in patched], dim=1) + self.position

        embedded = self.time(sinusoidal_embedding(time_B * 1000.0, 256)) + self.condition(conditions)
        modulation = self.modulation(embedded).unflatten(-1, (6, self.config.width))
        twins: list[Tensor] = []
        for number, block in enumerate(self.blocks):
            merges = number >= self.config.depth // 2
            tokens = block(tokens, modulation, twins.pop() if merges else None)
            if not merges:
                twins.append(tokens)

        shift, scale = self.final_modulation(embedded)[:, None].chunk(2, dim=-1)
        tokens = self.norm(tokens) * (1 + scale) + shift
        return self._unpatch(tokens, stem)

    def _patched(self, xy: Tensor, tx: Tensor, ty: Tensor) -> tuple[Tensor, list[Float[Tensor, "B D H W"]]]:
        """What the stem gives, and tokens where they lie in each image."""
        if self.config.rollout:
            stem = self.stem(rolled_out(xy, tx, ty, self.planes.latent_channels))
            return stem, [self.patch_xy(stem)]
        stem = self.stem(xy)
        return stem, [self.patch_xy(stem), self.patch_tx(tx), self.patch_ty(ty)]

    def _layout_inputs(self, conditions: CanvasConditions) -> list[list[Float[Tensor, "B C H W"]]]:
        """The layout as channels for xy, tx and ty, each with a channel that says whether it is given."""
        given = conditions.layout_given.to(conditions.layout.dtype)[:, None, None, None]
        layout = conditions.layout * given
        along = (rearrange(layout.amax(dim=axis), "b p (x two) -> b two p x", two=2) for axis in (3, 2))
        return [[m, given.expand(-1, -1, *m.shape[2:])] for m in (self.fold(layout), *along)]

    def _unpatch(self, tokens_BLD: Float[Tensor, "B L D"], stem: Float[Tensor, "B C X Y"]) -> Planes:
        space, (time, along) = self._cells_xy, self._cells_time

        def spread(tokens: Tensor, rows: int, patch: int) -> Tensor:
            return rearrange(tokens, "b (h w) (c p q) -> b c (h p) (w q)", h=rows, p=patch, q=patch)

        patch, time_patch = self.config.patch, self.config.time_patch
        if self.config.rollout:
            features = torch.cat([spread(self.unpatch_xy(tokens_BLD), space + time, patch), stem], dim=1)
            return unrolled(self.head_xy(features).float(), self.planes.pairs)
        xy, tx, ty = tokens_BLD.split([space * space, time * along, time * along], dim=1)
        features = torch.cat([spread(self.unpatch_xy(xy), space, patch), stem], dim=1)
        return Planes(
            self.head_xy(features).float(),
            spread(self.unpatch_tx(tx), time, time_patch).float(),
            spread(self.unpatch_ty(ty), time, time_patch).float(),
        )


def _check_patches(config: DiffusionTransformerConfig, planes: AutoencoderConfig) -> None:
    space, time = planes.latent_cells, planes.pairs
    cut = {"patch": (space, config.patch), "time_patch": (math.gcd(space, time), config.time_patch)}
    if config.rollout:
        cut = {"patch": (space + time, config.patch)}
    for name, (cells, patch) in cut.items():
        if cells % patch:
            raise ConfigError(f"model.{name}", patch, f"a divisor of {cells}, as the planes of this autoencoder ask")
