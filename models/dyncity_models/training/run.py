"""A training run: trainer, checkpoints, averaged weights, resumption."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import lightning
import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from dyncity_models.training.averaging import Averaging
from dyncity_models.training.callbacks import Deadline, StepCheckpoint, TrainedSeconds
from dyncity_models.training.checkpoints import WholeCheckpoints, read_checkpoint
from dyncity_models.training.config import OptimiserConfig, RunConfig
from dyncity_models.training.launch import Launch, is_first_process, launch_of, training_device
from dyncity_models.training.loggers import end_log, log_config, loggers_of
from dyncity_models.training.progress import Pace, Progress
from dyncity_models.training.provenance import BesideCheckpoints, provenance_of
from dyncity_models.training.quiet import without_chatter
from dyncity_models.training.sharding import Shardable, ShardedStrategy
from dyncity_sim.config import save_config
from dyncity_sim.errors import ConfigError
from dyncity_sim.files import json_bytes, whole_file, write_bytes

CHECKPOINTS = "checkpoints"
"""Folder of a run's checkpoints, in its ``out``."""


def resumed_step(run: RunConfig) -> int:
    """Optimiser steps that the newest checkpoint of a run has behind it; 0 for a fresh run."""
    return _step_of(Path(run.out) / CHECKPOINTS / "last.ckpt")


def _step_of(checkpoint: Path) -> int:
    if not checkpoint.is_file():
        return 0
    return int(read_checkpoint(checkpoint)["global_step"])


def batch_numbers(run: RunConfig, optimiser: OptimiserConfig) -> tuple[int, int]:
    """Number of the batch after the last one, and of the first that is left."""
    return run.accumulate * optimiser.steps, run.accumulate * resumed_step(run)


KEPT = ("family", "kind", "model", "optimiser.muon", "optimiser.lr", "optimiser.weight_decay", "run.accumulate")
"""What a run keeps for life: checkpoints hold the weights of one architecture and optimiser, and count batches in their
steps."""

LEARNT_FROM = "learnt_from.json"
"""Beside a run's configuration, which names folders, what these held."""


def _check_resumable(config: object, run: RunConfig, learns_from: Mapping[str, str]) -> None:
    if run.accumulate < 1:
        raise ConfigError("run.accumulate", run.accumulate, "at least 1")
    file = Path(run.out) / "config.yaml"
    if not file.is_file() or not resumed_step(run):
        return
    # Both as they are written, where what a configuration made tuples of are lists.
    began, goes_on = _read_begun(file), OmegaConf.create(OmegaConf.to_yaml(OmegaConf.structured(config)))
    # Later versions may have keys that earlier ones had not.
    if {*began} - {*goes_on}:
        raise ConfigError("run.out", run.out, "a folder of its own for each stage", "It holds a run of another one.")
    before, now = ({k: v for name in KEPT for k, v in _values(c, name).items()} for c in (began, goes_on))
    for name, kept in before.items():
        if now.get(name) != kept:
            raise ConfigError(
                name, now.get(name), f"{kept}, with which {run.out} was begun", "Give it another run.out."
            )
    held = _read_learnt_from(Path(run.out) / LEARNT_FROM)
    for name, holds in learns_from.items():
        if held.get(name, holds) != holds:
            raise ConfigError(
                name, holds, f"{held[name]}, which {run.out} has learnt from so far", "Give it another run.out."
            )


def _read_begun(file: Path) -> DictConfig:
    try:
        begun = OmegaConf.load(file)
        if OmegaConf.is_dict(begun) and begun:
            return cast(DictConfig, begun)
        said = "no keys"
    except (OmegaConfBaseException, YAMLError, UnicodeDecodeError, OSError) as error:
        said = f"{type(error).__name__} while reading"
    copy = file.parent / CHECKPOINTS / file.name
    raise ConfigError("run.out", f"{file}: {said}", "the configuration of the run", f"{copy} is a copy of it.")


def _read_learnt_from(file: Path) -> dict[str, str]:
    """Nothing where there is none, as of runs of earlier versions."""
    try:
        held = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        if isinstance(held, dict):
            return held
        said = type(held).__name__
    except (OSError, ValueError) as error:
        said = str(error)
    mend = "Without it, the run goes on and takes your word for what it has learnt from."
    raise ConfigError("run.out", f"{file}: {said}", "a JSON object", mend)


def _values(config: Any, name: str) -> dict[str, object]:
    """The value of that name, or those that it holds; none where there is none."""
    found = OmegaConf.select(config, name)
    if OmegaConf.is_dict(found):
        held = OmegaConf.to_container(found)
        assert isinstance(held, dict)
        return {f"{name}.{key!s}": value for key, value in held.items()}
    return {} if found is None else {name: found}


