"""Piecewise rectified flow: in each window of time, the straight way that leads where a curved one does.

Yan et al., *PeRFlow: Piecewise Rectified Flow as Universal Plug-and-Play Accelerator*, NeurIPS 2024.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dyncity_models.diffusion.sampling import Predict
from dyncity_models.diffusion.walks import flow_times


@dataclass(frozen=True)
class Windows:
    """Time from 1 to 0 cut where the steps of a sampler of flow matching begin and end.

    Attributes:
        count: N windows, and steps of the sampler.
        shift: of the sampler.
        evaluations: M of the network that a path through a window is followed with, at the times that N M steps of the
            sampler have.
    """

    count: int
    shift: float
    evaluations: int

    def times(self, numbers_B: Int64[Tensor, " B"]) -> Float[Tensor, "B M1"]:
        """Times at which the paths through these windows are followed, from the first to the last."""
        times = torch.tensor(flow_times(self.count * self.evaluations, self.shift), dtype=torch.float32)
        return times.unfold(0, self.evaluations + 1, self.evaluations).to(numbers_B.device)[numbers_B]


@dataclass(frozen=True, eq=False)
class StraightPath:
    """The straight line between the two ends of a path through a window.

    Attributes:
        start: time at which it begins.
        end: time at which it ends.
        latents: where it begins.
        velocity: along it.
    """

    start: Float[Tensor, " B"]
    end: Float[Tensor, " B"]
    latents: Float[Tensor, "B N"]
    velocity: Float[Tensor, "B N"]

    @classmethod
    def between_ends(
        cls, predict: Predict, latents_BN: Float[Tensor, "B N"], times_BM: Float[Tensor, "B M1"]
    ) -> "StraightPath":
        """Of the path that a network leads along from some latents, through times that fall."""
        start_B, end_B = times_BM[:, 0], times_BM[:, -1]
        velocity_BN = (latents_BN - followed(predict, latents_BN, times_BM)) / (start_B - end_B)[:, None]
        return cls(start_B, end_B, latents_BN, velocity_BN)

    def at(self, share_B: Float[Tensor, " B"]) -> tuple[Float[Tensor, "B N"], Float[Tensor, " B"]]:
        """Latents and time after a share of the way, 0 where it begins."""
        passed_B = share_B * (self.start - self.end)
        return self.latents - passed_B[:, None] * self.velocity, self.start - passed_B


def followed(
    predict: Predict, latents_BN: Float[Tensor, "B N"], times_BM: Float[Tensor, "B M1"]
) -> Float[Tensor, "B N"]:
    """Where a network leads latents to, through falling times that are other ones in each row.

    The two-step method of Adams and Bashforth with variable steps (Hairer et al. 1993, *Solving Ordinary Differential
    Equations I*, section III.5), one evaluation a step, Euler's method in the first. Solvers of diffusers have one time
    for all rows.
    """
    before: tuple[Tensor, Tensor] | None = None
    for now_B, next_B in pairwise(times_BM.unbind(1)):
        slope_BN, step_B = predict(latents_BN, now_B), next_B - now_B
        ahead_BN = slope_BN
        if before is not None:
            slope_before_BN, step_before_B = before
            ahead_BN = slope_BN + (step_B / (2 * step_before_B))[:, None] * (slope_BN - slope_before_BN)
        latents_BN = latents_BN + step_B[:, None] * ahead_BN
        before = slope_BN, step_B
    return latents_BN
