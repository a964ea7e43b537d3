"""Drives that were exported once and are not exported again: an export that was stopped goes on."""

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import dyncity_sim
from dyncity_sim.dataset.drives import LoadedDrive
from dyncity_sim.export.plan import ExportedDrive, ExportPlan
from dyncity_sim.export.staging import told_of
from dyncity_sim.files import json_bytes, make_folder, whole_folder

ABOUT = "drive.json"
"""What was made of a kept drive, in its folder: counts, and what its files come to."""


class KeptDrives:
    """Whole drives in a folder, each under a digest of all that its files depend on but the code.

    Args:
        folder: where they are kept; made if it is not there.

    Raises:
        StorageError: the folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        make_folder(folder)

    def part(
        self, loaded: LoadedDrive, plan: ExportPlan, part: Path, make: Callable[[Path], ExportedDrive]
    ) -> ExportedDrive:
        """Have the files of a drive in ``part``: links to kept ones, which ``make`` makes where they are not whole.

        Raises:
            StorageError: a drive to be kept could not be written whole.
            OSError: a file could not be linked, nor copied.
        """
        place = self._folder / drive_digest(loaded, plan)
        exported = _whole(place)
        if exported is None:
            shutil.rmtree(place, ignore_errors=True)
            with whole_folder(place) as temporary, told_of(self._folder, temporary):
                exported = make(temporary)
                about = {"exported": dataclasses.asdict(exported), **_counts(temporary)}
                (temporary / ABOUT).write_bytes(json_bytes(about))
        for file in _files(place):
            target = part / file.relative_to(place)
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(file, target)
        return exported


def drive_digest(loaded: LoadedDrive, plan: ExportPlan) -> str:
    """Of everything that the files of a drive depend on."""
    digest = hashlib.sha256()

    def take(value: Any) -> None:
        if isinstance(value, np.ndarray):
            digest.update(f"{value.dtype}{value.shape}".encode())
            digest.update(np.ascontiguousarray(value).reshape(-1).data)
        elif dataclasses.is_dataclass(value):
            take([(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)])
        elif isinstance(value, Mapping):
            take(sorted(value.items()))
        elif isinstance(value, tuple | list):
            digest.update(f"{len(value)} values".encode())
            for each in value:
                take(each)
        else:
            digest.update(f"{value!r}\n".encode())

    take((dyncity_sim.__version__, loaded.name, loaded.occupancy, loaded.tracks, loaded.provenance, plan))
    return digest.hexdigest()[:32]


def _whole(place: Path) -> ExportedDrive | None:
    """What was made of a kept drive; None where there is none, or where files of it are lost."""
    try:
        about = json.loads((place / ABOUT).read_bytes())
        exported = ExportedDrive(**about.pop("exported"))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return exported if about == _counts(place) else None


def _counts(folder: Path) -> dict[str, int]:
    files = _files(folder)
    return {"files": len(files), "bytes": sum(file.stat().st_size for file in files)}


def _files(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.rglob("*")) if file.is_file() and file != folder / ABOUT]


def _link(source: Path, target: Path) -> None:
    """The same file under another name, or a copy where a disk has no links or the target lies on another."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
