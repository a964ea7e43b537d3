"""The variational autoencoder of the family ``reference``."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from dyncity_models.processes import WHOLE, Share, randn_rows
from dyncity_models.reference.config import PLANES, ReferenceAutoencoderConfig
from dyncity_models.reference.decoder import Decoder
from dyncity_models.reference.encoder import Encoder
from dyncity_models.reference.planes import HexPlanes


class ReferenceAutoencoder(nn.Module):
    """Labels to six latent planes and back (paper, sections 3.1 and 3.2).

    Latents are used as they come: nothing scales or normalises them before diffusion.

    Args:
        config: sizes and switches.
        checkpointing: in training, compute again what costs little instead of keeping it.
    """

    def __init__(self, config: ReferenceAutoencoderConfig, checkpointing: bool = True) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config, checkpointing)
        channels = config.latent_channels
        self.moments = nn.ModuleDict({name: nn.Linear(channels, 2 * channels) for name in PLANES})
        self.decoder = Decoder(config, checkpointing)

    def encode(self, labels_BTXYZ: UInt8[Tensor, "B T X Y Z"]) -> tuple[HexPlanes, HexPlanes]:
        """Means and log-variances of the planes."""
        features = self.encoder(labels_BTXYZ)
        means, log_variances = [], []
        for name, plane in zip(PLANES, features, strict=True):
            mean, log_variance = self.moments[name](plane.movedim(1, -1)).movedim(-1, 1).chunk(2, dim=1)
            means.append(mean)
            log_variances.append(log_variance)
        return HexPlanes(*means), HexPlanes(*log_variances)

    def decode(self, planes: HexPlanes, frames: Int64[Tensor, " F"] | None = None) -> Float[Tensor, "B F X Y Z K"]:
        """Class logits of the frames asked for, all of them by default."""
        return self.decoder(planes, frames)

    def decode_labels(self, planes: HexPlanes, frames_at_once: int = 4) -> Iterator[UInt8[Tensor, "B F X Y Z"]]:
        """Labels of the whole chunk, a few frames at a time."""
        for frames in torch.arange(self.config.frames, device=planes.xy.device).split(frames_at_once):
            yield self.decode(planes, frames).argmax(dim=-1).to(torch.uint8)

    def forward(
        self, labels_BTXYZ: UInt8[Tensor, "B T X Y Z"], generator: torch.Generator | None = None, share: Share = WHOLE
    ) -> tuple[Float[Tensor, "B T X Y Z K"], HexPlanes, HexPlanes]:
        """Logits of a draw from the posterior, with its means and log-variances: what training needs."""
        means, log_variances = self.encode(labels_BTXYZ)
        return self.decode(sample_posterior(means, log_variances, generator, share)), means, log_variances


def sample_posterior(
    means: HexPlanes, log_variances: HexPlanes, generator: torch.Generator | None = None, share: Share = WHOLE
) -> HexPlanes:
    """Reparameterised draw from the posterior (Kingma & Welling 2014, section 2.4) of a part of a batch."""
    return HexPlanes(
        *(
            mean + torch.exp(0.5 * log_variance) * randn_rows(mean, generator, share)
            for mean, log_variance in zip(means, log_variances, strict=True)
        )
    )


def kl_divergence(means: HexPlanes, log_variances: HexPlanes) -> Float[Tensor, ""]:
    """KL to the unit normal, a mean over the elements of all planes, so that a larger plane weighs more."""
    total = sum(
        (0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance)).sum()
        for mean, log_variance in zip(means, log_variances, strict=True)
    )
    assert isinstance(total, Tensor)
    return total / sum(plane.numel() for plane in means)
