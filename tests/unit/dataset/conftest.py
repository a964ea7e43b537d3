"""CarlaSC as its makers write it: floats in ``evaluation/params.json``, ``numpy.savetxt`` for poses and times."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROAD, BUILDING = 7, 1


def write_published(sequence: Path, shape: tuple[int, int, int] = (128, 128, 8), **params: Any) -> Path:
    """Three frames 0.1 s apart, 0.8 m forward each; a building to the left, which is where y is small."""
    evaluation = sequence / "cartesian" / "evaluation"
    evaluation.mkdir(parents=True)
    labels = np.zeros(shape, np.uint32)
    labels[:, :, 0] = ROAD
    labels[:, : shape[1] // 8, 1:] = BUILDING
    for frame in range(3):
        labels.tofile(evaluation / f"{frame:06d}.label")
        np.ones(shape, np.float32).tofile(evaluation / f"{frame:06d}.bin")
    poses = np.tile(np.eye(4)[:3], (3, 1, 1))
    poses[:, 0, 3] = 0.8 * np.arange(3)
    np.savetxt(sequence / "cartesian" / "poses.txt", poses.reshape(3, 12))
    np.savetxt(sequence / "cartesian" / "times.txt", 0.1 * np.arange(3))
    described = {
        "grid_size": [float(size) for size in shape],
        "min_bound": np.array([-25.6, -25.6, -2.0], np.float32).tolist(),
        "max_bound": np.array([25.6, 25.6, 1.0], np.float32).tolist(),
        "num_channels": 25,
        "coordinates": "cartesian",
    }
    (evaluation / "params.json").write_text(json.dumps(described | params))
    return sequence


@pytest.fixture
def published_carlasc() -> Callable[..., Path]:
    """Writes a sequence in the published form; see ``write_published``."""
    return write_published
