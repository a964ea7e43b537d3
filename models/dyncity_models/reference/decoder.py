"""Expansion and squeeze: from six planes to class logits (paper, section 3.2)."""

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from dyncity_models.reference.config import PLANES, ReferenceAutoencoderConfig
from dyncity_models.reference.planes import HexPlanes
from dyncity_models.reference.volumes import FRAMES_AT_ONCE, SLOPE, instance_norm, normalised_leaky, recomputed

PLANE_NORM_EPS = 1e-6


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
            norm = self.norms[name]
            assert isinstance(norm, nn.InstanceNorm2d)
            assert norm.bias is not None
            hidden = instance_norm(self.widen[kind](plane, number), norm.eps)
            hidden = F.silu(hidden * norm.weight[:, None, None] + norm.bias[:, None, None])
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
        return normalised_leaky(self.conv(normalised_leaky(self.expand(plane_BCHW))))


class ResidualVolume(nn.Module):
    """``x + f(x)``: two convolutions, each normalised over its instance and activated."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(channels, channels, kernel, padding=kernel // 2)
        self.conv2 = nn.Conv3d(channels, channels, kernel, padding=kernel // 2)

    def forward(self, x_NCZXY: Float[Tensor, "N C Z X Y"]) -> Float[Tensor, "N C Z X Y"]:
        """Add the block's correction.

        With z in front, convolutions run along rows of y, which are long, instead of columns of z.
        """
        hidden = normalised_leaky(_z_first(self.conv1, x_NCZXY))
        return x_NCZXY + normalised_leaky(_z_first(self.conv2, hidden))


def _z_first(conv: nn.Conv3d, x_NCZXY: Float[Tensor, "N C Z X Y"]) -> Float[Tensor, "N C2 Z X Y"]:
    if conv.kernel_size == (1, 1, 1):
        return F.linear(x_NCZXY.movedim(1, -1), conv.weight.flatten(1), conv.bias).movedim(-1, 1)
    weight = conv.weight.permute(0, 1, 4, 2, 3).contiguous(memory_format=torch.channels_last_3d)
    return F.conv3d(x_NCZXY, weight, conv.bias, padding=conv.padding[0])


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

    def lift(self, x_NZXYC: Float[Tensor, "N Z X Y C"]) -> Float[Tensor, "N C2 Z X Y"]:
        """Features of frames at the width of the residual blocks."""
        return F.leaky_relu_(_z_first(self.conv_in, x_NZXYC.movedim(-1, 1)), SLOPE)

    def classify(
        self,
        x_NCZXY: Float[Tensor, "N C Z X Y"],
        weight_ABCKD: Float[Tensor, "A B C K D"],
        bias_NK: Float[Tensor, "N K"],
        positions_XYZK: Float[Tensor, "X2 Y2 Z2 K"],
    ) -> Float[Tensor, "N X2 Y2 Z2 K"]:
        """Logits of frames, by the affine map that ``folded`` gives and what ``positions`` add to it."""
        hidden = F.linear(x_NCZXY.movedim(1, -1), weight_ABCKD.flatten(0, -2))
        a, b, c, _, _ = weight_ABCKD.shape
        hidden = rearrange(hidden, "n z x y (a b c k) -> n (x a) (y b) (z c) k", a=a, b=b, c=c)
        hidden = hidden + positions_XYZK + bias_NK[:, None, None, None]
        hidden = normalised_leaky(hidden.movedim(-1, 1)).movedim(1, -1)
        return F.linear(hidden, self.classify2.weight.flatten(1), self.classify2.bias)

    def folded(self) -> tuple[Float[Tensor, "A B C K D"], Float[Tensor, " K"]]:
        """Weight and bias of upsampling and the first of the last two convolutions, which nothing comes between."""
        high = self.expand.out_channels
        weight_KH = self.classify1.weight[:, :high, 0, 0, 0]
        assert self.expand.bias is not None
        assert self.classify1.bias is not None
        weight_ABCKD = torch.einsum("dhabc,kh->abckd", self.expand.weight, weight_KH)
        return weight_ABCKD, self.classify1.bias + weight_KH @ self.expand.bias

    def positions(
        self, frames_F: Int64[Tensor, " F"], grid: tuple[int, int, int]
    ) -> tuple[Float[Tensor, "F K"], Float[Tensor, "X Y Z K"]]:
        """What the first convolution adds for a cell's frame, and for its place along x, y and z.

        The encoding is ``sin(2^f i)`` of the raw cell index along t, x, y, z, then the cosines, octave after octave:
        not centred, not divided by the size of the grid, without a factor of pi. Each of its channels belongs to one
        axis, so that a table per axis, broadcast over the others, is all there is to compute.
        """
        weight = self.classify1.weight[:, self.expand.out_channels :, 0, 0, 0]
        weight_KFWA = weight.unflatten(1, (self.frequencies, 2, 4)) if self.frequencies else weight[:, :, None, None]
        octaves = 2.0 ** torch.arange(self.frequencies, device=weight.device)

        def table(axis: int, index: Int64[Tensor, " L"]) -> Float[Tensor, "L K"]:
            if not self.frequencies:
                return weight.new_zeros(len(index), len(weight))
            angles_FL = octaves[:, None] * index.float()
            waves_FWL = torch.stack([angles_FL.sin(), angles_FL.cos()], dim=1).to(weight.dtype)
            return torch.einsum("kfw,fwl->lk", weight_KFWA[..., axis], waves_FWL)

        x, y, z = (table(axis, torch.arange(cells, device=weight.device)) for axis, cells in enumerate(grid, start=1))
        return table(0, frames_F), x[:, None, None] + y[:, None] + z


class Decoder(nn.Module):
    """Planes to logits of the frames asked for.

    Args:
        config: of the autoencoder.
        checkpointing: in training, keep only what costs much to compute again.
    """

    def __init__(self, config: ReferenceAutoencoderConfig, checkpointing: bool) -> None:
        super().__init__()
        self.config, self.checkpointing = config, checkpointing
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
        still_BZXYC, moving = self._still(wide), self._moving(wide, frames)
        weight_ABCKD, bias_K = self.voxels.folded()
        by_frame_FK, by_place_XYZK = self.voxels.positions(frames, self.config.grid)
        # A few frames at a time: what is in use stays small, and so do allocations.
        logits = [
            self._frames(still_ZXYC, parts, weight_ABCKD, bias_NK, by_place_XYZK)
            for still_ZXYC, *of_sample in zip(still_BZXYC, *moving, strict=True)
            for bias_NK, *parts in zip(
                *(values.split(FRAMES_AT_ONCE) for values in (by_frame_FK + bias_K, *of_sample)), strict=True
            )
        ]
        return torch.cat(logits).unflatten(0, (len(planes), len(frames)))

    def _frames(self, still_ZXYC: Tensor, moving: list[Tensor], *folded: Tensor) -> Float[Tensor, "N X Y Z K"]:
        again = self.checkpointing
        x_NCZXY = recomputed(self._lifted, still_ZXYC, *moving, when=again)
        # The large convolutions are most of the arithmetic: what their gradients need is kept.
        x_NCZXY = self.voxels.residuals[0](x_NCZXY)
        return recomputed(self._classified, x_NCZXY, *folded, when=again)

    def _lifted(self, still_ZXYC: Tensor, tx_NXC: Tensor, ty_NYC: Tensor, tz_NZC: Tensor) -> Tensor:
        """Expand the planes over the axes they lack, merge them, and convolve."""
        moving_NXYC = self._combined(tx_NXC[:, :, None], ty_NYC[:, None])
        merged_NZXYC = self._combined(still_ZXYC, moving_NXYC[:, None])
        return self.voxels.lift(self._combined(merged_NZXYC, tz_NZC[:, :, None, None]))

    def _classified(self, x_NCZXY: Tensor, *folded: Tensor) -> Tensor:
        return self.voxels.classify(self.voxels.residuals[1](x_NCZXY), *folded)

    def _combined(self, one: Tensor, other: Tensor) -> Tensor:
        """Hadamard product (equation 5), or sum."""
        return one * other if self.config.hadamard else one + other

    def _still(self, wide: HexPlanes) -> Float[Tensor, "B Z X Y C"]:
        """What does not depend on time, merged once and not once per frame."""
        xy = rearrange(wide.xy, "b c x y -> b 1 x y c").contiguous()
        xz, yz = rearrange(wide.xz, "b c x z -> b z x 1 c"), rearrange(wide.yz, "b c y z -> b z 1 y c")
        return self._combined(self._combined(xy, xz.contiguous()), yz.contiguous())

    def _moving(self, wide: HexPlanes, frames: Int64[Tensor, " F"]) -> list[Float[Tensor, "B F L C"]]:
        return [
            rearrange(plane[:, :, frames], "b c f l -> b f l c").contiguous() for plane in (wide.tx, wide.ty, wide.tz)
        ]
