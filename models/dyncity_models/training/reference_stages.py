"""The three stages from data sets to weights of the family ``reference``: autoencoder, encoding, transformer."""

import os
from dataclasses import replace
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from dyncity_models.data.chunks import (
    ChunkBatches,
    ChunkSource,
    FrameCells,
    Labels,
    SpreadChunks,
    labels_named,
)
from dyncity_models.data.encode_shards import SAMPLES_PER_SHARD, WHOLE, Part, encode_shards
from dyncity_models.data.latents import LatentBatches, SpreadLatents
from dyncity_models.data.reference_latents import ReferenceLatents, reference_encoding_of
from dyncity_models.diffusion.sampling import check_defaults
from dyncity_models.reference.checkpoint import FAMILY, ReferenceModel, load_reference, save_reference
from dyncity_models.reference.classes import taxonomy_of
from dyncity_models.reference.config import (
    ReferenceAutoencoderConfig,
    ReferenceClasses,
    ReferenceConfig,
    ReferenceSpace,
    ReferenceTransformerConfig,
)
from dyncity_models.reference.conventions import convention_named
from dyncity_models.reference.dit import ReferenceTransformer
from dyncity_models.training.launch import is_first_process, launch_of, training_device
from dyncity_models.training.reference_autoencoder_task import ReferenceAutoencoderTask
from dyncity_models.training.reference_config import (
    ReferenceAutoencoderTrainingConfig,
    ReferenceTransformerTrainingConfig,
    autoencoder_of,
    grid_of,
    transformer_of,
)
from dyncity_models.training.reference_losses import class_weights
from dyncity_models.training.reference_transformer_task import ReferenceTransformerTask
from dyncity_models.training.run import batch_numbers, fit
from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import InvalidInputError


def train_reference_autoencoder(config: ReferenceAutoencoderTrainingConfig) -> Path:
    """Train the autoencoder and export its averaged weights.

    Returns:
        The folder of exported weights.

    Raises:
        ConfigError: the configuration does not fit itself.
        InvalidInputError: the data, or the weights to start from, do not fit the configuration or each other.
    """
    launch_of(config.run, config.optimiser)
    torch.manual_seed(config.run.seed)
    convention, labels = convention_named(config.convention), labels_named(config.data.labels)
    asked = grid_of(config.model)
    # Sizes are checked against any grid first, because reading data takes a while.
    frames = autoencoder_of({**config.model, "classes": None}, asked or (256, 256, 256), 2).frames
    source, held_out = (
        ChunkSource.open([Path(folder) for folder in folders], frames, labels, convention, asked)
        for folders in (config.data.train, config.data.validation)
    )
    if (held_out.grid, held_out.taxonomy) != (source.grid, source.taxonomy):
        got, expected = ((s.grid, s.taxonomy.id) for s in (held_out, source))
        raise InvalidInputError("data.validation", got, f"{expected}, those of data.train")
    model = autoencoder_of(config.model, source.grid.shape, len(source.taxonomy))
    options = config.optimiser
    initial = _initial_of(config, model, source) if config.initial else None
    store = FrameCells.load(source, training_device(config.run), config.data.workers or os.cpu_count() or 1)
    train = ChunkBatches(store, frames, options.batch, config.run.seed, *batch_numbers(config.run, options))
    validation = DataLoader(SpreadChunks(held_out, frames, config.run.validation_clips), batch_size=1)
    classes = ReferenceClasses(
        source.taxonomy.names, tuple(range(model.classes)), tuple(store.class_counts(model.classes).tolist())
    )
    task = ReferenceAutoencoderTask(config, model, class_weights(classes, model.classes))
    if initial is not None:
        task.autoencoder.load_state_dict(initial.autoencoder.state_dict())
    learns_from = {
        "convention": convention.name,
        "taxonomy": source.taxonomy.id,
        "grid": " x ".join(map(str, source.grid.shape)),
    }
    fit(task, train, validation, config, config.run, options, learns_from)
    export = Path(config.run.out) / "export"
    space = ReferenceSpace(source.grid.lower_m, source.grid.voxel_size_m, source.rate_hz)
    if is_first_process():
        kept = convention if initial is None else initial.convention
        save_reference(export, ReferenceConfig(model, classes=classes, space=space), task.autoencoder, None, kept)
    return export


def _initial_of(
    config: ReferenceAutoencoderTrainingConfig, model: ReferenceAutoencoderConfig, source: ChunkSource
) -> ReferenceModel:
    """The weights to train on, which must see the data as this run does."""
    initial = load_reference(Path(config.initial))
    shaped = replace(model, dropout=0.0, attention_dropout=0.0)
    if replace(initial.config.autoencoder, dropout=0.0, attention_dropout=0.0) != shaped:
        raise InvalidInputError("initial", f"{config.initial} with {initial.config.autoencoder}", str(model))
    if initial.convention.name != config.convention:
        raise InvalidInputError(
            "convention", config.convention, f"{initial.convention.name}, that of {config.initial}", "Set it."
        )
    _check_seen(initial, source)
    return initial


