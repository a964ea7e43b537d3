"""Which model family a folder of weights is of."""

import json
from pathlib import Path

from dyncity_sim.errors import CheckpointError

FAMILIES = ("anchored", "reference")


def family_of(weights: Path) -> str:
    """One of ``FAMILIES``.

    Raises:
        CheckpointError: no weights, damaged ones, or those of a family that is unknown.
    """
    file = weights / "model.json"
    try:
        described = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(
            "weights", f"no model.json in {weights}", "a folder that dyncity train or import-checkpoint wrote"
        ) from error
    except ValueError as error:
        raise CheckpointError("weights", f"{file}: {error}", "valid JSON") from error
    family = described.get("family") if isinstance(described, dict) else None
    if family not in FAMILIES:
        raise CheckpointError("weights", f"family {family!r} in {file}", f"one of {', '.join(FAMILIES)}")
    return family
