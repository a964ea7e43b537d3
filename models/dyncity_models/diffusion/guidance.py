"""Classifier-free guidance with a weight for each condition."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor


@dataclass(frozen=True)
class GuidanceChain:
    """Which sets of conditions the network is asked with, and how its answers are weighed.

    Attributes:
        prefixes: sets of conditions, each the first few of the chain.
        weights: of the answers; they sum to 1.
    """

    prefixes: tuple[tuple[str, ...], ...]
    weights: tuple[float, ...]

    @classmethod
    def of(cls, names: Sequence[str], scales: Mapping[str, float]) -> "GuidanceChain":
        """Each condition pushes away from what is predicted without it, given those before it.

        Brooks et al. 2023 (InstructPix2Pix), equation 3, for any number of conditions::

            e() + sum_i scale_i * (e(c_1 ... c_i) - e(c_1 ... c_(i-1)))

        As a sum over prefixes, ``e(c_1 ... c_i)`` weighs ``scale_i - scale_(i+1)``, and prefixes that weigh nothing
        are left out: equal scales leave two (Ho & Salimans 2022), and scales of 1 leave the full one.

        Args:
            names: the conditions that are given, in the order of the chain.
            scales: of conditions; 1 for those that are not in it.
        """
        along = [1.0, *(scales.get(name, 1.0) for name in names), 0.0]
        weights = [before - after for before, after in pairwise(along)]
        kept = [(tuple(names[:length]), weight) for length, weight in enumerate(weights) if weight != 0.0]
        return cls(*zip(*kept, strict=True))

    def __len__(self) -> int:
        return len(self.prefixes)

    def repeated(self, batch: Tensor) -> Tensor:
        """The whole batch for each prefix, one after another, so that one call of the network answers all."""
        return batch.repeat(len(self), *[1] * (batch.dim() - 1))

    def weighed(self, answers: Tensor) -> Tensor:
        """The guided answer for the batch, of the network's for all prefixes."""
        first, *others = (weight * part for weight, part in zip(self.weights, answers.chunk(len(self)), strict=True))
        return sum(others, first)
