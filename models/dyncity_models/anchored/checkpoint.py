"""Weights on disk: ``model.json`` beside safetensors, never pickle."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dyncity_models.anchored.autoencoder import Autoencoder
from dyncity_models.anchored.transformer import DiffusionTransformer
from dyncity_models.config import AnchoredConfig
from dyncity_models.diffusion.sampling import check_defaults
from dyncity_models.family import described_as, sampled_with
from dyncity_models.normalisation import Normalisation
from dyncity_models.stored import load_network, save_networks, tensors_of
from dyncity_sim.errors import CheckpointError, ConfigError

FORMAT = 1

BUNDLED = Path(__file__).parents[1] / "weights" / "anchored"
"""The weights that ship with the package."""


@dataclasses.dataclass(frozen=True, eq=False)
class AnchoredModel:
    """A loaded model of the family ``anchored``.

    Attributes:
        model_id: family and a hash of configuration and weights.
        transformer: None in a folder that holds an autoencoder only.
        guide: what autoguidance leads the transformer away from; None in a folder that holds none.
    """

    model_id: str
    config: AnchoredConfig
    autoencoder: Autoencoder
    transformer: DiffusionTransformer | None
    normalisation: Normalisation
    guide: DiffusionTransformer | None = None


def save_model(
    folder: Path,
    config: AnchoredConfig,
    autoencoder: Autoencoder,
    transformer: DiffusionTransformer | None = None,
    normalisation: Normalisation | None = None,
    guide: DiffusionTransformer | None = None,
) -> None:
    """Write weights in half precision; what the folder held before is replaced. Raises as ``save_networks``."""
    parts = {"autoencoder": tensors_of(autoencoder, torch.float16)}
    if transformer is not None:
        assert normalisation is not None
        parts["transformer"] = tensors_of(transformer, torch.float16)
        parts["normalisation"] = tensors_of(normalisation, torch.float32)
    if guide is not None:
        parts["guide"] = tensors_of(guide, torch.float16)
    save_networks(folder, parts, {"format": FORMAT, "family": "anchored", "config": dataclasses.asdict(config)})


def load_model(folder: Path, sampling: Sequence[str] = ()) -> AnchoredModel:
    """Load weights.

    Args:
        folder: written by ``save_model``.
        sampling: changes of ``SamplingConfig``, ``key=value``.

    Raises:
        CheckpointError: the folder, a file or a tensor is missing, truncated, or of another model.
        ConfigError: a change that is none.
    """
    described = described_as(folder, "anchored", FORMAT)
    config = _config(described.get("config"), folder / "model.json")
    digest = hashlib.sha256(json.dumps(described["config"], sort_keys=True).encode())
    config = dataclasses.replace(config, sampling=sampled_with(config.sampling, sampling, digest))
    defaults = config.sampling
    check_defaults("flow", defaults.sampler, defaults.steps, defaults.guidance_scale, defaults.resamples)
    planes = config.autoencoder
    autoencoder = load_network(folder / "autoencoder.safetensors", partial(Autoencoder, planes), digest)
    transformer, normalisation = None, Normalisation(planes.latent_channels)
    if (folder / "transformer.safetensors").exists():
        build = partial(DiffusionTransformer, config.transformer, planes)
        transformer = load_network(folder / "transformer.safetensors", build, digest)
        build_statistics = partial(Normalisation, planes.latent_channels)
        normalisation = load_network(folder / "normalisation.safetensors", build_statistics, digest)
    guide = None
    if config.guide is not None:
        guide = load_network(folder / "guide.safetensors", partial(DiffusionTransformer, config.guide, planes), digest)
    model_id = f"anchored-{digest.hexdigest()[:16]}"
    return AnchoredModel(model_id, config, autoencoder, transformer, normalisation, guide)


def digest_of(autoencoder: Autoencoder) -> str:
    """Of its tensors as they are stored: the same in all weights that it is part of."""
    digest = hashlib.sha256()
    for name, value in autoencoder.state_dict().items():
        digest.update(name.encode() + value.half().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _config(values: object, source: Path) -> AnchoredConfig:
    if not isinstance(values, dict):
        raise CheckpointError("weights", f"{source}: {values!r}", "a configuration with names and values")
    try:
        built = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(AnchoredConfig), values))
    except OmegaConfBaseException as error:
        raise CheckpointError(
            "weights", f"{source}: {error.msg or error}", "a configuration of this version"
        ) from error
    except ConfigError as error:
        raise CheckpointError("weights", f"{source}: {error}", "a configuration of this version") from error
    assert isinstance(built, AnchoredConfig)
    return built
