"""Reconstruction: what the autoencoder gives back of what sensors saw."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float64, Int64, UInt8
from torch import Tensor

from dyncity_models.backends.anchored.pipeline import AnchoredPipeline
from dyncity_models.backends.reference.backend import ReferenceBackend
from dyncity_models.data.clips import UNOBSERVED
from dyncity_models.evaluation.intervals import known_mean
from dyncity_models.evaluation.scores import class_iou, confusion_matrix, mean_iou, occupied_iou
from dyncity_models.hexplane import Planes, canvas_poses
from dyncity_sim.domain.agreement import agreement_between_frames
from dyncity_sim.domain.frames import planar_from_poses
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.taxonomy import CARLASC


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """Scores of reconstructed chunks.

    Attributes:
        miou: mean IoU in percent over present classes, free excluded, observed cells.
        iou: IoU in percent of occupied cells, whatever their class, observed cells.
        class_iou: IoU of each class in percent, NaN where absent.
        miou_by_frame: ``miou`` of each frame of a chunk.
        iou_by_frame: ``iou`` of each frame of a chunk.
        class_iou_by_frame: ``class_iou`` of each frame of a chunk.
        confusions: observed cells of each chunk by true and reconstructed label.
        cells: reconstructed cells of each class of each chunk, dense.
        noise_share: posterior variance over total variance of each plane, means over its elements: how
            smooth the latents are. Near 0 the transformer has to draw details that nobody needs.
        rigidity: static agreement of the first and last reconstructed frame, mean over chunks.
        rigidity_of_truth: the same of what was recorded: cells of one world on two grids that are turned
            against each other agree no better.
    """

    miou: float
    iou: float
    class_iou: Float64[np.ndarray, " K"]
    miou_by_frame: list[float]
    iou_by_frame: list[float]
    class_iou_by_frame: Float64[np.ndarray, "T K"]
    confusions: Int64[Tensor, "N K K"]
    cells: Int64[np.ndarray, "N K"]
    noise_share: dict[str, float]
    rigidity: float
    rigidity_of_truth: float


class Reconstructor(Protocol):
    """The autoencoder of a family."""

    def reconstruct(self, recorded: OccupancySequence) -> UInt8[np.ndarray, "T X Y Z"]:
        """Labels of a recorded chunk after encoding and decoding."""
        ...

    def noise_share(self) -> dict[str, float]:
        """``Reconstruction.noise_share`` of what was reconstructed, where the family has it."""
        ...


class AnchoredReconstructor:
    """The family ``anchored``, which is shown what sensors saw."""

    def __init__(self, pipeline: AnchoredPipeline) -> None:
        self.pipeline = pipeline
        self._latents: list[tuple[Planes, Planes]] = []

    def reconstruct(self, recorded: OccupancySequence) -> UInt8[np.ndarray, "T X Y Z"]:
        """See ``Reconstructor``."""
        seen = recorded.observed
        tokens = recorded.labels if seen is None else np.where(seen, recorded.labels, UNOBSERVED).astype(np.uint8)
        planar = planar_from_poses(recorded.poses_world_from_ego)
        near_origin = planar - planar[0] * np.array([1.0, 1.0, 0.0])
        anchor = self.pipeline.model.config.autoencoder.canvas.anchor_frame
        poses = canvas_poses(torch.from_numpy(near_origin)[None], anchor).float()
        means, log_variances = self.pipeline.posterior(torch.from_numpy(tokens)[None], poses)
        self._latents.append((means, log_variances))
        return self.pipeline.decode(self.pipeline.normalisation.normalise(means), poses)[0].cpu().numpy()

    def noise_share(self) -> dict[str, float]:
        """See ``Reconstructor``."""
        return posterior_noise_share(self._latents)


class ReferenceReconstructor:
    """The family ``reference``, which knows no unobserved cells and is shown all labels, as in its training."""

    def __init__(self, backend: ReferenceBackend) -> None:
        self.pipeline, self.convention = backend.pipeline, backend.convention

    def reconstruct(self, recorded: OccupancySequence) -> UInt8[np.ndarray, "T X Y Z"]:
        """See ``Reconstructor``."""
        shown = torch.from_numpy(np.ascontiguousarray(self.convention.turned(recorded.labels, axis=2)))
        decoded = self.pipeline.decode(self.pipeline.encode(shown[None]))[0].cpu().numpy()
        return np.ascontiguousarray(self.convention.turned(decoded, axis=2))

    def noise_share(self) -> dict[str, float]:
        """Nothing: latents of this family are not weighed against their noise."""
        return {}


def reconstruct(reconstructor: Reconstructor, chunks: Iterable[OccupancySequence]) -> Reconstruction:
    """Encode each chunk, decode it, and count observed cells."""
    confusions: list[Int64[Tensor, "T K K"]] = []
    cells: list[Int64[np.ndarray, " K"]] = []
    rigidity: list[tuple[float, float]] = []
    for chunk in chunks:
        decoded = reconstructor.reconstruct(chunk)
        seen = np.ones(decoded.shape, dtype=np.bool_) if chunk.observed is None else chunk.observed
        counted = [
            confusion_matrix(torch.from_numpy(true[mask]), torch.from_numpy(found[mask]), len(CARLASC))
            for true, found, mask in zip(chunk.labels, decoded, seen, strict=True)
        ]
        confusions.append(torch.stack(counted))
        cells.append(np.bincount(decoded.ravel(), minlength=len(CARLASC))[:UNOBSERVED])
        rigidity.append((_rigidity(chunk, decoded), _rigidity(chunk, chunk.labels)))
    by_frame = torch.stack(confusions).sum(dim=0)
    confusion = by_frame.sum(dim=0)
    return Reconstruction(
        100 * mean_iou(confusion),
        100 * occupied_iou(confusion),
        100 * class_iou(confusion).numpy()[:UNOBSERVED],
        [100 * mean_iou(frame) for frame in by_frame],
        [100 * occupied_iou(frame) for frame in by_frame],
        100 * torch.stack([class_iou(frame) for frame in by_frame]).numpy()[:, :UNOBSERVED],
        torch.stack(confusions).sum(dim=1),
        np.stack(cells),
        reconstructor.noise_share(),
        *(known_mean(values) for values in zip(*rigidity, strict=True)),
    )


def _rigidity(chunk: OccupancySequence, labels: UInt8[np.ndarray, "T X Y Z"]) -> float:
    """Of labels along a chunk's poses, whether or not they were observed."""
    return agreement_between_frames(replace(chunk, labels=labels, observed=None), 0, len(chunk) - 1)


def posterior_noise_share(latents: Sequence[tuple[Planes, Planes]]) -> dict[str, float]:
    """Of (means, log-variances) of chunks: the share of each plane's variance that is posterior noise."""
    shares = {}
    for name in latents[0][0].named():
        means = torch.cat([getattr(mean, name) for mean, _ in latents]).float()
        noise = torch.cat([getattr(variance, name) for _, variance in latents]).float().exp().mean(dim=(0, 2, 3))
        signal = means.var(dim=(0, 2, 3))
        shares[name] = float((noise / (noise + signal)).mean())
    return shares
