"""Batches the autoencoder learns from."""

from typing import TypedDict

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from dyncity_models.config import AutoencoderConfig
from dyncity_models.data.clips import SEEN, UNOBSERVED, ClipSource, FrameStore
from dyncity_models.data.numbered import NumberedBatches
from dyncity_models.data.views import behind_line, column_points, known_tokens
from dyncity_models.processes import own_share
from dyncity_sim.domain.grid import FRAMES_PER_CHUNK
from dyncity_sim.domain.taxonomy import CARLASC

SENSOR_VIEW, DENSE, KNOWN = range(3)
"""What an encoder is shown of a chunk."""

VIEW_SHARES = (0.6, 0.2, 0.2)
"""Share of chunks shown in sensor view, as dense truth, and as a known part of the static truth."""


class AutoencoderSample(TypedDict):
    """Chunks: what the encoder sees of each, and the truth of a few of their frames (B is left out for one)."""

    tokens: UInt8[Tensor, "B T X Y Z"]
    planar: Float[Tensor, "B T 3"]
    frames: Int64[Tensor, "B F"]
    labels: UInt8[Tensor, "B F X Y Z"]
    observed: Bool[Tensor, "B F X Y Z"]


class AutoencoderBatches(NumberedBatches[AutoencoderSample]):
    """Random chunks of recordings, batch by batch; batch ``i`` is the same in every run with the same seed.

    The encoder is shown the sensor view, the dense truth, or the static part of the dense truth on one side of a
    random line (the form in which a drive's map comes back to it). Every second chunk is mirrored left to right.
    Batches are put together on the device that holds the frames.

    Args:
        store: frames to choose from.
        config: the autoencoder's shapes.
        batch, seed, stop, first: as of all ``NumberedBatches``.
        frames: frames of each chunk whose truth is given.
    """

    def __init__(
        self,
        store: FrameStore,
        config: AutoencoderConfig,
        batch: int,
        frames: int,
        seed: int,
        stop: int,
        first: int = 0,
    ) -> None:
        super().__init__(batch, seed, stop, first)
        self.store, self.config = store, config
        self.frames = frames

    def batch(self, number: int) -> AutoencoderSample:
        """The batch of that number, or this process's part of it."""
        rng = np.random.default_rng((self.seed, number))
        drives = rng.integers(len(self.store), size=self.size)
        lengths = np.diff(self.store.starts)[drives]
        starts = self.store.starts[drives] + rng.integers(lengths - FRAMES_PER_CHUNK + 1)
        mirrored = rng.random(self.size) < 0.5
        views = rng.choice(3, self.size, p=VIEW_SHARES)
        angles_rad = rng.uniform(-np.pi, np.pi, self.size)
        offsets_m = rng.uniform(-0.7, 0.9, self.size) * self.config.grid_half_extent_m
        frames = np.sort(rng.permuted(np.tile(np.arange(FRAMES_PER_CHUNK), (self.size, 1)), axis=1)[:, : self.frames])

        share = own_share()
        starts, mirrored, views = share.of(starts), share.of(mirrored), share.of(views)
        angles_rad, offsets_m, frames = share.of(angles_rad), share.of(offsets_m), share.of(frames)
        device = self.store.cells.device

        def there(values: np.ndarray) -> Tensor:
            return torch.from_numpy(values).to(device)

        rows = starts[:, None] + np.arange(FRAMES_PER_CHUNK)
        cells = self.store.cells[there(rows)]
        flip = there(mirrored)
        cells = torch.where(flip[:, None, None, None, None], cells.flip(3), cells)
        planar = self.store.planar[rows] * np.where(mirrored[:, None, None], [1.0, -1.0, -1.0], 1.0)
        near_middle = there((planar - planar[:, 8:9] * [1, 1, 0]).astype(np.float32))

        view = there(views)[:, None, None, None, None]
        seen, labels = cells >= SEEN, cells & (SEEN - 1)
        points = column_points(near_middle, self.config.grid_cells, self.config.grid_half_extent_m)
        origin = near_middle[:, 8, :2]
        known = behind_line(points, origin, there(angles_rad).float(), there(offsets_m).float())
        tokens = labels.masked_fill((view == SENSOR_VIEW) & ~seen, UNOBSERVED)
        tokens = torch.where(view == KNOWN, known_tokens(labels, known), tokens)

        chosen = there(frames.astype(np.int64))
        row = torch.arange(len(frames), device=device)[:, None]
        return AutoencoderSample(
            tokens=tokens, planar=near_middle, frames=chosen, labels=labels[row, chosen], observed=seen[row, chosen]
        )


class ValidationChunks(Dataset[AutoencoderSample]):
    """Evenly spread chunks in sensor view, with frames 0, 5, 10 and 15 as truth."""

    def __init__(self, source: ClipSource, samples: int) -> None:
        self.source = source
        self.drives = np.linspace(0, len(source) - 1, min(samples, len(source))).astype(int)

    def __len__(self) -> int:
        return len(self.drives)

    def __getitem__(self, index: int) -> AutoencoderSample:
        drive, frames = int(self.drives[index]), np.array([0, 5, 10, 15])
        clip = self.source.clip(drive, (self.source.length(drive) - FRAMES_PER_CHUNK) // 2)
        return AutoencoderSample(
            tokens=torch.from_numpy(clip.observed_tokens),
            planar=torch.from_numpy((clip.planar - clip.planar[8] * [1, 1, 0]).astype(np.float32)),
            frames=torch.from_numpy(frames),
            labels=torch.from_numpy(clip.labels[frames]),
            observed=torch.from_numpy(clip.observed[frames]),
        )


def class_shares(store: FrameStore, frames: int = 60) -> Float[Tensor, " K"]:
    """Share of each merged label among the dense cells of evenly spread frames."""
    rows = torch.linspace(0, len(store.cells) - 1, min(frames, len(store.cells))).long()
    labels = store.cells[rows.to(store.cells.device)] & (SEEN - 1)
    counts = torch.bincount(labels.flatten().int(), minlength=len(CARLASC))[:UNOBSERVED].cpu()
    return counts / counts.sum()
