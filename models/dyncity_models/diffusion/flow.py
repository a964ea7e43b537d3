"""Flow matching on planes: the process, and samplers that follow a learned velocity."""

from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from dyncity_models.hexplane import Planes

Velocity = Callable[[Planes, Float[Tensor, " B"]], Planes]
"""Velocity (noise minus data) of planes at times in [0, 1]."""

SAMPLERS: tuple[Literal["euler"], Literal["heun"]] = ("euler", "heun")


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


def guided(conditional: Velocity, unconditional: Velocity, scale: float) -> Velocity:
    """Classifier-free guidance (Ho & Salimans 2022) on velocities; one call when ``scale`` is 1."""
    if scale == 1.0:
        return conditional

    def velocity(planes: Planes, time_B: Float[Tensor, " B"]) -> Planes:
        with_conditions, without = conditional(planes, time_B), unconditional(planes, time_B)
        return Planes(*(u + scale * (c - u) for c, u in zip(with_conditions, without, strict=True)))

    return velocity


def sample(
    velocity: Velocity,
    noise: Planes,
    steps: int,
    sampler: str = "euler",
    checkpoint: Callable[[int], None] = lambda step: None,
) -> Planes:
    """Follow the velocity from noise to data with at most ``steps`` network evaluations.

    Args:
        velocity: the learned field.
        noise: unit normal planes.
        steps: network evaluations; Heun spends two per interval but one on the last, which ends at time 0,
            where a network learned least (so an even number leaves one unspent).
        sampler: ``euler`` or ``heun``.
        checkpoint: called before each interval with the evaluations done; may raise to stop.
    """
    intervals = steps if sampler == "euler" else (steps + 1) // 2
    times = torch.linspace(1.0, 0.0, intervals + 1).tolist()
    planes, done = noise, 0
    for start, end in pairwise(times):
        checkpoint(done)
        slope = velocity(planes, torch.full((len(planes),), start, device=planes.xy.device))
        done += 1
        advanced = _advance(planes, slope, end - start)
        if sampler == "heun" and end > 0:
            after = velocity(advanced, torch.full((len(planes),), end, device=planes.xy.device))
            done += 1
            slope = Planes(*(0.5 * (a + b) for a, b in zip(slope, after, strict=True)))
            advanced = _advance(planes, slope, end - start)
        planes = advanced
    checkpoint(done)
    return planes


def _advance(planes: Planes, slope: Planes, duration: float) -> Planes:
    return Planes(*(x + duration * v for x, v in zip(planes, slope, strict=True)))
