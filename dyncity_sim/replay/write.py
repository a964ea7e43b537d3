"""A replayed drive as files: occupancy, a description, a picture and a page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dyncity_sim.dataset.chunk_files import FORMAT_VERSION, GENERATION, arrays_of, chunk_name
from dyncity_sim.domain.generation import ModelInfo
from dyncity_sim.domain.occupancy import OccupancySequence, concatenate
from dyncity_sim.files import json_bytes, whole_folder
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


def write_replay(
    chunks: Sequence[ReplayedChunk], model: ModelInfo, described: dict[str, Any], title: str, folder: Path
) -> None:
    """Write ``chunk_NNNN.npz``, ``generation.json``, ``chunks.png`` and ``index.html``; whole or not at all.

    A chunk holds ``labels`` (T X Y Z uint8), ``poses_world_from_ego`` (T 4 4 float64), ``times_us`` (T int64) and,
    where a region was known, ``known`` (its cells as bits, ``numpy.packbits`` in C order). The same chunks give the
    same arrays.

    Args:
        chunks: at least one.
        model: what generated them.
        described: what else ``generation.json`` is to say, plain JSON values, ``attribution`` among them.
        title: heading of the page.
        folder: must not exist, or be empty.

    Raises:
        InvalidInputError: the folder holds something already.
        StorageError: something could not be written whole.
    """
    with whole_folder(folder) as temporary:
        for number, chunk in enumerate(chunks):
            np.savez_compressed(temporary / chunk_name(number), allow_pickle=False, **_arrays(chunk))
        description = {"format": GENERATION, "version": FORMAT_VERSION, **described, **facts(chunks, model)}
        (temporary / "generation.json").write_bytes(json_bytes(description))
        credit = str(described["attribution"])
        write_png(picture(chunks, title, credit), temporary / "chunks.png")
        generated = concatenate([chunk.generated.occupancy for chunk in chunks])
        recorded = concatenate([chunk.recorded for chunk in chunks]).known()
        shown = tuple((name, str(value)) for name, value in described.items() if name != "attribution")
        page = PageText(title, (("model", model.model_id), *shown), credit)
        frames, names = model.frames_per_chunk, ("generated", "recorded")
        write_page(
            build_page(generated, page, recorded, None, frames, model.rate_hz, names=names), temporary / "index.html"
        )


def facts(chunks: Sequence[ReplayedChunk], model: ModelInfo) -> dict[str, Any]:
    """What was generated, from what, and how steadily the static world stands."""
    return {
        "model": {"id": model.model_id, "family": model.family},
        "grid": grid_json(model.grid),
        "taxonomy": {"id": model.taxonomy.id, "names": model.taxonomy.names},
        "chunks": [
            {
                "seed": chunk.generated.seed,
                "conditions": chunk.conditions.given(),
                "command": None if chunk.conditions.command is None else chunk.conditions.command.value,
                "static_agreement_within": _number(chunk.rigidity),
                "static_agreement_with_chunk_before": _number(border_agreement(chunks[number - 1], chunk))
                if number
                else None,
            }
            for number, chunk in enumerate(chunks)
        ],
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
