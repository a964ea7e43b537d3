"""``dyncity.json``: what an export says of itself beside the files that its format knows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dyncity_sim.domain.ground_truth import LabelledDrive
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.files import json_bytes
from dyncity_sim.groundtruth.formats.describe import described, grid_json, rows
from dyncity_sim.groundtruth.resample import Resampling

METADATA = "dyncity.json"


def write_metadata(folder: Path, drive: LabelledDrive, notes: Mapping[str, Any]) -> None:
    """Write grid, classes, sensors and provenance of a drive, and what a format has to say besides."""
    (folder / METADATA).write_bytes(json_bytes({**described(drive), "format_version": 1, **notes}))


def stored_grid(drive: LabelledDrive, resampling: Resampling | None) -> dict[str, Any]:
    """In which grid cells are stored, in which frame it stands, and whether they were taken over from another."""
    if resampling is None:
        return {"stored_grid": grid_json(drive.grid), "stored_frame": "ego", "resampled": None}
    return {
        "stored_grid": grid_json(resampling.target),
        "stored_frame": rows(resampling.pose_source_from_target),
        "resampled": {"from": grid_json(resampling.source), "method": "nearest"},
    }


def check_merged(drive: LabelledDrive, format_name: str) -> None:
    """Raise InvalidInputError unless a drive is labelled with CARLASC's classes, which class tables start from."""
    if drive.taxonomy.id != CARLASC.id:
        raise InvalidInputError(
            f"taxonomy for {format_name}",
            repr(drive.taxonomy.id),
            f"{CARLASC.id!r}",
            "Merge raw classes first (dyncity_sim.domain.taxonomy.merged_labels).",
        )