def fit(
    task: lightning.LightningModule,
    train: Iterable[object],
    validation: Iterable[object],
    config: object,
    run: RunConfig,
    optimiser: OptimiserConfig,
    learns_from: Mapping[str, str] | None = None,
) -> Path:
    """Train to the last step, going on from the newest checkpoint in ``run.out`` if there is one.

    With several processes, every one of them calls this; each validates on everything, every ``run.validate_every``
    steps and at the end (with sharded weights not at the end).
    A run that has ended already is not trained again: ``task`` gets its final weights.
    ``train`` gives batches from the first that is left, and its length is that of the whole run (``batch_numbers``).
    ``learns_from`` says by name, as a digest or in a word, what the task's weights are worth nothing without.

    Returns:
        The final checkpoint, whose weights are the averaged ones.

    Raises:
        ConfigError: ``run.accumulate`` is less than 1; the run that goes on is of another stage, began with other
            values of what it keeps (``KEPT``), has learnt from something else, or cannot be read; and as ``launch_of``.
        CheckpointError: the newest checkpoint is damaged.
        StorageError: ``run.out`` cannot be written to, or the disk is full.
        KeyboardInterrupt: when interrupted.
    """
    launch = launch_of(run, optimiser)
    learns_from = learns_from or {}
    _check_resumable(config, run, learns_from)
    if launch.sharded and not isinstance(task, Shardable):
        raise ConfigError("run.strategy", "fsdp", "auto or ddp in this stage")
    if is_first_process():
        with whole_file(Path(run.out) / "config.yaml") as temporary:
            save_config(config, temporary)
        write_bytes(json_bytes(dict(learns_from)), Path(run.out) / LEARNT_FROM)
    if run.threads:
        torch.set_num_threads(run.threads)
    resume, final = (Path(run.out) / CHECKPOINTS / f"{name}.ckpt" for name in ("last", "final"))
    if _step_of(final) >= optimiser.steps:
        # The trainer would stop before its first step, and with that before it swaps in the averaged weights.
        task.load_state_dict(read_checkpoint(final)["state_dict"])
        if is_first_process():
            print(f"{run.out} has {_step_of(final)} steps behind it; a higher optimiser.steps lets it go on")
        return final
    with without_chatter():
        trainer = _trainer(launch, config, run, optimiser)
        log_config(trainer.loggers, config)
        try:
            trainer.fit(task, train, validation, ckpt_path=resume if resume.is_file() else None, weights_only=True)
        except SystemExit as end:
            # Lightning ends an interrupted process as if it had failed.
            if isinstance(end.__context__, KeyboardInterrupt):
                raise end.__context__ from None
            raise
        trainer.save_checkpoint(final)
        # Shards of weights are gone when training ends.
        if trainer.global_step % run.validate_every and not launch.sharded:
            trainer.validate(task, validation, verbose=False)
        end_log(trainer.loggers)
    return final


def _trainer(launch: Launch, config: object, run: RunConfig, optimiser: OptimiserConfig) -> lightning.Trainer:
    """What trains, keeps checkpoints, averages weights and tells of it, as a run asks for."""
    checkpoints = Path(run.out) / CHECKPOINTS
    return lightning.Trainer(
        accelerator=training_device(run).type,
        devices=launch.devices,
        num_nodes=launch.nodes,
        strategy=ShardedStrategy() if launch.sharded else launch.strategy,
        use_distributed_sampler=False,
        precision=run.precision,  # type: ignore[arg-type]
        accumulate_grad_batches=run.accumulate,
        max_steps=optimiser.steps,
        max_epochs=-1,
        gradient_clip_val=optimiser.gradient_clip or None,
        logger=loggers_of(run, resumed_step(run)),
        plugins=[WholeCheckpoints()],
        # A run that is too short for that logs its last step.
        log_every_n_steps=min(run.log_every, optimiser.steps),
        val_check_interval=run.accumulate * run.validate_every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        # What is gathered in inference mode could not be used in training.
        inference_mode=not launch.sharded,
        enable_model_summary=False,
        enable_progress_bar=False,
        callbacks=[
            Averaging(optimiser.ema_decay),
            StepCheckpoint(
                checkpoints,
                every_n_train_steps=run.checkpoint_every,
                save_last=True,
                save_top_k=0,
                enable_version_counter=False,
            ),
            BesideCheckpoints(checkpoints, config, provenance_of(Path(__file__))),
            TrainedSeconds(),
            Progress(optimiser.batch, Pace(run.accumulate * optimiser.steps, 60 * run.most_minutes)),
            *([Deadline(60 * run.most_minutes, checkpoints / "last.ckpt")] if run.most_minutes else []),
        ],
    )
