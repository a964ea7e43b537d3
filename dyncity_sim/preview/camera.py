"""An orthographic camera on voxels, and the pixels that one voxel covers in its picture.

The camera's basis is rounded to whole pixels, so that every voxel covers the same pixels, shifted.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32, Int64

from dyncity_sim.domain.grid import Grid
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.preview.light import FACE_AXES, FACE_OUTWARD


@dataclass(frozen=True)
class ObliqueCamera:
    """An orthographic camera; the azimuth lies between 0 and 90 degrees, so that -x and -y faces show.

    Attributes:
        azimuth_rad: how far the ego's forward axis leans from the picture's upward direction to the right.
        elevation_rad: how steeply the camera looks down.
    """

    azimuth_rad: float = float(np.deg2rad(33.0))
    elevation_rad: float = float(np.deg2rad(41.0))

    def __post_init__(self) -> None:
        for name, angle in (("azimuth_rad", self.azimuth_rad), ("elevation_rad", self.elevation_rad)):
            if not 0.05 < angle < np.pi / 2 - 0.05:
                raise InvalidInputError(f"camera.{name}", angle, "an angle in (0.05, 1.52) rad")

    def basis(self, grid: Grid, width: int) -> Int32[np.ndarray, "3 2"]:
        """Pixels (right, down) that one cell step along x, y and z moves, for a grid ``width`` pixels wide."""
        sin_a, cos_a = np.sin(self.azimuth_rad), np.cos(self.azimuth_rad)
        sin_e, cos_e = np.sin(self.elevation_rad), np.cos(self.elevation_rad)
        directions = np.array([[sin_a, -cos_a * sin_e], [-cos_a, -sin_a * sin_e], [0.0, -cos_e]])
        per_cell = directions * np.asarray(grid.voxel_size_m)[:, None]
        span = abs(per_cell[0, 0]) * grid.shape[0] + abs(per_cell[1, 0]) * grid.shape[1]
        basis = np.rint(per_cell * (width / span)).astype(np.int32)
        lowest = np.array([[1, -1], [-1, -1], [0, -1]], dtype=np.int32)
        return np.where(np.abs(basis) < np.abs(lowest), lowest, basis)


@dataclass(frozen=True, eq=False)
class VoxelTemplate:
    """The K pixels that one voxel covers, face by face (up, -x, -y).

    Attributes:
        basis: pixels (right, down) per cell step along x, y and z.
        offsets: each pixel, from the pixel of the voxel's lower corner.
        face: which face the pixel shows.
        position: where on the voxel it lies, each coordinate in [0, 1].
    """

    basis: Int32[np.ndarray, "3 2"]
    offsets: Int64[np.ndarray, "K 2"]
    face: Int64[np.ndarray, " K"]
    position: Float32[np.ndarray, "K 3"]


def voxel_template(basis: Int32[np.ndarray, "3 2"]) -> VoxelTemplate:
    """The pixels of a voxel whose steps along x, y and z move that many pixels (right, down)."""
    offsets, faces, positions = [], [], []
    reach = np.abs(basis).sum(axis=0) + 1
    right, down = np.meshgrid(np.arange(-reach[0], reach[0] + 1), np.arange(-reach[1], reach[1] + 1), indexing="ij")
    pixels = np.stack([right.ravel(), down.ravel()], axis=-1)
    # An irrational shift keeps pixel centres off the edges, so that neighbouring faces tile exactly.
    centres = pixels + 0.5 + 1e-4 * np.sqrt([2.0, 3.0])
    for face, (normal, u, v) in enumerate(FACE_AXES):
        origin = np.zeros(3)
        origin[normal] = 1.0 if FACE_OUTWARD[face] > 0 else 0.0
        uv = np.linalg.solve(basis[[u, v]].T.astype(np.float64), (centres - origin @ basis).T).T
        inside = ((uv >= 0) & (uv < 1)).all(axis=1)
        position = np.tile(origin, (int(inside.sum()), 1))
        position[:, [u, v]] = uv[inside]
        offsets.append(pixels[inside])
        faces.append(np.full(int(inside.sum()), face))
        positions.append(position)
    return VoxelTemplate(
        basis, np.concatenate(offsets), np.concatenate(faces), np.concatenate(positions).astype(np.float32)
    )
