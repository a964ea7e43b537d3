"""Attention kernels, chosen at run time."""

from collections.abc import Callable
from importlib.util import find_spec

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dyncity_sim.errors import ConfigError

Kernel = Callable[[Tensor, Tensor, Tensor, float | None, float], Tensor]
"""Queries, keys, values ``(B, H, L, D)``, scale (``D ** -0.5`` by default), dropout; gives ``(B, H, L, D)``."""


def fused_attention(
    q_BHLD: Float[Tensor, "B H L D"],
    k_BHMD: Float[Tensor, "B H M D"],
    v_BHMD: Float[Tensor, "B H M D"],
    scale: float | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "B H L D"]:
    """PyTorch's fused kernel."""
    return F.scaled_dot_product_attention(q_BHLD, k_BHMD, v_BHMD, dropout_p=dropout, scale=scale)


def flash_attention(
    q_BHLD: Float[Tensor, "B H L D"],
    k_BHMD: Float[Tensor, "B H M D"],
    v_BHMD: Float[Tensor, "B H M D"],
    scale: float | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "B H L D"]:
    """The library flash-attn (Dao 2024); half precision on a CUDA device only."""
    from flash_attn import flash_attn_func  # of the extra `gpu`: imported by those who ask for it

    parts = (part.transpose(1, 2) for part in (q_BHLD, k_BHMD, v_BHMD))
    # Autocast does not know this function.
    half = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else q_BHLD.dtype
    heads_inside = (part.to(half) for part in parts)
    return flash_attn_func(*heads_inside, dropout_p=dropout, softmax_scale=scale).transpose(1, 2)


class AttentionModule(nn.Module):
    """Whatever attends: its kernel can be exchanged."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel: Kernel = fused_attention


def choose_kernel(name: str, device: str, precision: str) -> Kernel:
    """The kernel by name: ``sdpa``, ``flash-attn``, or ``auto`` for the latter wherever it runs.

    Raises:
        ConfigError: the name is unknown, or flash-attn cannot run here.
    """
    runs = {
        "a CUDA device": device == "cuda",
        "half precision": precision in ("bf16", "fp16"),
        "the package flash-attn": find_spec("flash_attn") is not None,
    }
    missing = [what for what, there in runs.items() if not there]
    if name == "sdpa" or (name == "auto" and missing):
        return fused_attention
    if name not in ("auto", "flash-attn"):
        raise ConfigError("execution.attention", name, "sdpa, flash-attn or auto")
    if missing:
        raise ConfigError(
            "execution.attention",
            f"flash-attn on {device} in {precision}, without {' and '.join(missing)}",
            "flash-attn on CUDA in bf16 or fp16",
            "Use sdpa, or install it: pip install '.[gpu]' in the project's folder.",
        )
    return flash_attention
