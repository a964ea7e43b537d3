"""The street's recording as training reads it, and what it is encoded to."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from dyncity_models.data.clips import ClipSource
from dyncity_models.data.encoding import encoding_of


@pytest.fixture(scope="session")
def source(recording) -> ClipSource:
    """The drives of the recording."""
    return ClipSource([recording])


@pytest.fixture(scope="session")
def encode(source, build_autoencoder) -> Callable[[int], dict[str, np.ndarray]]:
    """A function that encodes a chunk of each drive, so many drives at once."""

    def run(at_once: int) -> dict[str, np.ndarray]:
        encoding = encoding_of(build_autoencoder(), source, "tiny", 0, 1, torch.device("cpu"), at_once)
        with torch.inference_mode():
            return encoding.rows(map(encoding.read, range(len(source))))

    return run


@pytest.fixture(scope="session")
def rows(encode) -> dict[str, np.ndarray]:
    """The chunks, each plain and then mirrored: six rows."""
    return encode(2)
