"""Drives out of any folder this project or others write: what is exported and looked at."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from dyncity_sim.dataset.chunk_files import (
    DESCRIPTIONS,
    FORMAT_VERSION,
    chunk_length,
    chunk_name,
    frame_caption,
    grid_of,
    read_chunk,
)
from dyncity_sim.dataset.labelled import OccupancyDataset, OccupancySource
from dyncity_sim.dataset.open import open_dataset
from dyncity_sim.dataset.recorded_tracks import recorded_tracks
from dyncity_sim.dataset.store import Recording
from dyncity_sim.domain.conditions import Command
from dyncity_sim.domain.grid import FRAME_RATE_HZ
from dyncity_sim.domain.occupancy import OccupancySequence, concatenate
from dyncity_sim.domain.scene import Provenance, Track
from dyncity_sim.domain.taxonomy import CARLASC, TAXONOMIES
from dyncity_sim.errors import InvalidInputError

RATES_HZ = (0.01, 1000.0)
"""Least and greatest frame rate of a generated drive."""

_FRAMES_AT_ONCE = 16
"""Frames of a data set that are read together: what a class is merged into takes many times its memory."""

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class LoadedDrive:
    """A drive in memory.

    Attributes:
        name: fit for a file name.
        occupancy: T frames of CARLASC classes, what the drive is about. Where a source is sparse, ``observed`` says
            which cells it knows.
        recorded: what a simulator had at the same frames, beside a generated drive; else None.
        tracks: true actors where the source knows them, else None.
        provenance: where it comes from.
        captions: a text for each frame, or none at all.
        frames_per_chunk: frames that were generated at once; those of the whole drive where nothing was generated.
        rate_hz: frames per second.
    """

    name: str
    occupancy: OccupancySequence
    recorded: OccupancySequence | None
    tracks: tuple[Track, ...] | None
    provenance: Provenance
    captions: tuple[str, ...]
    frames_per_chunk: int
    rate_hz: float


@dataclass(frozen=True, eq=False)
class ListedDrive:
    """A drive that is not read yet.

    Attributes:
        name: fit for a file name.
        frames: how many it will have.
        open: reads it; raises InvalidInputError where ``open_drive`` does.
        data_set: folder's name of the data set that it is one of; empty where a drive has a folder of its own.
    """

    name: str
    frames: int
    open: Callable[[], LoadedDrive]
    data_set: str = ""


def open_drive(path: Path, sequence: int = 0, start: int = 0, frames: int | None = None) -> LoadedDrive:
    """A drive of ``frames`` frames from ``start`` on.

    Args:
        path: what ``cosim``, ``demo`` or ``generate`` wrote, or its ``occupancy`` folder; or a data set that
            ``open_dataset`` opens.
        sequence: which sequence of a data set; 0 for a generated drive.
        start: first frame.
        frames: how many; None takes all there are.

    Raises:
        InvalidInputError: nothing that is known in the folder, a damaged file, or frames that are not there.
    """
    (drive,) = list_drives(path, (sequence,), start, frames)
    return drive.open()


def list_drives(
    path: Path, sequences: Sequence[int] | None = None, start: int = 0, frames: int | None = None
) -> tuple[ListedDrive, ...]:
    """Drives of ``frames`` frames each from ``start`` on, in the order of ``sequences``; None takes all there are.

    Raises:
        InvalidInputError: as ``open_drive``; a drive that is too short is named.
    """
    for folder in (path, path / "occupancy"):
        for name, form in DESCRIPTIONS.items():
            if (folder / name).is_file():
                other = [sequence for sequence in sequences or () if sequence != 0]
                if other:
                    raise InvalidInputError("sequence", other[0], "0", "A generated folder holds one drive.")
                return (_listed_generation(folder, name, form, start, frames),)
    dataset = open_dataset(path, f"a drive ({', '.join(DESCRIPTIONS)}), ")
    if not dataset.sequences:
        raise InvalidInputError(str(path), "a data set without drives", "at least one drive")
    numbers = range(len(dataset.sequences)) if sequences is None else sequences
    return tuple(_listed_sequence(dataset, path, number, start, frames) for number in numbers)


def longer_drives(dataset: OccupancyDataset) -> str:
    """How a data set is had whose sequences are longer than those of this one, or nothing."""
    if dataset.name != "recording":
        return ""
    return "SUMO's are longer with dyncity record --continuous, or with --burst N frames in each."


def _description(file: Path, form: str) -> dict[str, Any]:
    try:
        described: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        found = described["format"], described["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(str(file), f"{type(error).__name__}: {error}", "the description of a drive") from error
    if found != (form, FORMAT_VERSION):
        raise InvalidInputError(str(file), f"{found[0]} version {found[1]}", f"{form} version {FORMAT_VERSION}")
    return described


def _listed_generation(folder: Path, name: str, form: str, start: int, frames: int | None) -> ListedDrive:
    described = _description(folder / name, form)
    files = _chunk_files(folder, described)
    lengths = [_laid_to(file, partial(chunk_length, file)) for file in files]
    chosen = _range(start, frames, sum(lengths), str(folder))
    there = folder.resolve()
    title = (there.parent if there.name == "occupancy" else there).name
    return ListedDrive(title, len(chosen), lambda: _generated(title, folder / name, described, files, lengths, chosen))


def _generated(
    name: str, file: Path, described: dict[str, Any], files: list[Path], lengths: list[int], chosen: range
) -> LoadedDrive:
    # The chunk of each frame.
    numbers = np.repeat(np.arange(len(files)), lengths)[chosen.start : chosen.stop].tolist()
    used = slice(numbers[0], numbers[-1] + 1)
    told, chunks = described["chunks"][used], _chunks(file.parent, described, files[used])
    before = sum(lengths[: used.start])
    part = slice(chosen.start - before, chosen.stop - before)
    recorded = [recorded for _, recorded in chunks if recorded is not None]
    provenance, captions = _laid_to(
        file, lambda: (_provenance(described, told), _captions(described["chunks"], numbers))
    )
    return LoadedDrive(
        name=name,
        occupancy=concatenate([generated for generated, _ in chunks])[part],
        recorded=concatenate(recorded)[part] if recorded else None,
        tracks=None,
        provenance=provenance,
        captions=captions,
        frames_per_chunk=lengths[0],
        rate_hz=_laid_to(file, lambda: _rate_hz(described)),
    )


def _chunk_files(folder: Path, described: dict[str, Any]) -> list[Path]:
    """The file of each chunk."""

    def listed() -> list[Path]:
        return [folder / chunk.get("file", chunk_name(n)) for n, chunk in enumerate(described["chunks"])]

    return _laid_to(folder, listed)


def _chunks(
    folder: Path, described: dict[str, Any], files: Sequence[Path]
) -> list[tuple[OccupancySequence, OccupancySequence | None]]:
    """Generated frames of chunks, and the simulator's where the folder holds them."""

    def read() -> list[tuple[OccupancySequence, OccupancySequence | None]]:
        grid = grid_of(described["grid"])
        taxonomy = TAXONOMIES[described["taxonomy"]["id"]]
        chunks = [_laid_to(file, partial(read_chunk, file, grid, taxonomy)) for file in files]
        recorded = [recorded for _, recorded in chunks if recorded is not None]
        if 0 < len(recorded) < len(chunks):
            raise ValueError(f"{len(recorded)} of {len(chunks)} chunks hold what was recorded")
        return chunks

    return _laid_to(folder, read)


