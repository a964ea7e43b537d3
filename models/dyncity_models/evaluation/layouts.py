"""Whether vehicles stand where a layout asks for them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dyncity_sim.domain.conditions import Conditions, EgoPlan, SamplingOptions, VehicleLayout
from dyncity_sim.domain.generation import GeneratedChunk
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.engine.backend import Backend


@dataclass(frozen=True)
class LayoutScore:
    """Layouts of generated chunks against those asked for, over chunks that were recorded with vehicles.

    Attributes:
        chunks: how many.
        iou: intersection over union of all cells of all their frames, generated with the layout; NaN without chunks.
        iou_without: the same, generated from the same plans and seeds without it: what chance and the road give.
    """

    chunks: int
    iou: float
    iou_without: float


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
    chunks = 0
    cells = {"with": [0, 0], "without": [0, 0]}
    for (plan, truth), alone in zip(recorded, without, strict=True):
        layout = VehicleLayout.of(truth)
        if not layout.cells.any():
            continue
        chunks += 1
        options = SamplingOptions(seed=alone.seed, steps=steps)
        chunk = backend.generate(Conditions(plan, plan.command, layout=layout), options, lambda step: None)
        for name, generated in (("with", chunk), ("without", alone)):
            found = VehicleLayout.of(generated.occupancy).cells
            cells[name][0] += int((found & layout.cells).sum())
            cells[name][1] += int((found | layout.cells).sum())
    iou, iou_without = (both / either if either else float("nan") for both, either in cells.values())
    return LayoutScore(chunks, iou, iou_without)
