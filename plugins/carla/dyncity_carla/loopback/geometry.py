"""CARLA's own geometry: left-handed, x forward, y right, z up, degrees; and boxes that overlap.

A transform is a row ``x, y, z, pitch, yaw, roll`` in metres and degrees.
"""

import numpy as np
from jaxtyping import Bool, Float64

Row = Float64[np.ndarray, " 6"]
Matrix = Float64[np.ndarray, "4 4"]
Vector = Float64[np.ndarray, " 3"]


def wrapped(degrees: np.ndarray) -> np.ndarray:
    """Angles in [-180, 180)."""
    return (degrees + 180.0) % 360.0 - 180.0


def row_from_wire(transform: list[list[float]]) -> Row:
    """The row of a Transform as it travels."""
    (x, y, z), (pitch, yaw, roll) = transform
    return np.array([x, y, z, pitch, yaw, roll], dtype=np.float64)


def wire_from_row(row: Row) -> list[list[float]]:
    """A Transform as it travels."""
    values = row.tolist()
    return [values[:3], values[3:]]


def matrix_from_row(row: Row) -> Matrix:
    """``carla.Transform.get_matrix``: world from actor."""
    cp, cy, cr = np.cos(np.radians(row[3:]))
    sp, sy, sr = np.sin(np.radians(row[3:]))
    return np.array(
        [
            [cp * cy, cy * sp * sr - sy * cr, -cy * sp * cr - sy * sr, row[0]],
            [cp * sy, sy * sp * sr + cy * cr, -sy * sp * cr + cy * sr, row[1]],
            [sp, -cp * sr, cp * cr, row[2]],
            [0.0, 0.0, 0.0, 1.0],
        ]
    )


def row_from_matrix(matrix: Matrix) -> Row:
    """The row whose matrix this is; roll is 0 where pitch is a right angle."""
    pitch = np.arcsin(np.clip(matrix[2, 0], -1.0, 1.0))
    if abs(matrix[2, 0]) > 1 - 1e-12:
        yaw, roll = np.arctan2(-matrix[0, 1], matrix[1, 1]), 0.0
    else:
        yaw, roll = np.arctan2(matrix[1, 0], matrix[0, 0]), np.arctan2(-matrix[2, 1], matrix[2, 2])
    return np.array([*matrix[:3, 3], *np.degrees([pitch, yaw, roll])])


def attached(parent: Row, relative: Row) -> Row:
    """Where a thing stands that is fixed to a parent."""
    return row_from_matrix(matrix_from_row(parent) @ matrix_from_row(relative))


def overlapping(
    centre: Vector,
    yaw_deg: float,
    extent: Vector,
    centres: Float64[np.ndarray, "N 3"],
    yaws_deg: Float64[np.ndarray, " N"],
    extents: Float64[np.ndarray, "N 3"],
) -> Bool[np.ndarray, " N"]:
    """Which of N upright boxes overlap one upright box (separating axes in the plane, intervals in height).

    Extents are half sizes; boxes that only touch do not overlap.
    """
    apart = centres - centre
    overlap: Bool[np.ndarray, " N"] = np.abs(apart[:, 2]) < extent[2] + extents[:, 2]
    own = np.full(len(centres), np.radians(yaw_deg))
    others = np.radians(yaws_deg)
    for angle in (own, own + np.pi / 2, others, others + np.pi / 2):
        distance = np.abs(apart[:, 0] * np.cos(angle) + apart[:, 1] * np.sin(angle))
        reach = extent[0] * np.abs(np.cos(angle - own)) + extent[1] * np.abs(np.sin(angle - own))
        reach = reach + extents[:, 0] * np.abs(np.cos(angle - others)) + extents[:, 1] * np.abs(np.sin(angle - others))
        overlap &= distance < reach
    return overlap
