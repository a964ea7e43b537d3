"""Autoencoders that were trained at small, equal budgets, side by side: a table, and their curves.

Run: ``python benchmarks/autoencoders.py RUNS RECORDING [--clips 20] [--picture curves.png] [--json figures.json]``
with the runs that ``configs/ablation.sh`` makes and a recording of a town that none of them saw.

  samples   chunks that the run learnt from; seconds it learnt, validation left out
  at 400    mIoU of validation after 400 chunks, between the nearest two: what a run that was held up can be judged by
  common    mIoU of the cells that both families reconstruct: observed ones of the middle 64 x 64 x 8 of the grid, over
            the first 8 frames of each chunk
  seen      mIoU of all observed cells of whole chunks; unseen: of those that no sensor saw, against the dense truth
  vehicle, pedestrian   their IoU among observed cells
  noise     posterior variance over total variance, mean over the planes

mIoU is over present classes, free space left out, in per cent. ``anchored`` is shown what sensors saw; ``reference``,
as it was published, knows no unseen cells and is shown all labels. The curves are those of validation during training,
each on the cells of its own family.
"""

import argparse
import csv
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import matplotlib

matplotlib.use("Agg")
import numpy as np
import torch
import yaml
from dyncity_models.anchored.checkpoint import load_model
from dyncity_models.data.clips import UNOBSERVED
from dyncity_models.evaluation.reconstruction import posterior_noise_share
from dyncity_models.evaluation.recorded import evenly
from dyncity_models.evaluation.scores import class_iou, confusion_matrix, mean_iou
from dyncity_models.family import family_of
from dyncity_models.hexplane import Planes, canvas_poses
from dyncity_models.reference.checkpoint import load_reference
from dyncity_models.reference.conventions import convention_named
from matplotlib import pyplot as plt
from rich.console import Console
from rich.progress import track
from rich.table import Table

from dyncity_sim.dataset.drives import open_drive
from dyncity_sim.dataset.open import open_dataset
from dyncity_sim.domain.frames import planar_from_poses
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.taxonomy import CARLASC

FRAMES = 16
COMMON_FRAMES, COMMON = 8, slice(32, 96)
EARLY_SAMPLES = 400


@dataclass(frozen=True)
class Curve:
    """Validation during a run."""

    samples: list[int]
    seconds: list[float]
    miou: list[float]


@dataclass(frozen=True)
class Scores:
    """One row of the table; NaN is what a family does not have."""

    name: str
    samples: int
    seconds: float
    at_400: float
    common: float
    seen: float
    unseen: float
    vehicle: float
    pedestrian: float
    noise: float


class Reconstructs(Protocol):
    def __call__(self, chunk: OccupancySequence, observed: np.ndarray) -> np.ndarray:
        """Labels of the frames and cells that the family reconstructs."""
        ...


class Anchored:
    def __init__(self, export: Path) -> None:
        model = load_model(export)
        self.autoencoder, self.config = model.autoencoder.eval(), model.config.autoencoder
        self.latents: list[tuple[Planes, Planes]] = []

    @torch.inference_mode()
    def __call__(self, chunk: OccupancySequence, observed: np.ndarray) -> np.ndarray:
        tokens = np.where(observed, chunk.labels, UNOBSERVED).astype(np.uint8)
        planar = planar_from_poses(chunk.poses_world_from_ego)
        near_origin = planar - planar[0] * np.array([1.0, 1.0, 0.0])
        poses = canvas_poses(torch.from_numpy(near_origin)[None], self.config.canvas.anchor_frame).float()
        means, log_variances = self.autoencoder.encode(torch.from_numpy(tokens)[None], poses)
        self.latents.append((means, log_variances))
        return torch.cat(list(self.autoencoder.decode_labels(means, poses)), dim=1)[0].numpy()


class Reference:
    def __init__(self, export: Path) -> None:
        self.autoencoder = load_reference(export).autoencoder.eval()
        self.convention = convention_named("ego")

    @torch.inference_mode()
    def __call__(self, chunk: OccupancySequence, observed: np.ndarray) -> np.ndarray:
        shown = np.ascontiguousarray(self.convention.turned(chunk.labels[:COMMON_FRAMES, COMMON, COMMON], axis=2))
        means, _ = self.autoencoder.encode(torch.from_numpy(shown)[None])
        decoded = torch.cat(list(self.autoencoder.decode_labels(means)), dim=1)[0].numpy()
        return np.ascontiguousarray(self.convention.turned(decoded, axis=2))


