"""Training of the frozen encoders that evaluation measures distances with."""

import os
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import lightning
import numpy as np
import torch
from einops import rearrange
from jaxtyping import UInt8
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from dyncity_models.data.autoencoder_batches import class_shares
from dyncity_models.data.clips import SEEN, FrameStore
from dyncity_models.data.numbered import NumberedBatches
from dyncity_models.evaluation.features import KINDS, SCENE_FEATURES, WIDTHS, FeatureEncoder, Kind, seen_by
from dyncity_models.processes import own_share
from dyncity_models.training.config import DataConfig, OptimiserConfig, RunConfig
from dyncity_models.training.launch import is_first_process, launch_of, training_device
from dyncity_models.training.run import batch_numbers, fit
from dyncity_models.training.schedule import scheduled
from dyncity_models.training.stages import sources_of
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import ConfigError
from dyncity_sim.files import write_bytes

STATISTICS_FRAMES = 2000
"""Evenly spread frames that features are standardised by."""


@dataclass
class FeatureTrainingConfig:
    """``dyncity train features``.

    Attributes:
        kind: ``voxels`` or ``bev``: what the encoder looks at.
        class_weight_cap: largest weight of a class in the loss of ``voxels``.
    """

    kind: str = "voxels"
    data: DataConfig = field(default_factory=DataConfig)
    optimiser: OptimiserConfig = field(
        default_factory=lambda: OptimiserConfig(steps=3000, batch=16, lr=2e-3, decay_from=0.5, ema_decay=0.99)
    )
    class_weight_cap: float = 10.0
    run: RunConfig = field(default_factory=lambda: RunConfig(out="out/train/features"))


def train_features(config: FeatureTrainingConfig) -> Path:
    """Train one encoder, without labels of people's making: to keep what brings a frame back at half resolution.

    Returns:
        The folder that holds ``KIND.safetensors``.

    Raises:
        ConfigError: an unknown kind.
        StorageError: the weights could not be written.
    """
    launch_of(config.run, config.optimiser)
    torch.manual_seed(config.run.seed)
    kind = kind_named(config.kind)
    source, held_out = sources_of(config.data)
    device, options = training_device(config.run), config.optimiser
    store, judged = (FrameStore.load(s, device, config.data.workers or os.cpu_count() or 1) for s in (source, held_out))
    batches = FrameBatches(store.cells, kind, options.batch, config.run.seed, *batch_numbers(config.run, options))
    spread = np.linspace(0, len(judged.cells) - 1, config.run.validation_clips).astype(int)
    validation = DataLoader(Frames(judged.cells, kind, spread), batch_size=options.batch)
    task = FeatureTask(config, kind, class_shares(store))
    fit(task, batches, validation, config, config.run, options)
    export = Path(config.run.out) / "export"
    if not is_first_process():
        return export
    # Statistics are of the weights as they are stored.
    encoder = task.encoder.half().float()
    _standardise(encoder, store.cells)
    statistics = dict(encoder.named_buffers())
    tensors = {
        name: value.cpu().contiguous() if name in statistics else value.half().cpu().contiguous()
        for name, value in encoder.state_dict().items()
    }
    write_bytes(save(tensors), export / f"{kind}.safetensors")
    return export


def kind_named(name: str) -> Kind:
    """The kind that a configuration asks for; ConfigError unless it is one of ``KINDS``."""
    for kind in KINDS:
        if kind == name:
            return kind
    raise ConfigError("kind", name, f"one of {', '.join(KINDS)}")


class Frames(Dataset[Tensor]):
    """What an encoder sees of chosen frames of a store."""

    def __init__(self, cells: UInt8[Tensor, "N X Y Z"], kind: Kind, rows: np.ndarray) -> None:
        self.cells, self.kind, self.rows = cells, kind, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Tensor:
        return seen_frames(self.cells[int(self.rows[index])][None], self.kind)[0]


