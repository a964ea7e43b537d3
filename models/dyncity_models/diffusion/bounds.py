"""Predicted data kept within bounds, so that errors of one step, or of one chunk, do not grow in the next."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dyncity_models.diffusion.gaussian import GaussianDiffusion
from dyncity_models.diffusion.sampling import Predict


def bounded(predict: Predict, limit: float) -> Predict:
    """A network of Gaussian diffusion whose predicted data lie within plus and minus a limit.

    Static thresholding (Saharia et al. 2022, *Photorealistic Text-to-Image Diffusion Models with Deep Language
    Understanding*, section 2.3): the noise that goes with the bounded data is predicted instead.

    Args:
        predict: noise and log-variance fraction at steps of the unrespaced process.
        limit: what the data stay within.
    """
    process = GaussianDiffusion.linear()

    def within(noisy: Float[Tensor, "B C ..."], step_B: Int64[Tensor, " B"]) -> Float[Tensor, "B C2 ..."]:
        noise, fraction = predict(noisy, step_B).chunk(2, dim=1)
        data = process.data_of(noise, noisy, step_B).clamp(-limit, limit)
        return torch.cat([process.noise_of(data, noisy, step_B), fraction], dim=1)

    return within
