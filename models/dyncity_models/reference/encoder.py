"""From labels to features of six planes."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from dyncity_models.reference.config import PLANES, ReferenceAutoencoderConfig
from dyncity_models.reference.planes import HexPlanes
from dyncity_models.reference.projection import Projection
from dyncity_models.reference.volumes import FRAMES_AT_ONCE, SLOPE, recomputed
from dyncity_models.reference.voxel_encoder import VoxelEncoder


class PlaneDownsampler(nn.Module):
    """Strided convolutions over the axes of a plane; no halvings, no change."""

    def __init__(self, channels: int, down: tuple[int, int]) -> None:
        super().__init__()
        strides = [(2 if step < down[0] else 1, 2 if step < down[1] else 1) for step in range(max(down))]
        self.steps = nn.ModuleList(nn.Conv2d(channels, channels, stride, stride=stride) for stride in strides)

    def forward(self, plane_BCHW: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H2 W2"]:
        """The plane at the resolution of the latents; the last step is a bare convolution."""
        for number, step in enumerate(self.steps):
            if number:
                plane_BCHW = F.leaky_relu(plane_BCHW, SLOPE)
            plane_BCHW = step(plane_BCHW)
        return plane_BCHW


class Encoder(nn.Module):
    """Voxel encoders, projections and downsamplers (paper, section 3.1).

    Args:
        config: of the autoencoder.
        checkpointing: in training, keep nothing of the voxel encoders but their output.
    """

    def __init__(self, config: ReferenceAutoencoderConfig, checkpointing: bool) -> None:
        super().__init__()
        self.config, self.checkpointing = config, checkpointing
        channels, volume = config.latent_channels, config.volume
        self.embedding = nn.Embedding(config.classes, channels)
        self.space = VoxelEncoder(channels, channels, config.down)
        self.time = None
        if config.time_encoder:
            which = config.frames if config.one_hot_time else 0
            self.time = VoxelEncoder(channels + which, channels, config.down)

        def projection(axes: str, of: str) -> Projection:
            away = {axis: volume[axis] for axis in of if axis not in axes}
            return Projection(
                axes,
                away,
                channels,
                config.depth,
                config.heads,
                config.mlp_width,
                config.dropout,
                config.attention_dropout,
            )

        self.projections = nn.ModuleDict({"xyz": projection("xyz", "txyz")} if config.time_reducer else {})
        for name in PLANES:
            still = config.time_reducer and "t" not in name
            self.projections[name] = projection(name, "xyz" if still else "txyz")
        halvings = dict(zip("txyz", config.plane_down, strict=True))
        self.downsamplers = nn.ModuleDict(
            {name: PlaneDownsampler(channels, (halvings[name[0]], halvings[name[1]])) for name in PLANES}
        )

    def forward(self, labels_BTXYZ: UInt8[Tensor, "B T X Y Z"]) -> HexPlanes:
        """Features of all planes, before they become means and log-variances."""
        volume = self._volume(self.space, labels_BTXYZ, one_hot_time=False)
        moving = volume
        if self.time is not None:
            moving = self._volume(self.time, labels_BTXYZ, self.config.one_hot_time)
        still, still_axes = volume, "txyz"
        if self.config.time_reducer:
            still, still_axes = self.projections["xyz"](volume, "txyz"), "xyz"
        planes = []
        for name in PLANES:
            source, axes = (moving, "txyz") if "t" in name else (still, still_axes)
            plane = self.projections[name](source, axes)
            planes.append(self.downsamplers[name](plane.movedim(-1, 1)))
        return HexPlanes(*planes)

    def _volume(self, encoder: nn.Module, labels_BTXYZ: Tensor, one_hot_time: bool) -> Float[Tensor, "B T X Y Z C"]:
        batch, count = labels_BTXYZ.shape[:2]
        places = torch.arange(count, device=labels_BTXYZ.device).repeat(batch)
        # A few frames at a time: what is in use stays small, and so do allocations.
        encoded = [
            recomputed(
                encoder, labels, self.embedding.weight, frames if one_hot_time else None, when=self.checkpointing
            )
            for labels, frames in zip(
                labels_BTXYZ.flatten(0, 1).split(FRAMES_AT_ONCE), places.split(FRAMES_AT_ONCE), strict=True
            )
        ]
        return torch.cat(encoded).unflatten(0, (batch, count))
