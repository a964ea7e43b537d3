"""Chunks as the diffusion transformer sees them: encoded once, kept in shards on disk, trained on in memory."""

from collections.abc import Iterator
from math import inf
from pathlib import Path
from typing import Generic, NotRequired, Protocol, TypedDict, TypeVar, cast

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from dyncity_models.config import FORESEEN, AutoencoderConfig
from dyncity_models.data.numbered import NumberedBatches
from dyncity_models.data.shards import INDEX, EncodedSet
from dyncity_models.processes import own_share
from dyncity_sim.domain.conditions import Command
from dyncity_sim.errors import InvalidInputError

COMMANDS = tuple(Command)
"""Commands in the order of their embedding."""

MOVER_FRAMES = (-1, -6)
"""Frames before the chunk whose movers condition it: they give place and velocity."""

KNOWN_WORLD = "known_world"
"""What encoded chunks are made with: as ``AnchoredConfig.known_world``."""

AUTOENCODER_DIGEST = "autoencoder_digest"
"""What encoded chunks are made with: as ``anchored.checkpoint.digest_of``."""


class LatentSample(TypedDict):
    """Encoded chunks and everything they are conditioned on; latents are not normalised yet.

    ``layout`` says where vehicles stand in the ego frame of each frame, ``(B, T, X/4, Y/4)``.
    """

    xy: Tensor
    tx: Tensor
    ty: Tensor
    known_xy: Tensor
    known_mask: Tensor
    movers: Tensor
    canvas_from_ego: Tensor
    command: Tensor
    layout: NotRequired[Tensor]


class Latents:
    """An encoded data set in the memory of one device.

    Args:
        folder: written by ``dyncity encode``.
        device: where to keep it.
        layout: whether samples have the layout of vehicles.

    Attributes:
        statistics: mean and standard deviation of each channel of each plane.
        known_world: as ``AnchoredConfig.known_world``.
        autoencoder_digest: as ``anchored.checkpoint.digest_of``; None where the chunks do not say it.

    Raises:
        InvalidInputError: ``folder`` was not written by ``dyncity encode``, or by one that wrote no layouts yet; or it
            is damaged.
    """

    def __init__(self, folder: Path, device: torch.device, layout: bool = False) -> None:
        encoded = EncodedSet.open(folder)
        self.folder = folder
        self.statistics: dict[str, list[float]] = encoded.described
        self.known_world: str = encoded.made_with.get(KNOWN_WORLD, FORESEEN)
        self.autoencoder_digest: str | None = encoded.made_with.get(AUTOENCODER_DIGEST)
        if layout and "layout" not in encoded:
            raise InvalidInputError(
                "latents",
                f"{folder} without layout.npy",
                "layouts of vehicles, which model.conditions ask for",
                "Run dyncity encode again, or leave layout out of model.conditions.",
            )
        names = LatentSample.__required_keys__ | ({"layout"} if layout else set())
        self._arrays = {name: encoded.tensor(name, device) for name in names}
        self.commands: np.ndarray = self._arrays["command"].cpu().numpy()
        if not np.isin(self.commands, np.arange(len(COMMANDS))).all():
            got = f"{folder} with commands {np.unique(self.commands)}"
            raise InvalidInputError("latents", got, f"0 to {len(COMMANDS) - 1}", "Run dyncity encode.")

    def check_planes(self, config: AutoencoderConfig, field: str) -> None:
        """Raise InvalidInputError, naming a field, unless planes and statistics are as an autoencoder has them."""
        channels, cells, pairs = config.latent_channels, config.latent_cells, config.pairs
        expected = {"xy": (channels, cells, cells), "tx": (channels, pairs, cells), "ty": (channels, pairs, cells)}
        found = {name: tuple(self._arrays[name].shape[1:]) for name in expected}
        if found != expected:
            raise InvalidInputError(
                field,
                f"{self.folder} with planes of {found}",
                f"{expected}, as the autoencoder has them",
                "Run dyncity encode with it.",
            )
        for name in expected:
            for moment, least in (("mean", -inf), ("std", 0.0)):
                values = self.statistics.get(f"{name}_{moment}")
                if not _are_numbers(values, channels, least):
                    got = f"{self.folder / INDEX} with {name}_{moment} {values}"
                    raise InvalidInputError(field, got, f"{channels} numbers above {least}", "Run dyncity encode.")

    def check_known_world(self, expected: str, field: str) -> None:
        """Raise InvalidInputError, naming a field, where the known world tells other things of movers."""
        if self.known_world != expected:
            raise InvalidInputError(
                field,
                f"known worlds with movers {self.known_world}",
                f"{expected}, as in the chunks or weights they go with",
                "Encode all recordings anew, and train transformer and guide on them.",
            )

    def check_autoencoder(self, digest: str, field: str) -> None:
        """Raise InvalidInputError, naming a field, where another autoencoder made the chunks."""
        if self.autoencoder_digest not in (None, digest):
            raise InvalidInputError(
                field,
                f"chunks of the autoencoder {self.autoencoder_digest}",
                f"chunks of {digest}, the autoencoder that the transformer goes with",
                "Run dyncity encode with it.",
            )

    def __len__(self) -> int:
        return len(self.commands)

    def rows(self, rows: np.ndarray) -> LatentSample:
        """The chunks with these numbers as one batch."""
        index = torch.from_numpy(rows.astype(np.int64)).to(self._arrays["command"].device)
        values = {name: array[index] for name, array in self._arrays.items()}
        if "layout" in values:
            values["layout"] = _unpacked(values["layout"])
        return cast(LatentSample, {n: v if n == "command" else v.float() for n, v in values.items()})


def _unpacked(packed: UInt8[Tensor, "*S N8"]) -> Bool[Tensor, "*S N"]:
    """What ``numpy.packbits`` packed along the last axis."""
    bits = torch.arange(7, -1, -1, dtype=torch.uint8, device=packed.device)
    return ((packed[..., None] >> bits) & 1).flatten(-2).bool()


def _are_numbers(values: object, count: int, above: float) -> bool:
    if not isinstance(values, list) or len(values) != count:
        return False
    return all(isinstance(value, float | int) and above < value < inf for value in values)


Sample = TypeVar("Sample", covariant=True)


class Rows(Protocol[Sample]):
    """Encoded chunks of any family."""

    commands: np.ndarray

    def __len__(self) -> int: ...

    def rows(self, rows: np.ndarray) -> Sample:
        """The chunks with these numbers as one batch."""
        ...


class LatentBatches(NumberedBatches[Sample]):
    """Random chunks, drawn in proportion to ``1 / sqrt(count of their command)``, so that turns are seen often.

    Args:
        latents: chunks to draw from.
        batch, seed, stop, first: as of all ``NumberedBatches``.
    """

    def __init__(self, latents: Rows[Sample], batch: int, seed: int, stop: int, first: int = 0) -> None:
        super().__init__(batch, seed, stop, first)
        counts = np.bincount(latents.commands, minlength=len(COMMANDS)).clip(min=1)
        weights = 1 / np.sqrt(counts)[latents.commands]
        self._shares = np.cumsum(weights / weights.sum())
        self.latents = latents

    def batch(self, number: int) -> Sample:
        """The batch of that number, or this process's part of it."""
        drawn = own_share().of(np.random.default_rng((self.seed, number)).random(self.size))
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
