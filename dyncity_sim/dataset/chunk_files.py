"""How generated drives lie on disk: a file of arrays for each chunk, and one that describes them.

A chunk's file holds ``labels`` (T X Y Z uint8), ``poses_world_from_ego`` (T 4 4 float64) and ``times_us`` (T int64). A
co-simulated one has ``recorded_labels``, the simulator's, beside them, and ``recorded_observed``, their observed cells
as bits (``numpy.packbits`` in C order).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dyncity_sim.compression import read_arrays
from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.taxonomy import Taxonomy
from dyncity_sim.files import whole_file

DRIVE, GENERATION = "dyncity-drive", "dyncity-generation"
DESCRIPTIONS = {"drive.json": DRIVE, "generation.json": GENERATION}
"""File that describes a generated drive, and the format it names: of ``cosim`` and ``demo``, and of ``generate``."""

FORMAT_VERSION = 1

UNDER_WAY = "under way, or stopped from outside"
"""What a description says of why there are no further chunks, until it is known."""


def chunk_name(number: int) -> str:
    """Name of the file of a chunk."""
    return f"chunk_{number:04d}.npz"


def arrays_of(occupancy: OccupancySequence) -> dict[str, np.ndarray]:
    """The arrays that every chunk's file has."""
    return {
        "labels": occupancy.labels,
        "poses_world_from_ego": occupancy.poses_world_from_ego,
        "times_us": occupancy.times_us,
    }


def write_chunk(arrays: Mapping[str, np.ndarray], file: Path) -> None:
    """Write a chunk's file; the same arrays give the same bytes.

    Raises:
        StorageError: the disk is full, or the place may not be written to.
    """
    # NumPy puts .npz behind the name of a file that it opens itself.
    with whole_file(file) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)


def chunk_length(file: Path) -> int:
    """How many frames a chunk's file holds, from its times alone.

    Raises:
        InvalidInputError: the file is damaged.
        ValueError: it holds no frame.
    """
    frames = len(read_arrays(file, ("times_us",))["times_us"])
    if not frames:
        raise ValueError("0 frames, not at least 1")
    return frames


def read_chunk(file: Path, grid: Grid, taxonomy: Taxonomy) -> tuple[OccupancySequence, OccupancySequence | None]:
    """(Generated frames, the simulator's or None) of a chunk's file.

    Raises:
        InvalidInputError, TypeError, ValueError, KeyError: what may come of a damaged file.
    """
    arrays = read_arrays(file, ("labels", "poses_world_from_ego", "times_us"), ("recorded_labels", "recorded_observed"))
    poses, times_us = arrays["poses_world_from_ego"], arrays["times_us"]
    generated = OccupancySequence(arrays["labels"], poses, times_us, grid, taxonomy)
    if "recorded_labels" not in arrays:
        return generated, None
    recorded = arrays["recorded_labels"]
    observed = np.unpackbits(arrays["recorded_observed"], count=recorded.size).reshape(recorded.shape).astype(bool)
    return generated, OccupancySequence(recorded, poses, times_us, grid, taxonomy, observed)


def grid_of(described: dict[str, Any]) -> Grid:
    """The grid that ``groundtruth.formats.describe.grid_json`` described."""
    return Grid(*(tuple(described[key]) for key in ("shape", "lower_m", "voxel_size_m")))


def frame_caption(number: int, command: str | None) -> str:
    """Text under the frames of a chunk."""
    return f"chunk {number + 1}" + (f", {command}" if command else "")
