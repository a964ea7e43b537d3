"""What recording and rendering say on the terminal: how it goes, and what came of it."""

import numpy as np
from jaxtyping import Int64
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from dyncity_sim.domain.recording import RecordedFrame
from dyncity_sim.domain.taxonomy import CARLASC, merged_labels

CARLASC_SHARES = {
    "building": 7.5,
    "barrier": 5.9,
    "other": 1.4,
    "pedestrian": 0.16,
    "pole": 0.54,
    "road": 41.5,
    "ground": 15.4,
    "sidewalk": 19.9,
    "vegetation": 5.3,
    "vehicle": 2.4,
}
"""Per cent of occupied cells in CarlaSC, from the class counts its authors publish (UMich-CURLY/3DMapping)."""


class Tally:
    """Running totals of a recording."""

    def __init__(self) -> None:
        self.frames = 0
        self._classes = np.zeros(len(CARLASC), np.int64)
        self._drives: dict[str, int] = {}

    def add(self, frames: int, ego_kind: str, manoeuvre: str) -> None:
        """Count a drive."""
        self.frames += frames
        for key in (f"{ego_kind}-driven", manoeuvre):
            self._drives[key] = self._drives.get(key, 0) + 1

    def count(self, classes: Int64[np.ndarray, " K"]) -> None:
        """Count cells, see ``class_counts``."""
        self._classes += classes

    def table(self) -> Table | str:
        """Shares of what was recorded, beside those of CarlaSC; nothing of them where no sensor was."""
        drives = ", ".join(f"{count} {name}" for name, count in sorted(self._drives.items()))
        if not self._classes.any():
            return f"{self.frames} frames, of which no sensor saw anything; drives: {drives}"
        free = self._classes[0] / max(self._classes.sum(), 1)
        table = Table(title=f"{self.frames} frames; drives: {drives}; {free:.1%} of seen cells free")
        table.add_column("class")
        table.add_column("% of seen occupied cells", justify="right")
        table.add_column("CarlaSC", justify="right")
        occupied = max(int(self._classes[1:].sum()), 1)
        for name, published in CARLASC_SHARES.items():
            share = 100 * self._classes[CARLASC.index(name)] / occupied
            table.add_row(name, f"{share:.2f}", f"{published:g}")
        return table


def class_counts(frames: list[RecordedFrame]) -> Int64[np.ndarray, " K"]:
    """Seen cells of each CARLASC class in some frames of a drive."""
    counts = np.zeros(len(CARLASC), np.int64)
    for frame in frames[:: max(len(frames) // 4, 1)]:
        seen = merged_labels(frame.labels[frame.counts > 0])
        counts += np.bincount(seen, minlength=len(CARLASC))
    return counts


def progress_bar(console: Console) -> Progress:
    """A bar with a count of frames, their rate and the remaining time."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=console,
    )


class _Rate(ProgressColumn):
    """Frames per second so far."""

    def render(self, task: Task) -> Text:
        rate = task.completed / task.elapsed if task.elapsed else 0.0
        return Text(f"{rate:5.1f} frames/s")
