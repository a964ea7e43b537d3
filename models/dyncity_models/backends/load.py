"""The backend of a weights folder, whichever family it is of."""

from collections.abc import Sequence
from pathlib import Path

import torch

from dyncity_models.anchored.checkpoint import BUNDLED, load_model
from dyncity_models.backends.anchored.backend import AnchoredBackend
from dyncity_models.backends.anchored.pipeline import BF16, AnchoredPipeline
from dyncity_models.backends.reference.backend import ReferenceBackend
from dyncity_models.backends.reference.pipeline import ReferencePipeline
from dyncity_models.execution import Execution
from dyncity_models.family import family_of
from dyncity_models.reference.checkpoint import load_reference
from dyncity_sim.config import overridden

SAMPLING = "sampling."
"""What options of sampling begin with."""


def load(weights: Path | None, options: Sequence[str] = ()) -> "AnchoredBackend | ReferenceBackend":
    """Build the backend of a weights folder's family (the bundled one when None), on the GPU if there is one.

    Args:
        weights: the folder.
        options: ``key=value`` of ``Execution``, and ``sampling.key=value`` of the sampling defaults of the weights.

    Raises:
        CheckpointError: the weights are missing, truncated or of another model.
        ConfigError: an option that is none of these, or that the family or the device cannot run with.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    folder = weights or BUNDLED
    reference = family_of(folder) == "reference"
    sampling = [option.removeprefix(SAMPLING) for option in options if option.startswith(SAMPLING)]
    running = [option for option in options if not option.startswith(SAMPLING)]
    execution = overridden(Execution() if reference else BF16, running)
    if reference:
        return ReferenceBackend(ReferencePipeline(load_reference(folder, sampling), device, execution))
    return AnchoredBackend(AnchoredPipeline(load_model(folder, sampling), device, execution))
