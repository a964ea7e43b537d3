"""Gaussian diffusion with a learned variance: the process, its step back, and its losses.

Ho et al. 2020 (DDPM) with the variance parametrisation and respacing of Nichol & Dhariwal 2021.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

STEPS = 1000
BETAS = (1e-4, 0.02)
"""First and last noise variance of the linear schedule (Ho et al. 2020, section 4)."""


def respaced(steps: int) -> Int64[np.ndarray, " S"]:
    """Evenly spread steps of the process, both ends among them, rounded half to even; of one, the noisy end.

    Raises:
        ValueError: there are not that many steps.
    """
    if not 1 <= steps <= STEPS:
        raise ValueError(f"{steps} steps of a process of {STEPS}")
    if steps == 1:
        # The published sampler visits the clean end, whose step leaves the noise that it is given as it is.
        return np.array([STEPS - 1], dtype=np.int64)
    stride = (STEPS - 1) / (steps - 1)
    # Summed rather than multiplied, because the last bit decides on which side of a half a step lies.
    position, chosen = 0.0, []
    for _ in range(steps):
        chosen.append(round(position))
        position += stride
    return np.array(chosen, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class GaussianDiffusion:
    """A process that visits some steps of the full one.

    Attributes:
        timesteps: steps of the full process, which the network is told.
        betas: noise variance of each step taken.
        alphas_cumprod: signal left after each.
        posterior_log_variance: of the step back (Ho et al. 2020, equation 7); the first, which would be minus infinity,
            is the second's.
        from_data: weight of the predicted data in the mean of the step back.
        from_noisy: weight of the noisy data in it.
    """

    timesteps: Int64[np.ndarray, " S"]
    betas: Float64[np.ndarray, " S"]
    alphas_cumprod: Float64[np.ndarray, " S"]
    posterior_log_variance: Float64[np.ndarray, " S"]
    from_data: Float64[np.ndarray, " S"]
    from_noisy: Float64[np.ndarray, " S"]

    @classmethod
    def linear(cls, steps: int = STEPS) -> "GaussianDiffusion":
        """The linear schedule, respaced to ``steps``."""
        return cls.over(respaced(steps))

    @classmethod
    def over(cls, timesteps: Int64[np.ndarray, " S"]) -> "GaussianDiffusion":
        """The linear schedule as far as it visits ``timesteps``, increasing steps of the full process."""
        signal = np.cumprod(1.0 - np.linspace(*BETAS, STEPS, dtype=np.float64))[timesteps]
        before = np.append(1.0, signal[:-1])
        betas = 1.0 - signal / before
        signal = np.cumprod(1.0 - betas)
        before = np.append(1.0, signal[:-1])
        variance = betas * (1.0 - before) / (1.0 - signal)
        clipped = np.append(variance[1], variance[1:]) if len(timesteps) > 1 else betas
        return cls(
            timesteps,
            betas,
            signal,
            np.log(clipped),
            betas * np.sqrt(before) / (1.0 - signal),
            (1.0 - before) * np.sqrt(1.0 - betas) / (1.0 - signal),
        )

    def __len__(self) -> int:
        return len(self.timesteps)

    def add_noise(
        self, data: Float[Tensor, "B ..."], noise: Float[Tensor, "B ..."], index_B: Int64[Tensor, " B"]
    ) -> Float[Tensor, "B ..."]:
        """Data after the steps up to ``index_B``, which counts the steps taken here."""
        signal = self._at(self.alphas_cumprod, index_B, data)
        spread = self._at(1.0 - self.alphas_cumprod, index_B, data)
        return signal.sqrt() * data + spread.sqrt() * noise

    def data_of(
        self, noise: Float[Tensor, "B ..."], noisy: Float[Tensor, "B ..."], index_B: Int64[Tensor, " B"]
    ) -> Float[Tensor, "B ..."]:
        """Data that become ``noisy`` by ``noise``."""
        scale = self._at(np.sqrt(1.0 / self.alphas_cumprod), index_B, noisy)
        noise_scale = self._at(np.sqrt(1.0 / self.alphas_cumprod - 1.0), index_B, noisy)
        return scale * noisy - noise_scale * noise

    def noise_of(
        self, data: Float[Tensor, "B ..."], noisy: Float[Tensor, "B ..."], index_B: Int64[Tensor, " B"]
    ) -> Float[Tensor, "B ..."]:
        """Noise by which ``data`` become ``noisy``."""
        signal = self._at(np.sqrt(self.alphas_cumprod), index_B, noisy)
        spread = self._at(np.sqrt(1.0 - self.alphas_cumprod), index_B, noisy)
        return (noisy - signal * data) / spread

    def step_back(
        self, predicted: Float[Tensor, "B C2 ..."], noisy: Float[Tensor, "B C ..."], index_B: Int64[Tensor, " B"]
    ) -> tuple[Float[Tensor, "B C ..."], Float[Tensor, "B C ..."]]:
        """Mean and log-variance of the step back; predicted data is not clipped."""
        noise, fraction = predicted.chunk(2, dim=1)
        mean = self._posterior_mean(self.data_of(noise, noisy, index_B), noisy, index_B)
        # Between the variance of the posterior and that of the forward step (Nichol & Dhariwal 2021, equation 15).
        low = self._at(self.posterior_log_variance, index_B, noisy)
        high = self._at(np.log(self.betas), index_B, noisy)
        weight = (fraction + 1.0) / 2.0
        return mean, weight * high + (1.0 - weight) * low

    def losses(
        self,
        predicted: Float[Tensor, "B C2 H W"],
        data: Float[Tensor, "B C H W"],
        noise: Float[Tensor, "B C H W"],
        index_B: Int64[Tensor, " B"],
        mask: Bool[Tensor, "H W"],
    ) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
        """Squared error of the noise within ``mask`` and variational bound in bits over everything, per sample.

        The bound teaches the variance only (Nichol & Dhariwal 2021, section 3.1) and is neither masked nor scaled.
        """
        noisy = self.add_noise(data, noise, index_B)
        predicted_noise, fraction = predicted.chunk(2, dim=1)
        mask = mask.to(data.device)
        squared = ((noise - predicted_noise).square() * mask).sum((1, 2, 3)) / (data.shape[1] * mask.sum())

        frozen = torch.cat([predicted_noise.detach(), fraction], dim=1)
        mean, log_variance = self.step_back(frozen, noisy, index_B)
        true_mean = self._posterior_mean(data, noisy, index_B)
        true_log_variance = self._at(self.posterior_log_variance, index_B, data)
        divergence = _normal_kl(true_mean, true_log_variance, mean, log_variance)
        likelihood = -_discretised_log_likelihood(data, mean, 0.5 * log_variance)
        per_cell = torch.where((index_B == 0)[:, None, None, None], likelihood, divergence)
        return squared, per_cell.mean((1, 2, 3)) / math.log(2.0)

    def _posterior_mean(self, data: Tensor, noisy: Tensor, index_B: Tensor) -> Tensor:
        return self._at(self.from_data, index_B, noisy) * data + self._at(self.from_noisy, index_B, noisy) * noisy

    @staticmethod
    def _at(values: Float64[np.ndarray, " S"], index_B: Tensor, like: Tensor) -> Tensor:
        chosen = torch.from_numpy(values).to(like.device)[index_B]
        return chosen.to(like.dtype).view(-1, *[1] * (like.dim() - 1))


def _normal_kl(mean: Tensor, log_variance: Tensor, other_mean: Tensor, other_log_variance: Tensor) -> Tensor:
    return 0.5 * (
        -1.0
        + other_log_variance
        - log_variance
        + torch.exp(log_variance - other_log_variance)
        + (mean - other_mean).square() * torch.exp(-other_log_variance)
    )


def _discretised_log_likelihood(data: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Log-likelihood of data in 255 bins over [-1, 1] (Ho et al. 2020, equation 13), made for images."""

    def cumulative(bound: Tensor) -> Tensor:
        scaled = (bound - mean) * torch.exp(-log_scale)
        return 0.5 * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (scaled + 0.044715 * scaled**3)))

    upper, lower = cumulative(data + 1.0 / 255.0), cumulative(data - 1.0 / 255.0)
    tiny = 1e-12
    inside = (upper - lower).clamp(min=tiny).log()
    last = (1.0 - lower).clamp(min=tiny).log()
    first = upper.clamp(min=tiny).log()
    return torch.where(data < -0.999, first, torch.where(data > 0.999, last, inside))
