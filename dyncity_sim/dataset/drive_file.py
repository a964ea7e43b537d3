"""One drive of a recording on disk: a file of arrays (no pickle) that any frame can be read from alone.

Each frame's labels, counts and instances are zstd streams of their own. Counts are stored as uint8, rounded down to a
power of two and at most 128: their size matters, their last digits are noise that does not compress. Zero stays zero,
and zero alone means unobserved.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from jaxtyping import Float64, Int64, UInt8, UInt16

from dyncity_sim.compression import decompressed, read_arrays
from dyncity_sim.dataset.actors import COLUMNS, actor_columns, actors_of_frame
from dyncity_sim.domain.frames import Poses, check_poses, check_times
from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.recording import ActorState, RecordedFrame
from dyncity_sim.errors import InvalidInputError, StorageError

ZSTD_LEVEL = 3
MOST_COUNTS = 128
"""Counts above this are stored as this."""

_POWER_BELOW = np.array([0] + [1 << (count.bit_length() - 1) for count in range(1, 256)], dtype=np.uint8)

STREAMS: dict[str, np.dtype[Any]] = {
    "labels": np.dtype(np.uint8),
    "counts": np.dtype(np.uint8),
    "instances": np.dtype("<u2"),
}

_OTHER_ARRAYS = ("poses_world_from_ego", *STREAMS, *(f"{name}_offsets" for name in STREAMS), *COLUMNS)
"""Beside the times."""


class Drive:
    """Consecutive frames of one ego; streams are read from disk on first use and kept.

    Attributes:
        file: the drive's file.
        grid: grid of its frames.
        notes: what ``recording.json`` says of it.

    Raises:
        InvalidInputError: when it is read: arrays are missing, damaged, or of another length.
    """

    def __init__(self, file: Path, grid: Grid, notes: Mapping[str, Any]) -> None:
        self.file = file
        self.grid = grid
        self.notes = notes
        self._frames = notes["frames"]
        if type(self._frames) is not int or self._frames < 1:
            raise ValueError(f"{self._frames!r} frames in {file.name}")

    def __len__(self) -> int:
        return self._frames

    @cached_property
    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = read_arrays(self.file, ("times_us",), _OTHER_ARRAYS)
        frames = arrays["times_us"].size
        if frames != len(self):
            raise InvalidInputError(
                "drive", f"{self.file} with {frames} frames", f"{len(self)}, as recording.json says"
            )
        return arrays | self._track(arrays)

    def _track(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Poses and times out of ``arrays``, which holds all that a drive must."""
        poses, times_us = "poses_world_from_ego", "times_us"
        streams = [name for stream in STREAMS for name in (stream, f"{stream}_offsets")]
        missing = [name for name in (poses, times_us, *streams) if name not in arrays]
        if missing:
            raise InvalidInputError(str(self.file), f"no {', '.join(missing)}", "a whole drive of a recording")
        if arrays[poses].dtype.kind not in "iuf":
            raise InvalidInputError(f"{self.file} {poses}", f"type {arrays[poses].dtype}", "numbers")
        for stream in STREAMS:
            _check_offsets(arrays[f"{stream}_offsets"], arrays[stream], len(self), f"{self.file} {stream}_offsets")
        return {
            poses: check_poses(arrays[poses], f"{self.file} {poses}", len(self)),
            times_us: check_times(arrays[times_us], f"{self.file} {times_us}", len(self)),
        }

    def forget(self) -> None:
        """Give the memory of what was read back; it is read again when it is asked for."""
        self.__dict__.pop("_arrays", None)

    @property
    def poses_world_from_ego(self) -> Poses:
        """``(T, 4, 4)`` float64."""
        return self._arrays["poses_world_from_ego"]

    @property
    def times_us(self) -> Int64[np.ndarray, " T"]:
        """``(T,)`` microseconds."""
        return self._arrays["times_us"]

    def arrays(
        self, start: int = 0, stop: int | None = None
    ) -> tuple[UInt8[np.ndarray, "T X Y Z"], UInt8[np.ndarray, "T X Y Z"]]:
        """Dense raw labels and counts (0 unobserved, else a power of two) of the frames ``start`` to ``stop``."""
        frames = self._range(start, stop)
        return self._stream("labels", frames), self._stream("counts", frames)

    def labels(self, start: int = 0, stop: int | None = None) -> UInt8[np.ndarray, "T X Y Z"]:
        """Dense raw labels alone of the frames ``start`` to ``stop``."""
        return self._stream("labels", self._range(start, stop))

    def instances(self, start: int = 0, stop: int | None = None) -> UInt16[np.ndarray, "T X Y Z"]:
        """Actor id of each cell of a moving class, 0 elsewhere."""
        return self._stream("instances", self._range(start, stop))

    def frames(self, start: int = 0, stop: int | None = None) -> list[RecordedFrame]:
        """Whole frames, with their actors."""
        return list(self.each(start, stop))

    def each(self, start: int = 0, stop: int | None = None) -> Iterator[RecordedFrame]:
        """Whole frames one after another, of which the memory holds one."""
        for frame in self._range(start, stop):
            alone = range(frame, frame + 1)
            yield RecordedFrame(
                labels=self._stream("labels", alone)[0],
                counts=self._stream("counts", alone)[0].astype(np.float32),
                instances=self._stream("instances", alone)[0],
                actors=self._actors(frame),
                pose_world_from_ego=self.poses_world_from_ego[frame],
                time_us=int(self.times_us[frame]),
                grid=self.grid,
            )

    def _actors(self, frame: int) -> tuple[ActorState, ...]:
        try:
            return actors_of_frame(self._arrays, frame)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise InvalidInputError(f"{self.file} actors of frame {frame}", repr(error), "those of a drive") from error

    def _range(self, start: int, stop: int | None) -> range:
        end = len(self) if stop is None else stop
        if not 0 <= start < end <= len(self):
            raise InvalidInputError(
                "frames", f"[{start}, {end})", f"a range within [0, {len(self)}) of {self.file.name}"
            )
        return range(start, end)

    def _stream(self, name: str, frames: range) -> np.ndarray:
        blob, offsets, dtype = self._arrays[name], self._arrays[f"{name}_offsets"], STREAMS[name]
        result = np.empty((len(frames), *self.grid.shape), dtype)
        expected_bytes = self.grid.cells * dtype.itemsize
        for i, frame in enumerate(frames):
            stream = blob[offsets[frame] : offsets[frame + 1]].tobytes()
            content = decompressed(stream, expected_bytes, f"{self.file.name} {name}[{frame}]")
            result[i] = np.frombuffer(content, dtype).reshape(self.grid.shape)
        return result


