"""The family ``reference`` behind the engine's backend port: domain types in, rollouts, domain types out."""

import time

import numpy as np
import torch
from jaxtyping import Int64, Shaped

from dyncity_models.backends.reference.continuation import EndedChunk
from dyncity_models.backends.reference.pipeline import ReferencePipeline
from dyncity_models.backends.reference.region import carried, settled
from dyncity_models.diffusion.inpainting import KnownLatents
from dyncity_models.diffusion.sampling import SAMPLERS, make_sampler
from dyncity_models.drive.region import with_region
from dyncity_models.reference.classes import taxonomy_of
from dyncity_models.reference.conditions import ReferenceConditions, known_part
from dyncity_models.reference.config import CONDITIONS, PUBLISHED_CONDITIONS
from dyncity_models.reference.planes import pack
from dyncity_sim.domain.conditions import CONDITIONS as DOMAIN_CONDITIONS
from dyncity_sim.domain.conditions import LAYOUT_COLUMNS, Conditions, Continuation, SamplingOptions
from dyncity_sim.domain.frames import Poses
from dyncity_sim.domain.generation import GeneratedChunk, ModelInfo, Timings
from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.engine.admission import check_occupancy, check_request
from dyncity_sim.engine.backend import Checkpoint
from dyncity_sim.errors import InvalidInputError

NAMES = dict(zip(("plan", "command", "layout", "continuation", "known_region"), CONDITIONS, strict=True))
"""What requests call each condition of the transformer."""


