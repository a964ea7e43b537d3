"""The seam between serving and a model: what a backend must do, and how one is found."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from dyncity_sim.domain.conditions import Conditions, Continuation, SamplingOptions
from dyncity_sim.domain.generation import GeneratedChunk, ModelInfo
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.extras import load_named

BACKEND_GROUP = "dyncity_sim.backends"
"""Entry point group under which backends register a BackendFactory."""

Checkpoint = Callable[[int], None]
"""Called between denoising steps with the number of steps done; may raise to drop the work."""


class Backend(Protocol):
    """A loaded model. Calls are blocking and come from one thread at a time."""

    @property
    def info(self) -> ModelInfo:
        """What this model can do."""
        ...

    def warm_up(self) -> None:
        """Do once what would make the first request slow."""
        ...

    def generate(self, conditions: Conditions, options: SamplingOptions, checkpoint: Checkpoint) -> GeneratedChunk:
        """Generate one chunk. ``options.seed`` is always set by the engine.

        Raises:
            InvalidInputError: a condition does not fit the model.
            UnsupportedConditionError: the weights were not trained with a condition that was given.
        """
        ...

    def encode(self, occupancy: OccupancySequence) -> Continuation:
        """Turn observed occupancy into what the next chunk continues from.

        Raises:
            InvalidInputError: wrong grid, taxonomy or number of frames.
        """
        ...


BackendFactory = Callable[[Path | None, Sequence[str]], Backend]
"""Builds a backend from a weights folder, or from its bundled weights when None, and options of its own, ``key=value``.

Raises ConfigError at an option that it does not know."""


def load_backend(name: str, weights: Path | None, options: Sequence[str] = ()) -> Backend:
    """Build the backend registered as ``name``.

    Raises:
        InvalidInputError: no backend, or more than one, has that name.
        MissingExtraError: a package that the backend is made of is not installed.
        CheckpointError: the weights are missing, truncated or of another model.
        ConfigError: the backend does not know an option.
    """
    factory: BackendFactory = load_named(BACKEND_GROUP, name, "backend")
    return factory(weights, options)
