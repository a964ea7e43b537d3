"""What one step of training the autoencoder of the family ``reference`` does."""

import lightning
import torch
from jaxtyping import Float
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from dyncity_models.data.reference_chunks import ChunkSample
from dyncity_models.evaluation.scores import confusion_matrix, mean_iou
from dyncity_models.reference.autoencoder import ReferenceAutoencoder
from dyncity_models.reference.config import ReferenceAutoencoderConfig
from dyncity_models.training.draws import step_generator
from dyncity_models.training.reference_config import ReferenceAutoencoderTrainingConfig
from dyncity_models.training.reference_losses import autoencoder_losses
from dyncity_models.training.schedule import warm_up_constant_decay


class ReferenceAutoencoderTask(lightning.LightningModule):
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
        super().__init__()
        self.config = config
        self.autoencoder = ReferenceAutoencoder(model)
        self.register_buffer("class_weights", class_weights)
        self.confusion = torch.zeros(model.classes, model.classes, dtype=torch.int64)

    def training_step(self, batch: ChunkSample, index: int) -> Tensor:
        """Loss of a batch of chunks."""
        generator = step_generator(self.config.run.seed, self.global_step, self.device)
        # Dropout takes no generator: without this, a resumed run would drop otherwise than one that went on.
        torch.manual_seed(generator.initial_seed())
        logits, means, log_variances = self.autoencoder(batch["labels"], generator)
        losses = autoencoder_losses(
            logits, batch["labels"], means, log_variances, self.get_buffer("class_weights"), self.config.kl
        )
        shown = {"ce": losses.cross_entropy, "lovasz": losses.lovasz, "kl": losses.kl}
        self.log_dict({"loss": losses.total, **shown}, prog_bar=True)
        return losses.total

    def validation_step(self, batch: ChunkSample, index: int) -> None:
        """Count observed cells by truth and prediction, reconstructed from the means."""
        means, _ = self.autoencoder.encode(batch["labels"])
        predicted = torch.cat(list(self.autoencoder.decode_labels(means)), dim=1)
        seen = batch["observed"]
        counted = confusion_matrix(batch["labels"][seen], predicted[seen], self.autoencoder.config.classes)
        self.confusion += counted.cpu()

    def on_validation_epoch_start(self) -> None:
        """Start counting afresh."""
        self.confusion.zero_()

    def on_validation_epoch_end(self) -> None:
        """Log the mean IoU over present classes, free excluded, observed cells."""
        self.log("miou", 100 * mean_iou(self.confusion), prog_bar=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam, as published."""
        options = self.config.optimiser
        optimiser = torch.optim.Adam(self.parameters(), lr=options.lr, weight_decay=options.weight_decay)
        return {
            "optimizer": optimiser,
            "lr_scheduler": {
                "scheduler": warm_up_constant_decay(optimiser, options, self.config.run.most_minutes),
                "interval": "step",
            },
        }
