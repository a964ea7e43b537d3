"""The scene package: one folder that other tools open."""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from dyncity_sim.domain.frames import Poses
from dyncity_sim.domain.scene import Provenance, Scene, StaticMap, Track
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.files import whole_folder
from dyncity_sim.scene.gltf import GLTF_FROM_WORLD, gltf_bytes
from dyncity_sim.scene.openscenario import openscenario_document

SCENE_VERSION = 1
"""Version of the folder's layout, in ``scene.json``."""

STATIC_CELLS = "static.npz"
"""Static occupancy as cells, beside its surface as a mesh."""


def write_scene(scene: Scene, folder: Path, provenance: Provenance) -> None:
    """Write ``map.xodr, scene.xosc, static.glb, static.npz, tracks.json, provenance.json``, and ``scene.json``
    over them all.

    The folder appears whole or not at all, and the same scene gives the same bytes.

    Raises:
        InvalidInputError: the folder holds something already.
        MissingExtraError: scenariogeneration or trimesh is not installed.
        StorageError: the disk is full, or the place may not be written to.
    """
    files = {
        "map.xodr": scene.opendrive.encode(),
        "scene.xosc": openscenario_document(scene).encode(),
        "static.glb": gltf_bytes(scene.static_map),
        STATIC_CELLS: _static_cells(scene.static_map),
        "tracks.json": _json(_tracks(scene)),
        "provenance.json": _json(_provenance(provenance)),
    }
    files["scene.json"] = _json(_manifest(scene, files))
    with whole_folder(folder) as temporary:
        for name, content in files.items():
            (temporary / name).write_bytes(content)


def _manifest(scene: Scene, files: dict[str, bytes]) -> dict[str, Any]:
    return {
        "format": "dyncity-scene",
        "version": SCENE_VERSION,
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
        "files": {
            name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in sorted(files.items())
        },
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


def _tracks(scene: Scene) -> dict[str, Any]:
    return {
        "pose": "[x_m, y_m, z_m, qw, qx, qy, qz] of the box's centre (the ego: of its LiDAR frame) in the world frame",
        "ego": {
            "times_us": scene.times_us.tolist(),
            "poses_world_from_ego": _pose_rows(scene.ego_poses_world_from_ego),
        },
        "tracks": [_track(track) for track in scene.tracks],
    }


def _track(track: Track) -> dict[str, Any]:
    return {
        "id": track.id,
        "kind": track.kind.value,
        "size_m": _numbers(track.size_m),
        "times_us": track.times_us.tolist(),
        "poses_world_from_actor": _pose_rows(track.poses_world_from_actor),
        "velocities_world_mps": [_numbers(v) for v in track.velocities_world_mps],
    }


def _provenance(provenance: Provenance) -> dict[str, Any]:
    return {
        "model_id": provenance.model_id,
        "seeds": list(provenance.seeds),
        "attribution": provenance.attribution,
        "taxonomy": provenance.taxonomy_id,
        "classes": list(CARLASC.names) if provenance.taxonomy_id == CARLASC.id else [],
        "generator": "dyncity-sim",
    }


def _pose_rows(poses: Poses) -> list[list[float]]:
    quaternions = Rotation.from_matrix(poses[:, :3, :3]).as_quat(canonical=True)[:, [3, 0, 1, 2]]
    return [_numbers(row) for row in np.concatenate([poses[:, :3, 3], quaternions], axis=1)]


def _numbers(values: Any) -> list[float]:
    """Six decimals: micrometres. Adding 0.0 keeps a negative zero out of the file."""
    return [round(float(v), 6) + 0.0 for v in values]


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()
