"""The generator as one page: conditions, transformer, planes, decoder, labels."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from dyncity_models.anchored.checkpoint import AnchoredModel
from dyncity_models.conditioning import PUSHED, CanvasConditions
from dyncity_models.diffusion.flow import noise_like
from dyncity_models.diffusion.guidance import GuidanceChain
from dyncity_models.diffusion.inpainting import KnownLatents
from dyncity_models.diffusion.sampling import Predict, Sampler, noise_from
from dyncity_models.execution import PRECISIONS, Execution
from dyncity_models.hexplane import Planes, sampling_grid
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import CheckpointError, ConfigError

BF16 = Execution(precision="bf16", channels_last=True)
"""How networks run unless told otherwise."""


class AnchoredPipeline:
    """Generates, encodes and decodes chunks with a model of the family ``anchored``.

    Args:
        model: loaded weights.
        device: where to run.
        execution: precision, memory format, compilation and attention kernel of its networks.

    Raises:
        CheckpointError: an autoencoder without a transformer.
        ConfigError: the device cannot run that way, or CUDA graphs are asked for.
    """

    def __init__(self, model: AnchoredModel, device: torch.device, execution: Execution = BF16) -> None:
        if model.transformer is None:
            raise CheckpointError("weights", "an autoencoder without a transformer", "weights of both")
        self.model, self.device = model, device
        if execution.cuda_graphs:
            raise ConfigError("execution.cuda_graphs", "true", "false", "The family 'reference' has them.")
        self.execution = execution
        self.autoencoder = execution.prepare(model.autoencoder, device)
        self.transformer = execution.prepare(model.transformer, device)
        self._transform = torch.compile(self.transformer) if execution.compile else self.transformer
        self._ask_guide = self._guide_of(model)
        self.normalisation = model.normalisation.to(device)

    @torch.inference_mode()
    def encode(self, tokens_BTXYZ: UInt8[Tensor, "B T X Y Z"], canvas_from_ego: Float[Tensor, "B T 3"]) -> Planes:
        """Normalised planes of observed chunks."""
        return self.normalisation.normalise(self.posterior(tokens_BTXYZ, canvas_from_ego)[0])

    @torch.inference_mode()
    def posterior(
        self, tokens_BTXYZ: UInt8[Tensor, "B T X Y Z"], canvas_from_ego: Float[Tensor, "B T 3"]
    ) -> tuple[Planes, Planes]:
        """Means and log-variances of the planes of observed chunks, as the autoencoder gives them."""
        with self._autocast():
            return self.autoencoder.encode(tokens_BTXYZ.to(self.device), canvas_from_ego.to(self.device))

    @torch.inference_mode()
    def generate(
        self,
        conditions: CanvasConditions,
        generator: torch.Generator,
        sampler: Sampler,
        scales: Mapping[str, float],
        checkpoint: Callable[[int], None] = lambda done: None,
        known: KnownLatents | None = None,
        region_alone: CanvasConditions | None = None,
    ) -> Planes:
        """Normalised planes of one generated chunk: the candidate with most road under the ego path.

        Args:
            conditions: of the one chunk.
            generator: draws all noise, on the CPU.
            sampler: of flow matching.
            scales: of guidance, by condition; 1 for those that are not in it.
            checkpoint: called before each network evaluation with the number done; may raise to stop.
            known: latents of the chunk, flat, that are settled.
            region_alone: the conditions without what the continuation knows, where the known region has a scale of its
                own; the network sees both as one known world.
        """
        candidates = self.model.config.sampling.candidates
        repeated = conditions.repeated(candidates)
        shapes = self._shapes(candidates)
        noise = noise_like(shapes, generator).flat()
        alone = None if region_alone is None else region_alone.repeated(candidates)
        predict = self.velocity(repeated, scales, shapes, alone)
        planes = shapes.shaped(sampler.sample(predict, noise, noise_from(generator, noise), checkpoint, known))
        if candidates == 1:
            return planes
        best = int(self._road_under_path(planes, repeated.canvas_from_ego).argmax())
        return Planes(*(plane[best : best + 1] for plane in planes))

    @torch.inference_mode()
    def decode(self, planes: Planes, canvas_from_ego: Float[Tensor, "B T 3"]) -> UInt8[Tensor, "B T X Y Z"]:
        """Labels of every frame of normalised planes."""
        with self._autocast():
            parts = self.autoencoder.decode_labels(
                self.normalisation.denormalise(planes), canvas_from_ego.to(self.device)
            )
            return torch.cat(list(parts), dim=1)

    def velocity(
        self,
        conditions: CanvasConditions,
        scales: Mapping[str, float],
        shapes: Planes,
        region_alone: CanvasConditions | None = None,
    ) -> Predict:
        """The guided velocity of planes that lie flat.

        What the conditions guide to is led away from what the guide predicts (Karras et al. 2024, *Guiding a Diffusion
        Model with a Bad Version of Itself*, equation 3), which is told of the known world alone: told of the plan, too,
        it takes road from under the path.

        Args:
            conditions: of as many chunks as ``predict`` is asked for.
            scales: of guidance, by condition; 1 for those that are not in it.
            shapes: planes of the shapes that rows of latents stand for.
            region_alone: as of ``generate``.
        """
        names = conditions.given() if region_alone is None else ("known_region", *conditions.given())
        chain = GuidanceChain.of(names, scales)

        def shown(prefix: tuple[str, ...]) -> CanvasConditions:
            if region_alone is not None and prefix == ("known_region",):
                return region_alone.without(*set(names) - {"continuation"})
            return conditions.without(*set(names).difference(prefix))

        stacked = CanvasConditions.stacked([shown(prefix) for prefix in chain.prefixes])
        unpushed = conditions.without(*PUSHED)

        def predict(noisy_BN: Tensor, time_B: Tensor) -> Tensor:
            with self._autocast():
                planes = self._transform(shapes.shaped(chain.repeated(noisy_BN)), chain.repeated(time_B), stacked)
                velocity = chain.weighed(planes.flat())
                if self._ask_guide is None:
                    return velocity
                weak = self._ask_guide(shapes.shaped(noisy_BN), time_B, unpushed)
            return self._led_away(shapes.shaped(velocity), weak, conditions).flat()

        return predict

    def _guide_of(self, model: AnchoredModel) -> Callable[..., Planes] | None:
        """The guide, ready to run, where weights hold one and it is asked for."""
        sampling = model.config.sampling
        if model.guide is None or sampling.autoguidance == sampling.autoguidance_time == 1.0:
            return None
        guide = self.execution.prepare(model.guide, self.device)
        return torch.compile(guide) if self.execution.compile else guide

    def _led_away(self, planes: Planes, weak: Planes, conditions: CanvasConditions) -> Planes:
        sampling = self.model.config.sampling
        over_time = torch.where(conditions.begins_drive(), sampling.autoguidance_time, 1.0)[:, None, None, None]
        over_time = over_time.to(planes.tx.dtype)
        scales: tuple[float | Tensor, ...] = sampling.autoguidance, over_time, over_time
        return Planes(*(w + scale * (p - w) for p, w, scale in zip(planes, weak, scales, strict=True)))

    def _road_under_path(self, planes: Planes, canvas_from_ego: Float[Tensor, "B T 3"]) -> Float[Tensor, " B"]:
        """Share of the path's columns that are road, from one decoded frame per candidate."""
        config = self.model.config.autoencoder
        anchor = torch.full((len(planes), 1), config.canvas.anchor_frame, device=self.device)
        with self._autocast():
            logits = self.autoencoder.decode(self.normalisation.denormalise(planes), canvas_from_ego, anchor)[:, 0]
        road = (logits.argmax(dim=-1) == CARLASC.index("road")).any(dim=-1).float()[:, None]
        grid = sampling_grid(canvas_from_ego.flatten(0, 1), 4, 1.0, config.grid_half_extent_m)
        grid = grid.unflatten(0, canvas_from_ego.shape[:2]).flatten(1, 2)
        return torch.nn.functional.grid_sample(road, grid, mode="nearest", align_corners=False).mean(dim=(1, 2, 3))

    def _shapes(self, count: int) -> Planes:
        config = self.model.config.autoencoder
        channels, cells, pairs = config.latent_channels, config.latent_cells, config.pairs
        shapes = (channels, cells, cells), (channels, pairs, cells), (channels, pairs, cells)
        return Planes(*(torch.empty(count, *shape, device=self.device) for shape in shapes))

    def _autocast(self) -> torch.autocast:
        precision = PRECISIONS[self.execution.precision]
        return torch.autocast(self.device.type, precision, enabled=precision is not torch.float32)
