"""``geometry.proto``: poses, times and grids."""

from collections.abc import Sequence

import numpy as np
from dyncity.v1 import geometry_pb2
from jaxtyping import Int64

from dyncity_sim.domain.frames import Poses
from dyncity_sim.domain.grid import Grid
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.wire.codec.checks import check_frames, triple


def poses_to_proto(poses: Poses) -> list[geometry_pb2.Pose]:
    """One message per pose; the constant fourth row stays behind."""
    return [geometry_pb2.Pose(rows=pose[:3].ravel()) for pose in poses]


def poses_from_proto(messages: Sequence[geometry_pb2.Pose], field: str) -> Poses:
    """Poses ``(T, 4, 4)``, complete in shape; that they are rigid is for the noun to check."""
    check_frames(messages, field)
    for frame, message in enumerate(messages):
        if len(message.rows) != 12:
            raise InvalidInputError(f"{field}[{frame}].rows", f"{len(message.rows)} numbers", "12, row by row")
    poses = np.zeros((len(messages), 4, 4))
    poses[:, :3] = np.array([message.rows for message in messages], dtype=np.float64).reshape(-1, 3, 4)
    poses[:, 3, 3] = 1.0
    return poses


def times_from_proto(times_us: Sequence[int], field: str) -> Int64[np.ndarray, " T"]:
    """Times, microseconds; that there is one for each pose, and that they increase, is for the noun to check."""
    check_frames(times_us, field)
    return np.array(times_us, dtype=np.int64)


def grid_to_proto(grid: Grid) -> geometry_pb2.Grid:
    """A grid as a message."""
    return geometry_pb2.Grid(shape=grid.shape, lower_m=grid.lower_m, voxel_size_m=grid.voxel_size_m)


def grid_from_proto(message: geometry_pb2.Grid, field: str) -> Grid:
    """A grid from a message; violations are named under ``field``."""
    shape = triple(message.shape, f"{field}.shape")
    lower_m = triple(message.lower_m, f"{field}.lower_m")
    voxel_size_m = triple(message.voxel_size_m, f"{field}.voxel_size_m")
    try:
        return Grid(shape, lower_m, voxel_size_m)
    except InvalidInputError as error:
        name = error.field.removeprefix("grid.")
        raise InvalidInputError(f"{field}.{name}", error.got, error.expected, error.mend) from error
