"""Expansion and squeeze: from six planes to class logits (paper, section 3.2)."""

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from dyncity_models.reference.config import PLANES, ReferenceAutoencoderConfig
from dyncity_models.reference.planes import HexPlanes
from dyncity_models.reference.volumes import NORM_EPS, SLOPE, convolve, normalised_leaky, recomputed

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

    def forward(self, x_NCZXY: Float[Tensor, "N C Z X Y"]) -> Float[Tensor, "N C Z X Y"]:
        """Add the block's correction.

        With z in front, convolutions run along rows of y, which are long, instead of columns of z.
        """
        hidden = normalised_leaky(_z_first(self.conv1, x_NCZXY))
        return x_NCZXY + normalised_leaky(_z_first(self.conv2, hidden))


def _z_first(conv: nn.Conv3d, x_NCZXY: Float[Tensor, "N C Z X Y"]) -> Float[Tensor, "N C2 Z X Y"]:
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

    def lift(self, x_ZXYC: Float[Tensor, "Z X Y C"]) -> Float[Tensor, "1 C2 Z X Y"]:
        """The features of one frame at the width of the residual blocks."""
        return F.leaky_relu_(convolve(self.conv_in, x_ZXYC.movedim(-1, 0)[None]), SLOPE)

    def classify(
        self, x_1CZXY: Float[Tensor, "1 C Z X Y"], weight_XYZKC: Tensor, bias_K: Tensor, positions_XYZK: Tensor
    ) -> Float[Tensor, "X2 Y2 Z2 K"]:
        """Logits of one frame, by the affine map that ``folded`` gives and what ``positions`` add to it."""
        up, classes = weight_XYZKC.shape[:3], len(bias_K)
        bias = bias_K.repeat(up.numel())
        hidden = F.linear(x_1CZXY[0].movedim(0, -1), weight_XYZKC.flatten(0, -2), bias)
        hidden = rearrange(hidden, "z x y (a b c k) -> (x a) (y b) (z c) k", a=up[0], b=up[1], c=up[2], k=classes)
        hidden = normalised_leaky((hidden + positions_XYZK).movedim(-1, 0)[None])
        return F.linear(hidden[0].movedim(0, -1), self.classify2.weight.flatten(1), self.classify2.bias)

    def folded(self) -> tuple[Float[Tensor, "A B C K C2"], Float[Tensor, " K"]]:
        """Weight and bias of upsampling and the first of the last two convolutions, which nothing comes between."""
        high = self.expand.out_channels
        weight_KH = self.classify1.weight[:, :high, 0, 0, 0]
        assert self.expand.bias is not None
        assert self.classify1.bias is not None
        weight_XYZKC = torch.einsum("chxyz,kh->xyzkc", self.expand.weight, weight_KH)
        return weight_XYZKC, self.classify1.bias + weight_KH @ self.expand.bias

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
        weight, bias_K = self.voxels.folded()
        by_frame_FK, by_place_XYZK = self.voxels.positions(frames, self.config.grid)
        biases_FK = by_frame_FK + bias_K
        # Frame by frame: what is in use at a time stays small, and so do allocations.
        logits = [
            self._frame(still_BZXYC[sample], [plane[sample, frame] for plane in moving], weight, bias_K, by_place_XYZK)
            for sample in range(len(planes))
            for frame, bias_K in enumerate(biases_FK)
        ]
        return torch.stack(logits).unflatten(0, (len(planes), len(frames)))

    def _frame(
        self, still_ZXYC: Tensor, moving: list[Tensor], weight_XYZKC: Tensor, bias_K: Tensor, positions_XYZK: Tensor
    ) -> Float[Tensor, "X Y Z K"]:
        voxels, again = self.voxels, self.checkpointing
        x_1CZXY = recomputed(self._lifted, still_ZXYC, *moving, when=again)
        # The large convolutions are most of the arithmetic: what their gradients need is kept.
        x_1CZXY = voxels.residuals[0](x_1CZXY)
        return recomputed(self._classified, x_1CZXY, weight_XYZKC, bias_K, positions_XYZK, when=again)

    def _lifted(self, still_ZXYC: Tensor, tx_XC: Tensor, ty_YC: Tensor, tz_ZC: Tensor) -> Tensor:
        """Expand the planes over the axes they lack, merge them, and convolve."""
        merged_ZXYC = self._combined(still_ZXYC, self._combined(tx_XC[:, None], ty_YC))
        return self.voxels.lift(self._combined(merged_ZXYC, tz_ZC[:, None, None]))

    def _classified(self, x_1CZXY: Tensor, *folded: Tensor) -> Tensor:
        return self.voxels.classify(self.voxels.residuals[1](x_1CZXY), *folded)

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
