"""A replayed drive as files: occupancy, a description, a picture and a page."""

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from dyncity_sim.dataset.chunk_files import FORMAT_VERSION, GENERATION, UNDER_WAY, arrays_of, chunk_name, write_chunk
from dyncity_sim.domain.generation import ModelInfo
from dyncity_sim.domain.occupancy import OccupancySequence, concatenate
from dyncity_sim.errors import DyncityError
from dyncity_sim.files import json_bytes, whole_folder, write_bytes
from dyncity_sim.groundtruth.formats.describe import grid_json
from dyncity_sim.preview.bev import render_bev
from dyncity_sim.preview.film import with_text, write_png
from dyncity_sim.preview.oblique import Image
from dyncity_sim.preview.page import PageText, build_page, write_page
from dyncity_sim.replay.drive import ReplayedChunk, border_agreement

PICTURED_FRAMES = 4
_MARGIN = 8
_HEAD = 60
_PAPER = 247


class ReplayFolder:
    """Takes a drive chunk by chunk: ``chunk_NNNN.npz`` and ``generation.json``, then ``chunks.png`` and ``index.html``.

    The folder appears with the first chunk. From then on each chunk's file is whole before ``generation.json`` tells of
    it, so that what a process leaves that is killed is a drive of the chunks up to there. A chunk holds ``labels``
    (T X Y Z uint8), ``poses_world_from_ego`` (T 4 4 float64), ``times_us`` (T int64) and, where a region was known,
    ``known`` (its cells as bits, ``numpy.packbits`` in C order). The same chunks give the same arrays.

    Args:
        folder: must not exist, or be empty.
        model: what generates the chunks.
        described: what else ``generation.json`` is to say, plain JSON values, ``attribution`` among them.

    Attributes:
        replayed: the chunks that are whole.
    """

    def __init__(self, folder: Path, model: ModelInfo, described: dict[str, Any]) -> None:
        self.folder, self._model, self._described = folder, model, described
        self.replayed: list[ReplayedChunk] = []
        self._facts: list[dict[str, Any]] = []

    @property
    def chunks(self) -> int:
        """How many are whole."""
        return len(self.replayed)

    def keep(self, chunk: ReplayedChunk) -> None:
        """Write the next chunk.

        Raises:
            InvalidInputError: the folder holds something already.
            StorageError: the disk is full, or the place may not be written to.
        """
        before = self.replayed[-1] if self.replayed else None
        facts = [*self._facts, chunk_facts(chunk, before)]
        with whole_folder(self.folder) if before is None else nullcontext(self.folder) as place:
            write_chunk(_arrays(chunk), place / chunk_name(self.chunks))
            self._describe(place, facts, UNDER_WAY)
        self.replayed.append(chunk)
        self._facts = facts

    def fill(self, chunks: Iterable[ReplayedChunk]) -> DyncityError | None:
        """Write each chunk when it comes, up to the first that fails; what failed, which is raised without a chunk."""
        try:
            for chunk in chunks:
                self.keep(chunk)
        except DyncityError as error:
            if not self.replayed:
                raise
            return error
        return None

    def finish(self, title: str, ended: str = "") -> None:
        """Write the picture, the page and why there are no further chunks, of at least one.

        Args:
            title: heading of picture and page.
            ended: why there are fewer chunks than were asked for; empty when there are not.

        Raises:
            StorageError: something could not be written whole.
        """
        self._describe(self.folder, self._facts, ended)
        chunks, model, credit = self.replayed, self._model, str(self._described["attribution"])
        write_png(picture(chunks, title, credit), self.folder / "chunks.png")
        generated = concatenate([chunk.generated.occupancy for chunk in chunks])
        recorded = concatenate([chunk.recorded for chunk in chunks]).known()
        shown = tuple((name, str(value)) for name, value in self._described.items() if name != "attribution")
        page = PageText(title, (("model", model.model_id), *shown), credit)
        frames, names = model.frames_per_chunk, ("generated", "recorded")
        write_page(
            build_page(generated, page, recorded, None, frames, model.rate_hz, names=names), self.folder / "index.html"
        )

    def _describe(self, place: Path, facts: list[dict[str, Any]], ended: str) -> None:
        model = self._model
        description = {
            "format": GENERATION,
            "version": FORMAT_VERSION,
            **self._described,
            "ended": ended,
            "rate_hz": model.rate_hz,
            "model": {"id": model.model_id, "family": model.family},
            "grid": grid_json(model.grid),
            "taxonomy": {"id": model.taxonomy.id, "names": model.taxonomy.names},
            "chunks": facts,
        }
        write_bytes(json_bytes(description), place / "generation.json")


def chunk_facts(chunk: ReplayedChunk, before: ReplayedChunk | None) -> dict[str, Any]:
    """From what a chunk was generated, and how steadily the static world stands in it and since the chunk before."""
    command = chunk.conditions.command
    return {
        "seed": chunk.generated.seed,
        "conditions": chunk.conditions.given(),
        "command": None if command is None else command.value,
        "static_agreement_within": _number(chunk.rigidity),
        "static_agreement_with_chunk_before": None if before is None else _number(border_agreement(before, chunk)),
    }


def picture(chunks: Sequence[ReplayedChunk], title: str, credit: str) -> Image:
    """Views from above: two rows a chunk, generated over recorded, four frames each; unknown cells of a region grey."""
    rows: list[Image] = []
    for chunk in chunks:
        times = np.linspace(0, len(chunk.recorded) - 1, PICTURED_FRAMES).astype(int)
        rows.append(_row([_above(chunk.generated.occupancy, int(t)) for t in times]))
        region = chunk.conditions.known_region
        rows.append(_row([_above(chunk.recorded if region is None else region, int(t)) for t in times]))
    sheet = np.concatenate(rows)
    head = np.full((_HEAD, sheet.shape[1], 3), _PAPER, np.uint8)
    below = "recorded" if chunks[0].conditions.known_region is None else "what was known, or recorded"
    return with_text(np.concatenate([head, sheet, head]), f"{title}   (generated over {below})", credit)


def _above(occupancy: OccupancySequence, frame: int) -> Image:
    unseen = None if occupancy.observed is None else ~occupancy.observed[frame].any(axis=-1)
    return render_bev(occupancy.known_labels(frame), occupancy.grid, occupancy.taxonomy, 2, unseen=unseen)


def _row(pictures: Sequence[Image]) -> Image:
    gap = np.full((pictures[0].shape[0], _MARGIN, 3), _PAPER, np.uint8)
    row = np.concatenate([part for view in pictures for part in (gap, view)] + [gap], axis=1)
    return np.concatenate([row, np.full((_MARGIN, row.shape[1], 3), _PAPER, np.uint8)])


def _arrays(chunk: ReplayedChunk) -> dict[str, np.ndarray]:
    arrays, region = arrays_of(chunk.generated.occupancy), chunk.conditions.known_region
    if region is not None and region.observed is not None:
        arrays["known"] = np.packbits(region.observed)
    return arrays


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 6)