def chunks(recording: Path, count: int) -> Iterator[tuple[OccupancySequence, np.ndarray]]:
    """Chunks from the middle of evenly spread drives, each once, dense, and where sensors saw them."""
    dataset = open_dataset(recording)
    for number in evenly(count, len(dataset.sequences)):
        source = dataset.sequences[number]
        start = (len(source) - FRAMES) // 2
        yield open_drive(recording, number, start, FRAMES).occupancy, source.frames(start, start + FRAMES).observed


def counted(truth: np.ndarray, found: np.ndarray, mask: np.ndarray) -> torch.Tensor:
    return confusion_matrix(torch.from_numpy(truth[mask]), torch.from_numpy(found[mask]), len(CARLASC))


def scores_of(run: Path, curve: Curve, recording: Path, clips: int) -> Scores:
    reference = family_of(run / "export") == "reference"
    model: Reconstructs = Reference(run / "export") if reference else Anchored(run / "export")
    common = seen = unseen = torch.zeros(len(CARLASC), len(CARLASC), dtype=torch.int64)
    for chunk, observed in track(chunks(recording, clips), run.name, clips, transient=True):
        found = model(chunk, observed)
        part = (slice(COMMON_FRAMES), COMMON, COMMON)
        common = common + counted(chunk.labels[part], found if reference else found[part], observed[part])
        if not reference:
            seen = seen + counted(chunk.labels, found, observed)
            unseen = unseen + counted(chunk.labels, found, ~observed)
    nan = float("nan")
    early = float(np.interp(EARLY_SAMPLES, curve.samples, curve.miou))
    if isinstance(model, Reference):
        return Scores(run.name, curve.samples[-1], curve.seconds[-1], early, 100 * mean_iou(common), *[nan] * 5)
    vehicle, pedestrian = (100 * float(class_iou(seen)[CARLASC.index(n)]) for n in ("vehicle", "pedestrian"))
    noise = float(np.mean(list(posterior_noise_share(model.latents).values())))
    means = [100 * mean_iou(confusion) for confusion in (common, seen, unseen)]
    return Scores(run.name, curve.samples[-1], curve.seconds[-1], early, *means, vehicle, pedestrian, noise)


def curve_of(run: Path) -> Curve:
    log = run / "log" / "metrics.csv"
    batch = int(yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["optimiser"]["batch"])
    with log.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["miou"]]
    return Curve(
        [batch * (int(row["step"]) + 1) for row in rows],
        [float(row["seconds"]) for row in rows],
        [float(row["miou"]) for row in rows],
    )


def table_of(rows: list[Scores]) -> Table:
    table = Table(title="autoencoders on a town they never saw")
    table.add_column("run", no_wrap=True)
    for name in list(asdict(rows[0]))[1:]:
        table.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        name, samples, seconds, *rest = asdict(row).values()
        shown = ["-" if np.isnan(value) else f"{value:.1f}" for value in rest[:-1]]
        noise = "-" if np.isnan(rest[-1]) else f"{rest[-1]:.2f}"
        table.add_row(str(name), f"{samples:,}", f"{seconds:.0f}", *shown, noise)
    return table


def draw(curves: dict[str, Curve], file: Path) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    for axis, unit in zip(axes, ("samples", "seconds"), strict=True):
        for name, curve in curves.items():
            wide = 2.4 if name in ("anchored", "reference") else 1.0
            axis.plot(getattr(curve, unit), curve.miou, label=name, linewidth=wide)
        axis.set_xlabel({"samples": "chunks learnt from", "seconds": "seconds of one core"}[unit])
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("validation mIoU, %")
    axes[1].legend(fontsize=7)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="folder of runs")
    parser.add_argument("recording", type=Path)
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    runs = sorted(folder.parent for folder in args.runs.glob("*/export"))
    if not runs:
        parser.error(f"no run with weights (*/export) in {args.runs}")
    curves = {run.name: curve_of(run) for run in runs}
    rows = [scores_of(run, curves[run.name], args.recording, args.clips) for run in runs]
    Console().print(table_of(rows))
    if args.picture:
        draw(curves, args.picture)
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
