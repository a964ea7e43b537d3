"""Samples the autoencoder learns from."""

from typing import TypedDict

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from dyncity_models.config import AutoencoderConfig
from dyncity_models.data.clips import UNOBSERVED, Clip, ClipSource
from dyncity_models.data.views import known_tokens, random_known_columns
from dyncity_sim.domain.grid import FRAMES_PER_CHUNK
from dyncity_sim.domain.taxonomy import CARLASC


class AutoencoderSample(TypedDict):
    """One chunk: what the encoder sees of it, and the truth of a few of its frames."""

    tokens: UInt8[Tensor, "T X Y Z"]
    planar: Float[Tensor, "T 3"]
    frames: Int64[Tensor, " F"]
    labels: UInt8[Tensor, "F X Y Z"]
    observed: Bool[Tensor, "F X Y Z"]


class AutoencoderSamples(Dataset[AutoencoderSample]):
    """Random chunks of recordings; the sample at ``first + i`` is the same in every run with the same seed.

    The encoder is shown the sensor view (60 %), the dense truth (20 %) or the static part of the dense
    truth on one side of a random line (20 %, the form in which a drive's map comes back to it).
    """

    def __init__(
        self, source: ClipSource, config: AutoencoderConfig, samples: int, frames: int, seed: int, first: int = 0
    ) -> None:
        self.source, self.config = source, config
        self.samples, self.frames, self.seed, self.first = samples, frames, seed, first

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> AutoencoderSample:
        rng = np.random.default_rng((self.seed, self.first + index))
        drive = int(rng.integers(len(self.source)))
        start = int(rng.integers(self.source.length(drive) - FRAMES_PER_CHUNK + 1))
        clip = self.source.clip(drive, start)
        if rng.random() < 0.5:
            clip = clip.mirrored()
        frames = np.sort(rng.choice(len(clip), self.frames, replace=False))
        return _sample(clip, self._tokens(clip, rng), frames)

    def _tokens(self, clip: Clip, rng: np.random.Generator) -> UInt8[np.ndarray, "T X Y Z"]:
        view = rng.random()
        if view < 0.6:
            return clip.observed_tokens
        if view < 0.8:
            return clip.labels
        return known_tokens(clip, random_known_columns(clip, self.config.grid_half_extent_m, rng))


class ValidationChunks(Dataset[AutoencoderSample]):
    """Evenly spread chunks in sensor view, with frames 0, 5, 10 and 15 as truth."""

    def __init__(self, source: ClipSource, samples: int) -> None:
        self.source = source
        self.drives = np.linspace(0, len(source) - 1, min(samples, len(source))).astype(int)

    def __len__(self) -> int:
        return len(self.drives)

    def __getitem__(self, index: int) -> AutoencoderSample:
        drive = int(self.drives[index])
        clip = self.source.clip(drive, (self.source.length(drive) - FRAMES_PER_CHUNK) // 2)
        return _sample(clip, clip.observed_tokens, np.array([0, 5, 10, 15]))


def _sample(clip: Clip, tokens: UInt8[np.ndarray, "T X Y Z"], frames: Int64[np.ndarray, " F"]) -> AutoencoderSample:
    return AutoencoderSample(
        tokens=torch.from_numpy(np.ascontiguousarray(tokens)),
        planar=torch.from_numpy((clip.planar - clip.planar[8] * [1, 1, 0]).astype(np.float32)),
        frames=torch.from_numpy(frames.astype(np.int64)),
        labels=torch.from_numpy(np.ascontiguousarray(clip.labels[frames])),
        observed=torch.from_numpy(np.ascontiguousarray(clip.observed[frames])),
    )


def class_shares(source: ClipSource, chunks: int = 60) -> Float[np.ndarray, " K"]:
    """Share of each merged label among the dense cells of evenly spread frames."""
    counts = np.zeros(len(CARLASC), dtype=np.int64)
    for drive in np.linspace(0, len(source) - 1, min(chunks, len(source))).astype(int):
        middle = source.length(int(drive)) // 2
        counts += np.bincount(source.clip(int(drive), middle, 1).labels.ravel(), minlength=len(CARLASC))
    return (counts / counts.sum())[:UNOBSERVED]
