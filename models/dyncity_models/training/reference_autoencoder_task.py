"""What one step of training the autoencoder of the family ``reference`` does."""

import torch
from jaxtyping import Float
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from dyncity_models.data.chunks import ChunkSample
from dyncity_models.processes import own_share
from dyncity_models.reference.autoencoder import ReferenceAutoencoder
from dyncity_models.reference.config import ReferenceAutoencoderConfig
from dyncity_models.training.draws import batch_generator
from dyncity_models.training.reference_config import ReferenceAutoencoderTrainingConfig
from dyncity_models.training.reference_losses import autoencoder_losses
from dyncity_models.training.schedule import scheduled
from dyncity_models.training.scored_task import ScoredTask


class ReferenceAutoencoderTask(ScoredTask):
    """Class-weighted cross entropy and Lovasz-Softmax on every cell, KL on the planes (paper, equation 6).

    Args:
        config: the run's configuration.
        model: shapes, as resolved against the data.
        class_weights: of the cross entropy, ``(K,)``.
    """

    def __init__(
        self,
        config: ReferenceAutoencoderTrainingConfig,
        model: ReferenceAutoencoderConfig,
        class_weights: Float[Tensor, " K"],
    ) -> None:
        super().__init__(model.classes)
        self.config = config
        self.autoencoder = ReferenceAutoencoder(model)
        self.register_buffer("class_weights", class_weights)

    @property
    def shards(self) -> list[nn.Module]:
        """Both halves, and the layers between them."""
        return [self.autoencoder.encoder, *self.autoencoder.moments.values(), self.autoencoder.decoder]

    def training_step(self, batch: ChunkSample, index: int) -> Tensor:
        """Loss of a batch of chunks."""
        share = own_share()
        generator = batch_generator(self.config.run, self.global_step, index, self.device)
        # Dropout takes no generator: without this, a resumed run would drop otherwise than one that went on.
        torch.manual_seed(generator.initial_seed() + share.number)
        logits, means, log_variances = self.autoencoder(batch["labels"], generator, share)
        losses = autoencoder_losses(
            logits, batch["labels"], means, log_variances, self.get_buffer("class_weights"), self.config.kl, share
        )
        shown = {"ce": losses.cross_entropy, "lovasz": losses.lovasz, "kl": losses.kl}
        self.log_dict({"loss": losses.total, **shown}, prog_bar=True, sync_dist=True)
        return losses.total

    def validation_step(self, batch: ChunkSample, index: int) -> None:
        """Count observed cells by truth and prediction, reconstructed from the means."""
        means, _ = self.autoencoder.encode(batch["labels"])
        predicted = torch.cat(list(self.autoencoder.decode_labels(means)), dim=1)
        self.count(batch["labels"], predicted, batch["observed"])

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam, as published."""
        options = self.config.optimiser
        optimiser = torch.optim.Adam(self.parameters(), lr=options.lr, weight_decay=options.weight_decay)
        return scheduled(optimiser, options, self.config.run)
