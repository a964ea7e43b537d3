"""The variational autoencoder of the family ``anchored``."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from dyncity_models.anchored.decoder import Decoder
from dyncity_models.anchored.encoder import Encoder
from dyncity_models.config import AutoencoderConfig
from dyncity_models.hexplane import Planes
from dyncity_models.processes import WHOLE, Share, randn_rows


class Autoencoder(nn.Module):
    """Encoder and decoder around planes in a common frame."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def encode(
        self, labels_BTXYZ: UInt8[Tensor, "B T X Y Z"], canvas_from_ego: Float[Tensor, "B T 3"]
    ) -> tuple[Planes, Planes]:
        """Means and log-variances of the planes; label ``config.classes`` is "never observed"."""
        means, log_variances = self.encoder(labels_BTXYZ, self._on_canvas(canvas_from_ego))
        return means, log_variances

    def decode(
        self, planes: Planes, canvas_from_ego: Float[Tensor, "B T 3"], frames: Int64[Tensor, "B F"]
    ) -> Float[Tensor, "B F X Y Z K"]:
        """Class logits of the frames asked for."""
        return self.decoder(planes, self._on_canvas(canvas_from_ego), frames)

    def decode_labels(
        self, planes: Planes, canvas_from_ego: Float[Tensor, "B T 3"], frames_at_once: int = 4
    ) -> Iterator[UInt8[Tensor, "B F X Y Z"]]:
        """Labels of the whole chunk, a few frames at a time."""
        everything = torch.arange(self.config.frames, device=canvas_from_ego.device)
        maps, poses = self.decoder.maps(planes), self._on_canvas(canvas_from_ego)
        for frames in everything.split(frames_at_once):
            logits = self.decoder.draw(maps, poses, frames.expand(len(poses), -1))
            yield logits.argmax(dim=-1).to(torch.uint8)

    def _on_canvas(self, canvas_from_ego: Float[Tensor, "B T 3"]) -> Float[Tensor, "B T 3"]:
        return canvas_from_ego if self.config.canvas.common else torch.zeros_like(canvas_from_ego)


def sample_posterior(
    means: Planes, log_variances: Planes, generator: torch.Generator | None = None, share: Share = WHOLE
) -> Planes:
    """Reparameterised draw from the posterior (Kingma & Welling 2014, section 2.4) of a part of a batch."""
    return Planes(
        *(
            mean + torch.exp(0.5 * log_variance) * randn_rows(mean, generator, share)
            for mean, log_variance in zip(means, log_variances, strict=True)
        )
    )


def kl_divergence(means: Planes, log_variances: Planes) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """KL to the unit normal of what stands still (xy, xz, yz) and of what changes (tx, ty, tz).

    Each is its sum, divided by the number of elements of all planes.
    """
    xy, tx, ty, *heights = (
        0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum()
        for mean, log_variance in zip(means, log_variances, strict=True)
    )
    if heights:
        xz, yz, tz = heights
        xy, tx = xy + xz + yz, tx + tz
    count = sum(plane.numel() for plane in means)
    return xy / count, (tx + ty) / count
