"""``dyncity evaluate``: every figure in one table and one JSON file."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from dyncity_models.backend import TorchBackend
from dyncity_models.checkpoint import BUNDLED, load_model
from dyncity_models.data.clips import ClipSource
from dyncity_models.evaluation.drives import DRIVE_CHUNKS, DriveScore, generate_drive
from dyncity_models.evaluation.features import KINDS, FeatureEncoder, features_of, load_encoder
from dyncity_models.evaluation.figures import compare_chunks, summarise
from dyncity_models.evaluation.generation import RecordedPlan, generate_from_plans, recorded_plans
from dyncity_models.evaluation.kept import KeptBackend
from dyncity_models.evaluation.layouts import score_layouts
from dyncity_models.evaluation.reconstruction import reconstruct, spread_chunks
from dyncity_models.evaluation.sets import FrameSets, chosen_frames, compare_sets, likeness, spread_frames
from dyncity_models.evaluation.tables import tables
from dyncity_models.pipeline import AnchoredPipeline
from dyncity_sim.domain.generation import GeneratedChunk
from dyncity_sim.domain.grid import CARLASC_GRID, FRAMES_PER_CHUNK
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.engine.backend import Backend
from dyncity_sim.files import write_text
from dyncity_sim.preview.bev import render_bev
from dyncity_sim.preview.film import write_png

PICTURED_OF_EACH = 2
"""Chunks of each kind in the picture: the likest to recorded ones, those in the middle, and the unlikest."""

GAP_PIXELS = 4

TRAINING_CHUNKS = 8
"""Chunks of training for each plan: the more, the better copies are found."""


def evaluate(arguments: argparse.Namespace) -> int:
    """Measure, print, and write what was asked for."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = TorchBackend(AnchoredPipeline(load_model(arguments.weights or BUNDLED), device))
    model.warm_up()
    backend: Backend = KeptBackend(model, arguments.keep) if arguments.keep else model
    encoders = [load_encoder(kind).to(device) for kind in KINDS]
    rng = np.random.default_rng(arguments.seed)
    source = ClipSource(arguments.recordings)
    plans_source = ClipSource(arguments.plans_from) if arguments.plans_from else source

    chunks = track(spread_chunks(source, arguments.clips), "reconstructing", total=arguments.clips)
    reconstruction = reconstruct(model.pipeline, iter(chunks))

    generated: list[GeneratedChunk] = []
    plans, further_turns = recorded_plans(plans_source, arguments.plans, arguments.turns)
    own = reconstruct(
        model.pipeline, (plans_source.clip(p.drive, p.start) for p in track(plans, "reconstructing plans"))
    )
    generation = generate_from_plans(
        backend, (p.plan for p in track(plans, "generating")), arguments.seed, arguments.steps, generated.append
    )
    turning = generate_from_plans(
        backend,
        (p.plan for p in track(further_turns, "turning")),
        arguments.seed + len(plans),
        arguments.steps,
        lambda chunk: None,
    )
    generation.turns.extend(turning.turns)
    generation.road_of_turns.extend(turning.road_of_turns)
    recorded = [occupancy_along(plans_source, plan) for plan in plans]
    layouts = None
    if "layout" in backend.info.conditions:
        truths = zip((p.plan for p in track(plans, "asking for vehicles")), recorded, strict=True)
        layouts = score_layouts(backend, truths, generated, arguments.steps)
    drives = drive_scores(backend, source, arguments.drives, arguments.seed, arguments.steps)

    figures = summarise(reconstruction, own, generation, layouts, drives, rng)
    figures |= compare_chunks([chunk.occupancy for chunk in generated], recorded, rng)
    training = ClipSource(arguments.training) if arguments.training else None
    sets = frame_sets(generated, recorded, plans, plans_source, source, training)
    figures["sets"] = compare_sets(track(encoders, "comparing sets"), sets)
    figures["model_id"] = backend.info.model_id
    for shown in tables(figures):
        Console().print(shown)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        write_text(json.dumps(figures, indent=2) + "\n", arguments.json)
    if arguments.picture:
        draw([chunk.occupancy for chunk in generated], recorded, encoders[0], arguments.picture)
    return 0


def occupancy_along(source: ClipSource, recorded: RecordedPlan) -> OccupancySequence:
    """The dense truth of the chunk that a plan was recorded with."""
    labels = source.clip(recorded.drive, recorded.start).labels
    plan = recorded.plan
    return OccupancySequence(labels, plan.poses_world_from_ego, plan.times_us, CARLASC_GRID, CARLASC)


def drive_scores(backend: Backend, source: ClipSource, count: int, seed: int, steps: int | None) -> list[DriveScore]:
    """Drives of eight chunks along recorded paths, as far as recordings are long enough."""
    frames = (DRIVE_CHUNKS + 1) * FRAMES_PER_CHUNK
    long_enough = [d for d in range(len(source)) if source.length(d) >= frames][:count]
    return [generate_drive(backend, source.clip(d, 0, frames), seed, steps)[0] for d in track(long_enough, "driving")]


def frame_sets(
    generated: Sequence[GeneratedChunk],
    recorded: Sequence[OccupancySequence],
    plans: Sequence[RecordedPlan],
    plans_source: ClipSource,
    held_out: ClipSource,
    training: ClipSource | None,
) -> FrameSets:
    """Frames of as many chunks of each kind as there are plans, and of more of training."""
    planned = {plan.drive for plan in plans}
    others = [drive for drive in range(len(plans_source)) if drive not in planned]
    return FrameSets(
        generated=[frame for chunk in generated for frame in chosen_frames(chunk.occupancy.labels)],
        recorded=[frame for chunk in recorded for frame in chosen_frames(chunk.labels)],
        recorded_elsewhere=spread_frames(plans_source, len(plans), others),
        training=spread_frames(training, TRAINING_CHUNKS * len(plans)) if training else None,
        held_out=spread_frames(held_out, len(plans)),
    )


def draw(
    generated: Sequence[OccupancySequence], recorded: Sequence[OccupancySequence], encoder: FeatureEncoder, file: Path
) -> None:
    """Top views of frames 0, 5, 10 and 15, generated on the left and recorded along the same plan on the right.

    Rows are the chunks that are likest to recorded ones in the encoder's features, those in the middle, and the
    unlikest.
    """
    frames = [chosen_frames(chunk.labels) for chunk in recorded]
    known = features_of(encoder, [frame for chunk in frames for frame in chunk])
    apart = likeness(encoder, [chosen_frames(chunk.labels) for chunk in generated], known)
    order, each = np.argsort(apart), PICTURED_OF_EACH
    middle = max(0, (len(order) - each) // 2)
    chosen = dict.fromkeys([*order[:each], *order[middle : middle + each], *order[-each:]])

    def row(chunk: OccupancySequence) -> np.ndarray:
        views = [render_bev(frame, chunk.grid, CARLASC, scale=2) for frame in chosen_frames(chunk.labels)]
        return np.concatenate(
            [np.pad(view, ((0, GAP_PIXELS), (0, GAP_PIXELS), (0, 0)), constant_values=255) for view in views], axis=1
        )

    gap = np.full((1, 2 * GAP_PIXELS, 3), 255, dtype=np.uint8)
    left, right = (np.concatenate([row(chunks[i]) for i in chosen]) for chunks in (generated, recorded))
    picture = np.concatenate([left, np.broadcast_to(gap, (len(left), *gap.shape[1:])), right], axis=1)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_png(picture, file)
