"""Networks on disk, of either family: ``model.json`` beside safetensors, never pickle."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from dyncity_sim.errors import CheckpointError, ConfigError, StorageError
from dyncity_sim.files import write_bytes, write_text

PARTS = ("autoencoder", "transformer", "normalisation", "guide")
"""Whatever a folder of weights may hold."""

Network = TypeVar("Network", bound=nn.Module)


def tensors_of(module: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    """What is written of a module."""
    return {name: value.detach().cpu().to(dtype).contiguous() for name, value in module.state_dict().items()}


def save_networks(folder: Path, parts: Mapping[str, dict[str, Tensor]], described: Mapping[str, object]) -> None:
    """Write the tensors of some of ``PARTS`` and what ``model.json`` says; what the folder held before is replaced.

    Raises:
        CheckpointError: a weight is not finite; what was there is untouched.
        StorageError: a file could not be written; the folder holds no weights then.
    """
    for name, tensors in parts.items():
        check_finite(f"{name}.safetensors", tensors)
    try:
        # model.json goes first and comes last: a folder that has it has the files that it goes with, and no others.
        for file in ("model.json", *(f"{name}.safetensors" for name in PARTS)):
            (folder / file).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"{folder} could not be written: {error.strerror or error}.") from error
    for name, tensors in parts.items():
        write_bytes(save(tensors), folder / f"{name}.safetensors")
    write_text(json.dumps(described, indent=2) + "\n", folder / "model.json")


def load_network(file: Path, build: Callable[[], Network], digest: "hashlib._Hash") -> Network:
    """The network that ``build`` makes, with the weights of a file, whose bytes go into the digest.

    Raises:
        CheckpointError: the file or a tensor is missing, truncated, of another shape, or not finite.
    """
    if not file.is_file():
        raise CheckpointError("weights", f"no {file.name} in {file.parent}", "every file that model.json goes with")
    content = file.read_bytes()
    digest.update(content)
    try:
        tensors = load(content)
    except SafetensorError as error:
        mend = "It is truncated or damaged: fetch or import it again."
        raise CheckpointError("weights", f"{file}: {error}", "a whole safetensors file", mend) from error
    try:
        # Shapes are compared before memory is taken for what model.json asks for.
        with torch.device("meta"):
            expected = build().state_dict()
    except ConfigError as error:
        raise CheckpointError("weights", f"{file}: {error.field}: {error.got}", error.expected) from error
    _check_shapes(file.name, tensors, expected)
    check_finite(str(file), tensors)
    network = build()
    network.load_state_dict(tensors)
    return network.eval()


def check_finite(file: str, tensors: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError, naming the first, where weights are not finite; ``file`` is named in it."""
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise CheckpointError(f"{file}: {name}", "infinity or NaN", "finite weights", "Training ran away.")


def _check_shapes(file: str, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError, naming the first tensor that is missing, unknown, or of another shape."""
    for name in sorted(found.keys() | expected.keys()):
        got, wanted = (f"shape {tuple(side[name].shape)}" if name in side else None for side in (found, expected))
        if got != wanted:
            raise CheckpointError(f"{file}: {name}", got or "no such tensor", wanted or "no such tensor")
