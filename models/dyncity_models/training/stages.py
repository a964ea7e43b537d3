"""The three stages from recordings to weights: autoencoder, encoding, transformer."""

import os
from dataclasses import asdict
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from dyncity_models.anchored.checkpoint import AnchoredModel, digest_of, load_model, save_model
from dyncity_models.config import REMEMBERED, AnchoredConfig, AutoencoderConfig
from dyncity_models.data.autoencoder_batches import AutoencoderBatches, ValidationChunks, class_shares
from dyncity_models.data.clips import UNOBSERVED, ClipSource, FrameStore
from dyncity_models.data.encode_shards import SAMPLES_PER_SHARD, WHOLE, Part, encode_shards
from dyncity_models.data.encoding import encoding_of, statistics
from dyncity_models.data.latents import KNOWN_WORLD, LatentBatches, Latents, SpreadLatents
from dyncity_models.diffusion.sampling import check_defaults
from dyncity_models.training.autoencoder_task import AutoencoderTask
from dyncity_models.training.config import AutoencoderTrainingConfig, DataConfig, TransformerTrainingConfig
from dyncity_models.training.launch import is_first_process, launch_of, training_device
from dyncity_models.training.run import batch_numbers, fit
from dyncity_models.training.transformer_task import TransformerTask
from dyncity_sim.domain.grid import FRAMES_PER_CHUNK
from dyncity_sim.errors import ConfigError, InvalidInputError

EXCERPTS_AT_ONCE = {"cpu": 1, "cuda": 16}
"""Chunks encoded together on each kind of device."""


def train_autoencoder(config: AutoencoderTrainingConfig) -> Path:
    """Train the autoencoder and export its averaged weights.

    Returns:
        The folder of exported weights.

    Raises:
        ConfigError: a model of other shapes than the recordings have.
        InvalidInputError: recordings that are none.
    """
    launch_of(config.run, config.optimiser)
    torch.manual_seed(config.run.seed)
    source, held_out = sources_of(config.data)
    for recordings in (source, held_out):
        _check_fits(config.model, recordings)
    options = config.optimiser
    store = FrameStore.load(source, training_device(config.run), config.data.workers or os.cpu_count() or 1)
    stop, first = batch_numbers(config.run, options)
    train = AutoencoderBatches(store, config.model, options.batch, config.loss.frames, config.run.seed, stop, first)
    validation = DataLoader(ValidationChunks(held_out, config.run.validation_clips), batch_size=2)
    task = AutoencoderTask(config, class_shares(store))
    fit(task, train, validation, config, config.run, options)
    export = Path(config.run.out) / "export"
    if is_first_process():
        save_model(export, AnchoredConfig(autoencoder=config.model), task.autoencoder)
    return export


def sources_of(data: DataConfig) -> tuple[ClipSource, ClipSource]:
    """The drives to learn from and those to be judged on; InvalidInputError where there are none."""
    train, validation = (
        ClipSource([Path(folder) for folder in folders], field=f"data.{name}")
        for name, folders in (("train", data.train), ("validation", data.validation))
    )
    return train, validation


def _check_fits(model: AutoencoderConfig, source: ClipSource) -> None:
    """Raise ConfigError, naming the value, unless an autoencoder is shaped as recordings are."""
    grid = source.grid
    for name, got, expected in (
        ("frames", model.frames, FRAMES_PER_CHUNK),
        ("classes", model.classes, UNOBSERVED),
        ("grid_cells", model.grid_cells, grid.shape[0]),
        ("height_cells", model.height_cells, grid.shape[2]),
        ("grid_half_extent_m", model.grid_half_extent_m, -grid.lower_m[0]),
    ):
        if got != expected:
            raise ConfigError(f"model.{name}", got, f"{expected}, as in recordings")


