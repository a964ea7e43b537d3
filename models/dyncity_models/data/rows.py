"""Arrays of encoded chunks as flat files, written while they are made."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dyncity_sim.errors import InvalidInputError
from dyncity_sim.files import write_text

DESCRIPTION = "latents.json"
"""Written last: a folder that has it is whole."""


def check_free(folder: Path) -> None:
    """Raise InvalidInputError where an encoded data set lies already."""
    if (folder / DESCRIPTION).exists():
        raise InvalidInputError(
            "out", str(folder), "a folder without an encoded data set", "Choose another or remove it."
        )


def write_rows(folder: Path, total: int, parts: Iterable[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Write ``total`` rows that come part by part, one ``.npy`` for each name, and return them as on disk."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, np.ndarray] = {}
    row = 0
    columns = TextColumn("encoding"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns) as progress:
        task = progress.add_task("encoding", total=total)
        for part in parts:
            count = len(part["command"])
            for name, value in part.items():
                if name not in arrays:
                    arrays[name] = np.lib.format.open_memmap(
                        folder / f"{name}.npy", mode="w+", dtype=value.dtype, shape=(total, *value.shape[1:])
                    )
                arrays[name][row : row + count] = value
            row += count
            progress.update(task, completed=row)
    assert row == total
    return arrays


def write_description(folder: Path, described: object) -> None:
    """Say what the rows are."""
    write_text(json.dumps(described, indent=2), folder / DESCRIPTION)
