"""Flow matching on planes: the straight path from data to noise, and the times it is trained at."""

import torch
from jaxtyping import Float
from torch import Tensor

from dyncity_models.hexplane import Planes


def noise_like(planes: Planes, generator: torch.Generator) -> Planes:
    """Unit normal noise, drawn on the CPU so that a seed means the same on every device."""
    return Planes(*(torch.randn(p.shape, generator=generator).to(p.device) for p in planes))


def interpolate(data: Planes, noise: Planes, time_B: Float[Tensor, " B"]) -> Planes:
    """Straight path from data (time 0) to noise (time 1) (Lipman et al. 2023; Liu et al. 2023)."""
    t = time_B[:, None, None, None]
    return Planes(*((1 - t) * x + t * e for x, e in zip(data, noise, strict=True)))


def draw_times(count: int, mean: float, generator: torch.Generator | None = None) -> Float[Tensor, " B"]:
    """Logit-normal times (Esser et al. 2024, section 3.1), on the generator's device."""
    device = "cpu" if generator is None else generator.device
    return torch.sigmoid(torch.randn(count, generator=generator, device=device) + mean)
