"""What a model says of itself, and what it returns."""

from dataclasses import dataclass

from dyncity_sim.domain.conditions import MOST_STEPS, Continuation
from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.taxonomy import Taxonomy


@dataclass(frozen=True)
class ModelInfo:
    """What a loaded model can do.

    Attributes:
        model_id: hash of weights and configuration, e.g. ``anchored-3f2a…``.
        family: model family: ``anchored``, ``reference`` or ``null``.
        grid: grid of everything it generates and encodes.
        taxonomy: classes of everything it generates and encodes.
        frames_per_chunk: T of each chunk.
        rate_hz: frames per second.
        conditions: names of the conditions the weights were trained with, among ``plan``,
            ``command``, ``continuation``, ``layout``, ``known_region``.
        samplers: names of the samplers it offers, the default first.
        default_steps: network evaluations per chunk when a request names none.
        max_steps: most network evaluations a request may ask for.
    """

    model_id: str
    family: str
    grid: Grid
    taxonomy: Taxonomy
    frames_per_chunk: int
    rate_hz: float
    conditions: tuple[str, ...]
    samplers: tuple[str, ...]
    default_steps: int
    max_steps: int = MOST_STEPS


@dataclass(frozen=True)
class Timings:
    """Where a chunk's time went, seconds."""

    queue_s: float = 0.0
    sampling_s: float = 0.0
    decoding_s: float = 0.0


@dataclass(frozen=True, eq=False)
class GeneratedChunk:
    """One generated chunk.

    Attributes:
        occupancy: T frames at the plan's poses and times; every cell is known.
        continuation: what the next chunk's request sends back.
        seed: the seed that was used; the same one reproduces the chunk.
        model_id: the model that made it.
        timings: where the time went.
    """

    occupancy: OccupancySequence
    continuation: Continuation
    seed: int
    model_id: str
    timings: Timings
