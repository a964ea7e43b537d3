"""What one step of autoencoder training does."""

import torch
from jaxtyping import Float
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from dyncity_models.anchored.autoencoder import Autoencoder, kl_divergence, sample_posterior
from dyncity_models.data.autoencoder_batches import AutoencoderSample
from dyncity_models.hexplane import canvas_poses
from dyncity_models.processes import own_share
from dyncity_models.training.config import AutoencoderTrainingConfig
from dyncity_models.training.draws import batch_generator
from dyncity_models.training.losses import lovasz_on_observed, moved_cells, sampled_cross_entropy
from dyncity_models.training.schedule import scheduled
from dyncity_models.training.scored_task import ScoredTask
from dyncity_sim.domain.taxonomy import CARLASC


class AutoencoderTask(ScoredTask):
    """Class-weighted cross entropy on the dense truth, Lovasz on observed cells, KL on the planes.

    Args:
        config: the run's configuration.
        class_shares: share of each label in the training data, ``(K,)``.
    """

    def __init__(self, config: AutoencoderTrainingConfig, class_shares: Float[Tensor, " K"]) -> None:
        super().__init__(config.model.classes)
        self.config = config
        self.autoencoder = Autoencoder(config.model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        weights = (class_shares.max() / class_shares.clamp(min=1e-9)) ** (1 / 3)
        self.register_buffer("class_weights", weights.clamp(max=config.loss.class_weight_cap))

    @property
    def shards(self) -> list[nn.Module]:
        """Both halves."""
        return [self.autoencoder.encoder, self.autoencoder.decoder]

    def training_step(self, batch: AutoencoderSample, index: int) -> Tensor:
        """Loss of a batch of chunks."""
        loss_config, model = self.config.loss, self.config.model
        poses = canvas_poses(batch["planar"], model.canvas.anchor_frame)
        means, log_variances = self.autoencoder.encode(batch["tokens"], poses)
        share = own_share()
        generator = batch_generator(self.config.run, self.global_step, index, self.device)
        planes = sample_posterior(means, log_variances, generator, share)
        logits_NK = self.autoencoder.decode(planes, poses, batch["frames"]).reshape(-1, model.classes)

        chosen = torch.gather(poses, 1, batch["frames"][..., None].expand(-1, -1, 3))
        moved = moved_cells(batch["labels"], chosen, CARLASC.moving_labels, model.grid_half_extent_m)
        movable = torch.isin(batch["labels"], torch.tensor(CARLASC.moving_labels, device=poses.device))
        weights = torch.where(batch["observed"], 1.0, loss_config.unobserved)
        weights = weights * torch.where(moved[..., None] & movable, loss_config.moved, 1.0)

        labels_N = batch["labels"].flatten()
        entropy = sampled_cross_entropy(
            logits_NK, labels_N, self.get_buffer("class_weights"), weights.flatten(), generator, share
        )
        lovasz = lovasz_on_observed(
            logits_NK, labels_N, batch["observed"].flatten(), loss_config.lovasz_samples, generator, share
        )
        kl_xy, kl_time = kl_divergence(means, log_variances)
        warmth = min(1.0, 0.1 + 0.9 * self.global_step / max(loss_config.kl_warm_up, 1))
        kl = warmth * (loss_config.kl * kl_xy + loss_config.kl_time * kl_time)
        loss = entropy + loss_config.lovasz * lovasz + kl
        self.log_dict(
            {"loss": loss, "ce": entropy, "lovasz": lovasz, "kl": kl_xy + kl_time}, prog_bar=True, sync_dist=True
        )
        return loss

    def validation_step(self, batch: AutoencoderSample, index: int) -> None:
        """Count observed cells by truth and prediction."""
        poses = canvas_poses(batch["planar"], self.config.model.canvas.anchor_frame)
        means, _ = self.autoencoder.encode(batch["tokens"], poses)
        logits = self.autoencoder.decode(means, poses, batch["frames"])
        self.count(batch["labels"], logits.argmax(dim=-1), batch["observed"])

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with warm-up, a constant phase and a linear decay."""
        options = self.config.optimiser
        optimiser = torch.optim.AdamW(
            self.parameters(), lr=options.lr, betas=(0.9, 0.98), weight_decay=options.weight_decay
        )
        return scheduled(optimiser, options, self.config.run)
