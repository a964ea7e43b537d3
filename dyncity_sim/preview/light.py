"""Light on voxels: a sun with cast shadows, and ambient occlusion at the corners of faces."""

import numpy as np
from jaxtyping import Bool, Float32

FACE_AXES = ((2, 0, 1), (0, 1, 2), (1, 0, 2))
"""Normal axis and the two axes in the plane, of the faces that show: up, backwards (-x), to the right (-y)."""
FACE_OUTWARD = (1, -1, -1)
SUN_SLOPE = (-0.42, 0.78)
"""Cells along x and y that the sun's ray moves for each cell upwards."""
SHADOW = 0.62
OCCLUSION = np.array([1.0, 0.90, 0.80, 0.68], dtype=np.float32)
"""Light at a voxel corner by how many of its three outer neighbours are occupied."""


def corner_light(solid: Bool[np.ndarray, "X Y Z"], cells: np.ndarray) -> Float32[np.ndarray, "N 12"]:
    """Light at the four corners of the three visible faces of each cell.

    Corner ``4 * face + 2 * far_u + far_v``. Ambient occlusion looks at the three cells beside and
    across the corner in the layer in front of the face; the sun at the cell in front of the corner.
    """
    padded = np.pad(solid, 1)
    sun = _sun_light(padded)
    light = np.empty((len(cells), 12), dtype=np.float32)
    base = cells + 1
    for face, (normal, u, v) in enumerate(FACE_AXES):
        front = base.copy()
        front[:, normal] += FACE_OUTWARD[face]
        for far_u in (0, 1):
            for far_v in (0, 1):
                step_u, step_v = np.zeros(3, dtype=np.int32), np.zeros(3, dtype=np.int32)
                step_u[u], step_v[v] = 2 * far_u - 1, 2 * far_v - 1
                around = [front + step_u, front + step_v, front + step_u + step_v]
                occupied = [padded[tuple(c.T)] for c in around]
                count = occupied[0].astype(np.int8) + occupied[1] + occupied[2]
                count[occupied[0] & occupied[1]] = 3
                lit = sun[tuple(front.T)]
                for cell, blocked in zip(around, occupied, strict=True):
                    lit = lit + np.where(blocked, sun[tuple(front.T)], sun[tuple(cell.T)])
                light[:, 4 * face + 2 * far_u + far_v] = OCCLUSION[count] * (SHADOW + (1 - SHADOW) * lit / 4)
    return light


def _sun_light(padded: Bool[np.ndarray, "X Y Z"]) -> Float32[np.ndarray, "X Y Z"]:
    """Share of the sun that reaches each cell: rays are followed upwards, layer by layer."""
    light = np.ones(padded.shape, dtype=np.float32)
    layers = padded.shape[2]
    for z in range(layers - 2, -1, -1):
        above = light[:, :, z + 1] * ~padded[:, :, z + 1]
        light[:, :, z] = _shifted(above, *SUN_SLOPE)
    return light


def _shifted(layer: np.ndarray, dx: float, dy: float) -> np.ndarray:
    """``layer`` sampled (dx, dy) cells away, bilinear, repeated beyond its border."""
    for axis, step in ((0, dx), (1, dy)):
        whole = int(np.floor(step))
        part = step - whole
        index = np.arange(layer.shape[axis])
        low = np.take(layer, np.clip(index + whole, 0, len(index) - 1), axis=axis)
        high = np.take(layer, np.clip(index + whole + 1, 0, len(index) - 1), axis=axis)
        layer = (1 - part) * low + part * high
    return layer
