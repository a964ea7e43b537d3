"""Chunks of recordings as arrays: merged labels, what was observed of them, planar ego poses."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64, UInt8
from rich.progress import track
from torch import Tensor

from dyncity_sim.dataset.labelled import check_consecutive
from dyncity_sim.dataset.store import Recording
from dyncity_sim.domain.frames import planar_from_poses
from dyncity_sim.domain.grid import FRAME_RATE_HZ, FRAMES_PER_CHUNK
from dyncity_sim.domain.taxonomy import CARLASC_RAW, MERGED_FROM_RAW, merged_labels
from dyncity_sim.errors import InvalidInputError

UNOBSERVED = 11
"""The encoder's token of a cell that no sensor saw; merged labels that occur are 0 to 10."""

SEEN = 128
"""Added to the label of a cell that sensors saw, where both share a byte."""


@dataclass(frozen=True, eq=False)
class Clip:
    """Consecutive frames of one recorded drive.

    Attributes:
        labels: dense merged labels, ``(T, X, Y, Z)``.
        observed: cells that the emulated sensors saw, ``(T, X, Y, Z)``.
        planar: x, y, yaw of each ego frame in the drive's world frame, ``(T, 3)``.
    """

    labels: UInt8[np.ndarray, "T X Y Z"]
    observed: Bool[np.ndarray, "T X Y Z"]
    planar: Float64[np.ndarray, "T 3"]

    def __len__(self) -> int:
        return len(self.labels)

    def mirrored(self) -> "Clip":
        """The same clip with left and right swapped (y and yaw negated)."""
        return Clip(self.labels[:, :, ::-1], self.observed[:, :, ::-1], self.planar * np.array([1.0, -1.0, -1.0]))

    def frames(self, start: int, stop: int) -> "Clip":
        """Some of its frames."""
        return Clip(self.labels[start:stop], self.observed[start:stop], self.planar[start:stop])

    @property
    def observed_tokens(self) -> UInt8[np.ndarray, "T X Y Z"]:
        """Encoder input as a sensor rig would give it."""
        return np.where(self.observed, self.labels, UNOBSERVED).astype(np.uint8)


class ClipSource:
    """Every drive of some recordings that is long enough, addressed by number.

    Args:
        folders: of recordings.
        least_frames: that a drive must have.
        field: what names the folders, for errors.

    Attributes:
        drives: the drives.
        names: of the drives, each with its recording, that one's digest, and how many frames it has.
        grid: of all of them.
        too_short: how many drives were left out.

    Raises:
        InvalidInputError: no recording, none with a drive of ``least_frames``, or recordings on other grids.
    """

    def __init__(
        self, folders: Sequence[Path], least_frames: int = FRAMES_PER_CHUNK, field: str = "recordings"
    ) -> None:
        if not folders:
            raise InvalidInputError(field, "no folder", "at least one recording")
        recordings = [Recording.open(Path(folder)) for folder in folders]
        self.grid = recordings[0].meta.grid
        for recording in recordings:
            if recording.meta.grid != self.grid:
                raise InvalidInputError(field, f"{recording.meta.grid} in {recording.folder}", f"{self.grid} in all")
        everything = [(recording, drive) for recording in recordings for drive in recording.drives]
        long_enough = [(recording, drive) for recording, drive in everything if len(drive) >= least_frames]
        self.drives = [drive for _, drive in long_enough]
        self.names = [f"{r.folder.name} {r.digest}/{drive.file.name}: {len(drive)}" for r, drive in long_enough]
        self.too_short = len(everything) - len(self.drives)
        if not self.drives:
            raise InvalidInputError(
                field,
                f"{len(everything)} drives in {len(folders)} folders, none long enough",
                f"drives of at least {least_frames} frames",
            )

    def __len__(self) -> int:
        return len(self.drives)

    def length(self, drive: int) -> int:
        """Frames of a drive."""
        return len(self.drives[drive])

    def planar(self, drive: int) -> Float64[np.ndarray, "T 3"]:
        """x, y, yaw of every ego frame of a drive; InvalidInputError where frames are missing between them."""
        check_consecutive(self.drives[drive].times_us, FRAME_RATE_HZ, f"times of {self.drives[drive].file}")
        return planar_from_poses(self.drives[drive].poses_world_from_ego)

    def clip(self, drive: int, start: int, frames: int = FRAMES_PER_CHUNK) -> Clip:
        """Frames ``start`` to ``start + frames`` of a drive."""
        raw, counts = self.drives[drive].arrays(start, start + frames)
        return Clip(merged_labels(raw), counts > 0, self.planar(drive)[start : start + frames])

    def raw_labels(self, drive: int, start: int, stop: int) -> UInt8[np.ndarray, "T X Y Z"]:
        """Dense labels alone of some frames of a drive, as recorded: CARLASC_RAW."""
        labels = self.drives[drive].labels(start, stop)
        CARLASC_RAW.check(labels, f"labels of {self.drives[drive].file}")
        return labels


def merged_on(device: torch.device, raw_labels: UInt8[np.ndarray, "..."]) -> UInt8[Tensor, "..."]:
    """CARLASC labels of CARLASC_RAW labels, looked up on the device that is to have them."""
    if device.type == "cpu":
        return torch.from_numpy(merged_labels(raw_labels))
    table = torch.tensor(MERGED_FROM_RAW, device=device)
    return table[torch.from_numpy(raw_labels).to(device).int()]


@dataclass(frozen=True, eq=False)
class FrameStore:
    """Every frame of some drives in the memory of one device, a byte a cell.

    Attributes:
        cells: merged label, plus ``SEEN`` where sensors saw the cell, ``(N, X, Y, Z)``.
        planar: x, y, yaw of each ego frame in its drive's world frame, ``(N, 3)``.
        starts: number of each drive's first frame, and N, ``(D + 1,)``.
    """

    cells: UInt8[Tensor, "N X Y Z"]
    planar: Float64[np.ndarray, "N 3"]
    starts: Int64[np.ndarray, " D1"]

    @classmethod
    def load(cls, source: ClipSource, device: torch.device, threads: int) -> "FrameStore":
        """Read all drives of ``source``, several at a time."""
        lengths = [source.length(drive) for drive in range(len(source))]
        starts = np.cumsum([0, *lengths])
        cells = torch.empty((int(starts[-1]), *source.grid.shape), dtype=torch.uint8, device=device)

        def read(drive: int) -> Float64[np.ndarray, "T 3"]:
            raw, counts = source.drives[drive].arrays()
            CARLASC_RAW.check(raw, f"labels of {source.drives[drive].file}")
            seen = torch.from_numpy(counts).to(device) > 0
            cells[int(starts[drive]) : int(starts[drive + 1])] = merged_on(device, raw) + SEEN * seen
            planar = source.planar(drive)
            source.drives[drive].forget()
            return planar

        with ThreadPoolExecutor(max_workers=max(threads, 1)) as pool:
            drives = track(pool.map(read, range(len(source))), "reading recordings", total=len(source))
            planar = list(drives)
        return cls(cells, np.concatenate(planar), starts)

    def __len__(self) -> int:
        """Number of drives."""
        return len(self.starts) - 1