def _check_offsets(offsets: np.ndarray, blob: np.ndarray, frames: int, field: str) -> None:
    whole = offsets.dtype.kind in "iu" and offsets.shape == (frames + 1,) and blob.dtype == np.uint8 and blob.ndim == 1
    if not whole or offsets[0] != 0 or offsets[-1] != len(blob) or (offsets[1:] < offsets[:-1]).any():
        raise InvalidInputError(
            field,
            f"{offsets.dtype} of shape {offsets.shape} for {blob.size} of {blob.dtype}",
            f"{frames + 1} whole numbers that rise from 0 to the number of bytes",
            "The file is damaged.",
        )


def write_drive_file(frames: Sequence[RecordedFrame], file: Path) -> None:
    """Write consecutive frames of one ego as the file of a drive; see ``RecordingWriter.drive_file``.

    Raises:
        StorageError: the disk is full or may not be written to.
    """
    try:
        with file.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **_drive_arrays(frames))
    except OSError as error:
        raise StorageError(f"{file} cannot be written: {error.strerror or error}") from error


def _drive_arrays(frames: Sequence[RecordedFrame]) -> dict[str, np.ndarray]:
    poses: Float64[np.ndarray, "T 4 4"] = np.stack([frame.pose_world_from_ego for frame in frames]).astype(np.float64)
    times_us = np.array([frame.time_us for frame in frames], dtype=np.int64)
    arrays: dict[str, np.ndarray] = {"poses_world_from_ego": poses, "times_us": times_us}
    arrays |= actor_columns(frames)
    compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
    for name, dtype in STREAMS.items():
        streams = [compressor.compress(_stored(getattr(frame, name), dtype).tobytes()) for frame in frames]
        arrays[name] = np.frombuffer(b"".join(streams), np.uint8)
        arrays[f"{name}_offsets"] = np.cumsum([0, *(len(s) for s in streams)]).astype(np.int64)
    return arrays


def _stored(array: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    if array.dtype.kind == "f":
        whole = np.minimum(np.ceil(array), MOST_COUNTS).astype(np.uint8)
        return _POWER_BELOW[whole]
    return array.astype(dtype)
