"""Weights of the family ``reference`` on disk: ``model.json`` beside float32 safetensors."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from dyncity_models.diffusion.sampling import check_defaults
from dyncity_models.family import described_as, sampled_with
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
from dyncity_models.stored import load_network, save_networks, tensors_of
from dyncity_sim.errors import CheckpointError, ConfigError

FORMAT = 1
FAMILY = "reference"


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
    """Write weights in single precision; what the folder held before is replaced. Raises as ``save_networks``.

    The convention is that of published weights unless another is given.
    """
    parts = {"autoencoder": tensors_of(autoencoder, torch.float32)}
    if transformer is not None:
        parts["transformer"] = tensors_of(transformer, torch.float32)
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
    save_networks(folder, parts, described)


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
    autoencoder = load_network(
        folder / "autoencoder.safetensors", partial(ReferenceAutoencoder, config.autoencoder), digest
    )
    transformer = None
    if "transformer" in found["parts"]:
        build = partial(ReferenceTransformer, config.transformer, config.autoencoder)
        transformer = load_network(folder / "transformer.safetensors", build, digest)
    return ReferenceModel(f"{FAMILY}-{digest.hexdigest()[:16]}", config, convention, autoencoder, transformer)


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
