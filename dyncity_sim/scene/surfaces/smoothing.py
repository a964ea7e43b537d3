"""Smooth surfaces of a static map: the faces of its cells, without their steps."""

import numpy as np
from jaxtyping import Float64, Int64
from scipy.sparse import coo_array, diags_array

from dyncity_sim.domain.scene import StaticMap
from dyncity_sim.scene.surfaces.quads import Surface, quads_by_label

ROUNDS = 10
SHRINK, GROW = 0.5, -0.53
"""Taubin's factors for a pass band up to a frequency of 0.1."""


def smooth_surfaces(static_map: StaticMap) -> tuple[Surface, ...]:
    """Surface of each class that occurs, by label, smoothed without loss of volume (Taubin, SIGGRAPH 1995).

    One quad a face. Classes share their vertices while they are smoothed, so that no gap opens between them.
    """
    found = list(quads_by_label(static_map.labels, merged=False))
    if not found:
        return ()
    corners = np.concatenate([quads for _, quads in found])
    vertices, index = np.unique(corners.reshape(-1, 3), axis=0, return_inverse=True)
    quads = index.reshape(-1, 4).astype(np.int64)
    smooth = _smoothed(vertices.astype(np.float64), quads)
    world = smooth * np.asarray(static_map.voxel_size_m) + np.asarray(static_map.origin_world_m)
    surfaces = []
    stops = np.cumsum([len(quads_of_label) for _, quads_of_label in found])
    for (label, _), own in zip(found, np.split(quads, stops[:-1]), strict=True):
        used, own_index = np.unique(own, return_inverse=True)
        surfaces.append(Surface(label, world[used], own_index.reshape(-1, 4).astype(np.int64)))
    return tuple(surfaces)


def _smoothed(vertices: Float64[np.ndarray, "V 3"], quads: Int64[np.ndarray, "Q 4"]) -> Float64[np.ndarray, "V 3"]:
    edges = np.unique(np.sort(np.stack([quads, np.roll(quads, -1, axis=1)], axis=-1).reshape(-1, 2), axis=1), axis=0)
    first, second = np.concatenate([edges, edges[:, ::-1]]).T
    neighbours = coo_array((np.ones(len(first)), (first, second)), shape=(len(vertices),) * 2).tocsr()
    mean = diags_array(1 / neighbours.sum(axis=1)) @ neighbours
    for factor in (SHRINK, GROW) * ROUNDS:
        vertices = vertices + factor * (mean @ vertices - vertices)
    return vertices
