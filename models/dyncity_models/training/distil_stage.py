"""The stage from whole weights to weights that sample in few steps."""

from pathlib import Path

import torch

from dyncity_models.anchored.checkpoint import digest_of, save_model
from dyncity_models.config import AnchoredConfig
from dyncity_models.data.latents import KNOWN_WORLD, LatentBatches, SpreadLatents
from dyncity_models.diffusion.gaussian import STEPS
from dyncity_models.training.config import DistilTrainingConfig
from dyncity_models.training.distil_task import DistilTask
from dyncity_models.training.launch import is_first_process, launch_of, training_device
from dyncity_models.training.run import batch_numbers, fit
from dyncity_models.training.stages import latents_of, load_whole
from dyncity_models.training.teacher import Teacher
from dyncity_sim.errors import ConfigError


def train_distil(config: DistilTrainingConfig) -> Path:
    """Distil whole weights into ones that sample in few steps, and export these whole.

    Returns:
        The folder of exported weights.

    Raises:
        ConfigError: numbers of steps or evaluations that cannot be, or sampling that needs more than the student.
        InvalidInputError: a teacher without a transformer, or latents that are not of its autoencoder.
        CheckpointError: a teacher that is no folder of weights of the family.
    """
    _check(config)
    launch_of(config.run, config.optimiser)
    torch.manual_seed(config.run.seed)
    base, options, device = load_whole(Path(config.teacher), "teacher"), config.optimiser, training_device(config.run)
    complete = AnchoredConfig(
        base.config.autoencoder, base.config.transformer, config.sampling, known_world=base.config.known_world
    )
    fields = {"latents": config.latents, "validation_latents": config.validation_latents}
    latents, held_out = (
        latents_of(Path(folder), field, base, base.config.transformer.takes_layout, device)
        for field, folder in fields.items()
    )
    for encoded, field in zip((latents, held_out), fields, strict=True):
        encoded.check_known_world(base.config.known_world, field)
    train = LatentBatches(latents, options.batch, config.run.seed, *batch_numbers(config.run, options))
    validation = SpreadLatents(held_out, config.run.validation_clips, options.batch)
    task = DistilTask(config, Teacher(base, device, config.run))
    learns_from = {
        "autoencoder": digest_of(base.autoencoder),
        KNOWN_WORLD: latents.known_world,
        "teacher": base.model_id,
    }
    fit(task, train, validation, config, config.run, options, learns_from)
    export = Path(config.run.out) / "export"
    if is_first_process():
        save_model(export, complete, base.autoencoder, task.transformer, task.normalisation)
    return export


def _check(config: DistilTrainingConfig) -> None:
    sampling = config.sampling
    counts = {"sampling.steps": sampling.steps, "evaluations": config.evaluations, "limit_steps": config.limit_steps}
    for name, count in counts.items():
        if not 1 <= count <= STEPS:
            raise ConfigError(name, count, f"an integer in [1, {STEPS}]")
    if sampling.sampler != "euler":
        raise ConfigError("sampling.sampler", sampling.sampler, "euler, whose steps the student learns")
    if sampling.guidance_scale != 1.0:
        raise ConfigError("sampling.guidance_scale", sampling.guidance_scale, "1: the student learns the teacher's")
