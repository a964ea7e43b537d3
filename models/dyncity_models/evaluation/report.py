"""``dyncity evaluate``: every figure in one table and one JSON file."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from dyncity_models.backends.anchored.backend import AnchoredBackend
from dyncity_models.backends.load import load
from dyncity_models.backends.reference.backend import ReferenceBackend
from dyncity_models.evaluation.distribution import NEIGHBOURS
from dyncity_models.evaluation.drives import DRIVE_FRAMES, DriveScore, generate_drive
from dyncity_models.evaluation.features import KINDS, FeatureEncoder, load_encoder
from dyncity_models.evaluation.figures import compare_chunks, summarise, without_nan
from dyncity_models.evaluation.generation import Generation, generate_from_plans, road_of_turn
from dyncity_models.evaluation.kept import KeptBackend
from dyncity_models.evaluation.layouts import LayoutScore, score_layouts
from dyncity_models.evaluation.picture import draw
from dyncity_models.evaluation.reconstruction import (
    AnchoredReconstructor,
    Reconstructor,
    ReferenceReconstructor,
    reconstruct,
)
from dyncity_models.evaluation.recorded import RecordedDrives, RecordedPlan, evenly, recorded_plans
from dyncity_models.evaluation.sets import FRAMES, FrameSet, FrameSets, compare_sets, spread_frames
from dyncity_models.evaluation.tables import tables
from dyncity_sim.domain.generation import GeneratedChunk, ModelInfo
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.engine.backend import Backend
from dyncity_sim.errors import CheckpointError, InvalidInputError
from dyncity_sim.files import make_folder, write_text

RAN_AWAY = ("options", "weights")
"""Fields that errors name when sampling left all bounds: those of numbers, or of half precision for the next chunk."""

TRAINING_CHUNKS = 8
"""Chunks of training for each plan: the more, the better copies are found."""


def evaluate(arguments: argparse.Namespace) -> int:
    """Measure, print, and write what was asked for."""
    _prepare_outputs(arguments.json, arguments.picture)
    model = load(arguments.weights, arguments.option)
    model.warm_up()
    run_as = f"{model.pipeline.execution} on {model.pipeline.device}"
    backend: Backend = KeptBackend(model, arguments.keep, run_as) if arguments.keep else model
    rng = np.random.default_rng(arguments.seed)
    drives = RecordedDrives(arguments.recordings, model.info)
    planned = RecordedDrives(arguments.plans_from, model.info) if arguments.plans_from else drives
    training = RecordedDrives(arguments.training, model.info) if arguments.training else None
    plans, further_turns = recorded_plans(planned, arguments.plans, arguments.turns)
    _tell_of_fewer(len(plans), arguments.plans, "plans", "one of each drive")
    encoders = encoders_for(model.info)
    if encoders:
        _check_enough(plans, planned)

    clips = min(arguments.clips, len(drives))
    chunks = track(drives.spread(clips), "reconstructing", total=clips)
    reconstruction = reconstruct(reconstructor_of(model), chunks)
    recorded = [planned.occupancy(p.drive, p.start) for p in track(plans, "reading")]
    own = reconstruct(reconstructor_of(model), track(recorded, "reconstructing plans"))
    generated, generation = generate_along(backend, plans, further_turns, arguments.seed, arguments.steps)
    truths = [replace(chunk, observed=None) for chunk in recorded]
    layouts = layouts_along(backend, plans, truths, generated, arguments.steps)
    long_drives = drive_scores(backend, drives, arguments.drives, arguments.seed, arguments.steps)
    turned = [*(plan for plan in plans if plan.turns), *further_turns]
    roads = [road_of_turn(planned.occupancy(p.drive, p.start)) for p in track(turned, "reading turns")]

    figures = summarise(reconstruction, own, generation, layouts, long_drives, roads, rng)
    figures |= compare_chunks(
        (chunk.occupancy for chunk in track(generated, "measuring generated chunks")),
        track(truths, "measuring recorded chunks"),
        rng,
    )
    if encoders:
        sets = frame_sets(generated, truths, plans, planned, drives, training)
        figures["sets"] = compare_sets(track(encoders, "comparing sets"), sets)
    figures["model_id"] = model.info.model_id
    for shown in tables(figures):
        Console().print(shown)
    if arguments.json:
        write_text(json.dumps(without_nan(figures), indent=2, allow_nan=False) + "\n", arguments.json)
    if arguments.picture:
        draw([chunk.occupancy for chunk in generated], truths, encoders, arguments.picture)
    return 0


def _prepare_outputs(figures: Path | None, picture: Path | None) -> None:
    """See to what can be written before what takes long."""
    if picture and picture.suffix != ".png":
        raise InvalidInputError("--picture", str(picture), "a name ending in .png")
    for option, file in (("--json", figures), ("--picture", picture)):
        if file:
            make_folder(file.parent)
            if file.is_dir():
                raise InvalidInputError(option, f"{file}, a folder", "the name of a file to write")


def _tell_of_fewer(there: int, asked: int, what: str, which: str) -> None:
    if there < asked:
        Console(stderr=True).print(f"There are {there} {what}, {which}, where {asked} were asked for.", soft_wrap=True)


def _check_enough(plans: Sequence[RecordedPlan], planned: RecordedDrives) -> None:
    if len(plans) * FRAMES <= NEIGHBOURS:
        raise InvalidInputError(
            "--plans",
            f"{len(plans)} of {len(planned)} drives",
            f"at least {NEIGHBOURS // FRAMES + 1}: fewer chunks make no set to compare",
        )


def reconstructor_of(model: Backend) -> Reconstructor:
    """The autoencoder of a loaded model.

    Raises:
        CheckpointError: a model of neither family.
    """
    if isinstance(model, AnchoredBackend):
        return AnchoredReconstructor(model.pipeline)
    if isinstance(model, ReferenceBackend):
        return ReferenceReconstructor(model)
    raise CheckpointError("weights", type(model).__name__, "weights of the families anchored or reference")


def encoders_for(info: ModelInfo) -> list[FeatureEncoder]:
    """The frozen encoders, or none when they do not know the model's grid, which is said."""
    if info.grid != CARLASC_GRID:
        Console(stderr=True).print(f"Sets are not compared: features are of {CARLASC_GRID}, not of {info.grid}.")
        return []
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return [load_encoder(kind).to(device) for kind in KINDS]


