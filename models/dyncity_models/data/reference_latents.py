"""Chunks as the transformer of the family ``reference`` sees them: encoded once, kept as flat arrays on disk."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from dyncity_models.data.chunks import ChunkSource
from dyncity_models.data.rows import DESCRIPTION
from dyncity_models.reference.autoencoder import ReferenceAutoencoder
from dyncity_models.reference.labels import layout_of
from dyncity_models.reference.planes import pack
from dyncity_sim.domain.conditions import LAYOUT_COLUMNS
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


def encoded_rows(
    autoencoder: ReferenceAutoencoder, source: ChunkSource, seed: int, chunks: int, device: torch.device
) -> Iterator[dict[str, np.ndarray]]:
    """Encode ``chunks`` random chunks of each sequence; what is drawn depends on the seed and its number alone.

    A chunk's latents are the means. The chunk before it is encoded, too, unless the sequence is shorter than two.

    Raises:
        InvalidInputError: a sequence without poses and times, which conditions are made of.
    """
    frames = autoencoder.config.frames
    for number in range(len(source)):
        poses, times_us = source.track(number)
        rng = np.random.default_rng((seed, number))
        first = frames if len(poses) >= 2 * frames else 0
        for start in rng.integers(first, len(poses) - frames + 1, size=chunks).tolist():
            chunk = slice(start, start + frames)
            before = source.read(number, start - frames, start).labels if first else None
            labels = source.read(number, start, start + frames).labels
            shown = labels[None] if before is None else np.stack([labels, before])
            rollouts = pack(autoencoder.encode(torch.from_numpy(shown).to(device))[0]).half().cpu().numpy()
            is_vehicle = np.isin(labels, source.vehicles).astype(np.uint8)
            yield {
                "rollout": rollouts[:1],
                "hexplane": np.zeros_like(rollouts) if before is None else rollouts[1:],
                "has_previous": np.array([before is not None]),
                "trajectory": source.convention.trajectory(poses[chunk])[None].astype(np.float32),
                "command": np.array([source.convention.command_of(poses[chunk], times_us[chunk])], dtype=np.int64),
                "layout": layout_of(is_vehicle, LAYOUT_COLUMNS, vehicle=1)[None].astype(np.bool_),
            }


class ReferenceLatents:
    """An encoded data set in the memory of one device.

    Attributes:
        described: what was encoded, and by which autoencoder.
        commands: of all chunks, ``(N,)``.

    Raises:
        InvalidInputError: ``folder`` was not written by ``dyncity encode`` for this family.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        file = folder / DESCRIPTION
        described = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        if described.get("family") != "reference":
            raise InvalidInputError(
                "latents",
                f"{folder}" + (" of another family" if described else ""),
                "a folder written by dyncity encode with an autoencoder of the family reference",
                "Run dyncity encode.",
            )
        self.described: dict[str, Any] = described
        names = ReferenceSample.__annotations__
        self._arrays = {name: torch.from_numpy(np.load(folder / f"{name}.npy")).to(device) for name in names}
        self.commands: np.ndarray = self._arrays["command"].cpu().numpy()

    def __len__(self) -> int:
        return len(self.commands)

    def rows(self, rows: np.ndarray) -> ReferenceSample:
        """The chunks with these numbers as one batch."""
        index = torch.from_numpy(rows.astype(np.int64)).to(self._arrays["command"].device)
        chosen = {name: array[index] for name, array in self._arrays.items()}
        for name in ("rollout", "hexplane"):
            chosen[name] = chosen[name].float()
        return cast(ReferenceSample, chosen)
