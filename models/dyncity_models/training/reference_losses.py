"""Losses of the family ``reference``."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from dyncity_models.processes import WHOLE, Share
from dyncity_models.reference.autoencoder import kl_divergence
from dyncity_models.reference.config import ReferenceClasses
from dyncity_models.reference.planes import HexPlanes
from dyncity_models.training.losses import lovasz_softmax
from dyncity_sim.errors import ConfigError


@dataclass(frozen=True, eq=False)
class AutoencoderLosses:
    """Terms of the autoencoder's objective (paper, equation 6), and their weighted sum."""

    cross_entropy: Float[Tensor, ""]
    lovasz: Float[Tensor, ""]
    kl: Float[Tensor, ""]
    kl_weight: float

    @property
    def total(self) -> Float[Tensor, ""]:
        """What is minimised."""
        return self.cross_entropy + self.lovasz + self.kl_weight * self.kl


def autoencoder_losses(
    logits_BTXYZK: Float[Tensor, "B T X Y Z K"],
    labels_BTXYZ: UInt8[Tensor, "B T X Y Z"],
    means: HexPlanes,
    log_variances: HexPlanes,
    class_weights: Float[Tensor, " K"] | None = None,
    kl_weight: float = 0.0015,
    share: Share = WHOLE,
) -> AutoencoderLosses:
    """All terms, over every cell: the published training does not leave invalid cells out.

    The mean over all parts of a batch is that of the whole.
    """
    logits, labels = logits_BTXYZK.flatten(0, -2).float(), labels_BTXYZ.flatten().long()
    cross_entropy = F.cross_entropy(logits, labels, class_weights)
    if class_weights is not None and share.count > 1:
        weight = class_weights[labels].sum()
        cross_entropy = cross_entropy * (weight / share.mean(weight))
    return AutoencoderLosses(
        cross_entropy,
        lovasz_softmax(logits.softmax(dim=-1), labels, share),
        kl_divergence(means, log_variances),
        kl_weight,
    )


def class_weights(classes: ReferenceClasses, count: int) -> Float[Tensor, " K"]:
    """Cube roots of how much rarer each class is than the most frequent one.

    A class that no raw label maps to counts as a share of 1e-10 of all cells.

    Raises:
        ConfigError: the classes come without a frequency for each raw label.
    """
    if not classes.raw_frequency or len(classes.raw_frequency) != len(classes.merged_from_raw):
        counts = f"{len(classes.raw_frequency)} frequencies of {len(classes.merged_from_raw)} raw labels"
        raise ConfigError("classes.raw_frequency", counts, "one for each raw label")
    share = torch.zeros(count, dtype=torch.float64)
    raw = torch.tensor(classes.raw_frequency, dtype=torch.float64)
    share.index_add_(0, torch.tensor(classes.merged_from_raw), raw / raw.sum())
    return (share.max() / (share + 1e-10)).pow(1 / 3).float()
