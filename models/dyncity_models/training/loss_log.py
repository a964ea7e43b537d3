"""The figures of a run as a table that grows with it, and as a picture."""

import csv
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning_utilities.core.rank_zero import rank_zero_only
from matplotlib.figure import Figure

from dyncity_sim.errors import InvalidInputError, StorageError
from dyncity_sim.files import make_folder, whole_file

VALIDATED = "seconds"
"""Column that rows of validations have, and no others."""

DRAWN_EVERY_S = 30.0
"""Drawing takes some tenths of a second."""

PANELS_A_ROW = 4
PANEL_IN = (3.2, 2.4)
LEFT_IN, LOW_IN, RIGHT_IN, HIGH_IN = 0.7, 0.3, 0.1, 0.3
"""Of a panel, room for what is written around its curve."""

MOST_TICKS = 5
SMOOTHED_OVER = 1 / 30
"""Share of its points that a curve of training is smoothed over."""


class LossLog(Logger):
    """A CSV file that every step that is logged adds a row to; it is on disk at once, and there for a run's whole life.

    ``step`` counts from 0; what is validated when a run has ended has the number after the last one. A run that goes
    on from a checkpoint makes the rows of later steps once more, in place of those that it made before. Validations
    that are not too close draw all figures anew, in ``curves.png`` beside the file, and so does ``draw``.

    Args:
        file: its name.
        done: steps that the run has behind it.
    """

    def __init__(self, file: Path, done: int) -> None:
        super().__init__()
        self.file, self.begun = file, False
        self.rows = [row for row in read_log(file) if _is_behind(row, done)]
        self.columns = list(dict.fromkeys(["step", *(name for row in self.rows for name in row)]))
        self._drawn_s = time.monotonic()

    @property
    def name(self) -> str:
        """What it is."""
        return "csv"

    @property
    def version(self) -> str:
        """None: there is one."""
        return ""

    def log_hyperparams(self, *arguments: Any, **options: Any) -> None:
        """A run's folder has its configuration already."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add a row; StorageError where it cannot be written."""
        row = {"step": float(step or 0)} | {name: float(value) for name, value in metrics.items() if name != "epoch"}
        self.rows.append(row)
        new = [name for name in row if name not in self.columns]
        self.columns += new
        make_folder(self.file.parent)
        if new or not self.begun:
            self.begun = True
            with whole_file(self.file) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
                self._write(file, self.rows, header=True)
        else:
            try:
                with self.file.open("a", newline="", encoding="utf-8") as file:
                    self._write(file, [row])
            except OSError as error:
                raise StorageError(f"{self.file} could not be written: {error.strerror or error}.") from error
        if VALIDATED in row and time.monotonic() - self._drawn_s > DRAWN_EVERY_S:
            self.draw()

    @rank_zero_only
    def draw(self) -> None:
        """Draw the figures that there are."""
        if self.rows:
            draw_curves(self.rows, self.file.with_name("curves.png"))
        self._drawn_s = time.monotonic()

    def _write(self, file: Any, rows: Iterable[Mapping[str, float]], header: bool = False) -> None:
        writer = csv.writer(file, lineterminator="\n")
        if header:
            writer.writerow(self.columns)
        writer.writerows([f"{row[name]:.8g}" if name in row else "" for name in self.columns] for row in rows)


def read_log(file: Path) -> list[dict[str, float]]:
    """Rows of a log, without what their steps have not; none where there is no log.

    Raises:
        InvalidInputError: it is no log, or damaged.
    """
    if not file.is_file():
        return []
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(lines)]
        if all("step" in row for row in rows):
            return rows
        said = "rows without a step"
    except (OSError, ValueError, TypeError, AttributeError, csv.Error) as error:
        said = str(error)
    raise InvalidInputError("run.out", f"{file}: {said}", "the figures of the run", "Move it away to go on without.")


def _is_behind(row: Mapping[str, float], done: int) -> bool:
    return row["step"] < done or (row["step"] == done and VALIDATED in row)


def draw_curves(rows: list[dict[str, float]], file: Path) -> None:
    """Every figure over the steps: what is logged in training as it is and smoothed, what is validated as points."""
    names = [name for name in dict.fromkeys(n for row in rows for n in row) if name not in ("step", VALIDATED)]
    across, down = min(len(names), PANELS_A_ROW), -(-len(names) // PANELS_A_ROW)
    # Layouts that fit what is written would take as long as all else.
    figure = Figure(figsize=(PANEL_IN[0] * across, PANEL_IN[1] * down))
    for number, name in enumerate(names):
        panel = figure.add_axes(_place(number, across, down), title=name)
        chosen = [row for row in rows if name in row]
        steps, values = [row["step"] for row in chosen], [row[name] for row in chosen]
        if VALIDATED in chosen[0]:
            panel.plot(steps, values, "o-", markersize=3, color="tab:orange")
        else:
            panel.plot(steps, values, color="tab:blue", alpha=0.3)
            panel.plot(steps, _smoothed(values), color="tab:blue")
        panel.grid(alpha=0.3)
        panel.locator_params("x", nbins=MOST_TICKS, integer=True)
        panel.locator_params("y", nbins=MOST_TICKS)
        panel.ticklabel_format(axis="y", scilimits=(-3, 4))
    with whole_file(file) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def _place(number: int, across: int, down: int) -> tuple[float, float, float, float]:
    """Left, bottom, width and height of a panel, as shares of the picture."""
    (width, height), (row, column) = PANEL_IN, divmod(number, across)
    left, low = column * width + LEFT_IN, (down - 1 - row) * height + LOW_IN
    inner = width - LEFT_IN - RIGHT_IN, height - LOW_IN - HIGH_IN
    return left / (width * across), low / (height * down), inner[0] / (width * across), inner[1] / (height * down)


def _smoothed(values: list[float]) -> list[float]:
    """Exponentially, without a bias to the first."""
    kept = 1 - 1 / max(1.0, SMOOTHED_OVER * len(values))
    smoothed, weighed, weight = [], 0.0, 0.0
    for value in values:
        weighed, weight = kept * weighed + value, kept * weight + 1
        smoothed.append(weighed / weight)
    return smoothed
