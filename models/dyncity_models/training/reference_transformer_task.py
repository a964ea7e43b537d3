"""What one step of training the transformer of the family ``reference`` does."""

from dataclasses import replace

import lightning
import torch
from jaxtyping import Bool, Float, Int64
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from dyncity_models.data.reference_latents import ReferenceSample
from dyncity_models.diffusion.gaussian import STEPS, GaussianDiffusion
from dyncity_models.processes import WHOLE, Share, own_share, randn_rows
from dyncity_models.reference.conditions import ReferenceConditions, known_part
from dyncity_models.reference.config import ReferenceAutoencoderConfig, ReferenceTransformerConfig
from dyncity_models.reference.dit import ReferenceTransformer
from dyncity_models.reference.planes import pack, rollout_mask
from dyncity_models.training.draws import batch_generator
from dyncity_models.training.known_regions import drawn_regions
from dyncity_models.training.reference_config import ReferenceTransformerTrainingConfig
from dyncity_models.training.schedule import scheduled


class ReferenceTransformerTask(lightning.LightningModule):
    """Gaussian diffusion of rollouts with a learned variance, each condition withheld independently (paper, 3.3).

    Args:
        config: the run's configuration.
        model: the transformer's shapes.
        planes: those of the autoencoder.
    """

    def __init__(
        self,
        config: ReferenceTransformerTrainingConfig,
        model: ReferenceTransformerConfig,
        planes: ReferenceAutoencoderConfig,
    ) -> None:
        super().__init__()
        self.config, self.planes, self.mask = config, planes, rollout_mask(planes)
        self.process = GaussianDiffusion.linear()
        self.transformer = ReferenceTransformer(model, planes)
        if config.run.compile:
            self.transformer.compile()
        self.validation_sums: dict[str, list[float]] = {}

    @property
    def shards(self) -> list[nn.Module]:
        """Blocks, and all else."""
        return [*self.transformer.blocks, self.transformer]

    def training_step(self, batch: ReferenceSample, index: int) -> Tensor:
        """Loss of a batch of encoded chunks."""
        generator = batch_generator(self.config.run, self.global_step, index, self.device)
        data, count, share = batch["rollout"], len(batch["rollout"]), own_share()
        drawn = conditions_of(batch).randomly_dropped(count * share.count, self.config.drop, generator)
        dropped = {name: share.of(whole) for name, whole in (drawn.dropped or {}).items()}
        conditions = _without_missing(replace(drawn, dropped=dropped), batch["has_previous"])
        steps = share.drawn(lambda rows: torch.randint(STEPS, (rows,), generator=generator, device=self.device), count)
        noise = randn_rows(data, generator, share)
        if self.takes_region:
            drops = share.drawn(lambda rows: torch.rand(rows, generator=generator, device=self.device), count)
            hidden = drops < self.config.drop_region
            conditions = self._with_region(conditions, data, generator, hidden, share)
        squared, bound = self.losses(data, noise, steps, conditions)
        self.log_dict({"loss": squared + bound, "noise": squared, "bound": bound}, prog_bar=True, sync_dist=True)
        return squared + bound

    @property
    def takes_region(self) -> bool:
        """Whether chunks are also learned from parts of themselves."""
        return "region" in self.transformer.config.conditions

    def _with_region(
        self,
        conditions: ReferenceConditions,
        data: Tensor,
        generator: torch.Generator,
        hidden: Bool[Tensor, " B"],
        share: Share = WHOLE,
    ) -> ReferenceConditions:
        regions = drawn_regions(len(data) * share.count, self.planes, generator).map(share.of)
        mask = pack(regions.map(Tensor.float)).bool().to(data.device)
        dropped = (conditions.dropped or {}) | {"region": hidden}
        return replace(conditions, region=known_part(data, mask), dropped=dropped)

    def losses(
        self,
        data: Float[Tensor, "B C H W"],
        noise: Float[Tensor, "B C H W"],
        steps: Int64[Tensor, " B"],
        conditions: ReferenceConditions,
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Squared error of the noise within the planes, and the bound that teaches the variance."""
        predicted = self.transformer(self.process.add_noise(data, noise, steps), steps, conditions).float()
        squared, bound = self.process.losses(predicted, data, noise, steps, self.mask)
        return squared.mean(), bound.mean()

    def validation_step(self, batch: ReferenceSample, index: int) -> None:
        """Errors at fixed steps and noise, under no condition, all that the chunks have, and a part of them."""
        data, generator = batch["rollout"], torch.Generator().manual_seed(index)
        noise = torch.randn(data.shape, generator=generator).to(self.device)
        steps = torch.randint(STEPS, (len(data),), generator=generator).to(self.device)
        given = _without_missing(replace(conditions_of(batch), dropped={}), batch["has_previous"])
        views = {"free": ReferenceConditions(), "given": given}
        if self.takes_region:
            nowhere = torch.zeros(len(data), dtype=torch.bool, device=data.device)
            views["region"] = self._with_region(ReferenceConditions(), data, generator, nowhere)
        for name, conditions in views.items():
            squared, bound = self.losses(data, noise, steps, conditions)
            for what, value in (("noise", squared), ("bound", bound)):
                self.validation_sums.setdefault(f"val_{what}_{name}", []).append(float(value))

    def on_validation_epoch_end(self) -> None:
        """Log the means."""
        for name, values in self.validation_sums.items():
            self.log(name, sum(values) / len(values), prog_bar=name.startswith("val_noise"), sync_dist=True)
        self.validation_sums.clear()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW, as published."""
        options = self.config.optimiser
        trained = [parameter for parameter in self.transformer.parameters() if parameter.requires_grad]
        optimiser = torch.optim.AdamW(trained, lr=options.lr, weight_decay=options.weight_decay)
        return scheduled(optimiser, options, self.config.run)


def conditions_of(batch: ReferenceSample) -> ReferenceConditions:
    """All conditions of a batch."""
    return ReferenceConditions(batch["trajectory"], batch["command"], batch["layout"].float(), batch["hexplane"])


def _without_missing(conditions: ReferenceConditions, has_previous: Tensor) -> ReferenceConditions:
    """The same, with the HexPlane withheld from the chunks that have none."""
    dropped = dict(conditions.dropped or {})
    dropped["hexplane"] = ~has_previous | dropped.get("hexplane", torch.zeros_like(has_previous))
    return replace(conditions, dropped=dropped)
