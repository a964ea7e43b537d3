"""Chunks as the transformer of the family ``reference`` sees them: encoded once, kept in shards on disk."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from dyncity_models.data.chunks import ChunkSource
from dyncity_models.data.encode_shards import Encoding
from dyncity_models.data.shards import EncodedSet
from dyncity_models.reference.autoencoder import ReferenceAutoencoder
from dyncity_models.reference.labels import layout_of
from dyncity_models.reference.planes import pack
from dyncity_sim.domain.conditions import LAYOUT_COLUMNS
from dyncity_sim.domain.frames import Poses
from dyncity_sim.errors import InvalidInputError


class ReferenceSample(TypedDict):
    """Encoded chunks and everything they can be conditioned on.

    ``hexplane`` is the rollout of the chunk before, zeros where ``has_previous`` is False.
    """

    rollout: Float[Tensor, "B C H W"]
    hexplane: Float[Tensor, "B C H W"]
    has_previous: Bool[Tensor, " B"]
    trajectory: Float[Tensor, "B T 3"]
    command: Int64[Tensor, " B"]
    layout: Bool[Tensor, "B T X4 Y4"]


@dataclass(frozen=True, eq=False)
class ReadChunk:
    """A chunk of a sequence with the one before it.

    Attributes:
        labels: ``(T, X, Y, Z)``.
        before: the same of the frames before; None where the sequence is too short for two chunks.
        poses: of the chunk's frames in the sequence's world, ``(T, 4, 4)``.
        times_us: of its frames.
    """

    labels: UInt8[np.ndarray, "T X Y Z"]
    before: UInt8[np.ndarray, "T X Y Z"] | None
    poses: Poses
    times_us: Int64[np.ndarray, " T"]


def read_chunks(source: ChunkSource, number: int, frames: int, seed: int, count: int) -> list[ReadChunk]:
    """Random chunks of a sequence; what is drawn depends on the seed and its number alone.

    Raises:
        InvalidInputError: a sequence without poses and times, which conditions are made of.
    """
    poses, times_us = source.track(number)
    first = frames if len(poses) >= 2 * frames else 0
    starts = np.random.default_rng((seed, number)).integers(first, len(poses) - frames + 1, size=count)
    return [
        ReadChunk(
            source.read(number, start, start + frames).labels,
            source.read(number, start - frames, start).labels if first else None,
            poses[start : start + frames],
            times_us[start : start + frames],
        )
        for start in starts.tolist()
    ]


def encode_chunk(
    autoencoder: ReferenceAutoencoder, source: ChunkSource, chunk: ReadChunk, device: torch.device
) -> dict[str, np.ndarray]:
    """The row of a chunk of ``source``; its latents are the means."""
    shown = chunk.labels[None] if chunk.before is None else np.stack([chunk.labels, chunk.before])
    rollouts = pack(autoencoder.encode(torch.from_numpy(shown).to(device))[0]).half().cpu().numpy()
    is_vehicle = np.isin(chunk.labels, source.vehicles).astype(np.uint8)
    return {
        "rollout": rollouts[:1],
        "hexplane": np.zeros_like(rollouts) if chunk.before is None else rollouts[1:],
        "has_previous": np.array([chunk.before is not None]),
        "trajectory": source.convention.trajectory(chunk.poses)[None].astype(np.float32),
        "command": np.array([source.convention.command_of(chunk.poses, chunk.times_us)], dtype=np.int64),
        "layout": layout_of(is_vehicle, LAYOUT_COLUMNS, vehicle=1)[None].astype(np.bool_),
    }


def reference_encoding_of(
    autoencoder: ReferenceAutoencoder,
    source: ChunkSource,
    model_id: str,
    seed: int,
    chunks: int,
    device: torch.device,
) -> Encoding[ReadChunk]:
    """``chunks`` random chunks of each sequence, encoded one by one."""
    return Encoding(
        names=source.names,
        rows_per_drive=chunks,
        read=lambda number: read_chunks(source, number, autoencoder.config.frames, seed, chunks),
        encode=lambda some: encode_chunk(autoencoder, source, some[0], device),
        at_once=1,
        made_with={"autoencoder": model_id, "seed": seed, "chunks_per_drive": chunks},
    )


class ReferenceLatents:
    """An encoded data set in the memory of one device.

    Attributes:
        described: what was encoded, and by which autoencoder.
        commands: of all chunks, ``(N,)``.

    Raises:
        InvalidInputError: ``folder`` was not written by ``dyncity encode`` for this family.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        encoded = EncodedSet.open(folder)
        if encoded.described.get("family") != "reference":
            raise InvalidInputError(
                "latents",
                f"{folder} of another family",
                "a folder written by dyncity encode with an autoencoder of the family reference",
                "Run dyncity encode.",
            )
        self.described: dict[str, Any] = encoded.described
        names = ReferenceSample.__annotations__
        self._arrays = {name: encoded.tensor(name, device) for name in names}
        self.commands: np.ndarray = self._arrays["command"].cpu().numpy()

    def __len__(self) -> int:
        return len(self.commands)

    def limit(self) -> float:
        """What 999 of 1,000 latents stay within, on both sides of zero, of some 500 rows spread evenly."""
        rollouts = self._arrays["rollout"]
        some = rollouts[:: max(1, len(self) // 500)].abs().float().cpu().numpy()
        # No latent is exactly zero: the padding is.
        return float(np.quantile(some[some > 0], 0.999))

    def rows(self, rows: np.ndarray) -> ReferenceSample:
        """The chunks with these numbers as one batch."""
        index = torch.from_numpy(rows.astype(np.int64)).to(self._arrays["command"].device)
        chosen = {name: array[index] for name, array in self._arrays.items()}
        for name in ("rollout", "hexplane"):
            chosen[name] = chosen[name].float()
        return cast(ReferenceSample, chosen)
