"""Where a run's figures go besides the progress bar."""

from collections.abc import Iterable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from dyncity_models.training.config import RunConfig
from dyncity_models.training.loss_log import LossLog
from dyncity_sim.errors import MissingExtraError

LOG = Path("log") / "metrics.csv"
"""In a run's folder: the figures of its steps."""


def loggers_of(run: RunConfig, done: int) -> list[Logger]:
    """The loggers that ``run.loggers`` names, each in a folder of ``run.out``; the run has ``done`` steps behind it.

    Raises:
        InvalidInputError: the log of the run is damaged.
        MissingExtraError: the package of a logger is not installed.
    """
    return [_logger(name, Path(run.out), done) for name in run.loggers]


def log_config(loggers: Iterable[Logger], config: Any) -> None:
    """Show a run's configuration where runs are compared."""
    for logger in loggers:
        logger.log_hyperparams(asdict(config))


def end_log(loggers: Iterable[Logger]) -> None:
    """Draw what was logged; end what would take in the next run of this process, too: a run of Weights & Biases."""
    for logger in loggers:
        if isinstance(logger, LossLog):
            logger.draw()
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()


def _logger(name: str, out: Path, done: int) -> Logger:
    if name == "csv":
        return LossLog(out / LOG, done)
    if find_spec(name) is None:
        raise MissingExtraError(name, name, f"The logger {name!r} (run.loggers)")
    if name == "tensorboard":
        return TensorBoardLogger(out, name="tensorboard")
    return WandbLogger(name=out.name, save_dir=out, project="dyncity-sim")
