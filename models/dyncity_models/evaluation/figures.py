"""Every figure of an evaluation as plain values, ready for JSON."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from dyncity_models.data.clips import UNOBSERVED
from dyncity_models.evaluation.drives import DriveScore, drift
from dyncity_models.evaluation.generation import Generation
from dyncity_models.evaluation.intervals import (
    Interval,
    intervals_of,
    known_mean,
    mean_with_interval,
    pooled_with_interval,
)
from dyncity_models.evaluation.layouts import LayoutScore, layout_iou
from dyncity_models.evaluation.motion import recover_motion
from dyncity_models.evaluation.reconstruction import Reconstruction
from dyncity_models.evaluation.scores import mean_iou, occupied_iou
from dyncity_models.evaluation.shape import building_rectangularity, kerb_straightness, wall_straightness
from dyncity_models.evaluation.traffic import traffic_motion
from dyncity_models.evaluation.vehicles import size_distance, vehicle_motion, vehicle_sizes
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.taxonomy import CARLASC

MEASURES: dict[str, Callable[[OccupancySequence], object]] = {
    "motion": recover_motion,
    "kerbs": kerb_straightness,
    "walls": wall_straightness,
    "buildings": building_rectangularity,
    "vehicles": vehicle_motion,
    "traffic": traffic_motion,
}
"""What is measured of each chunk alone, generated and recorded ones alike."""

Figures = dict[str, Any]


def summarise(
    reconstruction: Reconstruction,
    own: Reconstruction,
    generation: Generation,
    layouts: LayoutScore | None,
    drives: Sequence[DriveScore | None],
    recorded_turns: list[tuple[float, float]],
    rng: np.random.Generator,
) -> Figures:
    """Figures of reconstruction, generation and drives; class ratios are generated over reconstructed shares of
    occupied cells.

    Args:
        reconstruction: of the recordings that are scored.
        own: of the chunks that the plans are of.
        generation: from those plans.
        layouts: from those plans with the layouts recorded along them; None when the weights know no layouts.
        drives: along the recordings that are scored; None for one that did not last.
        recorded_turns: ``road_of_turn`` of what was recorded along the turning plans.
        rng: draws bootstrap samples.
    """
    whole = [drive for drive in drives if drive is not None]
    paths = {"": generation.road_of_turns, "_recorded": recorded_turns}
    turns = {whose: np.array(roads).reshape(-1, 2).T.tolist() for whose, roads in paths.items()}
    figures = _of_reconstruction(reconstruction) | _of_generation(generation, own)
    figures["drives"] = len(drives)
    figures["drives_that_ran_away"] = len(drives) - len(whole)
    intervals = {
        name: asdict(mean_with_interval(values, rng))
        for name, values in (
            ("road_under_path", generation.road_under_path),
            ("static_agreement_0_15", generation.rigidity),
            *((f"road_under_path_of_turns{whose}", own_way) for whose, (own_way, _) in turns.items()),
            *((f"road_under_mirrored_path_of_turns{whose}", other) for whose, (_, other) in turns.items()),
        )
    }
    # Apart, so that what was drawn before there were these is drawn still.
    (apart,) = rng.spawn(1)
    further = _further_intervals(reconstruction, whole, apart) | _of_layouts(layouts, apart)
    figures["intervals"] = intervals | {name: asdict(interval) for name, interval in further.items()}
    figures["share_ratio_intervals"] = _of_shares(generation, own, apart)
    if layouts is not None:
        figures["layout_chunks"] = len(layouts.cells)
        figures["layout_iou"] = layout_iou(layouts.cells.sum(axis=0))
        figures["layout_iou_without"] = layout_iou(layouts.cells_without.sum(axis=0))
    if whole:
        figures["border_agreement"] = known_mean(value for d in whole for value in d.borders[1:])
        figures["drive_static_agreement_0_15"] = known_mean(value for d in whole for value in d.rigidity)
        figures["drive_road_under_path"] = known_mean(value for d in whole for value in d.road_under_path)
        figures["drift"] = drift(whole)
    return figures


def _of_reconstruction(reconstruction: Reconstruction) -> Figures:
    by_frame = reconstruction.class_iou_by_frame.T.tolist()
    return {
        "miou": reconstruction.miou,
        "iou": reconstruction.iou,
        "class_iou": dict(zip(CARLASC.names, reconstruction.class_iou.tolist(), strict=False)),
        "miou_by_frame": reconstruction.miou_by_frame,
        "iou_by_frame": reconstruction.iou_by_frame,
        "class_iou_by_frame": dict(zip(CARLASC.names, by_frame, strict=False)),
        "latent_noise_share": reconstruction.noise_share,
    }


def _of_generation(generation: Generation, own: Reconstruction) -> Figures:
    """Of what was generated from plans, beside the reconstruction of the chunks that the plans are of."""
    names = CARLASC.names[1:UNOBSERVED]
    generated_shares, reconstructed_shares = (
        class_shares(np.sum(cells, axis=0)) for cells in (generation.cells, own.cells)
    )
    ratios = share_ratios(generated_shares, reconstructed_shares)
    return {
        "plans": len(generation.seconds),
        "share_generated": dict(zip(names, generated_shares.tolist(), strict=True)),
        "share_reconstructed": dict(zip(names, reconstructed_shares.tolist(), strict=True)),
        "share_ratio": dict(zip(names, ratios.tolist(), strict=True)),
        "road_under_path": known_mean(generation.road_under_path),
        "static_agreement_0_15": known_mean(generation.rigidity),
        "static_agreement_0_15_reconstructed": own.rigidity,
        "static_agreement_0_15_recorded": own.rigidity_of_truth,
        "turns": len(generation.turns),
        "turns_right": int(np.sum(generation.turns)),
        "seconds_per_chunk": float(np.median(generation.seconds)),
    }


def class_shares(cells: Int64[np.ndarray, " K"]) -> Float64[np.ndarray, " K1"]:
    """Of each class but free space among occupied cells."""
    return cells[1:] / max(1, cells[1:].sum())


def share_ratios(
    generated: Float64[np.ndarray, " K"], reconstructed: Float64[np.ndarray, " K"]
) -> Float64[np.ndarray, " K"]:
    """Of shares of classes; NaN for a class that no reconstructed chunk holds, of which nothing can be said."""
    return generated / np.where(reconstructed > 0, reconstructed, np.nan)


def _of_shares(generation: Generation, own: Reconstruction, rng: np.random.Generator) -> dict[str, dict[str, float]]:
    """Intervals of the ratios of shares, over plans."""
    cells = np.stack([np.stack(generation.cells), own.cells], axis=1)

    def ratio(number: int) -> Callable[[np.ndarray], float]:
        return lambda both: float(share_ratios(*map(class_shares, both))[number])

    return {
        name: asdict(pooled_with_interval(cells, ratio(number), rng))
        for number, name in enumerate(CARLASC.names[1:UNOBSERVED])
    }


def _of_layouts(layouts: LayoutScore | None, rng: np.random.Generator) -> dict[str, Interval]:
    """Over chunks that have vehicles."""
    if layouts is None:
        return {}
    both = {"layout_iou": layouts.cells, "layout_iou_without": layouts.cells_without}
    return {name: pooled_with_interval(cells, layout_iou, rng) for name, cells in both.items()}


def _further_intervals(
    reconstruction: Reconstruction, drives: Sequence[DriveScore], rng: np.random.Generator
) -> dict[str, Interval]:
    """Of reconstruction, over chunks, and of drives, one value each."""
    confusions = reconstruction.confusions.numpy()

    def per_cent(score: Callable[[Tensor], float]) -> Callable[[np.ndarray], float]:
        return lambda counts: 100 * score(torch.from_numpy(counts))

    of_drives = {
        "border_agreement": [known_mean(drive.borders[1:]) for drive in drives],
        "drive_static_agreement_0_15": [known_mean(drive.rigidity) for drive in drives],
        "drive_road_under_path": [known_mean(drive.road_under_path) for drive in drives],
    }
    return {
        name: pooled_with_interval(confusions, per_cent(score), rng)
        for name, score in (("miou", mean_iou), ("iou", occupied_iou))
    } | {name: mean_with_interval(values, rng) for name, values in of_drives.items() if values}


def compare_chunks(
    generated: Iterable[OccupancySequence], recorded: Iterable[OccupancySequence], rng: np.random.Generator
) -> Figures:
    """What is measured of each chunk alone, as means with intervals, of generated and of recorded chunks.

    Args:
        generated: from plans.
        recorded: along the same plans.
        rng: draws bootstrap samples.
    """
    sizes, scores = {}, {}
    for whose, chunks in (("generated", generated), ("recorded", recorded)):
        measured = [({name: measure(c) for name, measure in MEASURES.items()}, vehicle_sizes(c)) for c in chunks]
        scores[whose] = {name: intervals_of([of[name] for of, _ in measured], rng) for name in MEASURES}
        sizes[whose] = [size for _, size in measured]
    figures: Figures = {
        name: {
            whose: {field: asdict(interval) for field, interval in found[name].items()}
            for whose, found in scores.items()
        }
        for name in MEASURES
    }
    return figures | {"vehicle_size_distance": asdict(size_distance(sizes["generated"], sizes["recorded"]))}


def without_nan(value: object) -> object:
    """The same with None where nothing was measured, as JSON knows no NaN."""
    if isinstance(value, dict):
        return {name: without_nan(one) for name, one in value.items()}
    if isinstance(value, list):
        return [without_nan(one) for one in value]
    return None if isinstance(value, float) and np.isnan(value) else value
