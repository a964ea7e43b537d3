"""Chunks as the diffusion transformer sees them: encoded once, kept as flat arrays on disk, trained on in memory."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Generic, Protocol, TypedDict, TypeVar

import numpy as np
import torch
from torch import Tensor

from dyncity_sim.domain.conditions import Command
from dyncity_sim.errors import InvalidInputError

COMMANDS = tuple(Command)
"""Commands in the order of their embedding."""

MOVER_FRAMES = (-1, -6)
"""Frames before the chunk whose movers condition it: they give place and velocity."""


class LatentSample(TypedDict):
    """Encoded chunks and everything they are conditioned on; latents are not normalised yet."""

    xy: Tensor
    tx: Tensor
    ty: Tensor
    known_xy: Tensor
    known_mask: Tensor
    movers: Tensor
    canvas_from_ego: Tensor
    command: Tensor


class Latents:
    """An encoded data set in the memory of one device.

    Attributes:
        statistics: mean and standard deviation of each channel of each plane.

    Raises:
        InvalidInputError: ``folder`` was not written by ``dyncity encode``.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        if not (folder / "latents.json").is_file():
            raise InvalidInputError("latents", str(folder), "a folder written by dyncity encode", "Run dyncity encode.")
        self.statistics: dict[str, list[float]] = json.loads((folder / "latents.json").read_text())
        names = LatentSample.__annotations__
        self._arrays = {name: torch.from_numpy(np.load(folder / f"{name}.npy")).to(device) for name in names}
        self.commands: np.ndarray = self._arrays["command"].cpu().numpy()

    def __len__(self) -> int:
        return len(self.commands)

    def rows(self, rows: np.ndarray) -> LatentSample:
        """The chunks with these numbers as one batch."""
        index = torch.from_numpy(rows.astype(np.int64)).to(self._arrays["command"].device)
        values = {name: array[index] for name, array in self._arrays.items()}
        return LatentSample(**{n: v if n == "command" else v.float() for n, v in values.items()})  # type: ignore[typeddict-item]


Sample = TypeVar("Sample", covariant=True)


class Rows(Protocol[Sample]):
    """Encoded chunks of any family."""

    commands: np.ndarray

    def __len__(self) -> int: ...

    def rows(self, rows: np.ndarray) -> Sample:
        """The chunks with these numbers as one batch."""
        ...


class LatentBatches(Generic[Sample]):
    """Random chunks, one batch a step; batch ``i`` is the same in every run with the same seed.

    Chunks are drawn in proportion to ``1 / sqrt(count of their command)``, so that turns are seen often.

    Args:
        latents: chunks to draw from.
        batch: chunks of a batch.
        seed: what every draw comes from.
        steps: number of the batch after the last one.
        first: number of the first batch.
    """

    def __init__(self, latents: Rows[Sample], batch: int, seed: int, steps: int, first: int = 0) -> None:
        counts = np.bincount(latents.commands, minlength=len(COMMANDS)).clip(min=1)
        weights = 1 / np.sqrt(counts)[latents.commands]
        self._shares = np.cumsum(weights / weights.sum())
        self.latents, self.size, self.seed, self.steps, self.first = latents, batch, seed, steps, first

    def __len__(self) -> int:
        return max(self.steps - self.first, 0)

    def __iter__(self) -> Iterator[Sample]:
        return (self.batch(step) for step in range(self.first, self.steps))

    def batch(self, step: int) -> Sample:
        """The batch of one step."""
        drawn = np.random.default_rng((self.seed, step)).random(self.size)
        return self.latents.rows(np.searchsorted(self._shares, drawn).clip(max=len(self.latents) - 1))


class SpreadLatents(Generic[Sample]):
    """At most ``limit`` chunks spread evenly, in order, each once, as batches."""

    def __init__(self, latents: Rows[Sample], limit: int, batch: int) -> None:
        chosen = np.linspace(0, len(latents) - 1, min(limit, len(latents))).astype(int)
        self.latents = latents
        self.parts = np.split(chosen, range(batch, len(chosen), batch))

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[Sample]:
        return (self.latents.rows(part) for part in self.parts)
