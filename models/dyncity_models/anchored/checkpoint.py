"""Weights on disk: ``model.json`` beside safetensors, never pickle."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from dyncity_models.anchored.autoencoder import Autoencoder
from dyncity_models.anchored.transformer import DiffusionTransformer
from dyncity_models.config import AnchoredConfig
from dyncity_models.diffusion.sampling import check_defaults
from dyncity_models.family import check_finite, described_as, sampled_with
from dyncity_models.normalisation import Normalisation
from dyncity_sim.errors import CheckpointError, ConfigError, StorageError
from dyncity_sim.files import write_bytes, write_text

FORMAT = 1
Network = TypeVar("Network", bound=nn.Module)

PARTS = ("autoencoder", "transformer", "normalisation", "guide")
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
    """Write weights in half precision; what the folder held before is replaced.

    Raises:
        CheckpointError: a weight is not finite; what was there is untouched.
        StorageError: a file could not be written; the folder holds no weights then.
    """
    parts = {"autoencoder": _tensors(autoencoder)}
    if transformer is not None:
        assert normalisation is not None
        parts |= {"transformer": _tensors(transformer), "normalisation": _tensors(normalisation, torch.float32)}
    if guide is not None:
        parts["guide"] = _tensors(guide)
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
    described = {"format": FORMAT, "family": "anchored", "config": dataclasses.asdict(config)}
    write_text(json.dumps(described, indent=2) + "\n", folder / "model.json")


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
    autoencoder = _loaded(folder / "autoencoder.safetensors", partial(Autoencoder, planes), digest)
    transformer, normalisation = None, Normalisation(planes.latent_channels)
    if (folder / "transformer.safetensors").exists():
        build = partial(DiffusionTransformer, config.transformer, planes)
        transformer = _loaded(folder / "transformer.safetensors", build, digest)
        build_statistics = partial(Normalisation, planes.latent_channels)
        normalisation = _loaded(folder / "normalisation.safetensors", build_statistics, digest)
    guide = None
    if config.guide is not None:
        guide = _loaded(folder / "guide.safetensors", partial(DiffusionTransformer, config.guide, planes), digest)
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


def _tensors(module: nn.Module, dtype: torch.dtype = torch.float16) -> dict[str, Tensor]:
    return {name: value.detach().cpu().to(dtype).contiguous() for name, value in module.state_dict().items()}


def _loaded(file: Path, build: Callable[[], Network], digest: "hashlib._Hash") -> Network:
    """The network that ``build`` makes, with the weights of a file."""
    if not file.is_file():
        raise CheckpointError("weights", f"no {file.name} in {file.parent}", "every file that model.json goes with")
    digest.update(file.read_bytes())
    try:
        tensors = load_file(file)
    except SafetensorError as error:
        raise CheckpointError(
            "weights", f"{file}: {error}", "a whole safetensors file", "It is truncated or damaged: fetch it again."
        ) from error
    try:
        # Shapes are compared before memory is taken for what model.json asks for.
        with torch.device("meta"):
            expected = {name: tuple(value.shape) for name, value in build().state_dict().items()}
    except ConfigError as error:
        raise CheckpointError("weights", f"{file}: {error.field}: {error.got}", error.expected) from error
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    if found != expected:
        wrong = sorted(set(found.items()) ^ set(expected.items()))[:3]
        raise CheckpointError(
            "weights", f"{file} with other tensors, e.g. {wrong}", "the tensors of model.json's config"
        )
    check_finite(str(file), tensors)
    network = build()
    network.load_state_dict({name: value.float() for name, value in tensors.items()})
    return network.eval()
