"""Sampling: one loop for both noise processes, all their samplers, and inpainting."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from dyncity_models.diffusion.gaussian import STEPS
from dyncity_models.diffusion.inpainting import KnownLatents
from dyncity_models.diffusion.walks import Solver, Walk, flow_walk, gaussian_walk
from dyncity_sim.domain.conditions import SamplingOptions
from dyncity_sim.errors import ConfigError, InvalidInputError

Process = Literal["gaussian", "flow"]

SAMPLERS: dict[Process, tuple[str, ...]] = {
    "gaussian": ("ddpm", "ddim", "dpm++2m", "unipc"),
    "flow": ("euler", "heun", "dpm++2m", "unipc"),
}
"""Names of the samplers of each process, the plainest first. Only ``ddpm`` draws noise on its way."""

Predict = Callable[[Tensor, Tensor], Tensor]
"""The network under its conditions: noisy latents ``(B, ...)`` and what it is told of the time ``(B,)`` to velocity
(noise minus data) at times in [0, 1], or to noise and log-variance fraction, stacked over the first axis after the
batch, at steps of the unrespaced process."""


def make_sampler(name: str, process: Process, steps: int, shift: float = 1.0) -> "Sampler":
    """A sampler that asks the network at most ``steps`` times; see ``Sampler`` for the shift.

    Raises:
        InvalidInputError: the process has no such sampler or not that many steps.
    """
    offered = SAMPLERS[process]
    if name not in offered:
        raise InvalidInputError("options.sampler", repr(name), f"one of {', '.join(offered)}")
    if not 1 <= steps <= STEPS:
        raise InvalidInputError("options.steps", steps, f"an integer in [1, {STEPS}]")
    return Sampler(name, process, steps, shift)


def check_defaults(process: Process, sampler: str, steps: int, guidance_scale: float, resamples: int) -> None:
    """Raise where a request could not ask for what weights are sampled with when it leaves the choice to them.

    Raises:
        ConfigError: naming the key under ``sampling``.
    """
    try:
        make_sampler(sampler, process, steps)
        SamplingOptions(guidance_scale=guidance_scale, resamples=resamples)
    except InvalidInputError as error:
        field = error.field.replace("options.", "sampling.")
        raise ConfigError(field, error.got, error.expected, error.mend) from error


@dataclass(frozen=True)
class Sampler:
    """A way from noise to data; it remembers nothing from one sample to the next.

    Attributes:
        name: one of ``SAMPLERS`` of the process.
        process: noise process the network was trained with.
        steps: network evaluations at most; resampling multiplies them.
        shift: of flow matching: above 1, more of the steps are spent near noise. Gaussian diffusion has none.
    """

    name: str
    process: Process
    steps: int
    shift: float = 1.0

    def sample(
        self,
        predict: Predict,
        noise: Float[Tensor, "B ..."],
        draw: Callable[[], Tensor],
        checkpoint: Callable[[int], None] = lambda done: None,
        known: KnownLatents | None = None,
    ) -> Float[Tensor, "B ..."]:
        """Latents that the network takes for data.

        With ``known``, RePaint (Lugmayr et al. 2022, algorithm 1): after each interval the known part is replaced
        by its noisy version, and the interval is walked again after noise took the latents back to where it began.
        Unlike there, the last interval is no exception, because with few steps it is a long one.

        Args:
            predict: the network.
            noise: unit normal latents to start from.
            draw: gives the unit normal noise that is needed on the way; see ``noise_from``.
            checkpoint: called before each evaluation with the number done, and at the end; may raise to stop.
            known: latents that the sample must end with.

        Raises:
            InvalidInputError: what the network predicts runs away to infinity or is no number.
        """
        if self.process == "gaussian":
            walk = gaussian_walk(self.name, self.steps)
        else:
            walk = flow_walk(self.name, self.steps, self.shift)
        visits = 1 if known is None else known.resamples
        latents, solver, done = noise, walk.solver, 0
        for interval in range(len(walk.levels) - 1):
            before, after = walk.levels[interval : interval + 2]
            remembered = solver
            for visit in range(visits):
                last = visit == visits - 1
                solver = remembered if last else copy.deepcopy(remembered)
                for number in _evaluations(walk, interval):
                    checkpoint(done)
                    latents = _evaluated(predict, walk, solver, number, latents, draw)
                    done += 1
                if known is not None:
                    latents = known.imposed(latents, after, draw())
                    solver.displaced()
                if not last:
                    latents = before.renoised(latents, after, draw())
        checkpoint(done)
        if not latents.isfinite().all():
            raise InvalidInputError(
                "options",
                "a sample with infinity or NaN",
                "a sample of finite numbers",
                "Lower the guidance, or serve with --option precision=fp32; else the weights are spoilt.",
            )
        return latents


def noise_from(generator: torch.Generator, like: Tensor) -> Callable[[], Tensor]:
    """Unit normal noise in the shape of ``like``, drawn on the generator's device.

    With a generator on the CPU a seed means the same on every device.
    """

    def draw() -> Tensor:
        fresh = torch.randn(like.shape, generator=generator, dtype=like.dtype, device=generator.device)
        return fresh.to(like.device)

    return draw


def _evaluations(walk: Walk, interval: int) -> range:
    return range(len(walk.told))[interval * walk.order : (interval + 1) * walk.order]


def _evaluated(
    predict: Predict, walk: Walk, solver: Solver, number: int, latents: Tensor, draw: Callable[[], Tensor]
) -> Tensor:
    told_B = torch.full((len(latents),), walk.told[number], device=latents.device)
    return solver.step(number, predict(latents, told_B), latents, draw)
