"""What a drive knows of its world: the static map so far and the movers of the last frames.

It travels inside the continuation, so it is bounded: a square of columns that moves with the ego. A
cell is written once, by the first chunk that shows it, and never resampled afterwards; that is why
long drives do not drift.
"""

import struct
import zlib
from dataclasses import dataclass, replace

import numpy as np
import zstandard
from jaxtyping import Bool, Float64, Int64, UInt8

from dyncity_models.data.clips import UNOBSERVED
from dyncity_models.drive.borders import IS_SURFACE, columns_at, surfaces_at
from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import InvalidInputError

COLUMNS = 320
"""Columns along each side of the remembered square (128 m at 0.4 m)."""

MOST_MOVERS = 64
"""Masks of movers that a continuation may hold."""

MOST_ROAD_USERS = 255
"""Vehicles and pedestrians that a continuation may number."""

MOTION = ("x_m", "y_m", "yaw_rad", "length_m", "width_m", "speed_mps", "on_foot")
"""What a continuation says of each of them, in the ego frame of the last frame; 1 is on foot, 0 a vehicle."""

VOTING_FRAMES = 6
"""Frames of a chunk, evenly spread, that vote on what it shows."""

_MAGIC = b"DCM3"
_CHECKSUM = struct.Struct("<I")
_HEADER = struct.Struct("<dII")


