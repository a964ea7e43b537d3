"""Reconstruction: what the autoencoder gives back of what sensors saw."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64, UInt8

from dyncity_models.data.clips import UNOBSERVED, Clip, ClipSource
from dyncity_models.evaluation.scores import class_iou, confusion_matrix, mean_iou
from dyncity_models.hexplane import Planes, canvas_poses
from dyncity_models.pipeline import AnchoredPipeline
from dyncity_sim.domain.agreement import static_agreement
from dyncity_sim.domain.frames import inverse, poses_from_planar
from dyncity_sim.domain.grid import CARLASC_GRID, FRAMES_PER_CHUNK
from dyncity_sim.domain.taxonomy import CARLASC


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """Scores of reconstructed chunks.

    Attributes:
        miou: mean IoU in percent over present classes, free excluded, observed cells.
        class_iou: IoU of each class in percent, NaN where absent.
        miou_by_frame: ``miou`` of each frame of a chunk.
        cells: reconstructed cells of each class, dense, ``(K,)``.
        noise_share: posterior variance over total variance of each plane, means over its elements: how
            smooth the latents are. Near 0 the transformer has to draw details that nobody needs.
        rigidity: static agreement of the first and last reconstructed frame, mean over chunks.
        rigidity_of_truth: the same of what was recorded: cells of one world on two grids that are turned
            against each other agree no better.
    """

    miou: float
    class_iou: Float64[np.ndarray, " K"]
    miou_by_frame: list[float]
    cells: Int64[np.ndarray, " K"]
    noise_share: dict[str, float]
    rigidity: float
    rigidity_of_truth: float


def spread_chunks(source: ClipSource, count: int) -> Iterator[Clip]:
    """Chunks from the middle of evenly spread drives."""
    for drive in np.linspace(0, len(source) - 1, count).astype(int):
        start = (source.length(int(drive)) - FRAMES_PER_CHUNK) // 2
        yield source.clip(int(drive), start)


def reconstruct(pipeline: AnchoredPipeline, chunks: Iterator[Clip]) -> Reconstruction:
    """Encode the sensor view of each chunk, decode it, and count observed cells."""
    config = pipeline.model.config.autoencoder
    by_frame = torch.zeros(FRAMES_PER_CHUNK, config.classes, config.classes, dtype=torch.int64)
    cells = np.zeros(config.classes, dtype=np.int64)
    latents: list[tuple[Planes, Planes]] = []
    rigidity: list[tuple[float, float]] = []
    for chunk in chunks:
        near_origin = chunk.planar - chunk.planar[0] * np.array([1.0, 1.0, 0.0])
        poses = canvas_poses(torch.from_numpy(near_origin)[None], config.canvas.anchor_frame).float()
        means, log_variances = pipeline.posterior(torch.from_numpy(chunk.observed_tokens)[None], poses)
        latents.append((means, log_variances))
        decoded = pipeline.decode(pipeline.normalisation.normalise(means), poses)[0].cpu()
        seen = torch.from_numpy(np.ascontiguousarray(chunk.observed))
        truth = torch.from_numpy(np.ascontiguousarray(chunk.labels))
        for frame, counted in enumerate(seen):
            by_frame[frame] += confusion_matrix(truth[frame][counted], decoded[frame][counted], config.classes)
        cells += np.bincount(decoded.numpy().ravel(), minlength=UNOBSERVED)
        rigidity.append((_rigidity(decoded.numpy(), chunk), _rigidity(chunk.labels, chunk)))
    confusion = by_frame.sum(dim=0)
    return Reconstruction(
        100 * mean_iou(confusion),
        100 * class_iou(confusion).numpy(),
        [100 * mean_iou(frame) for frame in by_frame],
        cells,
        posterior_noise_share(latents),
        *np.nanmean(rigidity, axis=0).tolist(),
    )


def _rigidity(labels: UInt8[np.ndarray, "T X Y Z"], chunk: Clip) -> float:
    first, last = poses_from_planar(chunk.planar[[0, -1]])
    return static_agreement(labels[0], labels[-1], inverse(first) @ last, CARLASC_GRID, CARLASC)


def posterior_noise_share(latents: Sequence[tuple[Planes, Planes]]) -> dict[str, float]:
    """Of (means, log-variances) of chunks: the share of each plane's variance that is posterior noise."""
    shares = {}
    for name in ("xy", "tx", "ty"):
        means = torch.cat([getattr(mean, name) for mean, _ in latents]).float()
        noise = torch.cat([getattr(variance, name) for _, variance in latents]).float().exp().mean(dim=(0, 2, 3))
        signal = means.var(dim=(0, 2, 3))
        shares[name] = float((noise / (noise + signal)).mean())
    return shares
