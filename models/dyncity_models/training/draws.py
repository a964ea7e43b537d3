"""Random numbers of a batch: a function of the seed and its number, so that a resumed run draws the same."""

import numpy as np
import torch

from dyncity_models.training.config import RunConfig


def batch_generator(run: RunConfig, step: int, index: int, device: torch.device | str) -> torch.Generator:
    """A generator on ``device`` whose numbers depend on ``run.seed`` and the number of a batch alone.

    Args:
        run: says how many batches make a step.
        step: optimiser steps taken before this batch.
        index: of the batch, counted since a step began or since the run did.
        device: where to draw.
    """
    number = step * run.accumulate + index % run.accumulate
    (mixed,) = np.random.SeedSequence((run.seed, number)).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(mixed >> np.uint64(1)))
