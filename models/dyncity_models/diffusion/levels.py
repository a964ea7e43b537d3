"""How noisy latents are: the one thing about a noise process that samplers and inpainting have to know."""

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Level:
    """Latents that are ``signal * data + noise * e``, with unit normal ``e``.

    Both processes are of this form: Gaussian diffusion has ``signal**2 + noise**2 == 1``, flow matching
    ``signal + noise == 1``.
    """

    signal: float
    noise: float

    def noisy(self, data: Tensor, fresh: Tensor) -> Tensor:
        """Data at this level, by unit normal noise."""
        return self.signal * data + self.noise * fresh

    def renoised(self, latents: Tensor, at: "Level", fresh: Tensor) -> Tensor:
        """Latents of the cleaner level ``at`` brought to this one: the forward transition of the process.

        Gaussian with the mean that scales signal to signal and the variance that noise then lacks, so that data at
        ``at`` become data at this level.
        """
        scale = self.signal / at.signal
        return scale * latents + math.sqrt(max(0.0, self.noise**2 - (scale * at.noise) ** 2)) * fresh


CLEAN = Level(1.0, 0.0)
