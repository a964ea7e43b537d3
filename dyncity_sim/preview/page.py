"""A drive as one self-contained web page: no network, no server, any current browser with WebGL 2."""

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from dyncity_sim.domain.base_frame import pose_ego_from_lidar
from dyncity_sim.domain.frames import Poses
from dyncity_sim.domain.grid import FRAME_RATE_HZ, FRAMES_PER_CHUNK, LIDAR_HEIGHT_M
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.scene import Scene, Track
from dyncity_sim.domain.taxonomy import CARLASC, Taxonomy
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.files import write_text
from dyncity_sim.preview.lanes import lane_borders
from dyncity_sim.preview.pack import PointCloud, packed, packed_points, packed_sequence, packed_tracks, pose_rows

THREE = "three-0.170.0"

LARGEST_MAP_CELLS = 100_000_000
"""A page keeps a byte or two of memory for each cell of a scene's map."""


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
    *,
    tracks: Sequence[Track] = (),
    clouds: Sequence[PointCloud] = (),
    names: tuple[str, str] = ("generated", "simulator"),
) -> str:
    """The page's HTML: generated drive, the simulator's frames beside it, boxes with ids, LiDAR points.

    Args:
        generated: T frames; cells that were not observed are shown free.
        text: words on the page.
        recorded: the same T frames as the simulator had them, or None. What its sensors saw can be shown alone; the
            rest is taken for true.
        scene: its tracks are drawn as boxes at the frames' times, or None.
        frames_per_chunk: where chunk borders are marked.
        rate_hz: frames per second at normal speed.
        tracks: drawn as those of a scene are.
        clouds: LiDAR points of each of the T frames, or none at all.
        names: what stands under the panes where there are two.

    Raises:
        InvalidInputError: the recording, the captions or the points do not match the frames.
    """
    frames = len(generated)
    if recorded is not None and (len(recorded) != frames or recorded.grid != generated.grid):
        raise InvalidInputError("recorded", f"{len(recorded)} frames", f"{frames} frames on the generated drive's grid")
    if recorded is not None and recorded.taxonomy.id != generated.taxonomy.id:
        raise InvalidInputError("recorded.taxonomy", repr(recorded.taxonomy.id), repr(generated.taxonomy.id))
    if clouds and len(clouds) != frames:
        raise InvalidInputError("clouds", f"those of {len(clouds)} frames", f"those of {frames}")
    sequences = list(zip(names, [generated.known()] + ([] if recorded is None else [recorded]), strict=False))
    grid, times_us = generated.grid, generated.times_us
    height_m = LIDAR_HEIGHT_M - float(pose_ego_from_lidar(grid)[2, 3])
    drive: dict[str, Any] = {
        "fixed": False,
        "grid": _grid(grid.shape, grid.lower_m, grid.voxel_size_m),
        "labels_present": sorted({int(k) for _, s in sequences for k in np.unique(s.labels)}),
        "frames_per_chunk": frames_per_chunk,
        "sequences": [packed_sequence(name, s) for name, s in sequences],
        "tracks": packed_tracks([*(scene.tracks if scene else ()), *tracks], times_us),
        "points": packed_points(clouds) if clouds else None,
        "lanes": [],
        **_ego(generated.poses_world_from_ego, times_us, height_m, grid.lower_m[2], grid.voxel_size_m[2]),
    }
    return _filled(drive, text, generated.taxonomy, rate_hz)


