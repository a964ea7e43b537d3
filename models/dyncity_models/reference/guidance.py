"""Classifier-free guidance as the published sampler does it."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dyncity_models.reference.conditions import EmbeddedConditions, ReferenceConditions
from dyncity_models.reference.dit import ReferenceTransformer


class GuidedTransformer:
    """A transformer under fixed conditions: embeds them once, then predicts at each step of a sampling loop.

    Noise is pushed away from the prediction without conditions (Ho & Salimans 2022), on all channels. The
    log-variance is that of the conditional prediction, unguided.

    Args:
        transformer: the network.
        conditions: of every sample.
        scale: 1 is no guidance.
    """

    def __init__(self, transformer: ReferenceTransformer, conditions: ReferenceConditions, scale: float = 4.0) -> None:
        self.transformer, self.scale = transformer, scale

        def embed(of: ReferenceConditions) -> EmbeddedConditions:
            return transformer.conditions(of, transformer.positions, transformer.tokens)

        self._conditional = embed(conditions)
        known = set(conditions.given()) & set(transformer.config.conditions)
        # Where nothing is given, both halves are the same, and one call of the network gives both.
        self._unconditional = embed(ReferenceConditions()) if known and scale != 1.0 else None

    def __call__(self, noisy: Float[Tensor, "B C H W"], step_B: Int64[Tensor, " B"]) -> Float[Tensor, "B C2 H W"]:
        """Guided noise and log-variance fraction."""
        if self._unconditional is None:
            return self.transformer.predict(noisy, step_B, self._conditional)
        batch = len(noisy)
        halves = _stacked(self._conditional, self._unconditional, batch)
        both = self.transformer.predict(noisy.repeat(2, 1, 1, 1), step_B.repeat(2), halves)
        (noise, fraction), (noise_without, _) = (half.chunk(2, dim=1) for half in both.split(batch))
        return torch.cat([noise_without + self.scale * (noise - noise_without), fraction], dim=1)


def _stacked(first: EmbeddedConditions, second: EmbeddedConditions, batch: int) -> EmbeddedConditions:
    def stack(one: Tensor, other: Tensor) -> Tensor:
        return torch.cat([part.expand(batch, *part.shape[1:]) for part in (one, other)])

    per_token = None
    if first.per_token is not None and second.per_token is not None:
        per_token = stack(first.per_token, second.per_token)
    return EmbeddedConditions(stack(first.everywhere, second.everywhere), per_token)