def encode_recordings(
    recordings: list[Path],
    autoencoder_folder: Path,
    out: Path,
    seed: int,
    chunks_per_drive: int,
    samples_per_shard: int = SAMPLES_PER_SHARD,
    part: Part = WHOLE,
    known_world: str | None = None,
) -> dict[str, int]:
    """Encode every drive of some recordings into shards that the transformer trains on; see ``encode_shards``.

    Drives of under two chunks have no past to condition on and are left out. ``known_world`` is as of
    ``encode_excerpts``; by default it is what the transformer beside the autoencoder learnt from, and without one
    ``REMEMBERED``.

    Returns:
        Chunks by command, ``left out`` for drives that are too short, and ``shards to come`` from other parts.

    Raises:
        ConfigError: recordings have other shapes than the autoencoder.
        InvalidInputError: the autoencoder is one that cannot be generated with.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_model(autoencoder_folder)
    _refuse_ablations(model.config.autoencoder)
    autoencoder = model.autoencoder.to(device)
    source = ClipSource(recordings, least_frames=2 * FRAMES_PER_CHUNK)
    _check_fits(model.config.autoencoder, source)
    at_once = EXCERPTS_AT_ONCE[device.type]
    known_world = known_world or (model.config.known_world if model.transformer else REMEMBERED)
    encoding = encoding_of(autoencoder, source, model.model_id, seed, chunks_per_drive, device, at_once, known_world)
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
        encoded = encode_shards(
            out,
            encoding,
            lambda whole: statistics(whole, autoencoder.config),
            samples_per_shard,
            part,
            os.cpu_count() or 1,
        )
    return encoded.counts | {"left out": source.too_short}


def train_transformer(config: TransformerTrainingConfig) -> Path:
    """Train the transformer on encoded chunks and export the whole model: as its generator, or as another's guide.

    Returns:
        The folder of exported weights.

    Raises:
        ConfigError: sampling that weights are not exported with, or a model that the planes do not fit.
        InvalidInputError: the autoencoder is one that cannot be generated with, latents are another's, or weights to
            start from do not fit.
    """
    launch_of(config.run, config.optimiser)
    sampling = config.sampling
    check_defaults("flow", sampling.sampler, sampling.steps, sampling.guidance_scale, sampling.resamples)
    torch.manual_seed(config.run.seed)
    base = load_model(Path(config.autoencoder))
    _refuse_ablations(base.config.autoencoder)
    options, device = config.optimiser, training_device(config.run)
    latents, held_out = (
        latents_of(Path(folder), field, base, config.model.takes_layout, device)
        for folder, field in ((config.latents, "latents"), (config.validation_latents, "validation_latents"))
    )
    held_out.check_known_world(latents.known_world, "validation_latents")
    train = LatentBatches(latents, options.batch, config.run.seed, *batch_numbers(config.run, options))
    validation = SpreadLatents(held_out, config.run.validation_clips, options.batch)
    task = TransformerTask(config, base.config.autoencoder, latents.statistics)
    if config.initial:
        start_from(task, Path(config.initial), config)
    guided = load_guided(Path(config.guides), config, base) if config.guides else None
    if guided is not None:
        latents.check_known_world(guided.config.known_world, "latents")
    complete = AnchoredConfig(
        base.config.autoencoder,
        config.model if guided is None else guided.config.transformer,
        config.sampling,
        None if guided is None else config.model,
        latents.known_world,
    )
    learns_from = {"autoencoder": digest_of(base.autoencoder), KNOWN_WORLD: latents.known_world}
    if guided is not None:
        task.normalisation.load_state_dict(guided.normalisation.state_dict())
        learns_from["guides"] = guided.model_id
    fit(task, train, validation, config, config.run, options, learns_from)
    export = Path(config.run.out) / "export"
    if is_first_process():
        generator, guide = (task.transformer, None) if guided is None else (guided.transformer, task.transformer)
        save_model(export, complete, base.autoencoder, generator, task.normalisation, guide)
    return export


def _refuse_ablations(autoencoder: AutoencoderConfig) -> None:
    if not autoencoder.canvas.common:
        raise InvalidInputError("autoencoder", "canvas.common: false", "planes in a common frame, to be generated")
    if autoencoder.height_planes:
        raise InvalidInputError("autoencoder", "height_planes: true", "the planes xy, tx and ty, to be generated")


def latents_of(folder: Path, field: str, base: AnchoredModel, takes_layout: bool, device: torch.device) -> Latents:
    """Encoded chunks that a transformer of the planes of ``base`` can learn from; ``field`` names them, in errors.

    Raises:
        InvalidInputError: they are none, have no layouts where it takes them, have other shapes than the planes, or are
            another autoencoder's.
    """
    latents = Latents(folder, device, takes_layout)
    latents.check_autoencoder(digest_of(base.autoencoder), field)
    latents.check_planes(base.config.autoencoder, field)
    return latents


def load_whole(folder: Path, field: str) -> AnchoredModel:
    """Weights with a transformer; ``field`` names the folder, in errors.

    Raises:
        CheckpointError: no folder of weights of the family.
        InvalidInputError: they hold an autoencoder alone.
    """
    model = load_model(folder)
    if model.transformer is None:
        raise InvalidInputError(
            field, f"{folder}, an autoencoder without a transformer", "whole weights, of dyncity train dit"
        )
    return model


def load_guided(folder: Path, config: TransformerTrainingConfig, base: AnchoredModel) -> AnchoredModel:
    """Whole weights that a guide is trained for; both have to know the same conditions and have one autoencoder.

    Raises:
        InvalidInputError: they do not.
    """
    guided = load_whole(folder, "guides")
    known, asked = guided.config.transformer.conditions, config.model.conditions
    if known != asked:
        raise InvalidInputError("guides", f"{folder} with model.conditions {known}", f"{asked}, those of the guide")
    same_shapes = guided.config.autoencoder == base.config.autoencoder
    if not same_shapes or digest_of(guided.autoencoder) != digest_of(base.autoencoder):
        raise InvalidInputError(
            "guides", f"{folder} with another autoencoder", f"weights with that of {config.autoencoder}"
        )
    return guided


def start_from(task: TransformerTask, folder: Path, config: TransformerTrainingConfig) -> None:
    """Give a transformer the weights of another; inputs for conditions that only the new one knows get zeros."""
    initial = load_whole(folder, "initial")
    found, asked = asdict(initial.config.transformer), asdict(config.model)
    for name, value in found.items():
        fits = set(value) <= set(asked[name]) if name == "conditions" else value == asked[name]
        if not fits:
            raise InvalidInputError("initial", f"{folder} with model.{name} {value}", f"{asked[name]}, as in this run")
    assert initial.transformer is not None
    smaller = initial.transformer.state_dict()
    widened = {name: torch.zeros_like(value) for name, value in task.transformer.state_dict().items()}
    for name, value in widened.items():
        value[tuple(slice(size) for size in smaller[name].shape)] = smaller[name]
    task.transformer.load_state_dict(widened)
    task.normalisation.load_state_dict(initial.normalisation.state_dict())
