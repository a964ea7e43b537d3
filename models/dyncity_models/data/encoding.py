"""Drives to the latents of chunks and of what the frames before each chunk make known."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float64, UInt8
from torch import Tensor

from dyncity_models.anchored.autoencoder import Autoencoder
from dyncity_models.anchored.checkpoint import digest_of
from dyncity_models.config import FORESEEN, REMEMBERED, AutoencoderConfig
from dyncity_models.data.clips import ClipSource, merged_on
from dyncity_models.data.encode_shards import Encoding
from dyncity_models.data.latents import AUTOENCODER_DIGEST, COMMANDS, KNOWN_WORLD, MOVER_FRAMES
from dyncity_models.data.shards import EncodedSet
from dyncity_models.data.views import (
    column_points,
    covered,
    hidden_by,
    known_latent_mask,
    known_tokens,
    moved_to_canvas,
    mover_columns,
    remembered_tokens,
    vehicle_layout,
)
from dyncity_models.hexplane import canvas_poses
from dyncity_sim.domain.conditions import Command, EgoPlan
from dyncity_sim.domain.frames import poses_from_planar
from dyncity_sim.domain.grid import FRAMES_PER_CHUNK

MOST_GAPS = 8
GAP_REACH_M = 30.0
GAP_RADII_M = (2.0, 8.0)
"""Smooth random holes in what is known of the world: how many, how far from the chunk's middle, how large."""

PAST_POSES = 4
"""Poses of the past whose grids make up what was covered."""

LEAST_DEVIATION = math.exp(-5.0)
"""Of latents: that of the narrowest posterior that the encoder gives."""


@dataclass(frozen=True, eq=False)
class Excerpt:
    """A chunk of a drive with what is needed of its past.

    Attributes:
        raw_labels: dense labels of the chunk as recorded, ``(T, X, Y, Z)``.
        raw_recent: the same of the frames ``MOVER_FRAMES`` before it, ``(2, X, Y, Z)``.
        planar: x, y, yaw of the past, then of the chunk, ``(2 T, 3)``.
        gap_centres_m: holes in what is known, relative to the chunk's middle, ``(2, MOST_GAPS, 2)``: of the chunk
            as it is, then of its mirror image.
        gap_radii_m: their radii, 0 for none, ``(2, MOST_GAPS)``.
    """

    raw_labels: UInt8[np.ndarray, "T X Y Z"]
    raw_recent: UInt8[np.ndarray, "2 X Y Z"]
    planar: Float64[np.ndarray, "T2 3"]
    gap_centres_m: Float64[np.ndarray, "2 G 2"]
    gap_radii_m: Float64[np.ndarray, "2 G"]


def read_excerpts(source: ClipSource, drive: int, count: int, seed: int) -> list[Excerpt]:
    """Chunks at random starts of a drive; they depend on the seed and the drive's number alone."""
    rng = np.random.default_rng((seed, drive))
    planar = source.planar(drive)
    excerpts = []
    for _ in range(count):
        start = int(rng.integers(FRAMES_PER_CHUNK, source.length(drive) - FRAMES_PER_CHUNK + 1))
        gaps = rng.integers(1, MOST_GAPS + 1, 2)
        centres_m = rng.uniform(-GAP_REACH_M, GAP_REACH_M, (2, MOST_GAPS, 2))
        radii_m = rng.uniform(*GAP_RADII_M, (2, MOST_GAPS)) * (np.arange(MOST_GAPS) < gaps[:, None])
        excerpts.append(
            Excerpt(
                source.raw_labels(drive, start, start + FRAMES_PER_CHUNK),
                np.concatenate([source.raw_labels(drive, start + f, start + f + 1) for f in MOVER_FRAMES]),
                planar[start - FRAMES_PER_CHUNK : start + FRAMES_PER_CHUNK],
                centres_m,
                radii_m * (rng.random((2, 1)) < 0.5),
            )
        )
    source.drives[drive].forget()
    return excerpts


