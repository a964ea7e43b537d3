"""Every sampler as a walk from noise to data: where the network is asked, and a solver that steps with its answers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from dyncity_models.diffusion.gaussian import STEPS, GaussianDiffusion, respaced
from dyncity_models.diffusion.levels import CLEAN, Level

ALMOST_NOISE = 1.0 - 1e-6
"""Time at which multistep solvers begin with flow matching: at 1 the logarithm of their signal-to-noise is infinite."""


class Solver(Protocol):
    """Steps latents along by what the network says; keeps what a multistep method remembers."""

    def step(self, number: int, predicted: Tensor, latents: Tensor, draw: Callable[[], Tensor]) -> Tensor:
        """Latents after evaluation ``number`` of the walk; ``draw`` gives unit normal noise in their shape."""

    def displaced(self) -> None:
        """Be told that the latents were changed from outside since the last step."""


@dataclass(frozen=True, eq=False)
class Walk:
    """One way from noise to data.

    Attributes:
        told: what the network is told at each evaluation: times in [0, 1], or steps of the unrespaced process.
        levels: how noisy latents are at the borders of the intervals, pure noise first, data last.
        order: evaluations an interval takes, but for the last, which takes one.
        solver: fresh, with nothing remembered.
    """

    told: list[float] | list[int]
    levels: list[Level]
    order: int
    solver: Solver


def gaussian_walk(name: str, steps: int) -> Walk:
    """Samplers of Gaussian diffusion with a learned variance, which only ``ddpm`` uses.

    ``ddpm`` visits the steps that the published sampler does, both ends among them. Solvers of the probability flow
    would waste an evaluation at the end that is nearly clean, and go to the data from one even stride above it.
    """
    visited = respaced(steps)
    if name != "ddpm":
        visited = np.unique(np.linspace(0, STEPS - 1, steps + 1).round().astype(np.int64))[1:]
    process = GaussianDiffusion.over(visited)
    signal = np.sqrt(process.alphas_cumprod[::-1]).tolist()
    noise = np.sqrt(1.0 - process.alphas_cumprod[::-1]).tolist()
    levels = [*map(Level, signal, noise), CLEAN]
    return Walk(process.timesteps[::-1].tolist(), levels, 1, _gaussian_solver(name, process, levels))


def flow_times(intervals: int, shift: float) -> Float64[np.ndarray, " I1"]:
    """From 1 to 0 in intervals that are even but for the shift (Esser et al. 2024, equation 23).

    A shift above 1 makes those shorter where there is mostly noise, and what stands where is decided.
    """
    times = np.linspace(1.0, 0.0, intervals + 1)
    return shift * times / (1.0 + (shift - 1.0) * times)


def flow_walk(name: str, steps: int, shift: float = 1.0) -> Walk:
    """Samplers of flow matching, in the steps of ``flow_times``.

    Heun's method asks twice per interval but once on the last, which ends at time 0, where a network learned least;
    so an even number of steps leaves one unspent.
    """
    order = 2 if name == "heun" else 1
    intervals = (steps + order - 1) // order
    times = flow_times(intervals, shift)
    levels = [Level(1.0 - time, time) for time in times.tolist()]
    told = times.repeat(order)[order - 1 : -order].tolist()
    return Walk(told, levels, order, _flow_solver(name, intervals, levels))


def _gaussian_solver(name: str, process: GaussianDiffusion, levels: list[Level]) -> Solver:
    if name == "ddpm":
        return AncestralSolver(process)
    # Importing diffusers takes seconds, for which only who samples should wait.
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
    from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

    respacing = {"num_train_timesteps": len(process), "trained_betas": process.betas}
    if name == "ddim":
        scheduler = DDIMScheduler(**respacing, clip_sample=False)
        scheduler.set_timesteps(len(process))
        return DiffusersSolver(scheduler)
    multistep = {"dpm++2m": DPMSolverMultistepScheduler, "unipc": UniPCMultistepScheduler}[name](**respacing)
    return _multistep(multistep, [level.noise / level.signal for level in levels])


def _flow_solver(name: str, intervals: int, levels: list[Level]) -> Solver:
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
    from diffusers.schedulers.scheduling_flow_match_heun_discrete import FlowMatchHeunDiscreteScheduler
    from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

    if name in ("euler", "heun"):
        # As many training steps as intervals, because these schedulers go from the last of them straight to 0.
        single = {"euler": FlowMatchEulerDiscreteScheduler, "heun": FlowMatchHeunDiscreteScheduler}[name](intervals)
        single.set_timesteps(intervals)
        noise = torch.tensor([level.noise for level in levels])
        inner = noise[1:-1] if name == "euler" else noise[1:-1].repeat_interleave(2)
        single.sigmas = torch.cat([noise[:1], inner, noise[-1:]])
        single.set_begin_index(0)
        return DiffusersSolver(single)
    multistep = {"dpm++2m": DPMSolverMultistepScheduler, "unipc": UniPCMultistepScheduler}[name](
        prediction_type="flow_prediction", use_flow_sigmas=True
    )
    return _multistep(multistep, [ALMOST_NOISE, *(level.noise for level in levels[1:])])


def _multistep(scheduler: Any, sigmas: list[float]) -> Solver:
    # Not by set_timesteps, whose spacings are others, and which numpy 2 warns of.
    scheduler.sigmas = torch.tensor(sigmas)
    scheduler.num_inference_steps = len(sigmas) - 1
    scheduler.timesteps = torch.arange(len(sigmas) - 1, 0, -1)
    scheduler.set_begin_index(0)
    return DiffusersSolver(scheduler)


class AncestralSolver:
    """Ancestral sampling (Ho et al. 2020, algorithm 2) with the learned variance.

    The step is that of the process, which its variational bound needs anyway, rather than diffusers'
    ``DDPMScheduler``: that one draws its noise itself, so no recorded run could be replayed.
    """

    def __init__(self, process: GaussianDiffusion) -> None:
        self.process = process

    def step(self, number: int, predicted: Tensor, latents: Tensor, draw: Callable[[], Tensor]) -> Tensor:
        """Draw from the step back; the last one is its mean."""
        index = len(self.process) - 1 - number
        index_B = torch.full((len(latents),), index, device=latents.device)
        mean, log_variance = self.process.step_back(predicted, latents, index_B)
        return mean + torch.exp(0.5 * log_variance) * draw() if index else mean

    def displaced(self) -> None:
        """Nothing is remembered."""


class DiffusersSolver:
    """A deterministic scheduler of diffusers, its time steps set.

    A learned variance, stacked below the noise, is left out.
    """

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler

    def step(self, number: int, predicted: Tensor, latents: Tensor, draw: Callable[[], Tensor]) -> Tensor:
        """Step; no noise is drawn."""
        answer = predicted[:, : latents.shape[1]]
        return self.scheduler.step(answer, self.scheduler.timesteps[number], latents, return_dict=False)[0]

    def displaced(self) -> None:
        """Start again with one step: what other latents predicted would be extrapolated without bounds.

        UniPC would besides correct the latents from where it last left them.
        """
        self.scheduler.lower_order_nums = 0
        self.scheduler.last_sample = None
