"""``dyncity evaluate``: every figure in one table and one JSON file."""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from dyncity_models.backend import TorchBackend
from dyncity_models.checkpoint import BUNDLED, load_model
from dyncity_models.data.clips import UNOBSERVED, ClipSource
from dyncity_models.evaluation.drives import DRIVE_CHUNKS, DriveScore, drift, generate_drive
from dyncity_models.evaluation.generation import Generation, RecordedPlan, generate_from_plans, recorded_plans
from dyncity_models.evaluation.layouts import LayoutScore, score_layouts
from dyncity_models.evaluation.reconstruction import Reconstruction, reconstruct, spread_chunks
from dyncity_models.pipeline import AnchoredPipeline
from dyncity_sim.domain.generation import GeneratedChunk
from dyncity_sim.domain.grid import CARLASC_GRID, FRAMES_PER_CHUNK
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.engine.backend import Backend
from dyncity_sim.files import write_text
from dyncity_sim.preview.bev import render_bev
from dyncity_sim.preview.film import write_png

PICTURED = 8


def evaluate(arguments: argparse.Namespace) -> int:
    """Measure, print, and write what was asked for."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    backend = TorchBackend(AnchoredPipeline(load_model(arguments.weights or BUNDLED), device))
    backend.warm_up()
    source = ClipSource(arguments.recordings)
    plans_source = ClipSource(arguments.plans_from) if arguments.plans_from else source

    chunks = track(spread_chunks(source, arguments.clips), "reconstructing", total=arguments.clips)
    reconstruction = reconstruct(backend.pipeline, iter(chunks))

    pictured: list[GeneratedChunk] = []
    plans, further_turns = recorded_plans(plans_source, arguments.plans, arguments.turns)
    own = reconstruct(
        backend.pipeline, (plans_source.clip(p.drive, p.start) for p in track(plans, "reconstructing plans"))
    )
    generation = generate_from_plans(
        backend, (p.plan for p in track(plans, "generating")), arguments.seed, arguments.steps, pictured.append
    )
    turning = generate_from_plans(
        backend,
        (p.plan for p in track(further_turns, "turning")),
        arguments.seed + len(plans),
        arguments.steps,
        lambda chunk: None,
    )
    generation.turns.extend(turning.turns)
    layouts = None
    if "layout" in backend.info.conditions:
        truths = ((p.plan, occupancy_along(plans_source, p)) for p in track(plans, "asking for vehicles"))
        layouts = score_layouts(backend, truths, pictured, arguments.steps)
    drives = drive_scores(backend, source, arguments.drives, arguments.seed, arguments.steps)
    figures = summarise(reconstruction, own, generation, layouts, drives)
    figures["model_id"] = backend.info.model_id
    for shown in tables(figures):
        Console().print(shown)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        write_text(json.dumps(figures, indent=2) + "\n", arguments.json)
    if arguments.picture:
        draw(pictured, arguments.picture)
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


def summarise(
    reconstruction: Reconstruction,
    own: Reconstruction,
    generation: Generation,
    layouts: LayoutScore | None,
    drives: list[DriveScore],
) -> dict[str, object]:
    """All figures as plain values; class ratios are generated over reconstructed shares of occupied cells.

    Args:
        reconstruction: of the recordings that are scored.
        own: of the chunks that the plans are of.
        generation: from those plans.
        layouts: from those plans with the layouts recorded along them; None when the weights know no layouts.
        drives: along the recordings that are scored.
    """
    generated_shares, reconstructed_shares = (
        cells[1:] / max(1, cells[1:].sum()) for cells in (generation.cells, own.cells)
    )
    names = CARLASC.names[1:UNOBSERVED]
    ratios = generated_shares / np.maximum(reconstructed_shares, 1e-9)
    figures: dict[str, object] = {
        "miou": reconstruction.miou,
        "class_iou": dict(zip(CARLASC.names, reconstruction.class_iou.tolist(), strict=False)),
        "latent_noise_share": reconstruction.noise_share,
        "plans": len(generation.seconds),
        "share_generated": dict(zip(names, generated_shares.tolist(), strict=True)),
        "share_reconstructed": dict(zip(names, reconstructed_shares.tolist(), strict=True)),
        "share_ratio": dict(zip(names, ratios.tolist(), strict=True)),
        "road_under_path": float(np.nanmean(generation.road_under_path)),
        "static_agreement_0_15": float(np.nanmean(generation.rigidity)),
        "static_agreement_0_15_reconstructed": own.rigidity,
        "static_agreement_0_15_recorded": own.rigidity_of_truth,
        "turns": len(generation.turns),
        "turns_right": int(np.sum(generation.turns)),
        "seconds_per_chunk": float(np.median(generation.seconds)),
        "drives": len(drives),
    }
    if layouts is not None:
        figures["layout_chunks"] = layouts.chunks
        figures["layout_iou"] = layouts.iou
        figures["layout_iou_without"] = layouts.iou_without
    if drives:
        figures["border_agreement"] = float(np.nanmean([d.borders[1:] for d in drives]))
        figures["drive_static_agreement_0_15"] = float(np.nanmean([d.rigidity for d in drives]))
        figures["drive_road_under_path"] = float(np.nanmean([d.road_under_path for d in drives]))
        figures["drift"] = drift(drives)
    return figures


def tables(figures: dict[str, object]) -> list[Table]:
    """The figures as people read them: one table, and one with a row for each chunk of the drives, if there are any."""
    result = Table("figure", "value", title=f"evaluation of {figures['model_id']}")
    rows = figures.get("drift", [])
    assert isinstance(rows, list)
    for name, value in figures.items():
        if name == "drift":
            continue
        shown = "  ".join(f"{k} {_short(v)}" for k, v in value.items()) if isinstance(value, dict) else _short(value)
        result.add_row(name.replace("_", " "), shown)
    if not rows:
        return [result]
    by_chunk = Table(*(name.replace("_", " ") for name in rows[0]), title=f"means over {figures['drives']} drives")
    for row in rows:
        by_chunk.add_row(*(_short(value) for value in row.values()))
    return [result, by_chunk]


def draw(chunks: list[GeneratedChunk], file: Path) -> None:
    """Top views of a few generated chunks: a row each, frames 0, 5, 10 and 15."""
    chosen = [chunks[i] for i in np.linspace(0, len(chunks) - 1, min(PICTURED, len(chunks))).astype(int)]
    rows = [
        np.concatenate(
            [render_bev(c.occupancy.labels[t], c.occupancy.grid, CARLASC, scale=2) for t in (0, 5, 10, 15)], axis=1
        )
        for c in chosen
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    write_png(np.concatenate(rows), file)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
