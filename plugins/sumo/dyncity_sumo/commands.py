"""``dyncity record``: a data set of drives through the embedded world."""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from dyncity_sim.dataset.carlasc import export_carlasc
from dyncity_sim.dataset.store import Recording, RecordingMeta, RecordingWriter
from dyncity_sim.domain.grid import CARLASC_GRID, FRAME_RATE_HZ
from dyncity_sim.domain.recording import RecordedFrame
from dyncity_sim.domain.taxonomy import CARLASC, merged_labels
from dyncity_sim.errors import InvalidInputError, SimulatorError
from dyncity_sumo.recording import Crew, render
from dyncity_sumo.town import WARM_UP_S, open_town
from dyncity_sumo.visibility import blind_rig, draw_rig

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

TOWNS_PER_SEED = 10_000
"""Town k of seed s is town ``s * TOWNS_PER_SEED + k``: recordings of different seeds share no town."""

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
        blind: leave the emulated sensors out.
    """

    map: str
    minutes: float
    egos: int
    seed: int
    burst: int | None
    town_minutes: float
    out: Path
    format: str
    blind: bool = False

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


class SumoRecorder:
    """What the entry point names: ``dyncity record --sim sumo``."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the recorder's own options."""
        add_record_arguments(parser)

    def run(self, args: argparse.Namespace) -> int:
        """Record what was asked for."""
        options = RecordOptions(
            args.map,
            args.minutes,
            args.egos,
            args.seed,
            None if args.continuous else args.burst,
            args.town_minutes,
            args.out,
            args.format,
            args.blind,
        )
        record(options, Console(stderr=True))
        return 0


RECORDER = SumoRecorder()


def add_record_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of a recording in SUMO's traffic."""
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
    parser.add_argument(
        "--egos", type=int, default=16, help="egos driving in one town at a time; half are driven by us"
    )
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
    parser.add_argument(
        "--blind",
        action="store_true",
        help="leave the emulated sensors out: several times faster, nothing counts as observed; "
        "enough to train the transformer on, not the autoencoder",
    )


def record(options: RecordOptions, console: Console) -> None:
    """Make the recording that ``options`` asks for, and say on ``console`` how it goes and what came of it.

    Raises:
        InvalidInputError: the output exists.
        MapError, MissingExtraError, SimulatorError, StorageError: as their names say.
    """
    tally = Tally()
    with _progress(console) as progress, tempfile.TemporaryDirectory(prefix="dyncity-sumo-") as workdir:
        folder = options.out if options.format == "store" else Path(workdir) / "recording"
        with RecordingWriter(folder, _meta(options)) as writer:
            task = progress.add_task("building town 1", total=options.frames)
            number = 0
            while tally.frames < options.frames:
                before = tally.frames
                for frames in _record_town(options, number, Path(workdir), writer, tally):
                    progress.update(task, advance=frames, description=f"town {number + 1}")
                if tally.frames == before:
                    raise SimulatorError(f"No ego could be recorded on {options.map}: try another seed or fewer egos.")
                number += 1
                progress.update(task, description=f"building town {number + 1}")
            progress.update(task, description=f"{number} towns")
        if options.format == "carlasc":
            export_carlasc(Recording.open(folder), options.out)
    console.print(tally.table())


def _record_town(
    options: RecordOptions, number: int, workdir: Path, writer: RecordingWriter, tally: "Tally"
) -> Iterator[int]:
    """Record one town's part, or what its traffic gives; yields the frames of each drive once it is written."""
    town_seed = options.seed * TOWNS_PER_SEED + number
    wanted = min(options.frames - tally.frames, round(options.town_minutes * 60 * FRAME_RATE_HZ))
    traffic_s = WARM_UP_S + 60 + TRAFFIC_RESERVE * wanted / FRAME_RATE_HZ / options.egos
    folder = workdir / f"town{number}"
    folder.mkdir()
    with open_town(options.map, town_seed, folder, traffic_s) as town:
        writer.meta = replace(
            writer.meta, attribution=town.network.attribution, simulator=f"{town.traffic.version}, libsumo"
        )
        rng = np.random.default_rng([town_seed, 2])
        crew = Crew(town, options.egos, rng, round(traffic_s * 1e6))
        length = options.burst or max(-(-wanted // options.egos), SHORTEST_DRIVE)
        captures = crew.bursts(length) if options.burst else crew.drives(length)
        for capture in captures:
            frames = render(town, capture, blind_rig() if options.blind else draw_rig(rng))
            notes = {"town_seed": town_seed, "ego": capture.ego_kind, "manoeuvre": capture.manoeuvre}
            writer.write_drive(frames, notes)
            tally.add(frames, capture.ego_kind, capture.manoeuvre)
            wanted -= len(frames)
            yield len(frames)
            if wanted <= 0:
                return


def _meta(options: RecordOptions) -> RecordingMeta:
    how = {
        "blind": options.blind,
        "burst": options.burst,
        "egos": options.egos,
        "minutes": options.minutes,
        "town_minutes": options.town_minutes,
    }
    return RecordingMeta(options.map, options.seed, CARLASC_GRID, attribution="", simulator="SUMO", options=how)


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
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=console,
    )
