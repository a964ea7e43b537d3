"""Planes to class logits."""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from dyncity_models.config import AutoencoderConfig
from dyncity_models.hexplane import Planes, sampling_grid
from dyncity_models.layers import ResidualBlock, Upsample

Rows = tuple[Float[Tensor, "... C L"], Float[Tensor, "... C L"]]
"""Gains and terms along one axis of the canvas."""


@dataclass(frozen=True, eq=False)
class ChunkMaps:
    """What the planes of a chunk say of all of its frames, on the canvas.

    Attributes:
        static: features of what stands still.
        along_x: gains and terms of each frame along x, ``(B, T, C, X)``.
        along_y: the same along y.
        over_time: gains of each frame, ``(B, T, C)``; None without planes over height.
    """

    static: Float[Tensor, "B C X Y"]
    along_x: Rows
    along_y: Rows
    over_time: Float[Tensor, "B T C"] | None


class Decoder(nn.Module):
    """Decodes planes to the ego grids of chosen frames.

    The plane xy is decoded once per chunk; tx and ty modulate it per frame (a Hadamard product and one
    product term of their own); the result is warped from the canvas to each ego frame. With planes over height, each
    height has its share of the channels: xz and yz modulate it once per chunk in the same way, tz scales it per frame.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        trunk, features, latent = config.static_channels, config.feature_channels, config.latent_channels
        self.static_trunk = nn.Sequential(
            nn.Conv2d(latent, trunk, 3, padding=1), ResidualBlock(trunk), ResidualBlock(trunk)
        )
        self.static_up = Upsample(trunk, features)
        self.static_block = ResidualBlock(features)
        self.motion = nn.ModuleList(_plane_net(latent, features, 2 * features) for _ in range(2))
        self.frame_stem = nn.Conv2d(features + 1, features, 3, padding=1)
        self.frame_block = ResidualBlock(features)
        self.frame_up = Upsample(features, config.output_channels)
        self.frame_conv = nn.Conv2d(config.output_channels, config.output_channels, 3, padding=1)
        self.head = nn.Conv2d(config.output_channels, config.height_cells * config.classes, 1)
        if config.height_planes:
            share = features // config.height_cells
            self.height = nn.ModuleList(_plane_net(latent, features, n * share) for n in (2, 2, 1))

    def forward(
        self, planes: Planes, canvas_from_ego: Float[Tensor, "B T 3"], frames: Int64[Tensor, "B F"]
    ) -> Float[Tensor, "B F X Y Z K"]:
        """Return logits of the frames asked for; ``canvas_from_ego`` covers the whole chunk."""
        return self.draw(self.maps(planes), canvas_from_ego, frames)

    def maps(self, planes: Planes) -> ChunkMaps:
        """What is computed once for all frames."""
        static = self.static_block(self.static_up(self.static_trunk(planes.xy)))
        over_time = None
        if self.config.height_planes:
            static, over_time = _modulated(static, *self._over_height(planes)), self._gains_over_time(planes)
        along_x, along_y = (
            self._motion_rows(net, plane) for net, plane in zip(self.motion, (planes.tx, planes.ty), strict=True)
        )
        return ChunkMaps(static, along_x, along_y, over_time)

    def draw(
        self, maps: ChunkMaps, canvas_from_ego: Float[Tensor, "B T 3"], frames: Int64[Tensor, "B F"]
    ) -> Float[Tensor, "B F X Y Z K"]:
        """Return logits of some frames; ``canvas_from_ego`` covers the whole chunk."""
        config = self.config
        batch, count = frames.shape
        along_x, along_y = ((_of(gain, frames), _of(term, frames)) for gain, term in (maps.along_x, maps.along_y))
        moved = _modulated(maps.static[:, None], along_x, along_y)
        if maps.over_time is not None:
            moved = moved * (1 + _of(maps.over_time, frames)[..., None, None])

        poses = torch.gather(canvas_from_ego, 1, frames[..., None].expand(-1, -1, 3)).flatten(0, 1)
        grid = sampling_grid(poses, config.grid_cells // 2, config.grid_half_extent_m, config.canvas.half_extent_m)
        warped = F.grid_sample(
            moved.flatten(0, 1).float().contiguous(), grid, padding_mode="border", align_corners=False
        )
        inside = (grid.abs().amax(dim=-1) <= 1.0).to(warped.dtype)[:, None]
        hidden = self.frame_block(self.frame_stem(torch.cat([warped, inside], dim=1)))
        hidden = F.silu(self.frame_conv(F.silu(self.frame_up(hidden))))
        logits = self.head(hidden).permute(0, 2, 3, 1)
        return logits.unflatten(-1, (config.height_cells, config.classes)).unflatten(0, (batch, count))

    def _motion_rows(self, net: nn.Module, plane: Float[Tensor, "B C P X"]) -> Rows:
        size = (self.config.frames, self.config.canvas.cells)
        rows = F.interpolate(net(plane).float(), size=size, mode="bilinear", align_corners=False)
        gain, term = rows.transpose(1, 2).chunk(2, dim=2)
        return gain, term

    def _over_height(self, planes: Planes) -> tuple[Rows, Rows]:
        """Of xz ``(B, C, X)`` and of yz ``(B, C, Y)``; channels are those of each height, one after the other."""
        size = (self.config.canvas.cells, self.config.height_cells)

        def rows(net: nn.Module, plane: Tensor | None) -> Rows:
            spread = F.interpolate(net(plane).float(), size=size, mode="bilinear", align_corners=False)
            gain, term = (rearrange(half, "b c l z -> b (z c) l") for half in spread.chunk(2, dim=1))
            return gain, term

        return rows(self.height[0], planes.xz), rows(self.height[1], planes.yz)

    def _gains_over_time(self, planes: Planes) -> Float[Tensor, "B T C"]:
        assert planes.tz is not None
        size = (self.config.frames, self.config.height_cells)
        spread = F.interpolate(self.height[2](planes.tz).float(), size=size, mode="bilinear", align_corners=False)
        return rearrange(spread, "b c t z -> b t (z c)")


def _of(values: Float[Tensor, "B T ..."], frames: Int64[Tensor, "B F"]) -> Float[Tensor, "B F ..."]:
    """Those of some frames."""
    index = frames.view(*frames.shape, *[1] * (values.dim() - 2))
    return torch.gather(values, 1, index.expand(-1, -1, *values.shape[2:]))


def _plane_net(latent: int, features: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(latent, features, 3, padding=1),
        nn.SiLU(),
        nn.Conv2d(features, features, 3, padding=1),
        nn.SiLU(),
        nn.Conv2d(features, out, 1),
    )


def _modulated(maps: Float[Tensor, "... C X Y"], along_x: Rows, along_y: Rows) -> Float[Tensor, "... C X Y"]:
    """Maps scaled by the gains of two planes, and the product of their terms."""
    (gain_x, term_x), (gain_y, term_y) = along_x, along_y
    scaled = maps * (1 + gain_x[..., :, None]) * (1 + gain_y[..., None, :])
    return scaled + term_x[..., :, None] * term_y[..., None, :]
