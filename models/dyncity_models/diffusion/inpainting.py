"""What is known of the latents to be sampled (RePaint, Lugmayr et al. 2022)."""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from dyncity_models.diffusion.levels import CLEAN, Level
from dyncity_sim.errors import InvalidInputError


@dataclass(frozen=True, eq=False)
class KnownLatents:
    """Latents that sampling must end with, and how often it may try to fit the rest to them.

    Attributes:
        values: the known latents, shaped as what is sampled; not read where ``mask`` is False.
        mask: True where they are known, of a shape that broadcasts to ``values``.
        resamples: how often each interval is walked (algorithm 1's U); 1 never goes back, and the seams show.

    Raises:
        InvalidInputError: the mask knows everything or nothing, values are not finite, or resamples is not positive.
    """

    values: Float[Tensor, "B ..."]
    mask: Bool[Tensor, "..."]
    resamples: int = 1

    def __post_init__(self) -> None:
        if self.mask.all() or not self.mask.any():
            raise InvalidInputError(
                "known.mask",
                "a mask that covers every latent" if self.mask.all() else "a mask that covers no latent",
                "some latents that are known and some that are not",
            )
        if not self.values.isfinite().logical_or(~self.mask).all():
            raise InvalidInputError("known.values", "values that are not finite", "finite values where the mask is set")
        if self.resamples < 1:
            raise InvalidInputError("known.resamples", self.resamples, "at least 1")

    def imposed(self, latents: Tensor, level: Level, fresh: Tensor) -> Tensor:
        """Latents with the known part as it looks at ``level``; at the end, exactly the values."""
        known = self.values if level == CLEAN else level.noisy(self.values, fresh)
        return known.where(self.mask, latents)
