"""The generator of the family ``reference`` as one page: conditions, transformer, rollout, planes, decoder, labels."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from dyncity_models.diffusion.bounds import bounded
from dyncity_models.diffusion.inpainting import KnownLatents
from dyncity_models.diffusion.sampling import Predict, Sampler, noise_from
from dyncity_models.execution import Execution
from dyncity_models.reference.checkpoint import ReferenceModel
from dyncity_models.reference.conditions import ReferenceConditions
from dyncity_models.reference.guidance import GuidedTransformer
from dyncity_models.reference.planes import pack, rollout_mask, unpack
from dyncity_sim.errors import CheckpointError


class ReferencePipeline:
    """Generates, encodes and decodes chunks as rollouts, in single precision unless ``execution`` says otherwise.

    Latents are used as they come from the autoencoder, not normalised, as published.

    Args:
        model: loaded weights.
        device: where to run.
        execution: precision, memory format, compilation, CUDA graphs and attention kernel of its networks.

    Raises:
        CheckpointError: an autoencoder without a transformer.
        ConfigError: the device cannot run that way.
    """

    def __init__(self, model: ReferenceModel, device: torch.device, execution: Execution | None = None) -> None:
        if model.transformer is None:
            raise CheckpointError("weights", "an autoencoder without a transformer", "weights of both")
        self.model, self.device = model, device
        self.execution = execution or Execution()
        self.autoencoder = self.execution.prepare(model.autoencoder, device)
        self.transformer = self.execution.prepare(model.transformer, device)
        self._encode = self.execution.run(lambda labels: pack(self.autoencoder.encode(labels)[0]), device)
        self._decode = self.execution.run(self._decoded, device)
        self.mask = rollout_mask(model.config.autoencoder).to(device)

    @torch.inference_mode()
    def encode(self, labels_BTXYZ: UInt8[Tensor, "B T X Y Z"]) -> Float[Tensor, "B C H W"]:
        """Rollouts of observed chunks, whose means stand for them."""
        return self._encode(labels_BTXYZ.to(self.device))

    def generate(
        self,
        conditions: ReferenceConditions,
        generator: torch.Generator,
        sampler: Sampler,
        scales: Mapping[str, float],
        checkpoint: Callable[[int], None] = lambda done: None,
        known: KnownLatents | None = None,
    ) -> Float[Tensor, "1 C H W"]:
        """Rollout of one chunk.

        Args:
            conditions: of the one chunk.
            generator: draws all noise, on the CPU.
            sampler: of Gaussian diffusion.
            scales: of guidance, by condition; 1 for those that are not in it.
            checkpoint: called before each network evaluation with the number done; may raise to stop.
            known: latents of the chunk that are settled.
        """
        config = self.model.config.autoencoder
        shape = (1, config.latent_channels, *config.rollout_shape)
        draw = noise_from(generator, torch.empty(shape, device=self.device))
        return self.sample(conditions, draw(), draw, sampler, scales, checkpoint, known)

    @torch.inference_mode()
    def sample(
        self,
        conditions: ReferenceConditions,
        noise: Float[Tensor, "B C H W"],
        draw: Callable[[], Tensor],
        sampler: Sampler,
        scales: Mapping[str, float],
        checkpoint: Callable[[int], None] = lambda done: None,
        known: KnownLatents | None = None,
    ) -> Float[Tensor, "B C H W"]:
        """Rollouts from noise that is given; their padding is empty."""
        guided = GuidedTransformer(self.transformer, conditions, scales)
        predict: Predict = self.execution.run(guided.__call__, self.device)
        limit = self.model.config.sampling.latent_limit
        if limit is not None:
            predict = bounded(predict, limit)
        return sampler.sample(predict, noise, draw, checkpoint, known).where(self.mask, 0.0)

    @torch.inference_mode()
    def decode(self, rollout: Float[Tensor, "B C H W"]) -> UInt8[Tensor, "B T X Y Z"]:
        """Labels of every frame."""
        return self._decode(rollout).to(torch.uint8)

    def _decoded(self, rollout: Float[Tensor, "B C H W"]) -> UInt8[Tensor, "B T X Y Z"]:
        planes = unpack(rollout, self.model.config.autoencoder)
        return torch.cat(list(self.autoencoder.decode_labels(planes)), dim=1)
