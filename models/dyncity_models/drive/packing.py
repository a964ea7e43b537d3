"""What a drive knows, as the bytes of a continuation."""

import math
import struct
import zlib

import numpy as np
import zstandard

from dyncity_models.data.clips import UNOBSERVED
from dyncity_models.drive.memory import COLUMNS, LAYERS_AROUND, MOST_ROAD_USERS, MOTION, DriveMemory
from dyncity_sim.compression import decompressed
from dyncity_sim.domain.conditions import MAX_SPEED_MPS
from dyncity_sim.domain.grid import Grid
from dyncity_sim.errors import InvalidInputError

MOST_MOVERS = 64
"""Masks of movers that a continuation may hold."""

FARTHEST_M = 100.0
"""Nothing in a frame, which is 72 m from corner to corner, is so far away or so long."""

_MAGIC = b"DCM4"
_CHECKSUM = struct.Struct("<I")
_HEADER = struct.Struct("<dII")


def pack(memory: DriveMemory) -> bytes:
    """Magic, checksum of the rest, height, counts, arrays compressed."""
    arrays = (
        memory.labels,
        memory.world_from_memory.astype("<f8"),
        memory.corner.astype("<i8"),
        np.packbits(memory.movers),
        memory.movers_planar.astype("<f8"),
        memory.road_users,
        memory.motion.astype("<f8"),
    )
    body = zstandard.compress(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays), 3)
    content = _HEADER.pack(memory.height_m, len(memory.movers), len(memory.motion)) + body
    return _MAGIC + _CHECKSUM.pack(zlib.crc32(content)) + content


def unpack(payload: bytes, grid: Grid) -> DriveMemory:
    """The memory that was packed; a payload that is damaged, or of another grid, raises InvalidInputError."""
    try:
        start = len(_MAGIC) + _CHECKSUM.size
        (checksum,) = _CHECKSUM.unpack(payload[len(_MAGIC) : start])
        if payload[: len(_MAGIC)] != _MAGIC or zlib.crc32(payload[start:]) != checksum:
            raise ValueError("magic or checksum do not fit")
        height_m, count, users = _HEADER.unpack_from(payload, start)
        if count > MOST_MOVERS or users > MOST_ROAD_USERS:
            raise ValueError(f"{count} masks of movers, {users} road users")
        memory = _from_body(payload[start + _HEADER.size :], height_m, count, users, grid)
    except (ValueError, struct.error) as error:
        raise InvalidInputError(
            "continuation.payload", f"bytes that do not unpack ({error})", "a continuation as this model wrote it"
        ) from error
    return memory


def _from_body(body: bytes, height_m: float, count: int, users: int, grid: Grid) -> DriveMemory:
    columns, layers = grid.shape[:2], grid.shape[2] + 2 * LAYERS_AROUND
    cells, bits = COLUMNS * COLUMNS * layers, count * columns[0] * columns[1]
    numbers, motions = math.prod(grid.shape), users * len(MOTION) * 8
    sizes = (cells, 3 * 8, 2 * 8, -(-bits // 8), count * 3 * 8, numbers, motions)
    content = decompressed(body, sum(sizes), "continuation.payload")
    ends = np.cumsum(sizes)
    labels, pose, corner, movers, planar, numbered, motion = (
        content[end - size : end] for end, size in zip(ends, sizes, strict=True)
    )
    memory = DriveMemory(
        np.frombuffer(labels, np.uint8).reshape(COLUMNS, COLUMNS, layers),
        np.frombuffer(pose, "<f8"),
        np.frombuffer(corner, "<i8"),
        height_m,
        np.unpackbits(np.frombuffer(movers, np.uint8), count=bits).astype(np.bool_).reshape(count, *columns),
        np.frombuffer(planar, "<f8").reshape(count, 3),
        np.frombuffer(numbered, np.uint8).reshape(grid.shape),
        np.frombuffer(motion, "<f8").reshape(users, len(MOTION)),
    )
    if memory.labels.max() > UNOBSERVED:
        raise ValueError("labels of another taxonomy")
    if memory.road_users.max() > users or (users and not count):
        raise ValueError("cells of road users that are not there")
    finite = (height_m, memory.world_from_memory, memory.movers_planar, memory.motion)
    if not all(np.isfinite(v).all() for v in finite):
        raise ValueError("a pose that is not finite")
    if np.abs(memory.motion[:, :5]).max(initial=0.0) > FARTHEST_M:
        raise ValueError("a road user that is farther away or larger than a frame shows")
    if np.abs(memory.motion[:, 5]).max(initial=0.0) > MAX_SPEED_MPS:
        raise ValueError("a road user that is faster than anything drives")
    return memory
