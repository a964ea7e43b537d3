"""Weights of the family ``reference`` on disk: ``model.json`` beside float32 safetensors."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from dyncity_models.diffusion.sampling import check_defaults
from dyncity_models.family import check_finite, described_as, sampled_with
from dyncity_models.reference.autoencoder import ReferenceAutoencoder
from dyncity_models.reference.config import (
    ReferenceAutoencoderConfig,
    ReferenceClasses,
    ReferenceConfig,
    ReferenceSampling,
    ReferenceSpace,
    ReferenceTransformerConfig,
    with_values,
)
from dyncity_models.reference.conventions import Convention, OfficialConvention, convention_named
from dyncity_models.reference.dit import ReferenceTransformer
from dyncity_models.reference.labels import CommandThresholds
from dyncity_sim.errors import CheckpointError, ConfigError, StorageError
from dyncity_sim.files import write_bytes, write_text

FORMAT = 1
FAMILY = "reference"

Network = TypeVar("Network", bound=nn.Module)


@dataclasses.dataclass(frozen=True, eq=False)
class ReferenceModel:
    """A loaded model of the family ``reference``.

    Attributes:
        model_id: family and a hash of configuration and weights.
        convention: how conditions are made and which way y grows.
        transformer: None in a folder that holds an autoencoder only.
    """

    model_id: str
    config: ReferenceConfig
    convention: Convention
    autoencoder: ReferenceAutoencoder
    transformer: ReferenceTransformer | None


def save_reference(
    folder: Path,
    config: ReferenceConfig,
    autoencoder: ReferenceAutoencoder,
    transformer: ReferenceTransformer | None = None,
    convention: Convention | None = None,
) -> None:
    """Write weights in single precision; ``model.json`` comes last, so a folder that has it is whole.

    The convention is that of published weights unless another is given.

    Raises:
        CheckpointError: a weight is not finite; what was there is untouched.
        StorageError: a file could not be written.
    """
    parts = {"autoencoder": _tensors(autoencoder)}
    if transformer is not None:
        parts["transformer"] = _tensors(transformer)
    for name, tensors in parts.items():
        check_finite(f"{name}.safetensors", tensors)
    try:
        (folder / "model.json").unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"{folder} could not be written: {error.strerror}.") from error
    for name, tensors in parts.items():
        write_bytes(save(tensors), folder / f"{name}.safetensors")
    convention = convention or OfficialConvention()
    described = {
        "format": FORMAT,
        "family": FAMILY,
        "convention": convention.name,
        "parts": list(parts),
        "config": dataclasses.asdict(config),
    }
    if isinstance(convention, OfficialConvention):
        described["thresholds"] = dataclasses.asdict(convention.thresholds)
    write_text(json.dumps(described, indent=2) + "\n", folder / "model.json")


def load_reference(folder: Path, sampling: Sequence[str] = ()) -> ReferenceModel:
    """Load weights.

    Args:
        folder: written by ``save_reference``.
        sampling: changes of ``ReferenceSampling``, ``key=value``.

    Raises:
        CheckpointError: the folder, a file or a tensor is missing, truncated, or of another model.
        ConfigError: a change that is none.
    """
    file, found = folder / "model.json", described_as(folder, FAMILY, FORMAT)
    if not isinstance(found.get("parts"), list):
        raise CheckpointError("weights", f"{file}: parts {found.get('parts')!r}", "a list of names")
    config = _config(found.get("config"), file)
    said = found.get("thresholds", {})
    if not isinstance(said, dict):
        raise CheckpointError("weights", f"{file}: thresholds {said!r}", "names and values")
    try:
        thresholds = with_values(CommandThresholds(), said, "thresholds")
        convention = convention_named(str(found.get("convention")), thresholds)
    except ConfigError as error:
        raise CheckpointError("weights", f"{file}: {error.field}: {error.got}", error.expected) from error
    digest = hashlib.sha256(json.dumps(found, sort_keys=True).encode())
    config = dataclasses.replace(config, sampling=sampled_with(config.sampling, sampling, digest))
    defaults = config.sampling
    check_defaults("gaussian", defaults.sampler, defaults.steps, defaults.guidance_scale, defaults.resamples)
    autoencoder = _loaded(folder / "autoencoder.safetensors", partial(ReferenceAutoencoder, config.autoencoder), digest)
    transformer = None
    if "transformer" in found["parts"]:
        build = partial(ReferenceTransformer, config.transformer, config.autoencoder)
        transformer = _loaded(folder / "transformer.safetensors", build, digest)
    return ReferenceModel(f"{FAMILY}-{digest.hexdigest()[:16]}", config, convention, autoencoder, transformer)


def check_tensors(file: str, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Compare names and shapes.

    Raises:
        CheckpointError: naming the first tensor that is missing, unknown, or of another shape.
    """
    for name in sorted(found.keys() | expected.keys()):
        got, wanted = (tuple(side[name].shape) if name in side else None for side in (found, expected))
        if got != wanted:
            raise CheckpointError(
                f"{file}: {name}",
                "no such tensor" if got is None else f"shape {got}",
                "no such tensor" if wanted is None else f"shape {wanted}",
            )


def _config(values: Any, source: Path) -> ReferenceConfig:
    if not isinstance(values, dict) or not all(isinstance(part, dict) for part in values.values()):
        raise CheckpointError("weights", f"{source}: {values!r}", "a configuration with names and values")
    try:
        autoencoder = with_values(ReferenceAutoencoderConfig(), values.get("autoencoder", {}), "autoencoder")
        config = ReferenceConfig(
            autoencoder,
            with_values(ReferenceTransformerConfig(), values.get("transformer", {}), "transformer"),
            with_values(ReferenceClasses(), values.get("classes", {}), "classes"),
            with_values(ReferenceSpace.carlasc(autoencoder.grid), values.get("space", {}), "space"),
            with_values(ReferenceSampling(), values.get("sampling", {}), "sampling"),
        )
    except ConfigError as error:
        got = f"{source}: {error.field}: {error.got}"
        raise CheckpointError("weights", got, error.expected) from error
    return config


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().float().contiguous() for name, value in module.state_dict().items()}


def _loaded(file: Path, build: Callable[[], Network], digest: "hashlib._Hash") -> Network:
    """The network that ``build`` makes, with the weights of a file."""
    if not file.is_file():
        raise CheckpointError("weights", f"no {file.name} in {file.parent}", "every file that model.json goes with")
    content = file.read_bytes()
    digest.update(content)
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise CheckpointError(
            "weights", f"{file}: {error}", "a whole safetensors file", "It is truncated or damaged: import it again."
        ) from error
    try:
        # Shapes are compared before memory is taken for what model.json asks for.
        with torch.device("meta"):
            expected = build().state_dict()
    except ConfigError as error:
        raise CheckpointError("weights", f"{file}: {error.field}: {error.got}", error.expected) from error
    check_tensors(file.name, tensors, expected)
    check_finite(str(file), tensors)
    network = build()
    network.load_state_dict(tensors)
    return network.eval()
