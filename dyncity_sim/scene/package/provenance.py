"""``provenance.json``: who and what made a scene."""

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from dyncity_sim.domain.scene import Provenance
from dyncity_sim.domain.taxonomy import TAXONOMIES

PACKAGES = ("dyncity-sim", "numpy", "pyarrow", "scenariogeneration", "scipy", "trimesh")
"""Packages whose versions decide about the bytes of a scene."""


def provenance_document(provenance: Provenance) -> dict[str, Any]:
    """What ``provenance.json`` says, as ``schemas/provenance-2.schema.json`` has it; null is what is not known."""
    conditions = provenance.conditions or (None,) * len(provenance.seeds)
    commands = provenance.commands or (None,) * len(provenance.seeds)
    taxonomy = TAXONOMIES.get(provenance.taxonomy_id)
    return {
        "model_id": provenance.model_id,
        "chunks": [
            {
                "seed": seed,
                "conditions": None if given is None else list(given),
                "command": None if command is None else command.value,
            }
            for seed, given, command in zip(provenance.seeds, conditions, commands, strict=True)
        ],
        "sampling": _sampling(provenance),
        "attribution": provenance.attribution,
        "taxonomy": provenance.taxonomy_id,
        "classes": [] if taxonomy is None else list(taxonomy.names),
        "versions": _versions(),
    }


def _sampling(provenance: Provenance) -> dict[str, Any] | None:
    options = provenance.options
    if options is None:
        return None
    return {
        "steps": options.steps,
        "guidance_scale": options.guidance_scale,
        "sampler": options.sampler,
        "guidance_scales": dict(options.guidance_scales),
        "resamples": options.resamples,
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
