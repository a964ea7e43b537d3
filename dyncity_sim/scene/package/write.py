"""The scene package: one folder that other tools open."""

import hashlib
import io
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from dyncity_sim.domain.scene import Provenance, Scene, StaticMap
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.files import json_bytes, whole_folder
from dyncity_sim.scene.package.openscenario import openscenario_1_0, openscenario_1_2
from dyncity_sim.scene.package.provenance import provenance_document
from dyncity_sim.scene.package.tables import ego_parquet, tracks_parquet
from dyncity_sim.scene.surfaces.gltf import GLTF_FROM_WORLD, gltf_bytes

FORMAT = "dyncity-scene"
VERSION = 2
"""Version of the folder's layout, in ``scene.json``."""

MANIFEST = "scene.json"
ROAD = "map.xodr"
SCENARIO_1_0 = "scene.xosc"
SCENARIO_1_2 = "scene-1.2.xosc"
STATIC_MESH = "static.glb"
STATIC_CELLS = "static.npz"
"""Static occupancy as cells, beside its surface as a mesh."""
TRACKS = "tracks.parquet"
EGO = "ego.parquet"
PROVENANCE = "provenance.json"


def write_scene(scene: Scene, folder: Path, provenance: Provenance, smooth: bool = False) -> None:
    """Write all files of a scene, and ``scene.json`` over them.

    The folder appears whole or not at all. The same scene gives the same bytes with the same versions of the packages
    that ``provenance.json`` names.

    Args:
        scene: what is written.
        folder: must not exist, or be empty.
        provenance: where the scene comes from.
        smooth: the mesh of static geometry is smoothed, without the steps of voxels, and larger.

    Raises:
        InvalidInputError: the folder holds something already.
        MissingExtraError: a package of the extra ``scene`` is not installed.
        StorageError: the disk is full, or the place may not be written to.
    """
    contents = {
        ROAD: scene.opendrive.encode(),
        SCENARIO_1_0: openscenario_1_0(scene, ROAD).encode(),
        SCENARIO_1_2: openscenario_1_2(scene, ROAD).encode(),
        STATIC_MESH: gltf_bytes(scene.static_map, smooth),
        STATIC_CELLS: _static_cells(scene.static_map),
        TRACKS: tracks_parquet(scene.tracks),
        EGO: ego_parquet(scene),
        PROVENANCE: json_bytes(provenance_document(provenance)),
    }
    contents[MANIFEST] = json_bytes(_manifest(scene, contents))
    with whole_folder(folder) as temporary:
        for name, content in contents.items():
            (temporary / name).write_bytes(content)


def json_schema(name: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of ``scene`` or ``provenance`` in this version."""
    file = files("dyncity_sim.scene.package") / "schemas" / f"{name}-{VERSION}.schema.json"
    schema: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return schema


def file_entry(content: bytes) -> dict[str, Any]:
    """What the manifest says of a file."""
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _manifest(scene: Scene, contents: dict[str, bytes]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "world": "right-handed, metres, x east, y north, z up",
        "time": "microseconds",
        "frames": len(scene.times_us),
        "first_time_us": int(scene.times_us[0]),
        "last_time_us": int(scene.times_us[-1]),
        "tracks": len(scene.tracks),
        "static": {
            "gltf_from_world": GLTF_FROM_WORLD.tolist(),
            "cells": list(scene.static_map.labels.shape),
            "origin_world_m": _numbers(scene.static_map.origin_world_m),
            "voxel_size_m": _numbers(scene.static_map.voxel_size_m),
            "classes": [CARLASC.names[label] for label in np.unique(scene.static_map.labels) if label],
        },
        "files": {name: file_entry(content) for name, content in sorted(contents.items())},
    }


def _static_cells(static_map: StaticMap) -> bytes:
    """``labels`` (X Y Z uint8, CARLASC), ``origin_world_m`` and ``voxel_size_m``, as NumPy's compressed archive."""
    content = io.BytesIO()
    np.savez_compressed(
        content,
        allow_pickle=False,
        labels=static_map.labels,
        origin_world_m=np.array(static_map.origin_world_m),
        voxel_size_m=np.array(static_map.voxel_size_m),
    )
    return content.getvalue()


def _numbers(values: Any) -> list[float]:
    """Six decimals: micrometres. Adding 0.0 keeps a negative zero out of the file."""
    return [round(float(v), 6) + 0.0 for v in values]