class ReferenceBackend:
    """A model of the family ``reference``, published or trained here."""

    def __init__(self, pipeline: ReferencePipeline) -> None:
        self.pipeline, self.config = pipeline, pipeline.model.config
        self.convention = pipeline.model.convention
        autoencoder, space = self.config.autoencoder, self.config.space
        self.grid = Grid(autoencoder.grid, space.lower_m, space.voxel_size_m)
        self.taxonomy = taxonomy_of(self.config.classes, autoencoder.classes)

    @property
    def info(self) -> ModelInfo:
        """What this model can do; a known region can be imposed on any weights."""
        default, known = self.config.sampling.sampler, self.config.transformer.conditions
        conditions = [n for n in DOMAIN_CONDITIONS if n == "known_region" or NAMES[n] in known]
        if any(cells % LAYOUT_COLUMNS for cells in self.grid.shape[:2]) and "layout" in conditions:
            conditions.remove("layout")
        return ModelInfo(
            model_id=self.pipeline.model.model_id,
            family="reference",
            grid=self.grid,
            taxonomy=self.taxonomy,
            frames_per_chunk=self.config.autoencoder.frames,
            rate_hz=self.config.space.rate_hz,
            conditions=tuple(conditions),
            samplers=(default, *(s for s in SAMPLERS["gaussian"] if s != default)),
            default_steps=self.config.sampling.steps,
        )

    def warm_up(self) -> None:
        """Generate one chunk under no condition."""
        self.generate(Conditions(), SamplingOptions(seed=0, steps=1), lambda step: None)

    def generate(self, conditions: Conditions, options: SamplingOptions, checkpoint: Checkpoint) -> GeneratedChunk:
        """Generate one chunk; see ``dyncity_sim.engine.backend.Backend``.

        Without a plan and without a known region the ego stands where the chunk before ended, or at the origin.
        """
        check_request(self.info, conditions, options)
        assert options.seed is not None
        sampling, scales = self.config.sampling, self._scales(options)
        sampler = make_sampler(options.sampler or sampling.sampler, "gaussian", options.steps or sampling.steps)
        before = self._before(conditions.continuation)
        poses, times_us = self._track(conditions, before)

        started = time.perf_counter()
        known = None
        if conditions.known_region is not None:
            known = self._known(conditions.known_region, options.resamples or sampling.resamples)
        rollout = self.pipeline.generate(
            self._conditions(conditions, before, known),
            torch.Generator().manual_seed(options.seed),
            sampler,
            scales,
            checkpoint,
            known,
        )
        sampled = time.perf_counter()
        decoded = self.pipeline.decode(rollout)[0].cpu().numpy()
        labels = np.ascontiguousarray(self.convention.turned(decoded, axis=2))
        # Planes hold what is known only as well as the autoencoder reconstructs it.
        labels = with_region(labels, conditions.known_region)
        return GeneratedChunk(
            OccupancySequence(labels, poses, times_us, self.grid, self.taxonomy),
            EndedChunk(rollout, poses[-1], int(times_us[-1])).packed(self.info.model_id),
            options.seed,
            self.info.model_id,
            Timings(sampling_s=sampled - started, decoding_s=time.perf_counter() - sampled),
        )

    def encode(self, occupancy: OccupancySequence) -> Continuation:
        """Remember the last chunk of a drive as it was observed; unobserved cells are free, as in published data."""
        check_occupancy(self.info, occupancy)
        labels = occupancy.labels
        if occupancy.observed is not None:
            labels = np.where(occupancy.observed, labels, 0).astype(np.uint8)
        ended = EndedChunk(
            self.pipeline.encode(self._turned(labels)), occupancy.poses_world_from_ego[-1], int(occupancy.times_us[-1])
        )
        return ended.packed(self.info.model_id)

    def _scales(self, options: SamplingOptions) -> dict[str, float]:
        """Guidance by the transformer's names; one scale goes for all published conditions, as published."""
        trained = self.config.transformer.conditions
        if "known_region" in options.guidance_scales and NAMES["known_region"] not in trained:
            raise InvalidInputError(
                "options.guidance_scales",
                "'known_region'",
                f"one of {', '.join(name for name, known in NAMES.items() if known in trained) or 'none'}",
                "These weights have a known region imposed on their latents, to which there is no scale.",
            )
        scale = self.config.sampling.guidance_scale if options.guidance_scale is None else options.guidance_scale
        named = {NAMES[name]: value for name, value in options.guidance_scales.items()}
        return dict.fromkeys(PUBLISHED_CONDITIONS, scale) | named

    def _before(self, continuation: Continuation | None) -> EndedChunk | None:
        config = self.config.autoencoder
        if continuation is None:
            return None
        return EndedChunk.unpacked(continuation, self.info.model_id, (config.latent_channels, *config.rollout_shape))

    def _track(self, conditions: Conditions, before: EndedChunk | None) -> tuple[Poses, Int64[np.ndarray, " T"]]:
        for given in (conditions.plan, conditions.known_region):
            if given is not None:
                return given.poses_world_from_ego, given.times_us
        frames, step_us = self.config.autoencoder.frames, round(1e6 / self.config.space.rate_hz)
        pose, first_us = (np.eye(4), 0) if before is None else (before.pose_world_from_ego, before.time_us + step_us)
        return np.tile(pose, (frames, 1, 1)), first_us + step_us * np.arange(frames, dtype=np.int64)

    def _conditions(
        self, conditions: Conditions, before: EndedChunk | None, known: KnownLatents | None
    ) -> ReferenceConditions:
        device = self.pipeline.device
        trajectory = command = layout = region = None
        if conditions.plan is not None:
            made = self.convention.trajectory(conditions.plan.poses_world_from_ego)
            trajectory = torch.from_numpy(made).float()[None].to(device)
        if conditions.command is not None:
            command = torch.tensor([self.convention.number(conditions.command)], device=device)
        if conditions.layout is not None:
            layout = self._turned(conditions.layout.cells).float().to(device)
        if known is not None and NAMES["known_region"] in self.config.transformer.conditions:
            region = known_part(known.values, known.mask)
        hexplane = None if before is None else before.rollout.to(device)
        return ReferenceConditions(trajectory, command, layout, hexplane, region)

    def _known(self, region: OccupancySequence, resamples: int) -> KnownLatents | None:
        """Latents that a region settles, unless it settles none."""
        assert region.observed is not None, "conditions check that a region leaves something unknown"
        labels, known = carried(region)
        planes = settled(self._turned(region.observed)[0], self._turned(known)[0], self.config.autoencoder)
        mask = pack(planes).bool().to(self.pipeline.device)
        return KnownLatents(self.pipeline.encode(self._turned(labels)), mask, resamples) if mask.any() else None

    def _turned(self, cells: Shaped[np.ndarray, "T X Y *Z"]) -> Shaped[torch.Tensor, "1 T X Y *Z"]:
        return torch.from_numpy(np.ascontiguousarray(self.convention.turned(cells, axis=2)))[None]
