"""What one step of diffusion transformer training does."""

from dataclasses import replace

import lightning
import torch
from jaxtyping import Float
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from dyncity_models.anchored.transformer import DiffusionTransformer
from dyncity_models.conditioning import COMMAND_NONE, CanvasConditions, layout_on_canvas
from dyncity_models.config import AutoencoderConfig
from dyncity_models.data.latents import LatentSample
from dyncity_models.diffusion.flow import draw_times, interpolate
from dyncity_models.hexplane import Planes, cell_centres
from dyncity_models.normalisation import Normalisation
from dyncity_models.processes import WHOLE, Share, own_share, randn_rows
from dyncity_models.training.config import TransformerTrainingConfig
from dyncity_models.training.draws import batch_generator
from dyncity_models.training.optimiser import MuonAdamW, split_parameters
from dyncity_models.training.schedule import scheduled


class TransformerTask(lightning.LightningModule):
    """Flow matching on normalised planes, with conditions dropped independently."""

    def __init__(
        self, config: TransformerTrainingConfig, planes: AutoencoderConfig, statistics: dict[str, list[float]]
    ) -> None:
        super().__init__()
        self.config, self.planes = config, planes
        network = DiffusionTransformer(config.model, planes)
        self.transformer = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if config.run.compile:
            self.transformer.compile()
        self.normalisation = Normalisation(planes.latent_channels, statistics)
        self.validation_sums: dict[str, list[float]] = {}

    @property
    def shards(self) -> list[nn.Module]:
        """Blocks, and all else."""
        return [*self.transformer.blocks, self.transformer]

    def training_step(self, batch: LatentSample, index: int) -> Tensor:
        """Loss of a batch of encoded chunks."""
        loss_config = self.config.loss
        data, conditions = self.unpack(batch)
        count, device, share = len(data), self.device, own_share()
        generator = batch_generator(self.config.run, self.global_step, index, device)

        def dropped(part: float) -> Tensor:
            return share.drawn(lambda rows: torch.rand(rows, generator=generator, device=device), count) < part

        conditions = conditions.without_known(dropped(loss_config.drop_known))
        conditions = replace(
            conditions,
            plan_given=~dropped(loss_config.drop_plan),
            command=torch.where(dropped(loss_config.drop_command), COMMAND_NONE, conditions.command),
        )
        if self.config.model.takes_layout:
            conditions = replace(conditions, layout_given=~dropped(loss_config.drop_layout))
        times = share.drawn(lambda rows: draw_times(rows, loss_config.time_mean, generator), count)
        noise = Planes(*(randn_rows(plane, generator, share) for plane in data))
        losses = self.losses(data, noise, times, conditions, share)
        loss = loss_config.xy * losses["xy"] + loss_config.tx * (losses["tx"] + losses["ty"])
        self.log_dict({"loss": loss, **losses}, prog_bar=True, sync_dist=True)
        return loss

    def losses(
        self,
        data: Planes,
        noise: Planes,
        times: Float[Tensor, " B"],
        conditions: CanvasConditions,
        share: Share = WHOLE,
    ) -> dict[str, Tensor]:
        """Mean squared velocity error of each plane; xy counts more near the ego path.

        The mean over all parts of a batch is that of the whole.
        """
        predicted = self.transformer(interpolate(data, noise, times), times, conditions)
        squared = [(v - (e - x)).square() for v, e, x in zip(predicted, noise, data, strict=True)]
        weights = self._path_weights(conditions)
        xy = (squared[0] * weights).sum() / (share.mean(weights.sum()) * squared[0].shape[1])
        return {"xy": xy, "tx": squared[1].mean(), "ty": squared[2].mean()}

    def unpack(self, batch: LatentSample) -> tuple[Planes, CanvasConditions]:
        """Normalised planes and full conditions of a batch."""
        data = self.normalisation.normalise(Planes(batch["xy"], batch["tx"], batch["ty"]))
        known_mask = batch["known_mask"]
        known = self.normalisation.normalise_plane("xy", batch["known_xy"]) * known_mask
        poses = batch["canvas_from_ego"]
        given = torch.ones(len(data), dtype=torch.bool, device=self.device)
        layout = self._layout(batch)
        return data, CanvasConditions(
            canvas_from_ego=poses,
            plan_given=given,
            command=batch["command"],
            known_xy=known,
            known_mask=known_mask,
            movers=batch["movers"],
            layout=layout,
            layout_given=given & self.config.model.takes_layout,
        )

    def _layout(self, batch: LatentSample) -> Float[Tensor, "B P C C"]:
        poses, cells = batch["canvas_from_ego"], self.planes.canvas.cells
        if self.config.model.takes_layout:
            return layout_on_canvas(batch["layout"], poses, self.planes)
        return poses.new_zeros(len(poses), self.planes.pairs, cells, cells)

    def _path_weights(self, conditions: CanvasConditions) -> Float[Tensor, "B 1 X Y"]:
        centres = cell_centres(self.planes.latent_cells, self.planes.canvas.half_extent_m, self.device)
        offsets = centres[None, None] - conditions.canvas_from_ego[:, :, None, None, :2]
        near = offsets.norm(dim=-1).amin(dim=1) < self.config.loss.path_radius_m
        return torch.where(near, self.config.loss.path_factor, 1.0)[:, None]

    def validation_step(self, batch: LatentSample, index: int) -> None:
        """Velocity error at fixed times and noise: starting a drive, going on with one, starting with a layout."""
        data, conditions = self.unpack(batch)
        generator = torch.Generator().manual_seed(index)
        noise = Planes(*(torch.randn(p.shape, generator=generator).to(self.device) for p in data))
        times = draw_times(len(data), self.config.loss.time_mean, generator).to(self.device)
        everything = torch.ones(len(data), dtype=torch.bool, device=self.device)
        alone = replace(conditions, layout_given=~everything)
        views = {"start": alone.without_known(everything), "go_on": alone}
        if self.config.model.takes_layout:
            views["layout"] = conditions.without_known(everything)
        for name, given in views.items():
            for plane, value in self.losses(data, noise, times, given).items():
                self.validation_sums.setdefault(f"val_{plane}_{name}", []).append(float(value))

    def on_validation_epoch_end(self) -> None:
        """Log the means."""
        for name, values in self.validation_sums.items():
            self.log(name, sum(values) / len(values), prog_bar=name.startswith("val_xy"), sync_dist=True)
        self.validation_sums.clear()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Muon on the blocks' matrices, AdamW on the rest, or on all."""
        options = self.config.optimiser
        optimiser: torch.optim.Optimizer
        if options.muon:
            matrices, others = split_parameters(self.transformer.blocks, self.transformer)
            optimiser = MuonAdamW(matrices, others, options.lr, options.weight_decay)
        else:
            optimiser = torch.optim.AdamW(
                self.transformer.parameters(), options.lr, betas=(0.9, 0.98), weight_decay=options.weight_decay
            )
        return scheduled(optimiser, options, self.config.run)
