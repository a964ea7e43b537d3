"""A drive as one self-contained web page: no network, no server, any browser with WebGL 2."""

import base64
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from dyncity_sim.domain.grid import FRAME_RATE_HZ, FRAMES_PER_CHUNK, LIDAR_HEIGHT_M
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.scene import Scene, Track
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.files import write_text

THREE = "three-0.170.0"


@dataclass(frozen=True)
class PageText:
    """The words on a page.

    Attributes:
        title: heading and window title.
        facts: (term, value) pairs under the heading.
        attribution: credit that the map asks for; empty when none is due.
        captions: a short text for each frame, or empty for none.
    """

    title: str
    facts: tuple[tuple[str, str], ...] = ()
    attribution: str = ""
    captions: tuple[str, ...] = ()


def build_page(
    generated: OccupancySequence,
    text: PageText,
    recorded: OccupancySequence | None = None,
    scene: Scene | None = None,
    frames_per_chunk: int = FRAMES_PER_CHUNK,
    rate_hz: float = FRAME_RATE_HZ,
) -> str:
    """The page's HTML: generated drive, the simulator's frames beside it, boxes with ids.

    Args:
        generated: T frames.
        text: words on the page.
        recorded: the same T frames as the simulator had them, or None. What its sensors saw can be shown alone.
        scene: its tracks are drawn as boxes at the frames' times, or None.
        frames_per_chunk: where chunk borders are marked.
        rate_hz: frames per second at normal speed.

    Raises:
        InvalidInputError: the recording or the captions do not match the frames.
    """
    frames = len(generated)
    if recorded is not None and (len(recorded) != frames or recorded.grid != generated.grid):
        raise InvalidInputError("recorded", f"{len(recorded)} frames", f"{frames} frames on the generated drive's grid")
    if recorded is not None and recorded.taxonomy.id != generated.taxonomy.id:
        raise InvalidInputError("recorded.taxonomy", repr(recorded.taxonomy.id), repr(generated.taxonomy.id))
    if text.captions and len(text.captions) != frames:
        raise InvalidInputError("text.captions", f"{len(text.captions)}", f"{frames}, one for each frame")
    sequences = [("generated", generated)] + ([] if recorded is None else [("simulator", recorded)])
    grid, taxonomy = generated.grid, generated.taxonomy
    drive: dict[str, Any] = {
        "title": text.title,
        "facts": text.facts,
        "attribution": text.attribution,
        "captions": text.captions or [""] * frames,
        "grid": {"shape": grid.shape, "lower_m": grid.lower_m, "voxel_size_m": grid.voxel_size_m},
        "classes": [{"name": c.name, "colour": c.colour, "moves": c.moves} for c in taxonomy.classes],
        "labels_present": sorted({int(k) for _, s in sequences for k in np.unique(s.labels)}),
        "ego_height_m": LIDAR_HEIGHT_M,
        "rate_hz": rate_hz,
        "frames_per_chunk": frames_per_chunk,
        "times_us": generated.times_us.tolist(),
        "poses_world_from_ego": _rows(generated.poses_world_from_ego),
        "sequences": [_sequence(name, s) for name, s in sequences],
        "tracks": [] if scene is None else _tracks(scene.tracks, generated.times_us),
    }
    return _filled(_asset("page.html"), drive)


def write_page(page: str, file: Path) -> None:
    """Write the page; raises StorageError when it cannot be written whole."""
    write_text(page, file)


def _filled(template: str, drive: dict[str, Any]) -> str:
    modules = {
        "three": _module_url(_asset(f"{THREE}.module.min.js")),
        "orbit-controls": _module_url(_asset(f"{THREE}.OrbitControls.js")),
    }
    parts = {
        "style": _asset("page.css"),
        "importmap": _inline_json({"imports": modules}),
        "drive": _inline_json(drive),
        "viewer": _asset("viewer.js"),
        "licence": f"three.js\n{_asset(f'{THREE}.LICENSE.txt')}",
    }
    for name, part in parts.items():
        before, after = template.split(f"@{name}@")
        template = before + part + after
    return template


def _asset(name: str) -> str:
    return (files("dyncity_sim.preview") / "assets" / name).read_text(encoding="utf-8")


def _module_url(source: str) -> str:
    return "data:text/javascript;base64," + base64.b64encode(source.encode("utf-8")).decode("ascii")


def _inline_json(value: object) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _sequence(name: str, occupancy: OccupancySequence) -> dict[str, str | None]:
    """Labels in T X Y Z order, and as bits in the same order which of them a sensor saw."""
    observed = None if occupancy.observed is None else _packed(np.packbits(occupancy.observed))
    return {"name": name, "labels": _packed(occupancy.labels), "observed": observed}


def _packed(array: np.ndarray) -> str:
    """Base64 of the zlib stream of an array's bytes."""
    return base64.b64encode(zlib.compress(array.tobytes(), 9)).decode("ascii")


def _rows(poses: np.ndarray) -> list[list[float]]:
    """Row-major 16 numbers of each pose, to the micrometre."""
    return [[round(float(v), 6) for v in pose.ravel()] for pose in poses]


def _tracks(tracks: Sequence[Track], times_us: np.ndarray) -> list[dict[str, Any]]:
    frame_at = {int(t): frame for frame, t in enumerate(times_us)}
    shown = []
    for track in tracks:
        kept = [i for i, t in enumerate(track.times_us) if int(t) in frame_at]
        shown.append(
            {
                "id": track.id,
                "kind": track.kind.value,
                "size_m": track.size_m,
                "frames": [frame_at[int(track.times_us[i])] for i in kept],
                "poses_world_from_actor": _rows(track.poses_world_from_actor[kept]),
            }
        )
    return shown