def encode_excerpts(
    autoencoder: Autoencoder, excerpts: list[Excerpt], device: torch.device, known_world: str = REMEMBERED
) -> dict[str, np.ndarray]:
    """Encode some excerpts, each plain and then mirrored: two rows an excerpt.

    The chunk itself is encoded from the dense truth; the known world from the static part of what the frames before
    covered, with random gaps as occlusion leaves them.

    Args:
        autoencoder: encodes both.
        excerpts: of any drives.
        device: of the autoencoder.
        known_world: ``REMEMBERED``: as ``DriveMemory`` would have it, with holes where movers stood before the chunk,
            not where they are in it. ``FORESEEN``: with holes where they are in each of its frames.
    """
    config, canvas = autoencoder.config, autoencoder.config.canvas
    labels = _with_mirror_images(merged_on(device, np.stack([e.raw_labels for e in excerpts])))
    recent = _with_mirror_images(merged_on(device, np.stack([e.raw_recent for e in excerpts])))
    planar = _relative_to_anchor(np.stack([e.planar for e in excerpts]), canvas.anchor_frame).to(device)
    past, chunk = planar[:, :FRAMES_PER_CHUNK], planar[:, FRAMES_PER_CHUNK:]
    anchor = chunk[:, canvas.anchor_frame]
    gaps = tuple(
        torch.from_numpy(np.concatenate([getattr(e, name) for e in excerpts])).float().to(device)
        for name in ("gap_centres_m", "gap_radii_m")
    )

    known_columns = _known(column_points(chunk, config.grid_cells, config.grid_half_extent_m), past, gaps, config)
    known_cells = _known(column_points(anchor, canvas.cells, canvas.half_extent_m), past, gaps, config)
    poses = canvas_poses(chunk, canvas.anchor_frame)
    means, _ = autoencoder.encode(labels, poses)
    if known_world == FORESEEN:
        known = known_tokens(labels, known_columns)
    else:
        recent_planar = past[:, list(MOVER_FRAMES)]
        known = remembered_tokens(labels, recent, chunk, recent_planar, known_columns, config.grid_half_extent_m)
    known_means, _ = autoencoder.encode(known, poses)
    movers = moved_to_canvas(
        mover_columns(recent),
        past[:, list(MOVER_FRAMES)].repeat(1, 2, 1),
        anchor,
        config.grid_half_extent_m,
        canvas.half_extent_m,
        canvas.cells,
    )
    commands = [command_of(e.planar[FRAMES_PER_CHUNK:]) for e in excerpts]
    rows = {
        "xy": means.xy.half(),
        "tx": means.tx.half(),
        "ty": means.ty.half(),
        "known_xy": known_means.xy.half(),
        "known_mask": known_latent_mask(known_cells),
        "movers": movers,
        "canvas_from_ego": poses,
    }
    return {name: value.cpu().numpy() for name, value in rows.items()} | {
        "layout": np.packbits(vehicle_layout(labels).cpu().numpy(), axis=-1),
        "command": np.array([COMMANDS.index(c) for own in commands for c in (own, _mirrored(own))], dtype=np.int64),
    }


def encoding_of(
    autoencoder: Autoencoder,
    source: ClipSource,
    model_id: str,
    seed: int,
    chunks_per_drive: int,
    device: torch.device,
    at_once: int,
    known_world: str = REMEMBERED,
) -> Encoding[Excerpt]:
    """Chunks at random starts of each drive, every one plain and mirrored; rows in the order of the drives."""
    return Encoding(
        names=source.names,
        rows_per_drive=2 * chunks_per_drive,
        read=lambda drive: read_excerpts(source, drive, chunks_per_drive, seed),
        encode=lambda excerpts: encode_excerpts(autoencoder, excerpts, device, known_world),
        at_once=at_once,
        made_with={
            "autoencoder": model_id,
            AUTOENCODER_DIGEST: digest_of(autoencoder),
            "seed": seed,
            "chunks_per_drive": chunks_per_drive,
            KNOWN_WORLD: known_world,
        },
    )


def command_of(planar: Float64[np.ndarray, "T 3"]) -> Command:
    """The command that recorded poses at 10 Hz amount to."""
    times_us = np.arange(len(planar), dtype=np.int64) * 100_000
    return EgoPlan(poses_from_planar(planar), times_us).command


def statistics(encoded: EncodedSet, config: AutoencoderConfig) -> dict[str, list[float]]:
    """Mean and standard deviation of each channel of each plane, over some 2,000 rows spread evenly.

    A channel that says nothing has ``LEAST_DEVIATION``, so that nothing is divided by 0.
    """
    result: dict[str, list[float]] = {}
    for name in ("xy", "tx", "ty"):
        flat = encoded.every(name, max(1, len(encoded) // 2000)).astype(np.float64)
        result[f"{name}_mean"] = flat.mean(axis=(0, 2, 3)).tolist()
        result[f"{name}_std"] = flat.std(axis=(0, 2, 3)).clip(min=LEAST_DEVIATION).tolist()
    assert len(result["xy_mean"]) == config.latent_channels
    return result


def _known(points: Tensor, past: Tensor, gaps: tuple[Tensor, ...], config: AutoencoderConfig) -> Bool[Tensor, "..."]:
    seen = covered(points, past[:, :: FRAMES_PER_CHUNK // PAST_POSES], config.grid_half_extent_m)
    return seen & ~hidden_by(points, *gaps)


def _with_mirror_images(labels: UInt8[Tensor, "N T X Y Z"]) -> UInt8[Tensor, "N2 T X Y Z"]:
    return torch.stack([labels, labels.flip(3)], dim=1).flatten(0, 1)


def _relative_to_anchor(planar: Float64[np.ndarray, "N T2 3"], anchor_frame: int) -> Tensor:
    """Poses with the middle of the chunk at the origin, each drive followed by its mirror image; yaws stay."""
    relative = planar - planar[:, FRAMES_PER_CHUNK + anchor_frame, None] * [1, 1, 0]
    both = np.stack([relative, relative * [1, -1, -1]], axis=1)
    return torch.from_numpy(both.reshape(-1, *relative.shape[1:])).float()


def _mirrored(command: Command) -> Command:
    return {Command.LEFT: Command.RIGHT, Command.RIGHT: Command.LEFT}.get(command, command)