@dataclass(frozen=True, eq=False)
class DriveMemory:
    """The static world around the ego, and who was moving in it.

    Attributes:
        labels: ``(N, N, Z)`` static labels, ``UNOBSERVED`` where nothing is known.
        world_from_memory: x, y, yaw of the memory's axes, which never change over a drive.
        corner: cell index of ``labels[0, 0]`` along the memory's axes.
        height_m: world height of the ego when the drive began; cells are stacked relative to it.
        movers: columns with vehicles, then pedestrians, in the last frames, ``(M, X, Y)``.
        movers_planar: x, y, yaw of the ego in the world for each of ``movers``.
        road_users: cells of the last frame (that of ``movers[0]``): the number, from 1, of who fills them, or 0.
        motion: ``MOTION`` of each of these.
    """

    labels: UInt8[np.ndarray, "N N Z"]
    world_from_memory: Float64[np.ndarray, " 3"]
    corner: Int64[np.ndarray, " 2"]
    height_m: float
    movers: Bool[np.ndarray, "M X Y"]
    movers_planar: Float64[np.ndarray, "M 3"]
    road_users: UInt8[np.ndarray, "X Y Z"]
    motion: Float64[np.ndarray, "V 7"]

    @classmethod
    def empty(cls, planar: Float64[np.ndarray, " 3"], height_m: float, grid: Grid) -> "DriveMemory":
        """Nothing known, centred on an ego pose."""
        return cls(
            np.full((COLUMNS, COLUMNS, grid.shape[2]), UNOBSERVED, dtype=np.uint8),
            np.array(planar, dtype=np.float64),
            np.full(2, -COLUMNS // 2, dtype=np.int64),
            height_m,
            np.zeros((0, *grid.shape[:2]), dtype=np.bool_),
            np.zeros((0, 3)),
            np.zeros(grid.shape, dtype=np.uint8),
            np.zeros((0, len(MOTION))),
        )

    def centred_on(self, xy_world: Float64[np.ndarray, " 2"], grid: Grid) -> "DriveMemory":
        """The square moved (by whole cells) so that a point of the world is in its middle."""
        corner = np.floor(self._axes(xy_world) / grid.voxel_size_m[0]).astype(np.int64) - COLUMNS // 2
        shift = corner - self.corner
        labels = np.full_like(self.labels, UNOBSERVED)
        if (np.abs(shift) < COLUMNS).all():
            kept = [slice(max(0, s), COLUMNS + min(0, s)) for s in shift]
            place = [slice(max(0, -s), COLUMNS + min(0, -s)) for s in shift]
            labels[place[0], place[1]] = self.labels[kept[0], kept[1]]
        return replace(self, labels=labels, corner=corner)

    def seen_from(
        self,
        planar: Float64[np.ndarray, "T 3"],
        heights_m: Float64[np.ndarray, " T"],
        grid: Grid,
        straight: bool = False,
    ) -> UInt8[np.ndarray, "T X Y Z"]:
        """Known static labels of the nearest columns in the ego grids of some frames, ``UNOBSERVED`` elsewhere.

        With ``straight``, borders of surfaces and buildings lie where most of what is around says (``borders``).
        """
        points = self._axes(_cell_centres_world(planar, grid.shape[0], -grid.lower_m[0]))
        points = points / grid.voxel_size_m[0] - self.corner
        nearest = np.floor(points).astype(np.int64).clip(0, COLUMNS - 1)
        index = columns_at(self.labels, points) if straight else nearest
        seen = self.labels[index[..., 0], index[..., 1]]
        if straight:
            seen = np.where(IS_SURFACE[seen], surfaces_at(self.labels, points)[..., None], seen)
        seen[~((points >= 0) & (points < COLUMNS)).all(axis=-1)] = UNOBSERVED
        for frame, lift in enumerate(self._lifts(heights_m, grid)):
            if lift:
                seen[frame] = _shifted_down(seen[frame], lift)
        return seen

    def known_on_canvas(
        self, anchor: Float64[np.ndarray, " 3"], height_m: float, cells: int, half_extent_m: float, grid: Grid
    ) -> Bool[np.ndarray, "C C"]:
        """Canvas cells of which most of what an ego at ``height_m`` would see of the static world is known."""
        index, inside = self._index(_cell_centres_world(anchor[None], cells, half_extent_m)[0], grid)
        (lift,) = self._lifts(np.array([height_m]), grid)
        seen = _shifted_down(self.labels, lift)
        known_column = (seen != UNOBSERVED).sum(axis=-1) > seen.shape[-1] // 2
        return known_column[index[..., 0], index[..., 1]] & inside

    def learn(
        self,
        labels: UInt8[np.ndarray, "T X Y Z"],
        planar: Float64[np.ndarray, "T 3"],
        heights_m: Float64[np.ndarray, " T"],
        grid: Grid,
        evidence: Bool[np.ndarray, "T X Y"] | None = None,
        voting_frames: int = VOTING_FRAMES,
    ) -> "DriveMemory":
        """Add what some frames show where nothing was known, by majority over frames; movers do not vote."""
        votes = np.zeros((*self.labels.shape, UNOBSERVED), dtype=np.uint8)
        axis = np.arange(COLUMNS)
        columns = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
        unknown = (self.labels == UNOBSERVED).any(axis=-1).ravel()
        columns = columns[unknown]
        world = self._world(columns, grid)
        voters = np.unique(np.linspace(0, len(labels) - 1, min(voting_frames, len(labels))).astype(int))
        lifts = self._lifts(heights_m, grid)
        for frame in voters:
            x, y, yaw = planar[frame]
            offset = world - np.array([x, y])
            ego = np.stack(
                [
                    np.cos(yaw) * offset[:, 0] + np.sin(yaw) * offset[:, 1],
                    -np.sin(yaw) * offset[:, 0] + np.cos(yaw) * offset[:, 1],
                ],
                axis=-1,
            )
            cell = np.floor((ego - np.array(grid.lower_m[:2])) / np.array(grid.voxel_size_m[:2])).astype(np.int64)
            inside = ((cell >= 0) & (cell < np.array(grid.shape[:2]))).all(axis=-1)
            if evidence is not None:
                inside[inside] &= evidence[frame][cell[inside, 0], cell[inside, 1]]
            here, there = columns[inside], cell[inside]
            shown = _shifted_down(labels[frame][there[:, 0], there[:, 1]], -lifts[frame])
            _vote(votes, here, shown)
        votes[..., list(CARLASC.moving_labels)] = 0
        decided = np.where(votes.any(axis=-1), votes.argmax(axis=-1), UNOBSERVED).astype(np.uint8)
        return replace(self, labels=np.where(self.labels == UNOBSERVED, decided, self.labels))

    def to_bytes(self) -> bytes:
        """Pack for the continuation: magic, checksum of the rest, height, counts, arrays compressed."""
        arrays = (
            self.labels,
            self.world_from_memory.astype("<f8"),
            self.corner.astype("<i8"),
            np.packbits(self.movers),
            self.movers_planar.astype("<f8"),
            self.road_users,
            self.motion.astype("<f8"),
        )
        body = zstandard.compress(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays), 3)
        content = _HEADER.pack(self.height_m, len(self.movers), len(self.motion)) + body
        return _MAGIC + _CHECKSUM.pack(zlib.crc32(content)) + content

    @classmethod
    def from_bytes(cls, payload: bytes, grid: Grid) -> "DriveMemory":
        """Unpack; a payload that is damaged, or of another grid, raises InvalidInputError."""
        try:
            start = len(_MAGIC) + _CHECKSUM.size
            (checksum,) = _CHECKSUM.unpack(payload[len(_MAGIC) : start])
            if payload[: len(_MAGIC)] != _MAGIC or zlib.crc32(payload[start:]) != checksum:
                raise ValueError("magic or checksum do not fit")
            height_m, count, users = _HEADER.unpack_from(payload, start)
            if count > MOST_MOVERS or users > MOST_ROAD_USERS:
                raise ValueError(f"{count} masks of movers, {users} road users")
            memory = cls._from_body(payload[start + _HEADER.size :], height_m, count, users, grid)
        except (ValueError, struct.error, zstandard.ZstdError) as error:
            raise InvalidInputError(
                "continuation.payload", f"bytes that do not unpack ({error})", "a continuation as this model wrote it"
            ) from error
        return memory

    @classmethod
    def _from_body(cls, body: bytes, height_m: float, count: int, users: int, grid: Grid) -> "DriveMemory":
        columns, layers = grid.shape[:2], grid.shape[2]
        cells, bits = COLUMNS * COLUMNS * layers, count * columns[0] * columns[1]
        numbers, motions = columns[0] * columns[1] * layers, users * len(MOTION) * 8
        sizes = (cells, 3 * 8, 2 * 8, -(-bits // 8), count * 3 * 8, numbers, motions)
        content = zstandard.ZstdDecompressor().decompress(body, max_output_size=sum(sizes))
        if len(content) != sum(sizes):
            raise ValueError(f"{len(content)} bytes where {sum(sizes)} belong")
        ends = np.cumsum(sizes)
        labels, pose, corner, movers, planar, numbered, motion = (
            content[end - size : end] for end, size in zip(ends, sizes, strict=True)
        )
        memory = cls(
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
        return memory

    def _axes(self, xy_world: Float64[np.ndarray, "... 2"]) -> Float64[np.ndarray, "... 2"]:
        x, y, yaw = self.world_from_memory
        dx, dy = xy_world[..., 0] - x, xy_world[..., 1] - y
        return np.stack([np.cos(yaw) * dx + np.sin(yaw) * dy, -np.sin(yaw) * dx + np.cos(yaw) * dy], axis=-1)

    def _world(self, columns: Int64[np.ndarray, "L 2"], grid: Grid) -> Float64[np.ndarray, "L 2"]:
        x, y, yaw = self.world_from_memory
        along = (columns + self.corner + 0.5) * grid.voxel_size_m[0]
        return np.stack(
            [
                np.cos(yaw) * along[:, 0] - np.sin(yaw) * along[:, 1] + x,
                np.sin(yaw) * along[:, 0] + np.cos(yaw) * along[:, 1] + y,
            ],
            axis=-1,
        )

    def _index(
        self, points_world: Float64[np.ndarray, "... 2"], grid: Grid
    ) -> tuple[Int64[np.ndarray, "... 2"], Bool[np.ndarray, "..."]]:
        index = np.floor(self._axes(points_world) / grid.voxel_size_m[0]).astype(np.int64) - self.corner
        inside = ((index >= 0) & (index < COLUMNS)).all(axis=-1)
        return index.clip(0, COLUMNS - 1), inside

    def _lifts(self, heights_m: Float64[np.ndarray, " T"], grid: Grid) -> list[int]:
        return np.rint((heights_m - self.height_m) / grid.voxel_size_m[2]).astype(int).tolist()


def _cell_centres_world(
    planar: Float64[np.ndarray, "T 3"], cells: int, half_extent_m: float
) -> Float64[np.ndarray, "T X Y 2"]:
    """World x, y of each column of the square maps around some poses."""
    axis = (np.arange(cells) + 0.5) * (2 * half_extent_m / cells) - half_extent_m
    x, y = np.meshgrid(axis, axis, indexing="ij")
    cos, sin = np.cos(planar[:, 2])[:, None, None], np.sin(planar[:, 2])[:, None, None]
    return np.stack(
        [cos * x - sin * y + planar[:, 0, None, None], sin * x + cos * y + planar[:, 1, None, None]], axis=-1
    )


def _shifted_down(labels: UInt8[np.ndarray, "... Z"], cells: int) -> UInt8[np.ndarray, "... Z"]:
    """Labels seen from ``cells`` higher up; what comes into view is unknown."""
    if cells == 0:
        return labels
    shifted = np.full_like(labels, UNOBSERVED)
    if cells > 0:
        shifted[..., : max(0, labels.shape[-1] - cells)] = labels[..., cells:]
    else:
        shifted[..., -cells:] = labels[..., :cells]
    return shifted


def _vote(
    votes: UInt8[np.ndarray, "N N Z K"], columns: Int64[np.ndarray, "L 2"], shown: UInt8[np.ndarray, "L Z"]
) -> None:
    known = shown < votes.shape[-1]
    column, z = known.nonzero()
    votes[columns[column, 0], columns[column, 1], z, shown[known]] += 1
