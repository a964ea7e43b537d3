"""What ``model.json`` says of a folder of weights."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dyncity_sim.config import overridden
from dyncity_sim.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    import hashlib

FAMILIES = ("anchored", "reference")

Sampling = TypeVar("Sampling")


def family_of(weights: Path) -> str:
    """One of ``FAMILIES``.

    Raises:
        CheckpointError: no weights, damaged ones, or those of a family that is unknown.
    """
    family = _read(weights).get("family")
    if family not in FAMILIES:
        raise CheckpointError(
            "weights", f"family {family!r} in {weights / 'model.json'}", f"one of {', '.join(FAMILIES)}"
        )
    return str(family)


def described_as(weights: Path, family: str, version: int) -> dict[str, Any]:
    """All that is said of weights of one family, in one version of its format.

    Raises:
        CheckpointError: no weights, damaged ones, or those of another family or version.
    """
    found = _read(weights)
    if found.get("format") != version or found.get("family") != family:
        raise CheckpointError(
            "weights",
            f"format {found.get('format')} of family {found.get('family')!r} in {weights / 'model.json'}",
            f"format {version} of family {family!r}",
        )
    return found


def sampled_with(sampling: Sampling, changes: Sequence[str], digest: "hashlib._Hash") -> Sampling:
    """Sampling defaults of weights with some of them changed, ``key=value``; weights that sample otherwise have another
    digest.

    Raises:
        ConfigError: an unknown key, or a value of another type.
    """
    try:
        changed = overridden(sampling, changes)
    except ConfigError as error:
        field = f"sampling.{error.field.removeprefix('sampling.')}"
        raise ConfigError(field, error.got, error.expected, error.mend) from error
    if changed != sampling:
        digest.update(json.dumps(asdict(changed), sort_keys=True).encode())  # type: ignore[call-overload]
    return changed


def _read(weights: Path) -> dict[str, Any]:
    file = weights / "model.json"
    try:
        described = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(
            "weights",
            f"no model.json in {weights}",
            "a folder that dyncity train or import-checkpoint wrote",
            "Train one; dyncity serve, generate and evaluate take the bundled ones without --weights.",
        ) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError("weights", f"{file}: {error}", "valid JSON") from error
    return described if isinstance(described, dict) else {}
