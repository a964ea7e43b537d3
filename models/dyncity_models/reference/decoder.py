"""Expansion and squeeze: from six planes to class logits (paper, section 3.2)."""

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from dyncity_models.reference.config import PLANES, ReferenceAutoencoderConfig
from dyncity_models.reference.planes import HexPlanes

SLOPE = 0.1
PLANE_NORM_EPS = 1e-6
NORM_EPS = 1e-5


class PlaneTriple(nn.Module):
    """A 2D convolution with weights of its own for each of three planes, kept as one grouped kernel."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int) -> None:
        super().__init__()
        self.channels_out, self.kernel = channels_out, kernel
        grouped = nn.Conv2d(3 * channels_in, 3 * channels_out, kernel, groups=3)
        self.weight, self.bias = grouped.weight, grouped.bias

    def forward(self, plane_BCHW: Float[Tensor, "B C H W"], number: int) -> Float[Tensor, "B C2 H W"]:
        """Zero-padded convolution of the plane at place ``number`` of the three."""
        assert self.bias is not None
        own = slice(number * self.channels_out, (number + 1) * self.channels_out)
        return F.conv2d(plane_BCHW, self.weight[own], self.bias[own], padding=self.kernel // 2)


class PlaneBlock(nn.Module):
    """Residual block that widens the planes; those without time share one kernel, those with time another."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        kinds = ("still", "moving")
        self.widen = nn.ModuleDict({kind: PlaneTriple(channels_in, channels_out, 3) for kind in kinds})
        self.norms = nn.ModuleDict(
            {name: nn.InstanceNorm2d(channels_out, eps=PLANE_NORM_EPS, affine=True) for name in PLANES}
        )
        self.mix = nn.ModuleDict({kind: PlaneTriple(channels_out, channels_out, 3) for kind in kinds})
        self.shortcut = nn.ModuleDict({kind: PlaneTriple(channels_in, channels_out, 1) for kind in kinds})

    def forward(self, planes: HexPlanes) -> HexPlanes:
        """Planes with more channels, at their resolution."""
        done = []
        for place, (name, plane) in enumerate(zip(PLANES, planes, strict=True)):
            kind, number = ("moving" if "t" in name else "still"), place % 3
            hidden = F.silu(self.norms[name](self.widen[kind](plane, number)))
            done.append(self.mix[kind](hidden, number) + self.shortcut[kind](plane, number))
        return HexPlanes(*done)


class PlaneUpsampler(nn.Module):
    """Undoes the downsampling of a plane by one transposed convolution; it is there for a ratio of 1 too."""

    def __init__(self, channels: int, up: tuple[int, int]) -> None:
        super().__init__()
        ratio = (2 ** up[0], 2 ** up[1])
        self.expand = nn.ConvTranspose2d(channels, channels, ratio, stride=ratio)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, plane_BCHW: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H2 W2"]:
        """The plane at the resolution of the volume."""
        hidden = F.leaky_relu(F.instance_norm(self.expand(plane_BCHW), eps=NORM_EPS), SLOPE)
        return F.leaky_relu(F.instance_norm(self.conv(hidden), eps=NORM_EPS), SLOPE)


class ResidualVolume(nn.Module):
    """``x + f(x)``: two convolutions, each normalised over its instance and activated."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(channels, channels, kernel, padding=kernel // 2)
        self.conv2 = nn.Conv3d(channels, channels, kernel, padding=kernel // 2)

    def forward(self, x_NCXYZ: Float[Tensor, "N C X Y Z"]) -> Float[Tensor, "N C X Y Z"]:
        """Add the block's correction."""
        hidden = F.leaky_relu(F.instance_norm(self.conv1(x_NCXYZ), eps=NORM_EPS), SLOPE)
        return x_NCXYZ + F.leaky_relu(F.instance_norm(self.conv2(hidden), eps=NORM_EPS), SLOPE)