def _laid_to(file: Path, read: Callable[[], T]) -> T:
    """What ``read`` returns; whatever comes of a damaged file is laid to ``file``."""
    try:
        return read()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInputError(str(file), f"{type(error).__name__}: {error}", "a drive as it was written") from error


def _provenance(described: dict[str, Any], chunks: Sequence[dict[str, Any]]) -> Provenance:
    """Where a part of a drive comes from that these of its chunks hold."""
    told = all("conditions" in chunk for chunk in chunks)
    return Provenance(
        model_id=described["model"]["id"],
        seeds=tuple(int(chunk["seed"]) for chunk in chunks),
        attribution=described["attribution"],
        taxonomy_id=described["taxonomy"]["id"],
        conditions=tuple(tuple(chunk["conditions"]) for chunk in chunks) if told else (),
        commands=tuple(Command(chunk["command"]) if chunk.get("command") else None for chunk in chunks),
    )


def _rate_hz(described: dict[str, Any]) -> float:
    rate_hz = float(described.get("rate_hz", FRAME_RATE_HZ))
    if not RATES_HZ[0] <= rate_hz <= RATES_HZ[1]:
        raise ValueError(f"rate_hz of {rate_hz}, not {RATES_HZ[0]:g} to {RATES_HZ[1]:g}")
    return rate_hz


