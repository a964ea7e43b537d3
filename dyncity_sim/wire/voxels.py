"""Voxel arrays as bytes: packing, and unpacking that trusts nothing."""

import enum

import numpy as np
import zstandard
from jaxtyping import Bool, UInt8

from dyncity_sim.compression import decompressed
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.wire.limits import MAX_VOXEL_BYTES

ZSTD_LEVEL = 3

VoxelShape = tuple[int, int, int, int]


class VoxelEncoding(enum.Enum):
    """How the bytes of a voxel array are packed."""

    RAW = "raw"
    ZSTD = "zstd"


def pack_labels(labels: UInt8[np.ndarray, "T X Y Z"], encoding: VoxelEncoding) -> bytes:
    """Labels in C order, packed."""
    return _pack(np.ascontiguousarray(labels).tobytes(), encoding)


def unpack_labels(data: bytes, encoding: VoxelEncoding, shape: VoxelShape, field: str) -> UInt8[np.ndarray, "T X Y Z"]:
    """The labels that ``pack_labels`` packed.

    Raises:
        InvalidInputError: no cell or more than MAX_VOXEL_BYTES, another length than ``shape`` has, or damaged.
    """
    cells = _checked_cells(shape, field)
    return np.frombuffer(_unpack(data, encoding, cells, field), dtype=np.uint8).reshape(shape)


def pack_observed(observed: Bool[np.ndarray, "T X Y Z"], encoding: VoxelEncoding) -> bytes:
    """One bit per cell in C order, the first cell in the lowest bit, packed."""
    return _pack(np.packbits(observed, bitorder="little").tobytes(), encoding)


def unpack_observed(data: bytes, encoding: VoxelEncoding, shape: VoxelShape, field: str) -> Bool[np.ndarray, "T X Y Z"]:
    """The mask that ``pack_observed`` packed.

    Raises:
        InvalidInputError: as ``unpack_labels``.
    """
    cells = _checked_cells(shape, field)
    packed = np.frombuffer(_unpack(data, encoding, (cells + 7) // 8, field), dtype=np.uint8)
    return np.unpackbits(packed, count=cells, bitorder="little").view(np.bool_).reshape(shape)


def pack_layout(cells: Bool[np.ndarray, "T X Y"]) -> bytes:
    """One bit per cell in C order, the first cell in the lowest bit; small enough to travel as it is."""
    return np.packbits(cells, bitorder="little").tobytes()


def unpack_layout(data: bytes, shape: tuple[int, int, int], field: str) -> Bool[np.ndarray, "T X Y"]:
    """The cells that ``pack_layout`` packed. Raises InvalidInputError as ``unpack_labels``."""
    return unpack_observed(data, VoxelEncoding.RAW, (*shape, 1), field)[..., 0]


def _checked_cells(shape: VoxelShape, field: str) -> int:
    frames, x, y, z = (int(n) for n in shape)
    cells = frames * x * y * z
    # NumPy cannot have shapes that would overflow without their zeros.
    if cells < 1:
        raise InvalidInputError(field, f"{frames} frames of {x} x {y} x {z} cells", "at least one cell")
    if cells > MAX_VOXEL_BYTES:
        raise InvalidInputError(
            field, f"{frames} frames of {x} x {y} x {z} cells", f"at most {MAX_VOXEL_BYTES} cells in a message"
        )
    return cells


def _pack(data: bytes, encoding: VoxelEncoding) -> bytes:
    if encoding is VoxelEncoding.RAW:
        return data
    return zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True, write_content_size=True).compress(data)


def _unpack(data: bytes, encoding: VoxelEncoding, expected_bytes: int, field: str) -> bytes:
    if encoding is VoxelEncoding.ZSTD:
        data = decompressed(data, expected_bytes, field)
    if len(data) != expected_bytes:
        raise InvalidInputError(field, f"{len(data)} bytes", f"{expected_bytes}")
    return data
