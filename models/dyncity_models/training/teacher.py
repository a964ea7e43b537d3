"""Weights that another transformer learns from: frozen, and served as they would be."""

import torch
from jaxtyping import Float
from torch import Tensor

from dyncity_models.anchored.checkpoint import AnchoredModel
from dyncity_models.backends.anchored.pipeline import AnchoredPipeline
from dyncity_models.conditioning import PUSHED, CanvasConditions
from dyncity_models.diffusion.sampling import Predict, make_sampler, noise_from
from dyncity_models.execution import Execution
from dyncity_models.hexplane import Planes
from dyncity_models.training.config import RunConfig

EXECUTED_IN = {"bf16": "bf16", "16": "fp16"}
"""Of networks that only answer, by what lightning's precision begins with; else single precision."""


class Teacher:
    """A whole model with its guidance and autoguidance, as the pipeline computes them.

    It is no module, so that checkpoints, averages and processes of the task that it teaches leave its weights alone.

    Args:
        model: whole weights.
        device: where to run.
        run: of the student, for precision and compilation.
    """

    def __init__(self, model: AnchoredModel, device: torch.device, run: RunConfig) -> None:
        precision = EXECUTED_IN.get(run.precision.split("-")[0], "fp32")
        execution = Execution(precision, channels_last=True, compile=run.compile)
        self.model, self.pipeline = model, AnchoredPipeline(model, device, execution)

    def __deepcopy__(self, memo: dict[int, object]) -> "Teacher":
        """Itself: a copy of a task is taught by the same one."""
        return self

    def velocity(self, conditions: CanvasConditions, shapes: Planes) -> Predict:
        """What it would sample with under these conditions, of flat planes of these shapes, without gradients."""
        scales = dict.fromkeys(PUSHED, self.model.config.sampling.guidance_scale)
        return torch.no_grad()(self.pipeline.velocity(conditions, scales, shapes))

    def sample(
        self, conditions: CanvasConditions, noise: Planes, name: str, steps: int, shift: float
    ) -> Float[Tensor, "B N"]:
        """What it makes of noise by a sampler, flat."""
        return sampled(self.velocity(conditions, noise), noise, name, steps, shift)


def sampled(predict: Predict, noise: Planes, name: str, steps: int, shift: float) -> Float[Tensor, "B N"]:
    """What a network makes of noise by a sampler of flow matching, flat."""
    flat = noise.flat()
    return make_sampler(name, "flow", steps, shift).sample(predict, flat, noise_from(torch.Generator(), flat))
