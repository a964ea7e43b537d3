"""What lightning says in its own words while a run trains, and users are not to read."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

CHATTY = ("lightning.pytorch", "lightning.fabric")
"""Loggers that tell of devices that are not there, of services to buy, and twice of what a run tells itself."""

NOT_SO_HERE = (
    # Of lightning's own code.
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    # Batches are numbered: a run goes on with the one that comes next. Frames lie in memory, where nobody has to work.
    "You're resuming from a checkpoint that ended before the epoch ended",
    "The '.*_dataloader' does not have many workers",
    # A run that goes on does so in its folder, wherever that has been moved to.
    "Checkpoint directory .* exists and is not empty",
    "The dirpath has changed from",
)
"""Warnings, by how they begin, of what is no fault of a run of ours."""


@contextmanager
def without_chatter() -> Iterator[None]:
    """Leave out what lightning tells below a warning, and the warnings that do not hold here; all others come."""
    loggers = [logging.getLogger(name) for name in CHATTY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in NOT_SO_HERE:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
