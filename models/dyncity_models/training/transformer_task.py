"""What one step of diffusion transformer training does."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from dyncity_models.conditioning import CanvasConditions
from dyncity_models.config import AutoencoderConfig
from dyncity_models.data.latents import LatentSample
from dyncity_models.diffusion.flow import draw_times, interpolate, noise_like
from dyncity_models.hexplane import Planes
from dyncity_models.processes import WHOLE, Share, own_share, randn_rows
from dyncity_models.training.config import TransformerTrainingConfig
from dyncity_models.training.draws import batch_generator
from dyncity_models.training.planes_task import PlanesTask


class TransformerTask(PlanesTask):
    """Flow matching on normalised planes, with conditions dropped independently."""

    config: TransformerTrainingConfig

    def __init__(
        self, config: TransformerTrainingConfig, planes: AutoencoderConfig, statistics: dict[str, list[float]]
    ) -> None:
        super().__init__(config, config.model, planes, statistics)
        self.validation_sums: dict[str, list[float]] = {}

    def training_step(self, batch: LatentSample, index: int) -> Tensor:
        """Loss of a batch of encoded chunks."""
        data, conditions = self.unpack(batch)
        share = own_share()
        generator = batch_generator(self.config.run, self.global_step, index, self.device)
        conditions = self.withheld(conditions, generator, share)
        times = share.drawn(lambda rows: draw_times(rows, self.config.loss.time_mean, generator), len(data))
        noise = Planes(*(randn_rows(plane, generator, share) for plane in data))
        return self.weighed(self.losses(data, noise, times, conditions, share))

    def losses(
        self,
        data: Planes,
        noise: Planes,
        times: Float[Tensor, " B"],
        conditions: CanvasConditions,
        share: Share = WHOLE,
    ) -> dict[str, Tensor]:
        """Mean squared velocity error of each plane, as ``errors`` weighs it."""
        predicted = self.transformer(interpolate(data, noise, times), times, conditions)
        velocity = Planes(*(e - x for e, x in zip(noise, data, strict=True)))
        return self.errors(predicted, velocity, conditions, share)

    def validation_step(self, batch: LatentSample, index: int) -> None:
        """Velocity error at fixed times and noise: starting a drive, going on with one, starting with a layout."""
        data, conditions = self.unpack(batch)
        generator = torch.Generator().manual_seed(index)
        noise = noise_like(data, generator)
        times = draw_times(len(data), self.config.loss.time_mean, generator).to(self.device)
        everything = torch.ones(len(data), dtype=torch.bool, device=self.device)
        alone = replace(conditions, layout_given=~everything)
        views = {"start": alone.without_known(everything), "go_on": alone}
        if self.takes_layout:
            views["layout"] = conditions.without_known(everything)
        for name, given in views.items():
            for plane, value in self.losses(data, noise, times, given).items():
                self.validation_sums.setdefault(f"val_{plane}_{name}", []).append(float(value))

    def on_validation_epoch_end(self) -> None:
        """Log the means."""
        for name, values in self.validation_sums.items():
            self.log(name, sum(values) / len(values), prog_bar=name.startswith("val_xy"), sync_dist=True)
        self.validation_sums.clear()
