"""What can be told of a request before any work is done."""

import numpy as np

from dyncity_sim.domain.conditions import LAYOUT_COLUMNS, Conditions, SamplingOptions
from dyncity_sim.domain.generation import ModelInfo
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.errors import InvalidInputError, UnsupportedConditionError

RATE_TOLERANCE = 0.05
"""Largest accepted deviation of a step from the model's, relative; a simulator's clock may jitter."""


def check_request(info: ModelInfo, conditions: Conditions, options: SamplingOptions) -> None:
    """Raise when the model cannot serve this request.

    Raises:
        UnsupportedConditionError: the weights were not trained with a condition that is given.
        InvalidInputError: the plan has another length or rate than the model, layout or known region have
            another grid, the continuation is another model's, or an option lies beyond what the model offers.
    """
    for name in conditions.given():
        if name not in info.conditions:
            raise UnsupportedConditionError(
                f"{info.model_id} was not trained with the condition {name!r}; "
                f"it supports: {', '.join(info.conditions) or 'none'}."
            )
    if conditions.plan is not None:
        _check_frames(info, len(conditions.plan), conditions.plan.times_us, "plan")
    continuation = conditions.continuation
    if continuation is not None and continuation.model_id != info.model_id:
        raise InvalidInputError(
            "continuation.model_id",
            repr(continuation.model_id),
            repr(info.model_id),
            "A continuation is read by the model that made it only: start a new drive or encode occupancy.",
        )
    if conditions.layout is not None:
        expected = (info.frames_per_chunk, *(cells // LAYOUT_COLUMNS for cells in info.grid.shape[:2]))
        if conditions.layout.cells.shape != expected:
            raise InvalidInputError("layout.shape", conditions.layout.cells.shape, str(expected))
    if conditions.known_region is not None:
        check_occupancy(info, conditions.known_region, "known_region")
    for name in options.guidance_scales:
        if name not in info.conditions:
            raise InvalidInputError("options.guidance_scales", repr(name), f"one of {', '.join(info.conditions)}")
    if options.steps is not None and options.steps > info.max_steps:
        raise InvalidInputError("options.steps", options.steps, f"at most {info.max_steps}")
    if options.sampler is not None and options.sampler not in info.samplers:
        raise InvalidInputError("options.sampler", repr(options.sampler), f"one of {', '.join(info.samplers)}")


def check_occupancy(info: ModelInfo, occupancy: OccupancySequence, noun: str = "occupancy") -> None:
    """Raise InvalidInputError when the model cannot encode this occupancy; fields are named under ``noun``."""
    if occupancy.grid != info.grid:
        raise InvalidInputError(f"{noun}.grid", occupancy.grid, str(info.grid), "Grids are never resampled silently.")
    if occupancy.taxonomy != info.taxonomy:
        raise InvalidInputError(f"{noun}.taxonomy_id", repr(occupancy.taxonomy.id), repr(info.taxonomy.id))
    _check_frames(info, len(occupancy), occupancy.times_us, noun)


def _check_frames(info: ModelInfo, frames: int, times_us: np.ndarray, noun: str) -> None:
    if frames != info.frames_per_chunk:
        raise InvalidInputError(f"{noun}.poses_world_from_ego", f"{frames} frames", f"{info.frames_per_chunk}")
    if frames == 1:
        return
    step_us = 1e6 / info.rate_hz
    steps_us = np.diff(times_us)
    worst = int(np.abs(steps_us - step_us).argmax())
    if abs(steps_us[worst] - step_us) > RATE_TOLERANCE * step_us:
        raise InvalidInputError(
            f"{noun}.times_us",
            f"{steps_us[worst]} microseconds between frames {worst} and {worst + 1}",
            f"{step_us:.0f}",
            f"The model runs at {info.rate_hz:g} Hz and resamples nothing.",
        )
