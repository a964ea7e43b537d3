"""glTF of static geometry: one mesh per class."""

import json
from typing import Any

import numpy as np

from dyncity_sim.domain.scene import StaticMap
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.extras import import_extra
from dyncity_sim.scene.surfaces.quads import surfaces
from dyncity_sim.scene.surfaces.smoothing import smooth_surfaces

GLTF_FROM_WORLD = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
"""Rotation from our z-up world to glTF's y-up frame: x stays east, up is y, north is -z."""


def gltf_bytes(static_map: StaticMap, smooth: bool = False) -> bytes:
    """A binary glTF 2.0 file: one node, mesh and material per class, named after it, in metres, y up.

    The frame is the world frame turned by GLTF_FROM_WORLD; ``asset.extras`` states unit and frame, each mesh's extras
    state its class and label. Vertices, which glTF holds in single precision, count from the map's corner, and each
    node's matrix takes them to their place: a world may lie millions of metres from its origin. Colours are those of
    the taxonomy (sRGB) as the linear factors that glTF asks for (specification 2.0, section 3.9.2). A map without any
    surface gives a file with an empty scene. The same map gives the same bytes.

    Args:
        static_map: what to write the surface of.
        smooth: smooth surfaces in place of the cells' own.

    Raises:
        MissingExtraError: trimesh is not installed.
    """
    trimesh = import_extra("trimesh", "trimesh", "scene", "Writing glTF")
    found = smooth_surfaces(static_map) if smooth else surfaces(static_map)
    if not found:
        return _empty_glb()
    scene = trimesh.Scene(base_frame="world")
    corner = np.eye(4)
    corner[:3, 3] = GLTF_FROM_WORLD @ static_map.origin_world_m
    for surface in found:
        semantic_class = CARLASC.classes[surface.label]
        vertices = (surface.vertices_world_m - static_map.origin_world_m) @ GLTF_FROM_WORLD.T
        triangles = surface.quads[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3)
        material = trimesh.visual.material.PBRMaterial(
            name=semantic_class.name, metallicFactor=0.0, roughnessFactor=1.0
        )
        mesh = trimesh.Trimesh(
            vertices,
            triangles,
            visual=trimesh.visual.TextureVisuals(material=material),
            process=False,
            metadata={"class": semantic_class.name, "label": surface.label, "unit": "m"},
        )
        scene.add_geometry(mesh, node_name=semantic_class.name, geom_name=semantic_class.name, transform=corner)
    content: bytes = trimesh.exchange.gltf.export_glb(scene, tree_postprocessor=_complete, include_normals=False)
    return content


def _complete(tree: dict[str, Any]) -> None:
    """State units, and colours in full precision, which trimesh rounds to bytes."""
    tree["asset"]["extras"] = _asset_extras()
    for material in tree["materials"]:
        srgb = np.array(CARLASC.classes[CARLASC.index(material["name"])].colour) / 255
        linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
        material["pbrMetallicRoughness"]["baseColorFactor"] = [*np.round(linear, 6).tolist(), 1.0]


def _asset_extras() -> dict[str, Any]:
    return {
        "unit": "m",
        "frame": "x east, y up, z south: the world frame (x east, y north, z up) turned by gltf_from_world",
        "gltf_from_world": GLTF_FROM_WORLD.tolist(),
    }


def _empty_glb() -> bytes:
    """A glTF of nothing, which exporters of meshes do not write."""
    asset = {"version": "2.0", "extras": _asset_extras()}
    document = json.dumps({"asset": asset, "scene": 0, "scenes": [{}]}).encode()
    document += b" " * (-len(document) % 4)
    header = b"glTF" + np.array([2, 20 + len(document)], dtype="<u4").tobytes()
    return header + np.array([len(document)], dtype="<u4").tobytes() + b"JSON" + document
