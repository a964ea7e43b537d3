"""Classifier-free guidance as the published sampler does it, and with a scale for each condition."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dyncity_models.diffusion.guidance import GuidanceChain
from dyncity_models.reference.conditions import EmbeddedConditions, ReferenceConditions
from dyncity_models.reference.dit import ReferenceTransformer

CHAIN = ("region", "hexplane", "trajectory", "layout", "command")
"""Order in which guidance adds conditions; with one scale for all it makes no difference."""


class GuidedTransformer:
    """A transformer under fixed conditions: embeds them once, then predicts at each step of a sampling loop.

    Noise is guided, on all channels. The log-variance is that under all conditions, unguided.

    Args:
        transformer: the network.
        conditions: of every sample.
        scale: 1 is no guidance; one for all conditions, or one for each by its name, where 1 need not be named.
    """

    def __init__(
        self,
        transformer: ReferenceTransformer,
        conditions: ReferenceConditions,
        scale: float | Mapping[str, float] = 4.0,
    ) -> None:
        self.transformer = transformer
        # What the weights do not know, or what is not given, makes no prefix of its own.
        known = set(conditions.given()) & set(transformer.config.conditions)
        names = tuple(name for name in CHAIN if name in known)
        scales = scale if isinstance(scale, Mapping) else dict.fromkeys(names, scale)
        chain = GuidanceChain.of(names, scales)
        if names not in chain.prefixes:
            chain = GuidanceChain((*chain.prefixes, names), (*chain.weights, 0.0))
        self._chain = chain
        self._embedded = [
            transformer.conditions(
                conditions.without(*set(CHAIN).difference(prefix)), transformer.positions, transformer.tokens
            )
            for prefix in chain.prefixes
        ]

    def __call__(self, noisy: Float[Tensor, "B C H W"], step_B: Int64[Tensor, " B"]) -> Float[Tensor, "B C2 H W"]:
        """Guided noise and log-variance fraction."""
        if len(self._chain) == 1:
            return self.transformer.predict(noisy, step_B, self._embedded[0])
        batch = len(noisy)
        answers = self.transformer.predict(
            self._chain.repeated(noisy), self._chain.repeated(step_B), _stacked(self._embedded, batch)
        )
        noise, fraction = answers.chunk(2, dim=1)
        return torch.cat([self._chain.weighed(noise), fraction[-batch:]], dim=1)


def _stacked(embedded: Sequence[EmbeddedConditions], batch: int) -> EmbeddedConditions:
    def stack(parts: Sequence[Tensor]) -> Tensor:
        return torch.cat([part.expand(batch, *part.shape[1:]) for part in parts])

    per_token = [one.per_token for one in embedded if one.per_token is not None]
    # Whether there are plane conditions is up to the weights, not to what is given.
    return EmbeddedConditions(stack([one.everywhere for one in embedded]), stack(per_token) if per_token else None)
