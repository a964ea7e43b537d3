"""What every stage does that trains a transformer of the family ``anchored`` on encoded chunks."""

from dataclasses import replace

import lightning
import torch
from jaxtyping import Bool, Float
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from dyncity_models.anchored.transformer import DiffusionTransformer
from dyncity_models.conditioning import COMMAND_NONE, CanvasConditions, layout_on_canvas
from dyncity_models.config import AutoencoderConfig, DiffusionTransformerConfig
from dyncity_models.data.latents import LatentSample
from dyncity_models.hexplane import Planes, cell_centres
from dyncity_models.normalisation import Normalisation
from dyncity_models.processes import WHOLE, Share
from dyncity_models.training.config import DistilTrainingConfig, TransformerTrainingConfig
from dyncity_models.training.optimiser import MuonAdamW, split_parameters
from dyncity_models.training.schedule import scheduled


class PlanesTask(lightning.LightningModule):
    """A transformer, what it is shown of a chunk, and how errors of its velocity count.

    Args:
        config: the run's configuration.
        model: the transformer's shapes.
        planes: those of the autoencoder.
        statistics: that planes are normalised with; None leaves them to be loaded.
    """

    config: TransformerTrainingConfig | DistilTrainingConfig

    def __init__(
        self,
        config: TransformerTrainingConfig | DistilTrainingConfig,
        model: DiffusionTransformerConfig,
        planes: AutoencoderConfig,
        statistics: dict[str, list[float]] | None = None,
    ) -> None:
        super().__init__()
        self.config, self.planes = config, planes
        network = DiffusionTransformer(model, planes)
        self.transformer = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if config.run.compile:
            self.transformer.compile()
        self.normalisation = Normalisation(planes.latent_channels, statistics)

    @property
    def takes_layout(self) -> bool:
        """Whether the transformer has inputs for a layout of vehicles."""
        return self.transformer.config.takes_layout

    @property
    def shards(self) -> list[nn.Module]:
        """Blocks, and all else."""
        return [*self.transformer.blocks, self.transformer]

    def unpack(self, batch: LatentSample) -> tuple[Planes, CanvasConditions]:
        """Normalised planes and full conditions of a batch."""
        data = self.normalisation.normalise(Planes(batch["xy"], batch["tx"], batch["ty"]))
        known_mask = batch["known_mask"]
        known = self.normalisation.normalise_plane("xy", batch["known_xy"]) * known_mask
        given = torch.ones(len(data), dtype=torch.bool, device=self.device)
        return data, CanvasConditions(
            canvas_from_ego=batch["canvas_from_ego"],
            plan_given=given,
            command=batch["command"],
            known_xy=known,
            known_mask=known_mask,
            movers=batch["movers"],
            layout=self._layout(batch),
            layout_given=given & self.takes_layout,
        )

    def withheld(
        self, conditions: CanvasConditions, generator: torch.Generator, share: Share = WHOLE
    ) -> CanvasConditions:
        """The conditions of a batch with each of them withheld from some chunks, independently."""
        loss_config, count = self.config.loss, len(conditions)

        def dropped(part: float) -> Bool[Tensor, " B"]:
            return share.drawn(lambda rows: torch.rand(rows, generator=generator, device=self.device), count) < part

        conditions = conditions.without_known(dropped(loss_config.drop_known))
        conditions = replace(
            conditions,
            plan_given=~dropped(loss_config.drop_plan),
            command=torch.where(dropped(loss_config.drop_command), COMMAND_NONE, conditions.command),
        )
        if self.takes_layout:
            conditions = replace(conditions, layout_given=~dropped(loss_config.drop_layout))
        return conditions

    def errors(
        self, predicted: Planes, velocity: Planes, conditions: CanvasConditions, share: Share = WHOLE
    ) -> dict[str, Tensor]:
        """Mean squared error of each plane; xy counts more near the ego path.

        The mean over all parts of a batch is that of the whole.
        """
        squared = [(p - v).square() for p, v in zip(predicted, velocity, strict=True)]
        weights = self._path_weights(conditions)
        xy = (squared[0] * weights).sum() / (share.mean(weights.sum()) * squared[0].shape[1])
        return {"xy": xy, "tx": squared[1].mean(), "ty": squared[2].mean()}

    def weighed(self, losses: dict[str, Tensor]) -> Tensor:
        """The loss of a step from those of its planes; all are logged."""
        weights = self.config.loss
        loss = weights.xy * losses["xy"] + weights.tx * (losses["tx"] + losses["ty"])
        self.log_dict({"loss": loss, **losses}, prog_bar=True, sync_dist=True)
        return loss

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

    def _layout(self, batch: LatentSample) -> Float[Tensor, "B P C C"]:
        poses, cells = batch["canvas_from_ego"], self.planes.canvas.cells
        if self.takes_layout:
            return layout_on_canvas(batch["layout"], poses, self.planes)
        return poses.new_zeros(len(poses), self.planes.pairs, cells, cells)

    def _path_weights(self, conditions: CanvasConditions) -> Float[Tensor, "B 1 X Y"]:
        centres = cell_centres(self.planes.latent_cells, self.planes.canvas.half_extent_m, self.device)
        offsets = centres[None, None] - conditions.canvas_from_ego[:, :, None, None, :2]
        near = offsets.norm(dim=-1).amin(dim=1) < self.config.loss.path_radius_m
        return torch.where(near, self.config.loss.path_factor, 1.0)[:, None]
