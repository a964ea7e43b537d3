"""Where a run's figures go besides the progress bar."""

from collections.abc import Iterable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from dyncity_models.training.config import RunConfig
from dyncity_sim.errors import ConfigError, MissingExtraError

LOGGERS = ("csv", "tensorboard", "wandb")
"""Names that ``run.loggers`` takes; the package of each but the first is an extra of the same name."""


def loggers_of(run: RunConfig) -> list[Logger]:
    """The loggers that ``run.loggers`` names, each in a folder of ``run.out``.

    Raises:
        ConfigError: an unknown name, or one twice.
        MissingExtraError: the package of a logger is not installed.
    """
    unknown = [name for name in run.loggers if name not in LOGGERS]
    if unknown or len(set(run.loggers)) < len(run.loggers):
        raise ConfigError("run.loggers", ", ".join(run.loggers), f"each at most once of {', '.join(LOGGERS)}")
    return [_logger(name, Path(run.out)) for name in run.loggers]


def log_config(loggers: Iterable[Logger], config: Any) -> None:
    """Show a run's configuration where runs are compared; a CSV logger's folder has it as ``config.yaml``."""
    for logger in loggers:
        if not isinstance(logger, CSVLogger):
            logger.log_hyperparams(asdict(config))


def end_log(loggers: Iterable[Logger]) -> None:
    """End what else would take in the next run of this process, too: a run of Weights & Biases."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()


def _logger(name: str, out: Path) -> Logger:
    if name == "csv":
        return CSVLogger(out, name="log")
    if find_spec(name) is None:
        raise MissingExtraError(name, name, f"The logger {name!r} (run.loggers)")
    if name == "tensorboard":
        return TensorBoardLogger(out, name="tensorboard")
    return WandbLogger(name=out.name, save_dir=out, project="dyncity-sim")