def encode_for_reference(
    folders: list[Path],
    autoencoder_folder: Path,
    out: Path,
    seed: int,
    chunks_per_drive: int,
    samples_per_shard: int = SAMPLES_PER_SHARD,
    part: Part = WHOLE,
) -> dict[str, int]:
    """Encode random chunks of every sequence of some data sets into shards that the transformer trains on.

    Returns:
        Chunks by command, ``first`` for those without a chunk before them, ``left out`` for sequences that are
        shorter than a chunk, and ``shards to come`` from other parts.

    Raises:
        InvalidInputError: the data sets are not of the weights' grid and classes, or have no poses; and as
            ``encode_shards``.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_reference(autoencoder_folder)
    autoencoder = model.autoencoder.to(device)
    source = source_for(model, folders)
    encoding = reference_encoding_of(autoencoder, source, model.model_id, seed, chunks_per_drive, device)
    described = {"family": FAMILY, "autoencoder": model.model_id, "convention": model.convention.name}
    with torch.inference_mode():
        encoded = encode_shards(
            out, encoding, lambda whole: described, samples_per_shard, part, threads=os.cpu_count() or 1
        )
    first = sum(int((~has_previous).sum()) for has_previous in encoded.rows.arrays("has_previous"))
    return encoded.counts | {"first": first, "left out": source.too_short}


def source_for(model: ReferenceModel, folders: list[Path]) -> ChunkSource:
    """Data sets as an autoencoder was trained to see them.

    Raises:
        InvalidInputError: naming what of them does not fit: the grid, the classes or the rate.
    """
    config = model.config
    taxonomy = taxonomy_of(config.classes, config.autoencoder.classes)
    labels: Labels = "merged" if taxonomy == CARLASC else "own"
    shape = config.autoencoder.grid
    source = ChunkSource.open(folders, config.autoencoder.frames, labels, model.convention, shape)
    _check_seen(model, source)
    return source


def _check_seen(model: ReferenceModel, source: ChunkSource) -> None:
    config, space = model.config, model.config.space
    taxonomy = taxonomy_of(config.classes, config.autoencoder.classes)
    source.check(Grid(config.autoencoder.grid, space.lower_m, space.voxel_size_m), taxonomy, space.rate_hz)


def train_reference_transformer(config: ReferenceTransformerTrainingConfig) -> Path:
    """Train the transformer on encoded chunks and export both halves of the model.

    Returns:
        The folder of exported weights.

    Raises:
        ConfigError: the configuration does not fit itself or the autoencoder, or weights are not exported with such
            sampling.
        InvalidInputError: latents are missing, or another autoencoder's.
    """
    launch_of(config.run, config.optimiser)
    sampling = config.sampling
    check_defaults("gaussian", sampling.sampler, sampling.steps, sampling.guidance_scale, sampling.resamples)
    torch.manual_seed(config.run.seed)
    base, model = load_reference(Path(config.autoencoder)), transformer_of(config.model)
    options, device = config.optimiser, training_device(config.run)
    latents, held_out = (
        _latents_of(base, Path(folder), field, device)
        for folder, field in ((config.latents, "latents"), (config.validation_latents, "validation_latents"))
    )
    train = LatentBatches(latents, options.batch, config.run.seed, *batch_numbers(config.run, options))
    validation = SpreadLatents(held_out, config.run.validation_clips, options.batch)
    task = ReferenceTransformerTask(config, model, base.config.autoencoder)
    if config.initial:
        task.transformer.load_state_dict(_initial_transformer(Path(config.initial), model, base).state_dict())
    fit(task, train, validation, config, config.run, options, {"autoencoder": base.model_id})
    export = Path(config.run.out) / "export"
    if config.limit_latents and sampling.latent_limit is None:
        sampling = replace(sampling, latent_limit=latents.limit())
    complete = replace(base.config, transformer=model, sampling=sampling)
    if is_first_process():
        save_reference(export, complete, base.autoencoder, task.transformer, base.convention)
    return export


def _initial_transformer(folder: Path, model: ReferenceTransformerConfig, base: ReferenceModel) -> ReferenceTransformer:
    """The transformer to train on, which must see chunks as this run does."""
    initial = load_reference(folder)
    if initial.transformer is None or initial.config.transformer != model:
        raise InvalidInputError("initial", f"{folder} with {initial.config.transformer}", str(model))
    seen, expected = _seen_by_transformer(initial), _seen_by_transformer(base)
    for name, value in expected.items():
        if seen[name] != value:
            raise InvalidInputError("initial", f"{folder} with {name} {seen[name]}", f"{value}, as of the autoencoder")
    return initial.transformer


def _seen_by_transformer(model: ReferenceModel) -> dict[str, object]:
    """What chunks are to a transformer that goes with these weights."""
    planes, config = model.config.autoencoder, model.config
    return {
        "frames": planes.frames,
        "latent_channels": planes.latent_channels,
        "plane_cells": planes.plane_cells,
        "classes": taxonomy_of(config.classes, planes.classes).id,
        "space": config.space,
        "convention": model.convention.name,
    }


def _latents_of(base: ReferenceModel, folder: Path, field: str, device: torch.device) -> ReferenceLatents:
    latents = ReferenceLatents(folder, device)
    if latents.described["autoencoder"] != base.model_id:
        raise InvalidInputError(
            field,
            f"{folder}, encoded by {latents.described['autoencoder']}",
            f"latents of {base.model_id}, the autoencoder",
            "Run dyncity encode with it.",
        )
    return latents