def generate_along(
    backend: Backend,
    plans: Sequence[RecordedPlan],
    further_turns: Sequence[RecordedPlan],
    seed: int,
    steps: int | None,
) -> tuple[list[GeneratedChunk], Generation]:
    """(The chunks of plans, figures of these, to which further turns add what is measured of turns)."""
    generated: list[GeneratedChunk] = []
    ways = (p.plan for p in track(plans, "generating"))
    generation = generate_from_plans(backend, ways, seed, steps, generated.append)
    ways = (p.plan for p in track(further_turns, "turning"))
    turning = generate_from_plans(backend, ways, seed + len(plans), steps, lambda chunk: None)
    generation.turns.extend(turning.turns)
    generation.road_of_turns.extend(turning.road_of_turns)
    return generated, generation


def layouts_along(
    backend: Backend,
    plans: Sequence[RecordedPlan],
    recorded: Sequence[OccupancySequence],
    generated: Sequence[GeneratedChunk],
    steps: int | None,
) -> LayoutScore | None:
    """How far vehicles are where they are asked for along plans; None for weights that know no layouts."""
    if "layout" not in backend.info.conditions:
        return None
    asked = zip((p.plan for p in track(plans, "asking for vehicles")), recorded, strict=True)
    return score_layouts(backend, asked, generated, steps)


def drive_scores(
    backend: Backend, drives: RecordedDrives, count: int, seed: int, steps: int | None
) -> list[DriveScore | None]:
    """Drives of ``DRIVE_FRAMES`` frames along recorded paths, evenly spread over those that are long enough, each with
    noise of its own; None for a drive whose sampling ran away, which says something of the weights and must not end
    their evaluation.
    """
    if "continuation" not in backend.info.conditions:
        return []
    frames = DRIVE_FRAMES + drives.frames
    long_enough = [d for d in range(len(drives)) if drives.length(d) >= frames]
    chosen = [long_enough[n] for n in evenly(count, len(long_enough))]
    _tell_of_fewer(len(chosen), count, "drives", f"of {frames} recorded frames or more")
    scores: list[DriveScore | None] = []
    for number in track(chosen, "driving"):
        own_seed = seed + len(scores) * DRIVE_FRAMES
        try:
            scores.append(generate_drive(backend, drives.occupancy(number, 0, frames), own_seed, steps)[0])
        except InvalidInputError as error:
            if error.field not in RAN_AWAY:
                raise
            Console(stderr=True).print(f"drive {number} ended early: {error}", soft_wrap=True)
            scores.append(None)
    return scores


def frame_sets(
    generated: Sequence[GeneratedChunk],
    recorded: Sequence[OccupancySequence],
    plans: Sequence[RecordedPlan],
    planned: RecordedDrives,
    held_out: RecordedDrives,
    training: RecordedDrives | None,
) -> FrameSets:
    """Frames of as many chunks of each kind as there are plans, and of more of training.

    Where plans are of the held-out recordings themselves, these are no other towns.
    """
    used = {plan.drive for plan in plans}
    others = [drive for drive in range(len(planned)) if drive not in used]
    of = [plan.drive for plan in plans]
    return FrameSets(
        generated=FrameSet.of(zip(of, (chunk.occupancy.labels for chunk in generated), strict=True)),
        recorded=FrameSet.of(zip(of, (chunk.labels for chunk in recorded), strict=True)),
        recorded_elsewhere=spread_frames(planned, len(plans), others),
        training=spread_frames(training, TRAINING_CHUNKS * len(plans)) if training else FrameSet(),
        held_out=spread_frames(held_out, len(plans)) if training or planned is not held_out else FrameSet(),
    )
