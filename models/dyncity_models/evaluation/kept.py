"""Chunks that were generated once and are not generated again: an evaluation that was stopped goes on."""

import dataclasses
import hashlib
import zlib
from pathlib import Path
from typing import BinaryIO
from zipfile import BadZipFile

import numpy as np

from dyncity_sim.domain.conditions import Conditions, Continuation, SamplingOptions
from dyncity_sim.domain.generation import GeneratedChunk, ModelInfo, Timings
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.engine.backend import Backend, Checkpoint
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.files import make_folder, whole_file


class KeptBackend:
    """A backend whose chunks are kept in a folder, under a digest of all that they depend on but the code.

    Times are those of when a chunk was generated. A kept file that cannot be read is an InvalidInputError.

    Args:
        backend: what generates.
        folder: where chunks are kept, one file each.
        run_as: how and on what device the backend runs, which chunks depend on by rounding.

    Raises:
        StorageError: the folder cannot be made.
    """

    def __init__(self, backend: Backend, folder: Path, run_as: str) -> None:
        self.backend, self.folder, self.run_as = backend, folder, run_as
        make_folder(folder)

    @property
    def info(self) -> ModelInfo:
        """That of the backend."""
        return self.backend.info

    def warm_up(self) -> None:
        """Warm the backend up."""
        self.backend.warm_up()

    def encode(self, occupancy: OccupancySequence) -> Continuation:
        """Encode by the backend."""
        return self.backend.encode(occupancy)

    def generate(self, conditions: Conditions, options: SamplingOptions, checkpoint: Checkpoint) -> GeneratedChunk:
        """The kept chunk of these conditions and options, or a new one."""
        file = self.folder / f"{digest_of(f'{self.info.model_id} {self.run_as}', conditions, options)}.npz"
        if not file.is_file():
            chunk = self.backend.generate(conditions, options, checkpoint)
            with whole_file(file) as partial, partial.open("wb") as out:
                _write(chunk, out)
            return chunk
        try:
            return _read(file, self.info)
        except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
            got = f"{file}, which cannot be read ({error})"
            raise InvalidInputError("keep", got, "chunks as they were kept", "Delete that file.") from error


def digest_of(model: str, conditions: Conditions, options: SamplingOptions) -> str:
    """Of everything that a chunk depends on; ``model`` says what generates it and how."""
    digest = hashlib.sha256(f"{model} {options}".encode())

    def take(value: object) -> None:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            for field in dataclasses.fields(value):
                digest.update(field.name.encode())
                take(getattr(value, field.name))
        elif isinstance(value, np.ndarray):
            digest.update(f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes())
        else:
            digest.update(repr(value).encode())

    take(conditions)
    return digest.hexdigest()[:32]


def _write(chunk: GeneratedChunk, out: BinaryIO) -> None:
    np.savez_compressed(
        out,
        labels=chunk.occupancy.labels,
        poses=chunk.occupancy.poses_world_from_ego,
        times_us=chunk.occupancy.times_us,
        payload=np.frombuffer(chunk.continuation.payload, dtype=np.uint8),
        seed=chunk.seed,
        seconds=np.array([chunk.timings.sampling_s, chunk.timings.decoding_s]),
    )


def _read(file: Path, info: ModelInfo) -> GeneratedChunk:
    with file.open("rb") as content, np.load(content, allow_pickle=False) as kept:
        sampling_s, decoding_s = kept["seconds"].tolist()
        occupancy = OccupancySequence(kept["labels"], kept["poses"], kept["times_us"], info.grid, info.taxonomy)
        return GeneratedChunk(
            occupancy,
            Continuation(info.model_id, kept["payload"].tobytes()),
            int(kept["seed"]),
            info.model_id,
            Timings(sampling_s=sampling_s, decoding_s=decoding_s),
        )