def build_scene_page(scene: Scene, text: PageText) -> str:
    """The HTML of a scene: its static map as voxels, tracks as boxes, the ego and its path, borders of lanes.

    Args:
        scene: what is shown; frames are those of its ego.
        text: words on the page.

    Raises:
        InvalidInputError: nothing in the map, a map too large for a page, a road that cannot be read, or captions that
            do not match the frames.
    """
    whole = scene.static_map
    lower, upper = _occupied(whole.labels)
    part = whole.labels[tuple(map(slice, lower, upper))]
    if part.size > LARGEST_MAP_CELLS:
        raise InvalidInputError(
            "scene", f"a map of {part.size:.1e} cells", f"at most {LARGEST_MAP_CELLS:.0e}", "Make one of fewer frames."
        )
    labels = np.ascontiguousarray(part)
    size_m = whole.voxel_size_m
    origin_m = np.asarray(whole.origin_world_m) + lower * np.asarray(size_m)
    lower_m = whole.origin_world_m[2] - float(scene.ego_poses_world_from_ego[0, 2, 3])
    drive: dict[str, Any] = {
        "fixed": True,
        "grid": _grid(labels.shape, tuple(origin_m.tolist()), size_m),
        "labels_present": [int(k) for k in np.unique(labels)],
        "frames_per_chunk": len(scene.times_us),
        "sequences": [{"name": "scene", "labels": packed(labels), "observed": None}],
        "tracks": packed_tracks(scene.tracks, scene.times_us),
        "points": None,
        "lanes": [np.round(line, 3).tolist() for line in lane_borders(scene.opendrive)],
        **_ego(scene.ego_poses_world_from_ego, scene.times_us, LIDAR_HEIGHT_M, lower_m, size_m[2]),
    }
    return _filled(drive, text, CARLASC, scene.rate_hz)


def write_page(page: str, file: Path) -> None:
    """Write the page; raises StorageError when it cannot be written whole."""
    write_text(page, file)


def _ego(poses: Poses, times_us: np.ndarray, height_m: float, lower_m: float, layer_m: float) -> dict[str, Any]:
    """Where the ego is and how high above the road, and how far above the road the cells end that hold it."""
    layers = np.floor((-height_m - lower_m) / layer_m + 1e-6) + 1
    return {
        "times_us": times_us.tolist(),
        "poses_world_from_ego": pose_rows(poses),
        "ego_height_m": height_m,
        "surface_m": round(float(lower_m + layers * layer_m + height_m), 3),
    }


def _grid(shape: Sequence[int], lower_m: Sequence[float], voxel_size_m: Sequence[float]) -> dict[str, Any]:
    return {"shape": shape, "lower_m": lower_m, "voxel_size_m": voxel_size_m}


def _occupied(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First cell and the one after the last that are not free, along each axis."""
    if not labels.any():
        raise InvalidInputError("scene.static_map", "no occupied cell", "at least one to look at")
    sides = [np.flatnonzero(labels.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    return np.array([side[0] for side in sides]), np.array([side[-1] + 1 for side in sides])


def _filled(drive: dict[str, Any], text: PageText, taxonomy: Taxonomy, rate_hz: float) -> str:
    frames = len(drive["times_us"])
    if text.captions and len(text.captions) != frames:
        raise InvalidInputError("text.captions", f"{len(text.captions)}", f"{frames}, one for each frame")
    words = {
        "title": text.title,
        "facts": text.facts,
        "attribution": text.attribution,
        "captions": text.captions or [""] * frames,
        "classes": [{"name": c.name, "colour": c.colour, "moves": c.moves} for c in taxonomy.classes],
        "rate_hz": rate_hz,
    }
    modules = {
        "three": f"{THREE}.module.min.js",
        "orbit-controls": f"{THREE}.OrbitControls.js",
        **{name: f"{name}.js" for name in ("voxels", "things", "pace", "drive", "panel", "view")},
    }
    parts = {
        "style": _asset("page.css"),
        "opening": _asset("opening.js"),
        "importmap": _inline_json({"imports": {name: _module_url(_asset(file)) for name, file in modules.items()}}),
        "drive": _inline_json({**words, **drive}),
        "viewer": _asset("viewer.js"),
        "licence": f"three.js\n{_asset(f'{THREE}.LICENSE.txt')}",
    }
    # In one pass: what is filled in may hold such a word itself, as the name of a folder may.
    return re.sub("@([a-z]+)@", lambda place: parts[place[1]], _asset("page.html"))


def _asset(name: str) -> str:
    return (files("dyncity_sim.preview") / "assets" / name).read_text(encoding="utf-8")


def _module_url(source: str) -> str:
    return "data:text/javascript;base64," + base64.b64encode(source.encode("utf-8")).decode("ascii")


def _inline_json(value: object) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
