"""From run folders of the published code to weights of the family ``reference``."""

from dataclasses import replace
from pathlib import Path

import torch

from dyncity_models.reference.autoencoder import ReferenceAutoencoder
from dyncity_models.reference.checkpoint import ReferenceModel, load_reference, save_reference
from dyncity_models.reference.classes import taxonomy_of
from dyncity_models.reference.config import ReferenceConfig
from dyncity_models.reference.dit import ReferenceTransformer
from dyncity_models.reference.names import autoencoder_modules, tensor_names, transformer_modules
from dyncity_models.reference.official import OfficialRun, read_run, renamed
from dyncity_models.reference.official_conf import (
    autoencoder_config,
    class_table,
    convention_of,
    space_of,
    transformer_config,
)
from dyncity_sim.errors import CheckpointError, ConfigError


def import_run(
    run: Path,
    out: Path,
    *,
    checkpoint: str | None = None,
    autoencoder_run: Path | None = None,
    autoencoder_checkpoint: str | None = None,
    heads: int | None = None,
) -> ReferenceModel:
    """Write the weights of a run, and of the autoencoder it names if it is a transformer's; return them loaded.

    Args:
        run: a run folder.
        out: folder to write.
        checkpoint: file of the run to take.
        autoencoder_run: the autoencoder's run folder; by default the one beside ``run`` that its conf names.
        autoencoder_checkpoint: file of that to take.
        heads: attention heads of a transformer of no published size.

    Raises:
        CheckpointError: a run cannot be read, or its tensors are not those of the model its conf describes.
        StorageError: ``out`` could not be written.
    """
    main = read_run(run, checkpoint)
    if not main.is_transformer:
        if not (autoencoder_run is None and autoencoder_checkpoint is None and heads is None):
            raise CheckpointError(
                "run", f"the run of an autoencoder, {run}", "a transformer's for --vae, --vae-checkpoint and --heads"
            )
        autoencoder, config = _autoencoder(main)
        save_reference(out, config, autoencoder, convention=convention_of(main.conf))
        return load_reference(out)

    if autoencoder_run is None:
        name = str(main.conf["vae_name"])
        # A run that is a link to elsewhere may have the other one beside the link or beside what it leads to.
        places = [folder.parent / Path(name).name for folder in (run.absolute(), run.resolve())]
        autoencoder_run = next((place for place in places if place.is_dir()), None)
        if autoencoder_run is None:
            raise CheckpointError(
                "vae_name", f"no folder {places[0]}", f"the run {name!r} beside {run}", "Name it with --vae."
            )
    beside = read_run(autoencoder_run, autoencoder_checkpoint)
    if beside.is_transformer:
        raise CheckpointError("vae", f"the run of a transformer, {autoencoder_run}", "the run of an autoencoder")
    autoencoder, config = _autoencoder(beside)
    built = transformer_config(main.conf, main.tensors, heads)
    config = replace(config, transformer=built)
    save_reference(out, config, autoencoder, _transformer(main, config), convention_of(beside.conf, main.conf))
    return load_reference(out)


def _autoencoder(run: OfficialRun) -> tuple[ReferenceAutoencoder, ReferenceConfig]:
    config, space = autoencoder_config(run.conf), space_of(run.conf)
    # Shapes are compared before memory is taken for what a conf asks for.
    with torch.device("meta"):
        expected = ReferenceAutoencoder(config).state_dict()
    pairs = list(tensor_names(autoencoder_modules(config), expected))
    tensors = renamed(run.checkpoint.name, run.tensors, pairs, expected)
    autoencoder = ReferenceAutoencoder(config)
    autoencoder.load_state_dict(tensors)
    classes = class_table(run.conf)
    # Names that no taxonomy can have would only show when the weights are served.
    taxonomy_of(classes, config.classes)
    return autoencoder, ReferenceConfig(config, classes=classes, space=space)


def _transformer(run: OfficialRun, config: ReferenceConfig) -> ReferenceTransformer:
    try:
        with torch.device("meta"):
            expected = ReferenceTransformer(config.transformer, config.autoencoder).state_dict()
    except ConfigError as error:
        raise CheckpointError(run.checkpoint.name, error.got, error.expected) from error
    pairs = list(tensor_names(transformer_modules(config.transformer), expected))
    tensors = renamed(run.checkpoint.name, run.tensors, pairs, expected)
    transformer = ReferenceTransformer(config.transformer, config.autoencoder)
    transformer.load_state_dict(tensors)
    return transformer
