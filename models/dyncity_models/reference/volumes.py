"""Arithmetic on feature volumes of single frames, ``(N, C, X, Y, Z)`` with channels innermost in memory."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

SLOPE = 0.1
NORM_EPS = 1e-5
FRAMES_AT_ONCE = 2
"""Fewer, and PyTorch takes a slower convolution for small volumes on a CPU."""


def convolve(
    conv: nn.Conv3d, x_NCXYZ: Float[Tensor, "N C X Y Z"], bordered: bool = False
) -> Float[Tensor, "N C2 X2 Y2 Z2"]:
    """What ``conv`` makes of a volume.

    Args:
        conv: has kernel, stride, padding and how to pad.
        x_NCXYZ: volumes; of a kernel that takes more channels, the first ones.
        bordered: the volume has its padding already.
    """
    weight = conv.weight[:, : x_NCXYZ.shape[1]].contiguous(memory_format=torch.channels_last_3d)
    padding: Any = 0 if bordered else conv.padding
    if conv.padding_mode == "replicate" and not bordered:
        widths = [cells for cells in reversed(padding) for _ in range(2)]
        x_NCXYZ, padding = F.pad(x_NCXYZ, widths, mode="replicate"), 0
    return F.conv3d(x_NCXYZ, weight, conv.bias, conv.stride, padding)


def replicate_borders(values: Tensor, first_axis: int) -> Tensor:
    """One more cell on each side of the axes from ``first_axis`` on."""
    for axis in range(first_axis, values.dim()):
        cells = values.shape[axis]
        index = torch.arange(-1, cells + 1, device=values.device).clamp(0, cells - 1)
        values = values.index_select(axis, index)
    return values


def instance_norm(x_NCR: Float[Tensor, "N C *cells"], eps: float = NORM_EPS) -> Float[Tensor, "N C *cells"]:
    """Every channel of every frame or plane at zero mean and unit variance.

    PyTorch's own gives wrong gradients on a CPU where those it is given lie in memory in another order.
    """
    return _Normalised.apply(x_NCR, eps, 1.0)  # type: ignore[no-untyped-call]


def normalised_leaky(x_NCR: Float[Tensor, "N C *cells"]) -> Float[Tensor, "N C *cells"]:
    """``leaky_relu(instance_norm(x))``."""
    return _Normalised.apply(x_NCR, NORM_EPS, SLOPE)  # type: ignore[no-untyped-call]


class _Normalised(torch.autograd.Function):
    """Instance norm and leaky ReLU, which keep nothing but their output for the backward pass.

    Both can be undone, and the next layer keeps that output anyway (Rota Bulo et al. 2018, In-Place Activated
    BatchNorm).
    """

    @staticmethod
    def forward(ctx: Any, x_NCR: Tensor, eps: float, slope: float) -> Tensor:
        # Over rows of channels: PyTorch's kernels for this layout are slow, or add up with little precision.
        x_NSC = _rows(x_NCR).to(torch.promote_types(x_NCR.dtype, torch.float32))
        mean_N1C = x_NSC.mean(1, keepdim=True)
        scale_N1C = ((x_NSC - mean_N1C).square().mean(1, keepdim=True) + eps).rsqrt()
        activated_NSC = torch.addcmul(-mean_N1C * scale_N1C, x_NSC, scale_N1C)
        if slope != 1.0:
            activated_NSC = F.leaky_relu_(activated_NSC, slope)
        activated_NSC = activated_NSC.to(x_NCR.dtype)
        ctx.save_for_backward(activated_NSC, scale_N1C)
        ctx.slope = slope
        return _cells(activated_NSC, x_NCR.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        activated_NSC, scale_N1C = ctx.saved_tensors
        gradient_NSC, normalised_NSC = (of.to(scale_N1C.dtype) for of in (_rows(gradients[0]), activated_NSC))
        if ctx.slope != 1.0:
            gradient_NSC = torch.ops.aten.leaky_relu_backward(gradient_NSC, normalised_NSC, ctx.slope, True)
            normalised_NSC = F.leaky_relu(normalised_NSC, 1 / ctx.slope)
        along = (gradient_NSC * normalised_NSC).mean(1, keepdim=True)
        into_NSC = gradient_NSC - gradient_NSC.mean(1, keepdim=True)
        into_NSC = into_NSC.addcmul_(normalised_NSC, along, value=-1).mul_(scale_N1C)
        return _cells(into_NSC.to(gradients[0].dtype), gradients[0].shape), None, None


def _rows(x_NCR: Float[Tensor, "N C *cells"]) -> Float[Tensor, "N S C"]:
    return x_NCR.movedim(1, -1).flatten(1, -2).contiguous()


def _cells(x_NSC: Float[Tensor, "N S C"], shape: torch.Size) -> Float[Tensor, "N C *cells"]:
    return x_NSC.unflatten(1, shape[2:]).movedim(-1, 1)


def recomputed(function: Callable[..., Tensor], *arguments: Any, when: bool) -> Tensor:
    """The result of a function without random draws, which in training keeps no intermediate values ``when`` asked to.

    They are computed again in the backward pass (Chen et al. 2016).
    """
    if not (when and torch.is_grad_enabled()):
        return function(*arguments)
    return checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)
