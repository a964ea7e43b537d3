"""A drive as files: ``occupancy/`` with one ``.npz`` per chunk, a description, and the simulator's road."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dyncity_sim.cosim.drive import Drive, DriveChunk, Start, StoredChunk
from dyncity_sim.dataset.chunk_files import DRIVE, FORMAT_VERSION, arrays_of, chunk_name, write_chunk
from dyncity_sim.domain.conditions import CONDITIONS
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.scene import Provenance
from dyncity_sim.errors import InvalidInputError, StorageError
from dyncity_sim.files import json_bytes, make_folder, whole_folder, write_bytes
from dyncity_sim.groundtruth.formats.describe import grid_json

DESCRIPTION = "drive.json"


def write_occupancy(drive: Drive, folder: Path) -> None:
    """Write a drive's occupancy; the folder appears whole or not at all.

    ``chunk_NNNN.npz`` holds ``labels`` (T X Y Z uint8, generated), ``recorded_labels`` (same, the
    simulator's), ``recorded_observed`` (their observed cells as bits, ``numpy.packbits`` in C order),
    ``poses_world_from_ego`` (T 4 4 float64) and ``times_us`` (T int64). ``history.npz`` holds what was
    observed before the first chunk as ``labels``, ``observed``, poses and times. The same drive gives
    the same bytes, but for the seconds in ``drive.json``.

    Raises:
        InvalidInputError: the folder holds something already.
        StorageError: the disk is full, or the place may not be written to.
    """
    with whole_folder(folder) as temporary:
        if drive.history is not None:
            np.savez_compressed(temporary / "history.npz", allow_pickle=False, **_history_arrays(drive.history))
        for number, chunk in enumerate(drive.chunks):
            write_chunk(_chunk_arrays(chunk), temporary / chunk_name(number))
        (temporary / "road.xodr").write_text(drive.opendrive, encoding="utf-8")
        (temporary / DESCRIPTION).write_bytes(json_bytes(drive_description(drive)))


class DriveFolder:
    """Takes a drive's occupancy, as ``write_occupancy`` writes it, while the drive grows.

    The folder appears with the first chunk. From then on each chunk's file is whole before ``drive.json`` tells of it,
    so that what a process leaves that is killed is a drive of the chunks up to there.

    Args:
        folder: takes ``chunk_NNNN.npz`` and all that is beside them.
        make_room: called once, before anything is written.

    Attributes:
        chunks: how many are whole.
    """

    def __init__(self, folder: Path, make_room: Callable[[], None] = lambda: None) -> None:
        self.folder, self._make_room = folder, make_room
        self.chunks = 0

    def keep(self, drive: Drive) -> Drive:
        """Write what of a drive is new, and give it back with all of its chunks in their files and not in memory.

        Raises:
            InvalidInputError: the folder holds something already.
            StorageError: the disk is full, or the place may not be written to.
        """
        if self.chunks:
            for number, chunk in enumerate(drive.chunks):
                if isinstance(chunk, DriveChunk):
                    write_chunk(_chunk_arrays(chunk), self.folder / chunk_name(number))
            write_bytes(json_bytes(drive_description(drive)), self.folder / DESCRIPTION)
        else:
            self._make_room()
            write_occupancy(drive, self.folder)
        self.chunks = len(drive.chunks)
        stored = (self._stored(drive, number) for number in range(len(drive.chunks)))
        return replace(drive, chunks=tuple(stored))

    def _stored(self, drive: Drive, number: int) -> StoredChunk:
        chunk = drive.chunks[number]
        if isinstance(chunk, StoredChunk):
            return chunk
        return StoredChunk(
            self.folder / chunk_name(number),
            drive.model,
            chunk.plan,
            chunk.command,
            chunk.seed,
            chunk.timings,
            chunk.waited_s,
            chunk.simulation_s,
        )


def drive_description(drive: Drive) -> dict[str, Any]:
    """What ``drive.json`` says: model, grid, taxonomy, seeds, commands, times, attribution."""
    taxonomy = drive.model.taxonomy
    return {
        "format": DRIVE,
        "version": FORMAT_VERSION,
        "attribution": drive.attribution,
        "seed": drive.seed,
        "start": drive.start.value,
        "ended": drive.ended,
        "rate_hz": drive.model.rate_hz,
        "model": {
            "id": drive.model.model_id,
            "family": drive.model.family,
            "conditions": list(drive.model.conditions),
        },
        "grid": grid_json(drive.model.grid),
        "taxonomy": {"id": taxonomy.id, "names": taxonomy.names, "colours": [c.colour for c in taxonomy.classes]},
        "chunks": [
            {
                "file": chunk_name(number),
                "seed": chunk.seed,
                "conditions": list(_conditions(drive, number)),
                "command": None if chunk.command is None else chunk.command.value,
                "frames": len(chunk.plan),
                "first_time_us": int(chunk.plan.times_us[0]),
                "seconds": {
                    "waited": round(chunk.waited_s, 4),
                    "queue": round(chunk.timings.queue_s, 4),
                    "sampling": round(chunk.timings.sampling_s, 4),
                    "decoding": round(chunk.timings.decoding_s, 4),
                    "simulation": round(chunk.simulation_s, 4),
                },
            }
            for number, chunk in enumerate(drive.chunks)
        ],
    }


def provenance(drive: Drive) -> Provenance:
    """Where a drive's scene and labels come from."""
    return Provenance(
        model_id=drive.model.model_id,
        seeds=tuple(chunk.seed for chunk in drive.chunks),
        attribution=drive.attribution,
        taxonomy_id=drive.model.taxonomy.id,
        conditions=tuple(_conditions(drive, number) for number in range(len(drive.chunks))),
        commands=tuple(chunk.command for chunk in drive.chunks),
        options=drive.options,
    )


def _conditions(drive: Drive, number: int) -> tuple[str, ...]:
    """What the loop gave to chunk ``number``."""
    given = {
        "continuation": number > 0 or drive.start is Start.OBSERVED,
        "plan": "plan" in drive.model.conditions,
        "command": drive.chunks[number].command is not None,
    }
    return tuple(name for name in CONDITIONS if given.get(name))


def prepare_folder(folder: Path, ours: Iterable[str]) -> None:
    """Make ``folder`` unless it is there, and see that it holds nothing but outputs of these names, which stay.

    Raises:
        InvalidInputError: the folder holds something that this project did not write, or is a file.
        StorageError: it cannot be made.
    """
    if folder.exists() and not folder.is_dir():
        raise InvalidInputError("out", str(folder), "a folder")
    # A symbolic link may lead to what is not there yet.
    make_folder(Path(os.path.realpath(folder)))
    foreign = sorted(entry.name for entry in set(folder.iterdir()) - set(_entries(folder, ours)))
    if foreign:
        raise InvalidInputError(
            "out", f"{folder}, which holds {', '.join(foreign[:5])}", "a new, empty or earlier drive's folder"
        )


def clear_folder(folder: Path, ours: Iterable[str]) -> None:
    """Remove what has these names in a folder.

    Raises:
        StorageError: something cannot be removed.
    """
    try:
        for entry in _entries(folder, ours):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"{folder} could not be cleared: {error.strerror or error}.") from error


def _entries(folder: Path, ours: Iterable[str]) -> Iterator[Path]:
    """Places of outputs of these names in a folder, and what a process that was killed left of such."""
    for name in ours:
        yield folder / name
        yield from folder.glob(f".{name}.*.part")


def _history_arrays(history: OccupancySequence) -> dict[str, np.ndarray]:
    arrays = arrays_of(history)
    if history.observed is not None:
        arrays["observed"] = np.packbits(history.observed)
    return arrays


def _chunk_arrays(chunk: DriveChunk | StoredChunk) -> dict[str, np.ndarray]:
    generated, recorded = chunk.occupancies()
    assert recorded.observed is not None
    return arrays_of(generated) | {
        "recorded_labels": recorded.labels,
        "recorded_observed": np.packbits(recorded.observed),
    }
