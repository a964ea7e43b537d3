"""Exports of single drives joined to one of many: files move, and what describes them is told once for all."""

import json
import os
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

from dyncity_sim.files import json_bytes
from dyncity_sim.groundtruth.formats.metadata import METADATA

OF_ONE_DRIVE = ("name", "frames", "provenance")
"""What is always said of each drive by itself; formats have more."""


def join_folders(parts: Sequence[Path], folder: Path) -> None:
    """Join formats whose drives share no file. A Join."""
    for part in parts:
        move_files(part, folder)


def move_files(part: Path, folder: Path, but: Container[str] = ()) -> None:
    """Move all files below ``part`` into ``folder``, but for what lies under these names in ``part`` itself."""
    for file in sorted(part.rglob("*")):
        name = file.relative_to(part)
        if file.is_file() and name.parts[0] not in but:
            move(file, folder / name)


def move(source: Path, target: Path) -> None:
    """Move a file or a folder; folders above its new name are made."""
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(source, target)


def read_json(part: Path, name: str) -> Any:
    """What a file of an export says."""
    return json.loads((part / name).read_bytes())


def join_metadata(
    parts: Sequence[Path], folder: Path, own: Container[str] = (), sequences: Sequence[str] | None = None
) -> None:
    """Join ``dyncity.json``; see ``joined``."""
    abouts = [read_json(part, METADATA) for part in parts]
    (folder / METADATA).write_bytes(json_bytes(joined(abouts, own, sequences)))


def joined(
    abouts: Sequence[dict[str, Any]], own: Container[str] = (), sequences: Sequence[str] | None = None
) -> dict[str, Any]:
    """What is said of drives, as one description: once what is the same for all, and under ``drives`` the rest of each.

    Args:
        abouts: description of each drive.
        own: what a format says of each drive by itself, also where drives agree.
        sequences: what each drive is named in the format, where that is not its name.
    """
    first, *others = abouts
    shared = {
        key: value
        for key, value in first.items()
        if key not in OF_ONE_DRIVE and key not in own and all(about.get(key) == value for about in others)
    }
    drives = [{key: value for key, value in about.items() if key not in shared} for about in abouts]
    for drive, sequence in zip(drives, sequences or (), strict=sequences is not None):
        drive["sequence"] = sequence
    credits = dict.fromkeys(about["provenance"]["attribution"] for about in abouts)
    provenance = {
        "generator": first["provenance"]["generator"],
        "attribution": "; ".join(credit for credit in credits if credit),
    }
    return {**shared, "provenance": provenance, "drives": drives}
