"""The backend of the family ``anchored``: domain types in, tensors through the pipeline, domain types out."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, UInt8
from scipy.ndimage import binary_dilation
from torch import Tensor

from dyncity_models.backends.anchored.canvas import Canvas
from dyncity_models.backends.anchored.pipeline import AnchoredPipeline
from dyncity_models.conditioning import PUSHED, CanvasConditions
from dyncity_models.config import REMEMBERED, AutoencoderConfig
from dyncity_models.data.clips import UNOBSERVED
from dyncity_models.data.latents import MOVER_FRAMES
from dyncity_models.data.views import mover_columns
from dyncity_models.diffusion.sampling import SAMPLERS, Sampler, make_sampler
from dyncity_models.drive.classes import FREE
from dyncity_models.drive.forecast import Forecast
from dyncity_models.drive.ground import Ground
from dyncity_models.drive.known_world import made_rigid, with_known, without_ego
from dyncity_models.drive.memory import DriveMemory
from dyncity_models.drive.onward import waiting
from dyncity_models.drive.packing import pack, unpack
from dyncity_models.drive.persistence import keeping_pace
from dyncity_models.drive.region import (
    layout_of,
    road_users_to_come,
    seconds_since,
    taught,
    with_region,
)
from dyncity_models.drive.road import road_under_path
from dyncity_models.drive.road_users import road_users_of
from dyncity_models.drive.traffic import with_traffic
from dyncity_models.drive.under_plan import without_what_is_driven_through
from dyncity_models.hexplane import Planes
from dyncity_sim.domain.conditions import CONDITIONS, Conditions, Continuation, EgoPlan, SamplingOptions
from dyncity_sim.domain.frames import planar_from_poses
from dyncity_sim.domain.generation import GeneratedChunk, ModelInfo, Timings
from dyncity_sim.domain.grid import CARLASC_GRID, FRAME_RATE_HZ, Grid
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.engine.admission import check_occupancy, check_request
from dyncity_sim.engine.backend import Checkpoint
from dyncity_sim.errors import CheckpointError, InvalidInputError

EVIDENCE_RADIUS_CELLS = 3
"""Columns this near to an observed one count as known after encoding; farther ones are left to generation."""

ENOUGH_ROAD = 0.8
"""Share of the columns under the path; a chunk that has less road there may be drawn again."""


@dataclass(frozen=True, eq=False)
class Sampled:
    """A chunk as it was sampled, with what the drive learnt from it and the forecast that its road users went by."""

    occupancy: OccupancySequence
    learned: DriveMemory
    following: Forecast | None
    timings: Timings


class AnchoredBackend:
    """A model of the family ``anchored`` behind the engine's backend port.

    Raises:
        CheckpointError: its configuration is of another grid, or of planes that nothing can be generated with.
    """

    def __init__(self, pipeline: AnchoredPipeline) -> None:
        self.pipeline = pipeline
        self.config = pipeline.model.config
        self.grid = CARLASC_GRID
        _check_served(self.config.autoencoder, self.grid)
        self.canvas = Canvas(pipeline, self.grid)

    @property
    def info(self) -> ModelInfo:
        """What this model can do."""
        default = self.config.sampling.sampler
        return ModelInfo(
            model_id=self.pipeline.model.model_id,
            family="anchored",
            grid=self.grid,
            taxonomy=CARLASC,
            frames_per_chunk=self.config.autoencoder.frames,
            rate_hz=float(FRAME_RATE_HZ),
            conditions=tuple(n for n in CONDITIONS if n == "known_region" or n in self.config.transformer.conditions),
            samplers=(default, *(s for s in SAMPLERS["flow"] if s != default)),
            default_steps=self.config.sampling.steps,
        )

    def warm_up(self) -> None:
        """Generate one chunk of a standing ego."""
        frames = self.config.autoencoder.frames
        plan = EgoPlan(np.tile(np.eye(4), (frames, 1, 1)), np.arange(frames, dtype=np.int64) * 100_000)
        self.generate(Conditions(plan=plan), SamplingOptions(seed=0, steps=1), lambda step: None)

    def generate(self, conditions: Conditions, options: SamplingOptions, checkpoint: Checkpoint) -> GeneratedChunk:
        """Generate one chunk; see ``dyncity_sim.engine.backend.Backend``."""
        check_request(self.info, conditions, options)
        plan = conditions.plan
        if plan is None:
            raise InvalidInputError("conditions.plan", "none", "poses", "This model lays its planes along the plan.")
        assert options.seed is not None
        memory = self._memory(conditions.continuation, plan)
        if conditions.known_region is not None:
            # What is known is where it is known to be: no height is taken out, and nothing is forgotten.
            sampled = self._sample(conditions, plan, memory, options, options.seed, checkpoint)
            occupancy, learned = sampled.occupancy, sampled.learned
        else:
            ground = Ground.under(plan, memory, self.grid)
            level, known = ground.level(plan), without_what_is_driven_through(ground.taken_out(memory), ground)
            sampled = self._sample(replace(conditions, plan=level), level, known, options, options.seed, checkpoint)
            occupancy, learned = ground.seen(sampled.occupancy, plan), ground.put_into(sampled.learned)
        continuation = self._continuation(learned, sampled.occupancy, sampled.following)
        return GeneratedChunk(occupancy, continuation, options.seed, self.info.model_id, sampled.timings)

    def _sample(
        self,
        conditions: Conditions,
        plan: EgoPlan,
        memory: DriveMemory,
        options: SamplingOptions,
        seed: int,
        checkpoint: Checkpoint,
    ) -> Sampled:
        """Sample and decode the chunk of a plan, to go on from what a drive remembers there."""
        region, scales = conditions.known_region, self._scales(conditions, options)
        resamples = options.resamples or self.config.sampling.resamples
        planar, heights_m = planar_from_poses(plan.poses_world_from_ego), plan.poses_world_from_ego[:, 2, 3]
        coming = road_users_to_come(conditions, memory, planar, heights_m, self.grid, seed)
        moving = None if coming is None else coming.seen_from(planar, seconds_since(plan.times_us, coming.frame))
        if region is not None:
            memory = taught(memory, region, planar, heights_m, coming)
            if moving is not None and "layout" in self.info.conditions:
                conditions = replace(conditions, layout=layout_of(moving, region))

        started = time.perf_counter()
        known = memory.seen_from(planar, heights_m, self.grid, straight=True)
        holes = self._holes(memory, planar, moving, region)
        shown = known if holes is None else np.where(holes, UNOBSERVED, known).astype(np.uint8)
        on_canvas = self.canvas.conditions(conditions, planar, heights_m, memory, shown)
        sample = partial(
            self.pipeline.generate,
            on_canvas,
            torch.Generator().manual_seed(seed),
            self._sampler(options),
            scales,
            checkpoint,
            None if region is None else self.canvas.settled(region, shown, planar, resamples),
            self._region_alone(conditions, plan, scales),
        )
        # A known region says itself where there is road.
        draws = 1 + (self.config.sampling.redraws if region is None else 0)
        decoded, sampling_s = self._drawn(sample, on_canvas.canvas_from_ego, plan, draws)
        following = coming if region is None else None
        rng = np.random.default_rng(seed)
        occupancy, learned = self._as_one_world(decoded, known, plan, memory, following, region, rng)
        timings = Timings(sampling_s=sampling_s, decoding_s=time.perf_counter() - started - sampling_s)
        return Sampled(occupancy, learned, following, timings)

    def _drawn(
        self, sample: Callable[[], Planes], canvas_from_ego: Float[Tensor, "1 T 3"], plan: EgoPlan, draws: int
    ) -> tuple[UInt8[np.ndarray, "T X Y Z"], float]:
        """(Labels of the first of so many draws that has enough road, or of that with most; seconds of sampling)."""
        best, most, sampling_s = None, -1.0, 0.0
        for _ in range(draws):
            started = time.perf_counter()
            planes = sample()
            sampling_s += time.perf_counter() - started
            labels = self.pipeline.decode(planes, canvas_from_ego)[0].cpu().numpy()
            chunk = OccupancySequence(labels, plan.poses_world_from_ego, plan.times_us, self.grid, CARLASC)
            share = road_under_path(chunk)
            if best is None or share > most:
                best, most = labels, share
            if share >= ENOUGH_ROAD:
                break
        assert best is not None
        return best, sampling_s

    def _sampler(self, options: SamplingOptions) -> Sampler:
        defaults = self.config.sampling
        return make_sampler(
            options.sampler or defaults.sampler, "flow", options.steps or defaults.steps, defaults.shift
        )

    def _scales(self, conditions: Conditions, options: SamplingOptions) -> dict[str, float]:
        """Guidance by condition; 1 for those that are not in it."""
        default = self.config.sampling.guidance_scale
        scale = default if options.guidance_scale is None else options.guidance_scale
        scales = dict.fromkeys(PUSHED, scale) | dict(options.guidance_scales)
        if conditions.known_region is not None and conditions.continuation is None:
            # It is all that is known of the world, and the network has one place for that.
            scales["continuation"] = scales.get("known_region", 1.0)
        return scales

    def _holes(
        self,
        memory: DriveMemory,
        planar: Float64[np.ndarray, "T 3"],
        moving: Bool[np.ndarray, "T X Y Z"] | None,
        region: OccupancySequence | None,
    ) -> Bool[np.ndarray, "T X Y Z"] | None:
        """Where the known world that the network learnt from has holes: where movers will be, or where they stood.

        Without a hole it takes the road for empty.
        """
        if self.config.known_world == REMEMBERED and region is None and len(memory.motion):
            return waiting(memory, self.grid).seen_from(planar, np.zeros(len(planar)))
        return moving

    def _region_alone(
        self, conditions: Conditions, plan: EgoPlan, scales: Mapping[str, float]
    ) -> CanvasConditions | None:
        """The conditions without what the drive remembers, where the known region has a scale of its own."""
        region = conditions.known_region
        if region is None or scales.get("known_region", 1.0) == scales.get("continuation", 1.0):
            return None
        planar, heights_m = planar_from_poses(plan.poses_world_from_ego), plan.poses_world_from_ego[:, 2, 3]
        alone = taught(self._memory(None, plan), region, planar, heights_m)
        seen = alone.seen_from(planar, heights_m, self.grid, straight=True)
        return self.canvas.conditions(conditions, planar, heights_m, alone, seen)

    def _as_one_world(
        self,
        decoded: UInt8[np.ndarray, "T X Y Z"],
        known: UInt8[np.ndarray, "T X Y Z"],
        plan: EgoPlan,
        memory: DriveMemory,
        following: Forecast | None,
        region: OccupancySequence | None,
        rng: np.random.Generator,
    ) -> tuple[OccupancySequence, DriveMemory]:
        """(A decoded chunk in which what is known stays, vehicles are rigid and nobody vanishes, what it teaches)."""
        planar, heights_m = planar_from_poses(plan.poses_world_from_ego), plan.poses_world_from_ego[:, 2, 3]
        labels = with_region(without_ego(with_known(decoded, known), self.grid), region)
        chunk = OccupancySequence(labels, plan.poses_world_from_ego, plan.times_us, self.grid, CARLASC)
        # What is known of a region says who stands there.
        setting_off_share = self.config.sampling.setting_off if region is None else 0.0
        labels = with_region(with_traffic(chunk, following, known[0], setting_off_share, rng), region)
        learned = memory.learn(labels, planar, heights_m, self.grid)
        rigid = made_rigid(labels, known, learned.seen_from(planar, heights_m, self.grid, straight=True))
        return replace(chunk, labels=with_region(without_ego(rigid, self.grid), region)), learned

    def encode(self, occupancy: OccupancySequence) -> Continuation:
        """Complete what sensors saw of the last chunk of a drive and remember it.

        Only columns near observed cells are kept as known; everything else is left to generation.
        """
        check_occupancy(self.info, occupancy)
        observed = np.ones(occupancy.labels.shape, np.bool_) if occupancy.observed is None else occupancy.observed
        tokens = np.where(observed, occupancy.labels, UNOBSERVED).astype(np.uint8)
        planar = planar_from_poses(occupancy.poses_world_from_ego)
        heights_m = occupancy.poses_world_from_ego[:, 2, 3]
        poses = self.canvas.poses(planar)
        planes = self.pipeline.encode(torch.from_numpy(tokens)[None], poses)
        labels = self.pipeline.decode(planes, poses)[0].cpu().numpy()
        reach = np.ones((1, 2 * EVIDENCE_RADIUS_CELLS + 1, 2 * EVIDENCE_RADIUS_CELLS + 1), dtype=np.bool_)
        evidence = binary_dilation(observed.any(axis=-1), reach)
        memory = DriveMemory.empty(planar[0], float(heights_m[0]), self.grid)
        memory = memory.centred_on(planar[-1, :2], float(heights_m[-1]), self.grid)
        # A decoder blurs how pedestrians walk, and what was seen of movers needs none; those that it imagines where
        # nothing was seen are none.
        known = np.where(evidence[..., None], labels, FREE)
        completed = replace(occupancy, labels=np.where(observed, occupancy.labels, known), observed=None)
        return self._continuation(memory.learn(labels, planar, heights_m, self.grid, evidence), completed)

    def _memory(self, continuation: Continuation | None, plan: EgoPlan) -> DriveMemory:
        """What a drive knows so far, centred on its next chunk."""
        planar, heights_m = planar_from_poses(plan.poses_world_from_ego), plan.poses_world_from_ego[:, 2, 3]
        anchor = self.config.autoencoder.canvas.anchor_frame
        if continuation is None:
            memory = DriveMemory.empty(planar[0], float(heights_m[0]), self.grid)
        else:
            memory = unpack(continuation.payload, self.grid)
        return memory.centred_on(planar[anchor, :2], float(heights_m[anchor]), self.grid)

    def _continuation(
        self, memory: DriveMemory, chunk: OccupancySequence, followed: Forecast | None = None
    ) -> Continuation:
        """What the drive knows of its static world, where movers were in the last frames, and how they moved."""
        recent = [len(chunk) + offset for offset in MOVER_FRAMES]
        planar = planar_from_poses(chunk.poses_world_from_ego)
        movers = mover_columns(torch.from_numpy(chunk.labels[recent])[None])[0].numpy()
        road_users, motion = road_users_of(chunk)
        if followed is not None:
            last_s = float(seconds_since(chunk.times_us, followed.frame)[-1])
            motion = keeping_pace(motion, followed, planar[-1], last_s)
        remembered = replace(
            memory.centred_on(planar[-1, :2], memory.height_m, self.grid),
            movers=movers,
            movers_planar=np.tile(planar[recent], (2, 1)),
            road_users=road_users,
            motion=motion,
        )
        return Continuation(self.info.model_id, pack(remembered))


def _check_served(config: AutoencoderConfig, grid: Grid) -> None:
    expected = {
        "grid_cells": (config.grid_cells, grid.shape[0]),
        "height_cells": (config.height_cells, grid.shape[2]),
        "grid_half_extent_m": (config.grid_half_extent_m, grid.upper_m[0]),
        "canvas.common": (config.canvas.common, True),
        "height_planes": (config.height_planes, False),
    }
    for name, (found, served) in expected.items():
        if found != served:
            raise CheckpointError("weights", f"model.json with autoencoder.{name}: {found}", f"{served}, to be served")
