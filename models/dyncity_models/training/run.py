"""A training run: trainer, checkpoints, averaged weights, resumption."""

from collections.abc import Iterable
from pathlib import Path

import lightning
import torch
import yaml

from dyncity_models.training.averaging import Averaging
from dyncity_models.training.callbacks import Deadline, StepCheckpoint, TrainedSeconds
from dyncity_models.training.config import OptimiserConfig, RunConfig
from dyncity_models.training.launch import is_first_process, launch_of
from dyncity_models.training.loggers import end_log, log_config, loggers_of
from dyncity_models.training.progress import Pace, Progress
from dyncity_models.training.provenance import BesideCheckpoints, provenance_of
from dyncity_models.training.sharding import Shardable, ShardedStrategy
from dyncity_sim.config import save_config
from dyncity_sim.errors import ConfigError
from dyncity_sim.files import whole_file


def resumed_step(run: RunConfig) -> int:
    """Optimiser steps that the newest checkpoint of a run has behind it; 0 for a fresh run."""
    return _step_of(Path(run.out) / "checkpoints" / "last.ckpt")


def _step_of(checkpoint: Path) -> int:
    if not checkpoint.is_file():
        return 0
    return int(torch.load(checkpoint, map_location="cpu", weights_only=False)["global_step"])


def batch_numbers(run: RunConfig, optimiser: OptimiserConfig) -> tuple[int, int]:
    """Number of the batch after the last one, and of the first that is left."""
    return run.accumulate * optimiser.steps, run.accumulate * resumed_step(run)


def _check_accumulate(run: RunConfig) -> None:
    if run.accumulate < 1:
        raise ConfigError("run.accumulate", run.accumulate, "at least 1")
    before = Path(run.out) / "config.yaml"
    if not resumed_step(run) or not before.is_file():
        return
    accumulated = yaml.safe_load(before.read_text(encoding="utf-8"))["run"].get("accumulate", 1)
    if accumulated != run.accumulate:
        raise ConfigError(
            "run.accumulate",
            run.accumulate,
            f"{accumulated}, with which {run.out} was begun",
            "Batches are counted by it: give it another run.out.",
        )


def fit(
    task: lightning.LightningModule,
    train: Iterable[object],
    validation: Iterable[object],
    config: object,
    run: RunConfig,
    optimiser: OptimiserConfig,
) -> Path:
    """Train to the last step, going on from the newest checkpoint in ``run.out`` if there is one.

    With several processes, every one of them calls this; each validates on everything, every ``run.validate_every``
    steps and at the end (with sharded weights not at the end).
    A run that has ended already is not trained again: ``task`` gets its final weights.
    ``train`` gives batches from the first that is left, and its length is that of the whole run (``batch_numbers``).

    Returns:
        The final checkpoint, whose weights are the averaged ones.

    Raises:
        ConfigError: ``run.accumulate`` is less than 1, or another than that of the run that goes on;
            and as ``launch_of``.
    """
    launch = launch_of(run, optimiser)
    _check_accumulate(run)
    sharded = launch.strategy == "fsdp"
    if sharded and not isinstance(task, Shardable):
        raise ConfigError("run.strategy", "fsdp", "auto or ddp in this stage")
    out = Path(run.out)
    out.mkdir(parents=True, exist_ok=True)
    if is_first_process():
        with whole_file(out / "config.yaml") as temporary:
            save_config(config, temporary)
    if run.threads:
        torch.set_num_threads(run.threads)
    resume, final = (out / "checkpoints" / f"{name}.ckpt" for name in ("last", "final"))
    if _step_of(final) >= optimiser.steps:
        # The trainer would stop before its first step, and with that before it swaps in the averaged weights.
        task.load_state_dict(torch.load(final, map_location="cpu", weights_only=False)["state_dict"])
        return final
    trainer = lightning.Trainer(
        accelerator=run.accelerator,
        devices=launch.devices,
        num_nodes=launch.nodes,
        strategy=ShardedStrategy() if sharded else launch.strategy,
        use_distributed_sampler=False,
        precision=run.precision,  # type: ignore[arg-type]
        accumulate_grad_batches=run.accumulate,
        max_steps=optimiser.steps,
        max_epochs=-1,
        gradient_clip_val=optimiser.gradient_clip or None,
        logger=loggers_of(run),
        log_every_n_steps=run.log_every,
        val_check_interval=run.accumulate * run.validate_every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        # What is gathered in inference mode could not be used in training.
        inference_mode=not sharded,
        enable_model_summary=False,
        callbacks=[
            Averaging(optimiser.ema_decay),
            StepCheckpoint(
                out / "checkpoints",
                every_n_train_steps=run.checkpoint_every,
                save_last=True,
                save_top_k=1,
                enable_version_counter=False,
            ),
            BesideCheckpoints(out / "checkpoints", config, provenance_of(Path(__file__))),
            TrainedSeconds(),
            Progress(optimiser.batch, Pace(run.accumulate * optimiser.steps, 60 * run.most_minutes)),
            *([Deadline(60 * run.most_minutes, resume)] if run.most_minutes else []),
        ],
    )
    log_config(trainer.loggers, config)
    trainer.fit(task, train, validation, ckpt_path=resume if resume.is_file() else None, weights_only=False)
    trainer.save_checkpoint(final)
    # Shards of weights are gone when training ends.
    if trainer.global_step % run.validate_every and not sharded:
        trainer.validate(task, validation, verbose=False)
    end_log(trainer.loggers)
    return final
