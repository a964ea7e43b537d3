"""Random numbers of a training step: a function of the seed and the step, so that a resumed run draws the same."""

import numpy as np
import torch


def step_generator(seed: int, step: int, device: torch.device | str) -> torch.Generator:
    """A generator on ``device`` whose numbers depend on ``seed`` and ``step`` alone."""
    (mixed,) = np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(mixed >> np.uint64(1)))
