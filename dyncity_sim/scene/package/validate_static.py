"""Checks of ``static.glb`` and ``static.npz``."""

import io
from pathlib import Path
from typing import Any

import numpy as np

from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.extras import import_extra
from dyncity_sim.scene.package.findings import Findings
from dyncity_sim.scene.package.read import read_static_map
from dyncity_sim.scene.package.write import STATIC_CELLS, STATIC_MESH

STATIC_CLASSES = {c.name for c in CARLASC.classes[1:] if not c.moves}
"""Classes that static geometry may have: all but free space and what moves."""


def check_mesh(folder: Path, manifest: dict[str, Any]) -> Findings:
    """Readable by trimesh; a mesh of a known class each, where ``scene.json`` says that static cells are."""
    content = (folder / STATIC_MESH).read_bytes()
    trimesh = import_extra("trimesh", "trimesh", "scene", "Validating a scene")
    loaded = trimesh.load_scene(io.BytesIO(content), file_type="glb")
    described = manifest["static"]
    classes = {name: mesh.metadata.get("class", name) for name, mesh in loaded.geometry.items()}
    problems = [
        f"mesh {name!r} is of no static class" for name, found in sorted(classes.items()) if found not in STATIC_CLASSES
    ]
    absent = sorted(set(classes.values()) & STATIC_CLASSES - set(described["classes"]))
    problems += [f"mesh of {found!r}, of which scene.json knows no cells" for found in absent]
    faces = sum(len(mesh.faces) for mesh in loaded.geometry.values())
    if bool(classes) != bool(described["classes"]):
        problems.append(f"{len(classes)} meshes for {len(described['classes'])} classes of cells")
    elif classes:
        size_m = np.array(described["voxel_size_m"])
        lower_m = np.array(described["origin_world_m"])
        upper_m = lower_m + size_m * described["cells"]
        corners_m = loaded.bounds @ np.array(described["gltf_from_world"])
        if (corners_m.min(axis=0) < lower_m - size_m).any() or (corners_m.max(axis=0) > upper_m + size_m).any():
            problems.append("meshes reach out of the static map: wrong unit or frame")
    return Findings(tuple(problems), (), f"{len(classes)} meshes, {faces} triangles, known classes")


def check_cells(folder: Path, manifest: dict[str, Any]) -> Findings:
    """Labels of static classes, in the grid that ``scene.json`` describes."""
    static_map, described = read_static_map(folder / STATIC_CELLS), manifest["static"]
    labels = static_map.labels
    if labels.dtype != np.uint8 or list(labels.shape) != described["cells"]:
        return Findings((f"labels are {labels.dtype} {labels.shape}, not uint8 {tuple(described['cells'])}",))
    problems = [
        f"{name} is {getattr(static_map, name)}, but scene.json says {described[name]}"
        for name in ("origin_world_m", "voxel_size_m")
        if not np.allclose(getattr(static_map, name), described[name], rtol=0, atol=1e-6)
    ]
    CARLASC.check(labels, "static.labels")
    found = [CARLASC.names[label] for label in np.unique(labels) if label]
    problems += [f"cells of {name!r}, which moves" for name in found if name not in STATIC_CLASSES]
    if found != described["classes"]:
        problems.append(f"classes are {', '.join(found) or 'none'}, not those of scene.json")
    filled = int((labels > 0).sum())
    return Findings(tuple(problems), (), f"{filled:,} of {' x '.join(map(str, labels.shape))} cells filled")