class VoxelDecoder(nn.Module):
    """3D convolutions on single frames, then class logits.

    The class features are normalised over the frame before the last convolution, so that logits depend on the whole
    frame: decoding tiles or crops gives other numbers.
    """

    def __init__(self, config: ReferenceAutoencoderConfig) -> None:
        super().__init__()
        self.frequencies = config.frequencies
        low, high, up = config.low_channels, config.high_channels, tuple(2**down for down in config.down)
        self.conv_in = nn.Conv3d(config.plane_channels, low, 1)
        self.residuals = nn.ModuleList(ResidualVolume(low, kernel) for kernel in (3, 1))
        self.expand = nn.ConvTranspose3d(low, high, up, stride=up)
        self.classify1 = nn.Conv3d(high + 8 * config.frequencies, config.classes, 1)
        self.classify2 = nn.Conv3d(config.classes, config.classes, 1)

    def forward(self, x_NCXYZ: Float[Tensor, "N C X Y Z"], frames_N: Int64[Tensor, " N"]) -> Float[Tensor, "N K X Y Z"]:
        """Logits of N frames; ``frames_N`` is the time index of each."""
        x_NCXYZ = F.leaky_relu(self.conv_in(x_NCXYZ), SLOPE)
        for block in self.residuals:
            x_NCXYZ = block(x_NCXYZ)
        x_NCXYZ = self.expand(x_NCXYZ)
        high = x_NCXYZ.shape[1]
        # The convolution reads features and positions side by side; what it makes of positions is known beforehand.
        hidden = F.conv3d(x_NCXYZ, self.classify1.weight[:, :high], self.classify1.bias)
        for term in self._positions(frames_N, tuple(x_NCXYZ.shape[2:])):
            hidden = hidden + term
        return self.classify2(F.leaky_relu(F.instance_norm(hidden, eps=NORM_EPS), SLOPE))

    def _positions(self, frames_N: Int64[Tensor, " N"], grid: tuple[int, ...]) -> list[Float[Tensor, "N K X Y Z"]]:
        """What the first convolution adds for a cell's place along t, x, y and z.

        The encoding is ``sin(2^f i)`` of the raw cell index along t, x, y, z, then the cosines, octave after octave:
        not centred, not divided by the size of the grid, without a factor of pi. Each of its channels belongs to one
        axis, so that a table per axis, broadcast over the others, is all there is to compute.
        """
        weight = self.classify1.weight[:, self.expand.out_channels :, 0, 0, 0]
        terms: list[Tensor] = []
        if not self.frequencies:
            return terms
        weight_KFWA = weight.unflatten(1, (self.frequencies, 2, 4))
        octaves = 2.0 ** torch.arange(self.frequencies, device=weight.device)
        for axis in range(4):
            index = frames_N if axis == 0 else torch.arange(grid[axis - 1], device=weight.device)
            angles_FL = octaves[:, None] * index.float()
            waves_FWL = torch.stack([angles_FL.sin(), angles_FL.cos()], dim=1).to(weight.dtype)
            table_KL = torch.einsum("kfw,fwl->kl", weight_KFWA[..., axis], waves_FWL)
            if axis == 0:
                terms.append(table_KL.T[:, :, None, None, None])
            else:
                terms.append(table_KL.view(1, -1, *(len(index) if axis == a else 1 for a in (1, 2, 3))))
        return terms


class Decoder(nn.Module):
    """Planes to logits of the frames asked for."""

    def __init__(self, config: ReferenceAutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.planes = PlaneBlock(config.latent_channels, config.plane_channels)
        up = dict(zip("txyz", config.plane_down, strict=True))
        self.upsamplers = nn.ModuleDict(
            {name: PlaneUpsampler(config.plane_channels, (up[name[0]], up[name[1]])) for name in PLANES}
        )
        self.voxels = VoxelDecoder(config)

    def forward(self, planes: HexPlanes, frames: Int64[Tensor, " F"] | None = None) -> Float[Tensor, "B F X Y Z K"]:
        """Class logits; all frames unless some are asked for."""
        if frames is None:
            frames = torch.arange(self.config.frames, device=planes.xy.device)
        wide = self.planes(planes)
        wide = HexPlanes(*(self.upsamplers[name](plane) for name, plane in zip(PLANES, wide, strict=True)))
        volume = self.squeeze(wide, frames)
        logits = self.voxels(volume.flatten(0, 1), frames.repeat(len(planes)))
        return rearrange(logits, "(b f) k x y z -> b f x y z k", f=len(frames))

    def squeeze(self, wide: HexPlanes, frames: Int64[Tensor, " F"]) -> Float[Tensor, "B F C X Y Z"]:
        """Expand the planes over the axes they lack and merge them, by Hadamard product (equation 5) or by sum."""
        combine = torch.mul if self.config.hadamard else torch.add
        # What does not depend on time is merged once, not once per frame.
        still = combine(wide.xy[..., None], wide.xz[..., None, :])
        still = combine(still, wide.yz[..., None, :, :])
        tx, ty, tz = (plane[:, :, frames].transpose(1, 2) for plane in (wide.tx, wide.ty, wide.tz))
        moving = combine(tx[..., None], ty[..., None, :])[..., None]
        return combine(combine(still[:, None], moving), tz[..., None, None, :])
