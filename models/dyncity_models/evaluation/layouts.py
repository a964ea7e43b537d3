"""Whether vehicles stand where a layout asks for them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from dyncity_sim.domain.conditions import Conditions, EgoPlan, SamplingOptions, VehicleLayout
from dyncity_sim.domain.generation import GeneratedChunk
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.engine.backend import Backend


@dataclass(frozen=True, eq=False)
class LayoutScore:
    """Layouts of generated chunks against those asked for, over chunks that were recorded with vehicles.

    Attributes:
        cells: cells of all frames of each chunk that both layouts hold, and that either holds, generated with the
            layout, ``(N, 2)``.
        cells_without: the same, generated from the same plans and seeds without it: what chance and the road give.
    """

    cells: Int64[np.ndarray, "N 2"]
    cells_without: Int64[np.ndarray, "N 2"]


def layout_iou(cells: Int64[np.ndarray, " 2"]) -> float:
    """Intersection over union of cells that both hold, and that either holds; NaN when none does."""
    return float(cells[0] / cells[1]) if cells[1] else float("nan")


def score_layouts(
    backend: Backend,
    recorded: Iterator[tuple[EgoPlan, OccupancySequence]],
    without: Sequence[GeneratedChunk],
    steps: int | None,
) -> LayoutScore:
    """Generate every chunk again with the layout of what was recorded.

    Args:
        backend: the model.
        recorded: plans and what was recorded along them.
        without: chunks generated from the same plans without a layout.
        steps: network evaluations per chunk, or None for the model's default.
    """
    cells: list[tuple[list[int], list[int]]] = []
    for (plan, truth), alone in zip(recorded, without, strict=True):
        layout = VehicleLayout.of(truth)
        if not layout.cells.any():
            continue
        options = SamplingOptions(seed=alone.seed, steps=steps)
        chunk = backend.generate(Conditions(plan, plan.command, layout=layout), options, lambda step: None)
        cells.append((_shared(chunk, layout), _shared(alone, layout)))
    of_chunks = np.array(cells, dtype=np.int64).reshape(-1, 2, 2)
    return LayoutScore(of_chunks[:, 0], of_chunks[:, 1])


def _shared(chunk: GeneratedChunk, layout: VehicleLayout) -> list[int]:
    """Cells of all frames that both the chunk's layout and another hold, and that either holds."""
    found = VehicleLayout.of(chunk.occupancy).cells
    return [int((found & layout.cells).sum()), int((found | layout.cells).sum())]
