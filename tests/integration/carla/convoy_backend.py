"""A backend that draws a road with 48 vehicles around the ego that all drive as it does: many actors, for long."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dyncity_sim.domain.conditions import Conditions, Continuation, SamplingOptions
from dyncity_sim.domain.generation import GeneratedChunk, ModelInfo, Timings
from dyncity_sim.domain.grid import CARLASC_GRID, FRAME_RATE_HZ, FRAMES_PER_CHUNK
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.engine.backend import Checkpoint

SPACING_CELLS = 12
ROWS = 7
LENGTH_CELLS, WIDTH_CELLS = 5, 3


class ConvoyBackend:
    """Draws the same frame at every pose."""

    info = ModelInfo(
        "convoy-1",
        "null",
        CARLASC_GRID,
        CARLASC,
        FRAMES_PER_CHUNK,
        float(FRAME_RATE_HZ),
        ("plan", "command", "continuation"),
        ("drawing",),
        1,
    )

    def warm_up(self) -> None:
        pass

    def generate(self, conditions: Conditions, options: SamplingOptions, checkpoint: Checkpoint) -> GeneratedChunk:
        checkpoint(0)
        assert conditions.plan is not None
        assert options.seed is not None
        plan = conditions.plan
        labels = np.tile(frame(), (len(plan), 1, 1, 1))
        occupancy = OccupancySequence(labels, plan.poses_world_from_ego, plan.times_us, CARLASC_GRID, CARLASC)
        return GeneratedChunk(occupancy, Continuation("convoy-1", b"on"), options.seed, "convoy-1", Timings())

    def encode(self, occupancy: OccupancySequence) -> Continuation:
        return Continuation("convoy-1", b"on")


def frame() -> np.ndarray:
    """Road everywhere, and a square of ROWS x ROWS vehicles without the one where the ego is."""
    labels = np.zeros(CARLASC_GRID.shape, dtype=np.uint8)
    labels[..., 0] = CARLASC.index("road")
    for row in range(-(ROWS // 2), ROWS // 2 + 1):
        for column in range(-(ROWS // 2), ROWS // 2 + 1):
            if (row, column) == (0, 0):
                continue
            x, y = 64 + row * SPACING_CELLS, 64 + column * SPACING_CELLS
            labels[x - 2 : x - 2 + LENGTH_CELLS, y - 1 : y - 1 + WIDTH_CELLS, 1:5] = CARLASC.index("vehicle")
    return labels


def load(weights: Path | None, options: Sequence[str] = ()) -> ConvoyBackend:
    return ConvoyBackend()
