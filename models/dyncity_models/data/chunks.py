"""Any data set that can be opened, as chunks: its classes or the merged ones, its cells, its handedness."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from rich.progress import track
from torch import Tensor
from torch.utils.data import Dataset

from dyncity_models.data.clips import SEEN
from dyncity_models.data.numbered import NumberedBatches
from dyncity_models.processes import own_share
from dyncity_models.reference.conventions import Convention
from dyncity_sim.dataset.labelled import LabelledFrames, OccupancyDataset, OccupancySource, check_consecutive
from dyncity_sim.dataset.open import open_dataset
from dyncity_sim.domain.frames import Poses
from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.taxonomy import CARLASC, Taxonomy
from dyncity_sim.errors import ConfigError, InvalidInputError

Labels = Literal["merged", "own"]
"""CarlaSC's merged classes, or those of the data set itself."""


def labels_named(name: str) -> Labels:
    """The classes that a configuration asks for; ConfigError unless it says merged or own."""
    labels: dict[str, Labels] = {"merged": "merged", "own": "own"}
    if name not in labels:
        raise ConfigError("data.labels", repr(name), "merged or own")
    return labels[name]


def cropped(grid: Grid, cells: tuple[int, int, int]) -> tuple[Grid, tuple[slice, slice, slice]]:
    """The middle of a grid along x and y, with all of its layers, and where it lies.

    Raises:
        InvalidInputError: more cells than there are, another number of layers, or a middle between two cells.
    """
    fits = cells[2] == grid.shape[2] and all(
        0 < kept <= there and (there - kept) % 2 == 0 for kept, there in zip(cells[:2], grid.shape[:2], strict=True)
    )
    if not fits:
        raise InvalidInputError(
            "model.grid",
            cells,
            f"{grid.shape}, that of the data, or fewer cells along x and y, an even number less",
            "Grids are cropped around their middle, never resampled.",
        )
    first = tuple((there - kept) // 2 for kept, there in zip(cells, grid.shape, strict=True))
    x_m, y_m, z_m = (lo + n * size for lo, n, size in zip(grid.lower_m, first, grid.voxel_size_m, strict=True))
    x, y, z = (slice(start, start + kept) for start, kept in zip(first, cells, strict=True))
    return Grid(cells, (round(x_m, 9), round(y_m, 9), round(z_m, 9)), grid.voxel_size_m), (x, y, z)


@dataclass(frozen=True, eq=False)
class ChunkSource:
    """Sequences of data sets that are long enough, on one grid and in one taxonomy.

    Attributes:
        taxonomy: what labels mean.
        vehicles: labels of vehicles.
        grid: where the cells lie, in the right-handed ego frame.
        rate_hz: frames per second.
        sequences: each with the data set that it is of.
        too_short: how many sequences were left out.
        labels: whose classes they are.
        convention: which way y grows in what is read.
    """

    taxonomy: Taxonomy
    vehicles: tuple[int, ...]
    grid: Grid
    rate_hz: float
    sequences: tuple[tuple[OccupancyDataset, OccupancySource], ...]
    too_short: int
    labels: Labels
    convention: Convention
    _crop: tuple[slice, slice, slice]

    @classmethod
    def open(
        cls,
        folders: Sequence[Path],
        least_frames: int,
        labels: Labels,
        convention: Convention,
        cells: tuple[int, int, int] | None = None,
    ) -> "ChunkSource":
        """Open data sets.

        Args:
            folders: anything that ``dyncity inspect`` reads.
            least_frames: frames that a sequence must have.
            labels: whose classes to read.
            convention: which way y is to grow.
            cells: cells to keep around the middle of the grid; all by default.

        Raises:
            InvalidInputError: no folder, folders that do not fit each other, none with a long enough sequence, or one
                whose frames are in no known order or have gaps.
        """
        if not folders:
            raise InvalidInputError("data", "no folder", "at least one data set")
        datasets = [open_dataset(folder) for folder in folders]
        first = datasets[0]
        for folder, dataset in zip(folders, datasets, strict=True):
            for name, got, expected in (
                ("grid", dataset.grid, first.grid),
                ("rate_hz", dataset.rate_hz, first.rate_hz),
                ("taxonomy", dataset.taxonomy.id, first.taxonomy.id if labels == "own" else dataset.taxonomy.id),
            ):
                if got != expected:
                    raise InvalidInputError(f"{name} of {folder}", got, f"{expected}, that of {folders[0]}")
        everything = [(dataset, sequence) for dataset in datasets for sequence in dataset.sequences]
        long_enough = tuple(pair for pair in everything if len(pair[1]) >= least_frames)
        if not long_enough:
            raise InvalidInputError(
                "data", f"{len(everything)} sequences, none long enough", f"sequences of at least {least_frames} frames"
            )
        if least_frames > 1:
            for dataset, sequence in long_enough:
                _check_consecutive(dataset, sequence)
        grid, crop = cropped(first.grid, cells or first.grid.shape)
        taxonomy, to_carlasc = CARLASC, np.arange(len(CARLASC))
        if labels == "own":
            taxonomy, to_carlasc = first.taxonomy, first.label_map.merged
        vehicles = tuple(np.flatnonzero(to_carlasc == CARLASC.index("vehicle")).tolist())
        return cls(
            taxonomy,
            vehicles,
            grid,
            first.rate_hz,
            long_enough,
            len(everything) - len(long_enough),
            labels,
            convention,
            crop,
        )

    def check(self, grid: Grid, taxonomy: Taxonomy, rate_hz: float) -> None:
        """Raise InvalidInputError unless the data are as weights know the world, naming what is not."""
        for name, got, expected in (
            ("taxonomy", self.taxonomy.id, taxonomy.id),
            ("grid", self.grid, grid),
            ("rate_hz", self.rate_hz, rate_hz),
        ):
            if got != expected:
                raise InvalidInputError(f"{name} of the data", got, f"{expected}, that of the weights")

    def track(self, number: int) -> tuple[Poses, Int64[np.ndarray, " T"]]:
        """Poses and times of a sequence.

        Raises:
            InvalidInputError: it has none.
        """
        dataset, sequence = self.sequences[number]
        if sequence.poses_world_from_ego is None or sequence.times_us is None:
            raise InvalidInputError(
                f"poses of {sequence.name} of {dataset.name}", "none", "a pose and a time for each frame"
            )
        return sequence.poses_world_from_ego, sequence.times_us

    def __len__(self) -> int:
        """Number of sequences."""
        return len(self.sequences)

    @property
    def names(self) -> list[str]:
        """Of each sequence, with its data set, that one's digest, and how many frames it has."""
        return [f"{d.name} {d.digest}/{sequence.name}: {len(sequence)}" for d, sequence in self.sequences]

    def length(self, number: int) -> int:
        """Frames of a sequence."""
        return len(self.sequences[number][1])

    def read(self, number: int, start: int, stop: int) -> LabelledFrames:
        """Frames of a sequence, y as the convention has it; a mask of unobserved cells comes along."""
        dataset, sequence = self.sequences[number]
        frames = sequence.frames(start, stop)
        labels = frames.labels[:, *self._crop]
        if self.labels == "merged":
            labels = dataset.label_map.to_carlasc(labels)
        return LabelledFrames(
            np.ascontiguousarray(self.convention.turned(labels, axis=2)),
            np.ascontiguousarray(self.convention.turned(frames.observed[:, *self._crop], axis=2)),
        )


def _check_consecutive(dataset: OccupancyDataset, sequence: OccupancySource) -> None:
    """Raise InvalidInputError unless each frame follows the one before, as those of chunks do."""
    field, times_us = f"times of {sequence.name} of {dataset.name}", sequence.times_us
    if times_us is None:
        raise InvalidInputError(
            field,
            "frames in no known order",
            "a time for each, since chunks are of frames that follow each other",
            "In Occ3D-nuScenes, annotations.json beside gts says them.",
        )
    check_consecutive(times_us, dataset.rate_hz, field)


class ChunkSample(TypedDict):
    """Chunks and where sensors saw their cells (B is left out for one)."""

    labels: UInt8[Tensor, "B T X Y Z"]
    observed: Bool[Tensor, "B T X Y Z"]


@dataclass(frozen=True, eq=False)
class FrameCells:
    """Every frame of some sequences in the memory of one device, a byte a cell.

    Attributes:
        cells: label, plus ``SEEN`` where sensors saw the cell, ``(N, X, Y, Z)``.
        starts: number of each sequence's first frame, and N, ``(S + 1,)``.
    """

    cells: UInt8[Tensor, "N X Y Z"]
    starts: Int64[np.ndarray, " S1"]

    @classmethod
    def load(cls, source: ChunkSource, device: torch.device, threads: int) -> "FrameCells":
        """Read all sequences of ``source``, several at a time."""
        starts = np.cumsum([0, *(source.length(number) for number in range(len(source)))])
        cells = torch.empty((int(starts[-1]), *source.grid.shape), dtype=torch.uint8, device=device)

        def read(number: int) -> None:
            frames = source.read(number, 0, source.length(number))
            cells[int(starts[number]) : int(starts[number + 1])] = torch.from_numpy(
                frames.labels + np.uint8(SEEN) * frames.observed
            ).to(device)

        with ThreadPoolExecutor(max_workers=max(threads, 1)) as pool:
            for _ in track(pool.map(read, range(len(source))), "reading data sets", total=len(source)):
                pass
        return cls(cells, starts)

    def chunks(self, firsts: Int64[np.ndarray, " B"], frames: int) -> ChunkSample:
        """The chunks that begin with these frames."""
        rows = torch.from_numpy(firsts[:, None] + np.arange(frames)).to(self.cells.device)
        cells = self.cells[rows]
        return ChunkSample(labels=cells & (SEEN - 1), observed=cells >= SEEN)

    def class_counts(self, classes: int, most_frames: int = 500) -> Float[np.ndarray, " K"]:
        """Cells of each label in evenly spread frames."""
        rows = torch.linspace(0, len(self.cells) - 1, min(most_frames, len(self.cells))).long()
        counts = torch.zeros(classes, dtype=torch.int64)
        for row in rows:
            labels = (self.cells[row] & (SEEN - 1)).flatten().int()
            counts += torch.bincount(labels, minlength=classes).cpu()
        return counts.double().numpy()


class ChunkBatches(NumberedBatches[ChunkSample]):
    """Random chunks, each as likely as every other.

    Args:
        store: frames to choose from.
        frames: T of a chunk.
        batch, seed, stop, first: as of all ``NumberedBatches``.
    """

    def __init__(self, store: FrameCells, frames: int, batch: int, seed: int, stop: int, first: int = 0) -> None:
        super().__init__(batch, seed, stop, first)
        self.store, self.frames = store, frames
        self.firsts = np.concatenate(
            [np.arange(begin, end - frames + 1) for begin, end in zip(store.starts, store.starts[1:], strict=False)]
        )

    def batch(self, number: int) -> ChunkSample:
        """The batch of that number, or this process's part of it."""
        drawn = own_share().of(np.random.default_rng((self.seed, number)).integers(len(self.firsts), size=self.size))
        return self.store.chunks(self.firsts[drawn], self.frames)


class SpreadChunks(Dataset[ChunkSample]):
    """Chunks from the middle of evenly spread sequences."""

    def __init__(self, source: ChunkSource, frames: int, limit: int) -> None:
        self.source, self.frames = source, frames
        self.numbers = np.linspace(0, len(source) - 1, min(limit, len(source))).astype(int)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> ChunkSample:
        number = int(self.numbers[index])
        start = (self.source.length(number) - self.frames) // 2
        read = self.source.read(number, start, start + self.frames)
        return ChunkSample(labels=torch.from_numpy(read.labels), observed=torch.from_numpy(read.observed))
