"""Occupancy to planes."""

import math

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from dyncity_models.config import AutoencoderConfig
from dyncity_models.hexplane import Planes, compose, invert, sampling_grid
from dyncity_models.layers import ResidualBlock


class Encoder(nn.Module):
    """Encodes a chunk into the means and log-variances of its planes.

    Frame pairs and height are folded into channels of a fixed class embedding; features of each pair
    are warped onto the canvas; what agrees over time becomes xy, what deviates becomes tx and ty.
    Planes over height, where the configuration has them, unfold it again from the same features,
    pooled along the other axes.
    Label ``config.classes`` means "never observed".
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        width, features, latent = config.encoder_channels, config.feature_channels, config.latent_channels
        embedding = torch.randn(
            config.classes + 1, config.embedding_channels, generator=torch.Generator().manual_seed(0)
        )
        embedding[0] = 0.0
        self.register_buffer("embedding", embedding)
        self.pair_stem = nn.Conv2d(2 * config.height_cells * config.embedding_channels, width, 3, stride=2, padding=1)
        self.pair_block = ResidualBlock(width)
        self.static_stem = nn.Conv2d(2 * width + 1, features, 3, stride=2, padding=1)
        self.static_blocks = nn.Sequential(ResidualBlock(features), ResidualBlock(features))
        self.static_head = nn.Conv2d(features, 2 * latent, 1)
        self.motion_stem = nn.Conv2d(width, features, 3, stride=2, padding=1)
        self.motion_block = ResidualBlock(features)
        self.motion_heads = nn.ModuleList(nn.Conv2d(2 * features, 2 * latent, 1) for _ in range(2))
        if config.height_planes:
            cells = 2 * latent * config.height_cells
            self.height_heads = nn.ModuleList(nn.Linear(2 * features, cells) for _ in range(3))

    def forward(
        self, labels_BTXYZ: UInt8[Tensor, "B T X Y Z"], canvas_from_ego: Float[Tensor, "B T 3"]
    ) -> tuple[Planes, Planes]:
        """Return (means, log-variances)."""
        features, valid = self._warped_pairs(labels_BTXYZ, canvas_from_ego)
        seen = valid.sum(dim=1).clamp(min=1.0)
        mean = (features * valid).sum(dim=1) / seen
        peak = (
            torch.where(valid > 0, features, -1e4).amax(dim=1).clamp(min=-1e3).masked_fill(valid.amax(dim=1) == 0, 0.0)
        )
        coverage = valid.mean(dim=1)
        static = self.static_blocks(self.static_stem(torch.cat([mean, peak, coverage], dim=1)))

        deviation = ((features - mean[:, None]) * valid).flatten(0, 1)
        motion = self.motion_block(self.motion_stem(deviation))
        motion = motion.unflatten(0, (len(labels_BTXYZ), self.config.pairs))
        tx = torch.cat([motion.mean(dim=4), motion.amax(dim=4)], dim=2).transpose(1, 2)
        ty = torch.cat([motion.mean(dim=3), motion.amax(dim=3)], dim=2).transpose(1, 2)
        heads = [self.static_head(static), self.motion_heads[0](tx), self.motion_heads[1](ty)]
        if self.config.height_planes:
            heads += self._over_height(static, motion)
        means, log_variances = zip(*(head.float().chunk(2, dim=1) for head in heads), strict=True)
        return Planes(*means), Planes(*(v.clamp(-10.0, 4.0) for v in log_variances))

    def _over_height(
        self, static: Float[Tensor, "B F X Y"], motion: Float[Tensor, "B P F X Y"]
    ) -> list[Float[Tensor, "B C L Z"]]:
        """Moments of xz, yz and tz, one row of heights for each cell of x, of y, and for each pair."""
        along_x = torch.cat([static.mean(dim=3), static.amax(dim=3)], dim=1).transpose(1, 2)
        along_y = torch.cat([static.mean(dim=2), static.amax(dim=2)], dim=1).transpose(1, 2)
        along_time = torch.cat([motion.mean(dim=(3, 4)), motion.amax(dim=(3, 4))], dim=2)
        lines = zip(self.height_heads, (along_x, along_y, along_time), strict=True)
        return [rearrange(head(line), "b l (c z) -> b c l z", z=self.config.height_cells) for head, line in lines]

    def _warped_pairs(
        self, labels_BTXYZ: UInt8[Tensor, "B T X Y Z"], canvas_from_ego: Float[Tensor, "B T 3"]
    ) -> tuple[Float[Tensor, "B P C X Y"], Float[Tensor, "B P 1 X Y"]]:
        config = self.config
        batch = len(labels_BTXYZ)
        pairs = rearrange(labels_BTXYZ, "b (p two) x y z -> (b p) x y (two z)", two=2).contiguous()
        table = self.get_buffer("embedding")
        if torch.is_autocast_enabled(table.device.type):
            # Casting the table instead of the volume spares the largest tensor of the whole network.
            table = table.to(torch.get_autocast_dtype(table.device.type))
        volume = F.embedding(pairs.int(), table).flatten(3).permute(0, 3, 1, 2)
        features = self.pair_block(self.pair_stem(volume))

        first, second = canvas_from_ego[:, 0::2], canvas_from_ego[:, 1::2]
        step = compose(invert(first), second)
        # Poses of the canvas jump by a full turn where an ego faces against it.
        step = torch.cat([step[..., :2], step[..., 2:] - 2 * math.pi * (step[..., 2:] / (2 * math.pi)).round()], dim=-1)
        middle = compose(first, step * 0.5).flatten(0, 1)
        grid = sampling_grid(
            invert(middle), config.canvas.cells, config.canvas.half_extent_m, config.grid_half_extent_m
        )
        warped = F.grid_sample(features.float().contiguous(), grid, padding_mode="zeros", align_corners=False)
        valid = (grid.abs().amax(dim=-1) <= 1.0).float()[:, None]
        return warped.unflatten(0, (batch, config.pairs)), valid.unflatten(0, (batch, config.pairs))
