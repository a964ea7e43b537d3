"""Columns of whole numbers as one small stream.

What changes evenly has second differences near zero. Those go into bytes, sign last, and lie plane by plane: all
lowest bytes of a column first, then all of the next. Most planes then are zeros, which xz makes vanish. The content
of the stream is an npz of the planes, so that any NumPy can look into it.
"""

import io
import lzma
from collections.abc import Mapping

import numpy as np
from jaxtyping import Int64, UInt8

PLANES = 8
"""Bytes of the largest number."""

SMALLEST_DICTIONARY, LARGEST_DICTIONARY = 2**12, 2**26
"""Bytes of xz's dictionary: the least that it takes, and what its highest preset has."""

MOST_BYTES = 2**30
"""Of what is unpacked: xz makes as much of 150 kB, whoever packed them."""


def packed(columns: Mapping[str, Int64[np.ndarray, " N"]]) -> bytes:
    """Columns, each of its own length, as a stream; the same columns give the same bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **{name: _planes(column) for name, column in columns.items()})
    return compressed(buffer.getvalue())


def compressed(data: bytes) -> bytes:
    """An xz file, as small as with the highest preset, whose dictionary would take 0.7 GB however small the data."""
    dictionary = int(np.clip(len(data), SMALLEST_DICTIONARY, LARGEST_DICTIONARY))
    return lzma.compress(data, filters=[{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": dictionary}])


def decompressed(file: bytes) -> bytes:
    """The content of an xz file.

    Raises:
        ValueError: it is cut off or damaged, or holds more than MOST_BYTES.
    """
    unpacker = lzma.LZMADecompressor()
    try:
        content = unpacker.decompress(file, MOST_BYTES)
    except lzma.LZMAError as error:
        raise ValueError(str(error)) from error
    if not unpacker.eof:
        raise ValueError("it is cut off" if unpacker.needs_input else f"it holds more than {MOST_BYTES} bytes")
    return content


def unpacked(stream: bytes) -> dict[str, Int64[np.ndarray, " N"]]:
    """The columns of a stream.

    Raises:
        ValueError: it is cut off, damaged, larger than MOST_BYTES, or no such stream.
    """
    try:
        with np.load(io.BytesIO(decompressed(stream)), allow_pickle=False) as arrays:
            size = sum(member.file_size for member in arrays.zip.infolist())
            if size > MOST_BYTES:
                raise ValueError(f"its columns hold {size} bytes, more than {MOST_BYTES}")
            return {name: _column(arrays[name]) for name in arrays.files}
    # NumPy reads a damaged header as Python text, so that nearly anything may come of it.
    except Exception as error:
        raise ValueError(str(error) or repr(error)) from error


def _planes(column: Int64[np.ndarray, " N"]) -> UInt8[np.ndarray, "P N"]:
    steps = np.diff(column, n=2, prepend=np.zeros(2, np.int64))
    unsigned = (steps << 1) ^ (steps >> 63)
    planes = unsigned.astype("<i8").view(np.uint8).reshape(-1, PLANES).T
    used = np.flatnonzero(planes.any(axis=1))
    return np.ascontiguousarray(planes[: used[-1] + 1 if len(used) else 0])


def _column(planes: UInt8[np.ndarray, "P N"]) -> Int64[np.ndarray, " N"]:
    if planes.dtype != np.uint8 or planes.ndim != 2 or len(planes) > PLANES:
        raise ValueError(f"planes of {planes.dtype} {planes.shape}")
    whole = np.zeros((planes.shape[1], PLANES), np.uint8)
    whole[:, : len(planes)] = planes.T
    unsigned = whole.view("<u8").ravel()
    steps = (unsigned >> np.uint64(1)).astype(np.int64) ^ -(unsigned & np.uint64(1)).astype(np.int64)
    return np.cumsum(np.cumsum(steps))
