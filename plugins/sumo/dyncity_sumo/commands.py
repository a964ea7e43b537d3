"""``dyncity record``: a data set of drives through the embedded world."""

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from dyncity_sim.dataset.store import RecordingMeta, RecordingWriter
from dyncity_sim.domain.grid import CARLASC_GRID, FRAME_RATE_HZ
from dyncity_sim.domain.recording import RecordedFrame
from dyncity_sim.domain.taxonomy import CARLASC, merged_labels
from dyncity_sim.errors import InvalidInputError
from dyncity_sumo.recording import Crew, render
from dyncity_sumo.town import WARM_UP_S, open_town

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

SHORTEST_DRIVE = 2
TRAFFIC_RESERVE = 20.0
"""Traffic lasts this many times longer than the recorded time per ego: unkept bursts take time too."""


@dataclass(frozen=True)
class RecordOptions:
    """What ``dyncity record`` was asked for.

    Attributes:
        map: map specification.
        minutes: recorded time, summed over all egos.
        egos: egos at a time in one town.
        seed: decides everything.
        burst: frames of a drive, or None for long drives.
        town_minutes: recorded time after which a new town is built.
        out: folder of the recording.
        format: ``store`` or ``carlasc``.
    """

    map: str
    minutes: float
    egos: int
    seed: int
    burst: int | None
    town_minutes: float
    out: Path
    format: str

    def __post_init__(self) -> None:
        for name, value, least in (
            ("minutes", self.minutes, 1e-3),
            ("egos", self.egos, 1),
            ("seed", self.seed, 0),
            ("burst", SHORTEST_DRIVE if self.burst is None else self.burst, SHORTEST_DRIVE),
            ("town-minutes", self.town_minutes, 1e-3),
        ):
            if not value >= least:
                raise InvalidInputError(f"--{name}", value, f"at least {least:g}")
        if self.out.exists():
            raise InvalidInputError("--out", f"{self.out}, which exists", "a new folder")

    @property
    def frames(self) -> int:
        """Frames to record in all."""
        return round(self.minutes * 60 * FRAME_RATE_HZ)


def register_record(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``record`` to the command line."""
    parser = subparsers.add_parser(
        "record",
        help="record drives through a simulated town",
        description="Record what is around cars in a simulated town: labels, what sensors see of them, actors, poses.",
        epilog="example: dyncity record --map generated:grid --minutes 10 --seed 1 --out data/grid",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--sim", choices=["sumo"], default="sumo", help="simulator")
    parser.add_argument(
        "--map",
        default="generated:grid",
        help="berlin, braunschweig, generated:grid, generated:spider, generated:random, an .xodr or a .net.xml file",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=10.0,
        help="recorded time summed over all egos: one minute is 600 frames, however many egos share it",
    )
    parser.add_argument("--egos", type=int, default=16, help="egos driving in one town at a time; half are driven by us")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same bytes")
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--burst", type=int, default=40, help="frames of a drive; turns are kept, straight and standing ones in part"
    )
    length.add_argument("--continuous", action="store_true", help="one long drive per ego, nothing left out")
    parser.add_argument(
        "--town-minutes",
        type=float,
        default=4.0,
        help="recorded time after which a new town is built (generated maps: new streets; others: new buildings)",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument(
        "--format",
        choices=["store", "carlasc"],
        default="store",
        help="compact recording for training, or one CarlaSC folder per drive",
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    options = RecordOptions(
        args.map,
        args.minutes,
        args.egos,
        args.seed,
        None if args.continuous else args.burst,
        args.town_minutes,
        args.out,
        args.format,
    )
    record(options, Console(stderr=True))
    return 0


def record(options: RecordOptions, console: Console) -> None:
    """Make the recording that ``options`` asks for, and say on ``console`` how it goes and what came of it.

    Raises:
        InvalidInputError: the output exists.
        MapError, MissingExtraError, SimulatorError, StorageError: as their names say.
    """
    tally = Tally()
    with _progress(console) as progress, tempfile.TemporaryDirectory(prefix="dyncity-sumo-") as workdir:
        task = progress.add_task("building a town", total=options.frames)
        writer: RecordingWriter | None = None
        try:
            town_number = 0
            while tally.frames < options.frames:
                town_seed = options.seed * 10_000 + town_number
                folder = Path(workdir) / f"town{town_number}"
                folder.mkdir()
                wanted = min(options.frames - tally.frames, round(options.town_minutes * 600))
                seconds = WARM_UP_S + 60 + TRAFFIC_RESERVE * wanted / 10 / options.egos
                with open_town(options.map, town_seed, folder, seconds) as town:
                    if writer is None:
                        writer = RecordingWriter(options.out, _meta(options, town.network.attribution, town.traffic.version))
                        writer.__enter__()
                    rng = np.random.default_rng([town_seed, 2])
                    crew = Crew(town, options.egos, rng)
                    length = options.burst or max(wanted // options.egos, SHORTEST_DRIVE)
                    captures = crew.bursts(length) if options.burst else crew.drives(length)
                    until = tally.frames + wanted
                    progress.update(task, description=f"town {town_number}")
                    for capture in captures:
                        frames = render(town, capture, rng)
                        notes = {"town_seed": town_seed, "ego": capture.ego_kind, "manoeuvre": capture.manoeuvre}
                        writer.write_drive(frames, notes)
                        tally.add(frames, capture.ego_kind, capture.manoeuvre)
                        progress.update(task, advance=len(frames))
                        if tally.frames >= until:
                            break
                town_number += 1
        except BaseException as error:
            if writer is not None:
                writer.__exit__(type(error), error, error.__traceback__)
            raise
        assert writer is not None
        writer.__exit__(None, None, None)
    console.print(tally.table())


def _meta(options: RecordOptions, attribution: str, version: str) -> RecordingMeta:
    how = {"egos": options.egos, "burst": options.burst, "minutes": options.minutes, "town_minutes": options.town_minutes}
    return RecordingMeta(options.map, options.seed, CARLASC_GRID, attribution, version, how)


class Tally:
    """Running totals of a recording."""

    def __init__(self) -> None:
        self.frames = 0
        self._classes = np.zeros(len(CARLASC), np.int64)
        self._drives: dict[str, int] = {}

    def add(self, frames: list[RecordedFrame], ego_kind: str, manoeuvre: str) -> None:
        """Count a drive."""
        self.frames += len(frames)
        for key in (f"{ego_kind}-driven", manoeuvre):
            self._drives[key] = self._drives.get(key, 0) + 1
        for frame in frames[:: max(len(frames) // 4, 1)]:
            seen = merged_labels(frame.labels[frame.counts > 0])
            self._classes += np.bincount(seen, minlength=len(CARLASC))

    def table(self) -> Table:
        """Shares of what was recorded, beside those of CarlaSC."""
        drives = ", ".join(f"{count} {name}" for name, count in sorted(self._drives.items()))
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


class _Rate(ProgressColumn):
    """Frames per second so far."""

    def render(self, task: Task) -> Text:
        rate = task.completed / task.elapsed if task.elapsed else 0.0
        return Text(f"{rate:5.1f} frames/s")


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn(), console=console
    )