class FrameBatches(NumberedBatches[Tensor]):
    """Random frames, half of them mirrored, as an encoder sees them."""

    def __init__(
        self, cells: UInt8[Tensor, "N X Y Z"], kind: Kind, batch: int, seed: int, stop: int, first: int = 0
    ) -> None:
        super().__init__(batch, seed, stop, first)
        self.cells, self.kind = cells, kind

    def batch(self, number: int) -> Tensor:
        """The batch of that number, or this process's part of it."""
        rng, share = np.random.default_rng((self.seed, number)), own_share()
        rows = torch.from_numpy(share.of(rng.integers(len(self.cells), size=self.size))).to(self.cells.device)
        mirrored = torch.from_numpy(share.of(rng.random(self.size) < 0.5)).to(self.cells.device)
        cells = self.cells[rows]
        return seen_frames(torch.where(mirrored[:, None, None, None], cells.flip(2), cells), self.kind)


def seen_frames(cells: UInt8[Tensor, "B X Y Z"], kind: Kind) -> UInt8[Tensor, "B X Y C"]:
    """What an encoder sees of stored frames."""
    labels = cells & (SEEN - 1)
    if kind == "voxels":
        return labels
    pictures = [seen_by(kind, frame) for frame in labels.cpu().numpy()]
    return torch.from_numpy(np.stack(pictures)).to(cells.device)


class FeatureTask(lightning.LightningModule):
    """Reconstruction of every second row and column from the bottleneck: labels by cross entropy, colours by squares.

    Args:
        config: the run's configuration.
        kind: what is looked at.
        shares: share of each label in the training data.
    """

    def __init__(self, config: FeatureTrainingConfig, kind: Kind, shares: Tensor) -> None:
        super().__init__()
        self.config, self.encoder = config, FeatureEncoder(kind)
        weights = (shares.max() / shares.clamp(min=1e-9)) ** (1 / 3)
        self.register_buffer("class_weights", F.pad(weights.clamp(max=config.class_weight_cap), (0, 1)))
        self.least = CARLASC_GRID.shape[0] >> len(WIDTHS)
        self.expand = nn.Linear(SCENE_FEATURES, WIDTHS[-1] * self.least**2)
        outputs = len(CARLASC) * CARLASC_GRID.shape[2] if kind == "voxels" else 3
        widths = (*reversed(WIDTHS[1:]), WIDTHS[0])
        self.stages = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Upsample(scale_factor=2),
                    nn.Conv2d(before, after, 3, padding=1),
                    nn.GroupNorm(8, after),
                    nn.SiLU(),
                )
                for before, after in pairwise(widths)
            ),
            nn.Conv2d(widths[-1], outputs, 3, padding=1),
        )

    def loss(self, frames: Tensor) -> Tensor:
        """How much of the frames is lost in the bottleneck."""
        scene, _ = self.encoder(frames)
        folded = rearrange(self.expand(scene), "b (c h w) -> b c h w", h=self.least, w=self.least)
        predicted, wanted = self.stages(folded), frames[:, ::2, ::2]
        if self.encoder.kind == "bev":
            return F.mse_loss(predicted, rearrange(wanted, "b x y c -> b c x y") / 255)
        logits = rearrange(predicted, "b (k z) x y -> b k x y z", k=len(CARLASC))
        return F.cross_entropy(logits, wanted.long(), self.get_buffer("class_weights"))

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        """Loss of a batch of frames."""
        loss = self.loss(batch)
        self.log("loss", loss, prog_bar=True, sync_dist=True)
        return loss

    def validation_step(self, batch: Tensor, index: int) -> None:
        """The same on other towns."""
        self.log("val_loss", self.loss(batch), prog_bar=True, batch_size=len(batch), sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW."""
        options = self.config.optimiser
        optimiser = torch.optim.AdamW(self.parameters(), lr=options.lr, weight_decay=options.weight_decay)
        return scheduled(optimiser, options, self.config.run)


@torch.inference_mode()
def _standardise(encoder: FeatureEncoder, cells: UInt8[Tensor, "N X Y Z"]) -> None:
    rows = torch.linspace(0, len(cells) - 1, min(STATISTICS_FRAMES, len(cells))).long()
    encoder = encoder.to(cells.device).eval()
    seen = (seen_frames(cells[some.to(cells.device)], encoder.kind) for some in rows.split(16))
    features = torch.cat([torch.cat(encoder(frames), dim=1) for frames in seen])
    encoder.mean.copy_(features.mean(dim=0))
    encoder.deviation.copy_(features.std(dim=0).clamp(min=1e-6))
