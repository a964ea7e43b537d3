"""Chunks as the diffusion transformer sees them: encoded once, kept as flat arrays on disk."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor
from torch.utils.data import Dataset

from dyncity_models.anchored.autoencoder import Autoencoder
from dyncity_models.config import AutoencoderConfig
from dyncity_models.data.clips import Clip, ClipSource
from dyncity_models.data.views import (
    cell_centres_world,
    covered,
    known_latent_mask,
    known_tokens,
    moved_to_canvas,
    mover_columns,
)
from dyncity_models.hexplane import canvas_poses
from dyncity_sim.domain.conditions import Command, EgoPlan
from dyncity_sim.domain.frames import poses_from_planar
from dyncity_sim.domain.grid import FRAMES_PER_CHUNK
from dyncity_sim.errors import InvalidInputError

COMMANDS = tuple(Command)
"""Commands in the order of their embedding."""

MOVER_FRAMES = (-1, -6)
"""Frames before the chunk whose movers condition it: they give place and velocity."""


class LatentSample(TypedDict):
    """One encoded chunk and everything it is conditioned on; latents are not normalised yet."""

    xy: Tensor
    tx: Tensor
    ty: Tensor
    known_xy: Tensor
    known_mask: Tensor
    movers: Tensor
    canvas_from_ego: Tensor
    command: Tensor


class LatentSamples(Dataset[LatentSample]):
    """An encoded data set in memory; sample ``first + i`` is the same in every run with the same seed.

    Chunks are drawn in proportion to ``1 / sqrt(count of their command)``, so that turns are seen often.
    """

    def __init__(self, folder: Path, samples: int, seed: int, first: int = 0) -> None:
        if not (folder / "latents.json").is_file():
            raise InvalidInputError("latents", str(folder), "a folder written by dyncity encode", "Run dyncity encode.")
        self.statistics = json.loads((folder / "latents.json").read_text())
        self.arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in LatentSample.__annotations__}
        commands = self.arrays["command"]
        weights = 1 / np.sqrt(np.bincount(commands, minlength=len(COMMANDS)).clip(min=1))[commands]
        self.probabilities = np.cumsum(weights / weights.sum())
        self.samples, self.seed, self.first = samples, seed, first

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> LatentSample:
        rng = np.random.default_rng((self.seed, self.first + index))
        return self.row(int(np.searchsorted(self.probabilities, rng.random())))

    def row(self, row: int) -> LatentSample:
        """A stored chunk by its number."""
        row = min(row, len(self.probabilities) - 1)
        values = {name: torch.as_tensor(np.array(array[row])) for name, array in self.arrays.items()}
        values = {n: v if n == "command" else v.float() for n, v in values.items()}
        return LatentSample(**values)  # type: ignore[typeddict-item]


class LatentRows(Dataset[LatentSample]):
    """Every stored chunk once, in order, up to ``limit`` of them spread evenly."""

    def __init__(self, source: LatentSamples, limit: int) -> None:
        self.source = source
        total = len(source.probabilities)
        self.rows = np.linspace(0, total - 1, min(limit, total)).astype(int)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> LatentSample:
        return self.source.row(int(self.rows[index]))


def encode_chunk(autoencoder: Autoencoder, clip: Clip, start: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Encode frames ``start`` to ``start + 16`` of a clip, and what the 16 frames before them make known.

    The chunk itself is encoded from the dense truth; the known world from the static part of what the
    frames before covered, with random gaps as occlusion leaves them.
    """
    config, canvas = autoencoder.config, autoencoder.config.canvas
    chunk = clip.frames(start, start + FRAMES_PER_CHUNK)
    before = clip.frames(start - FRAMES_PER_CHUNK, start)
    anchor = chunk.planar[canvas.anchor_frame]
    gaps = RandomGaps(anchor, rng)

    columns = cell_centres_world(chunk.planar, config.grid_cells, config.grid_half_extent_m)
    past = before.planar[:: FRAMES_PER_CHUNK // 4]
    known_columns = covered(columns, past, config.grid_half_extent_m) & ~gaps(columns)
    cells = cell_centres_world(anchor[None], canvas.cells, canvas.half_extent_m)[0]
    known_cells = covered(cells, past, config.grid_half_extent_m) & ~gaps(cells)

    tokens = np.stack([chunk.labels, known_tokens(chunk, known_columns)])
    poses = canvas_poses(torch.from_numpy(chunk.planar - anchor * [1, 1, 0])[None].float(), canvas.anchor_frame)
    means, _ = autoencoder.encode(torch.from_numpy(tokens), poses.expand(2, -1, -1))
    recent = [before.frames(len(before) + f, len(before) + f + 1) for f in MOVER_FRAMES]
    movers = mover_columns(np.concatenate([frame.labels for frame in recent]))
    mover_planar = np.tile(np.concatenate([frame.planar for frame in recent]), (2, 1))
    half = np.float16
    return {
        "xy": means.xy[0].numpy().astype(half),
        "tx": means.tx[0].numpy().astype(half),
        "ty": means.ty[0].numpy().astype(half),
        "known_xy": means.xy[1].numpy().astype(half),
        "known_mask": known_latent_mask(known_cells)[None],
        "movers": moved_to_canvas(
            movers, mover_planar, anchor, config.grid_half_extent_m, canvas.half_extent_m, canvas.cells
        ),
        "canvas_from_ego": poses[0].numpy(),
        "command": np.array(COMMANDS.index(chunk_command(chunk)), dtype=np.int64),
    }


def chunk_command(chunk: Clip) -> Command:
    """The command that a recorded chunk amounts to."""
    times_us = np.arange(len(chunk), dtype=np.int64) * 100_000
    return EgoPlan(poses_from_planar(chunk.planar), times_us).command


class RandomGaps:
    """Smooth random holes in what is known of the world, none at all in half of the chunks."""

    def __init__(self, anchor: np.ndarray, rng: np.random.Generator) -> None:
        self.centres = anchor[:2] + rng.uniform(-30, 30, (int(rng.integers(1, 9)), 2))
        self.radii_m = rng.uniform(2, 8, len(self.centres)) * (rng.random() < 0.5)

    def __call__(self, points_world: np.ndarray) -> Bool[np.ndarray, "..."]:
        """True where nothing is known."""
        hidden = np.zeros(points_world.shape[:-1], dtype=np.bool_)
        for centre, radius_m in zip(self.centres, self.radii_m, strict=True):
            hidden |= ((points_world - centre) ** 2).sum(axis=-1) < radius_m**2
        return hidden


def encoded_chunks(
    autoencoder: Autoencoder, source: ClipSource, drives: range, seed: int, chunks_per_drive: int
) -> Iterator[dict[str, np.ndarray]]:
    """Encode chunks at random starts of each drive, every one plain and mirrored."""
    for drive in drives:
        rng = np.random.default_rng((seed, drive))
        length = source.length(drive)
        for _ in range(chunks_per_drive):
            start = int(rng.integers(FRAMES_PER_CHUNK, length - FRAMES_PER_CHUNK + 1))
            clip = source.clip(drive, start - FRAMES_PER_CHUNK, 2 * FRAMES_PER_CHUNK)
            for view in (clip, clip.mirrored()):
                yield encode_chunk(autoencoder, view, FRAMES_PER_CHUNK, rng)


def statistics(rows: dict[str, np.ndarray], config: AutoencoderConfig) -> dict[str, list[float]]:
    """Mean and standard deviation of each channel of each plane."""
    result: dict[str, list[float]] = {}
    for name in ("xy", "tx", "ty"):
        flat = rows[name][:: max(1, len(rows[name]) // 2000)].astype(np.float64)
        result[f"{name}_mean"] = flat.mean(axis=(0, 2, 3)).tolist()
        result[f"{name}_std"] = flat.std(axis=(0, 2, 3)).tolist()
    assert len(result["xy_mean"]) == config.latent_channels
    return result
