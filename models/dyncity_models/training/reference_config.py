"""What a training run of the family ``reference`` is made of; every field can be set in YAML or as ``key=value``."""

from dataclasses import dataclass, field, replace
from typing import Any

from dyncity_models.config import check_between
from dyncity_models.reference.config import (
    AUTOENCODERS,
    CONDITIONS,
    TRANSFORMERS,
    Part,
    ReferenceAutoencoderConfig,
    ReferenceSampling,
    ReferenceTransformerConfig,
    with_values,
)
from dyncity_models.training.config import DataConfig, OptimiserConfig, RunConfig
from dyncity_sim.errors import ConfigError


@dataclass
class ReferenceDataConfig(DataConfig):
    """Data sets to learn from and to be judged on: anything that ``dyncity inspect`` reads, all of one grid.

    Attributes:
        labels: ``merged`` for CarlaSC's merged classes, ``own`` for those of the data set.
    """

    labels: str = "merged"


@dataclass
class ReferenceAutoencoderTrainingConfig:
    """``dyncity train vae`` of the family ``reference``.

    Attributes:
        family: ``reference``.
        model: ``size``, a name of ``reference.config.AUTOENCODERS``, and values of ``ReferenceAutoencoderConfig`` that
            differ from it. ``grid`` and ``classes`` are those of the data unless they stand here: a smaller grid is
            cut out of the middle, anything else that the data has not is an error.
        convention: ``ego``, or ``official`` for conditions as published weights of CarlaSC expect them,
            ``official-right-handed`` as those of Occ3D; see ``reference.conventions``.
        kl: weight of the KL term.
        initial: folder of weights whose autoencoder is trained on, imported or our own; empty to start from nothing.
    """

    family: str = "reference"
    model: dict[str, Any] = field(default_factory=lambda: {"size": "official"})
    data: ReferenceDataConfig = field(default_factory=ReferenceDataConfig)
    convention: str = "ego"
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    kl: float = 0.0015
    run: RunConfig = field(default_factory=RunConfig)
    initial: str = ""

    def __post_init__(self) -> None:
        check_between("kl", self.kl, 0)


@dataclass
class ReferenceTransformerTrainingConfig:
    """``dyncity train dit`` of the family ``reference``.

    Attributes:
        family: ``reference``.
        model: ``size``, a name of ``reference.config.TRANSFORMERS``, and values of ``ReferenceTransformerConfig`` that
            differ from it.
        autoencoder: folder of exported autoencoder weights.
        latents: folder written by ``dyncity encode`` from the training data.
        validation_latents: the same from other towns.
        drop: share of samples that each condition is withheld from, independently.
        drop_region: the same of a known region, which tells so much that most samples should do without.
        sampling: sampler defaults that are exported with the weights.
        limit_latents: whether ``sampling.latent_limit`` becomes what nearly all of the latents to learn from stay
            within, unless it is given. Without a limit, latents of drives grow from chunk to chunk where weights were
            trained for too short a while.
        initial: folder of weights whose transformer is trained on; empty to start from nothing.
    """

    family: str = "reference"
    model: dict[str, Any] = field(default_factory=lambda: {"size": "DiT-DC/2"})
    autoencoder: str = "out/train/vae/export"
    latents: str = "out/latents/train"
    validation_latents: str = "out/latents/validation"
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    drop: float = 0.1
    drop_region: float = 0.5
    run: RunConfig = field(default_factory=RunConfig)
    sampling: ReferenceSampling = field(default_factory=ReferenceSampling)
    limit_latents: bool = True
    initial: str = ""

    def __post_init__(self) -> None:
        check_between("drop", self.drop, 0, 1)
        check_between("drop_region", self.drop_region, 0, 1)


def autoencoder_of(model: dict[str, Any], grid: tuple[int, int, int], classes: int) -> ReferenceAutoencoderConfig:
    """The autoencoder that a run's ``model`` describes, for data of a grid and a number of classes.

    Raises:
        ConfigError: an unknown size or key, a value of the wrong type, or shapes that do not go together.
    """
    config = _sized(AUTOENCODERS, model, grid=list(grid), classes=classes)
    if config.classes != classes:
        raise ConfigError("model.classes", config.classes, f"{classes}, those of the data", "Or set data.labels.")
    return config


def transformer_of(model: dict[str, Any]) -> ReferenceTransformerConfig:
    """The transformer that a run's ``model`` describes.

    Raises:
        ConfigError: an unknown size, condition or key, a value of the wrong type, or heads that do not divide.
    """
    config = _sized(TRANSFORMERS, model)
    return replace(config, conditions=tuple(name for name in CONDITIONS if name in config.conditions))


def grid_of(model: dict[str, Any]) -> tuple[int, int, int] | None:
    """Cells that are asked for, or None to take those of the data.

    Raises:
        ConfigError: not three numbers.
    """
    grid = model.get("grid")
    if grid is None:
        return None
    if not isinstance(grid, list | tuple) or len(grid) != 3 or not all(isinstance(cells, int) for cells in grid):
        raise ConfigError("model.grid", grid, "three numbers of cells, X, Y and Z")
    return grid[0], grid[1], grid[2]


def _sized(sizes: dict[str, Part], model: dict[str, Any], **instead: Any) -> Part:
    """The size that ``model`` names, with values of the data, and with what else ``model`` says."""
    size = model.get("size")
    if not isinstance(size, str) or size not in sizes:
        raise ConfigError("model.size", repr(size), f"one of {', '.join(sizes)}")
    said = {key: value for key, value in model.items() if key != "size" and value is not None}
    return with_values(sizes[size], instead | said, "model")
