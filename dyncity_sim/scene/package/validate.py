"""Whether a scene folder is whole, true to its schemas, and at one with itself."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from dyncity_sim.domain.taxonomy import TAXONOMIES
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.extras import import_extra
from dyncity_sim.scene.package.findings import Check, Findings, Outcome, judge
from dyncity_sim.scene.package.read import check_version
from dyncity_sim.scene.package.validate_documents import (
    check_driven_map,
    check_road,
    check_scenario,
    check_trajectories,
)
from dyncity_sim.scene.package.validate_static import check_cells, check_mesh
from dyncity_sim.scene.package.validate_tracks import check_ego, check_tracks
from dyncity_sim.scene.package.write import (
    MANIFEST,
    PROVENANCE,
    ROAD,
    SCENARIO_1_0,
    SCENARIO_1_2,
    STATIC_CELLS,
    STATIC_MESH,
    file_entry,
    json_schema,
)


def validate_scene(folder: Path) -> list[Check]:
    """Every check of a scene package, in the order of its files; nothing is written.

    A scene whose ``scene.json`` cannot be read, or is of another version, gets no other check.

    Raises:
        InvalidInputError: not a folder.
        MissingExtraError: a package of the extra ``scene`` is not installed.
    """
    if not folder.is_dir():
        raise InvalidInputError("scene", str(folder), "the folder of a scene")
    first = judge(MANIFEST, partial(_check_manifest, folder))
    if first.outcome is Outcome.FAILED:
        return [first]
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    return [first, *(judge(name, look) for name, look in looks_at(folder, manifest).items())]


def looks_at(folder: Path, manifest: dict[str, Any]) -> dict[str, Callable[[], Findings]]:
    """The checks of a scene with a sound ``manifest``, by name, each apart from the others."""
    return {
        "files": partial(_check_files, folder, manifest),
        "checksums": partial(_check_sums, folder, manifest),
        ROAD: partial(check_road, folder),
        f"{ROAD} in netconvert": partial(check_driven_map, folder),
        SCENARIO_1_0: partial(check_scenario, folder, SCENARIO_1_0),
        SCENARIO_1_2: partial(check_scenario, folder, SCENARIO_1_2),
        f"{SCENARIO_1_0} on its tracks": partial(check_trajectories, folder, SCENARIO_1_0),
        f"{SCENARIO_1_2} on its tracks": partial(check_trajectories, folder, SCENARIO_1_2),
        STATIC_MESH: partial(check_mesh, folder, manifest),
        STATIC_CELLS: partial(check_cells, folder, manifest),
        "tracks.parquet": partial(check_tracks, folder, manifest),
        "ego.parquet": partial(check_ego, folder, manifest),
        PROVENANCE: partial(_check_provenance, folder),
    }


def is_valid(checks: list[Check]) -> bool:
    """Whether no check failed."""
    return all(check.outcome is not Outcome.FAILED for check in checks)


def _check_manifest(folder: Path) -> Findings:
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    check_version(manifest, folder / MANIFEST)
    summary = "JSON Schema 2020-12"
    return Findings(problems=_schema_problems(manifest, "scene"), summary=summary)


def _check_files(folder: Path, manifest: dict[str, Any]) -> Findings:
    there = {entry.relative_to(folder).as_posix() for entry in folder.rglob("*") if not entry.is_dir()}
    expected = {*manifest["files"], MANIFEST}
    missing = [f"{name} is missing" for name in sorted(expected - there)]
    foreign = [f"{name} does not belong to the scene" for name in sorted(there - expected)]
    return Findings(problems=(*missing, *foreign), summary=f"{len(there)} files, none missing, none foreign")


def _check_sums(folder: Path, manifest: dict[str, Any]) -> Findings:
    problems, total = [], 0
    for name, entry in sorted(manifest["files"].items()):
        content = (folder / name).read_bytes()
        total += len(content)
        if file_entry(content) != entry:
            problems.append(f"{name} is not the file that scene.json names ({len(content)} of {entry['bytes']} bytes)")
    return Findings(problems=tuple(problems), summary=f"SHA-256 of {total / 2**20:.1f} MiB")


def _check_provenance(folder: Path) -> Findings:
    described = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
    problems = list(_schema_problems(described, "provenance"))
    if not problems:
        taxonomy = TAXONOMIES.get(described["taxonomy"])
        if taxonomy is not None and list(taxonomy.names) != described["classes"]:
            problems.append(f"classes are not those of the taxonomy {taxonomy.id!r}")
        if (described["model_id"] is None) != (not described["chunks"]):
            problems.append("a model and the seeds of its chunks go together")
    summary = f"{described.get('model_id') or 'a recording'}; {described.get('attribution') or 'no credit due'}"
    return Findings(problems=tuple(problems), summary=summary)


def _schema_problems(document: Any, schema: str) -> tuple[str, ...]:
    """What a JSON Schema has against a document, each with where it is."""
    jsonschema = import_extra("jsonschema", "jsonschema", "scene", "Validating a scene")
    validator = jsonschema.Draft202012Validator(json_schema(schema))
    errors = sorted(validator.iter_errors(document), key=lambda error: error.json_path)
    return tuple(f"{error.json_path}: {error.message}" for error in errors)