def _captions(chunks: Sequence[dict[str, Any]], numbers: Sequence[int]) -> tuple[str, ...]:
    """Chunk and command of each frame, whose chunks have these numbers."""
    commands = [chunk.get("command") for chunk in chunks]
    return tuple(frame_caption(n, commands[n]) for n in numbers)


def _listed_sequence(
    dataset: OccupancyDataset, path: Path, sequence: int, start: int, frames: int | None
) -> ListedDrive:
    if not 0 <= sequence < len(dataset.sequences):
        raise InvalidInputError("sequence", sequence, f"0 to {len(dataset.sequences) - 1} of {path}")
    source = dataset.sequences[sequence]
    chosen = _range(start, frames, len(source), f"{path} {source.name}", longer_drives(dataset))
    name, folder = source.name.replace("/", "_"), path.resolve().name
    return ListedDrive(
        name,
        len(chosen),
        partial(_of_dataset, dataset, path, sequence, chosen),
        folder if name != folder else "",
    )


def _of_dataset(dataset: OccupancyDataset, path: Path, sequence: int, chosen: range) -> LoadedDrive:
    source = dataset.sequences[sequence]
    poses, times_us = source.poses_world_from_ego, source.times_us
    if poses is None or times_us is None:
        raise InvalidInputError(
            source.name, "frames without poses or times", "both, since scenes and labels are in one world frame"
        )
    labels, observed = _merged(dataset, source, chosen)
    part = slice(chosen.start, chosen.stop)
    tracks = None
    if dataset.name == "recording":
        tracks = recorded_tracks(Recording.open(path).drives[sequence].each(chosen.start, chosen.stop))
    return LoadedDrive(
        name=source.name.replace("/", "_"),
        occupancy=OccupancySequence(labels, poses[part], times_us[part], dataset.grid, CARLASC, observed),
        recorded=None,
        tracks=tracks,
        provenance=Provenance(None, (), dataset.attribution, CARLASC.id),
        captions=(),
        frames_per_chunk=len(chosen),
        rate_hz=dataset.rate_hz,
    )


def _merged(dataset: OccupancyDataset, source: OccupancySource, chosen: range) -> tuple[np.ndarray, np.ndarray | None]:
    """CARLASC labels of frames, and where they are not dense which cells were observed, read a few at a time."""
    labels = np.empty((len(chosen), *dataset.grid.shape), np.uint8)
    observed = None if dataset.dense else np.empty(labels.shape, np.bool_)
    for first in range(0, len(chosen), _FRAMES_AT_ONCE):
        some = chosen[first : first + _FRAMES_AT_ONCE]
        read = source.frames(some.start, some.stop)
        labels[first : first + len(some)] = dataset.label_map.to_carlasc(read.labels)
        if observed is not None:
            observed[first : first + len(some)] = read.observed
    return labels, observed


def _range(start: int, frames: int | None, length: int, name: str, mend: str = "") -> range:
    stop = length if frames is None else start + frames
    if not 0 <= start < stop <= length:
        raise InvalidInputError("frames", f"[{start}, {stop})", f"a range within [0, {length}) of {name}", mend)
    return range(start, stop)
