"""``dyncity record``: a data set of drives through the embedded world."""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from dyncity_sim.dataset.carlasc import export_carlasc
from dyncity_sim.dataset.store import Recording, RecordingMeta, RecordingWriter
from dyncity_sim.domain.grid import CARLASC_GRID, FRAME_RATE_HZ
from dyncity_sim.errors import InvalidInputError, SimulatorError
from dyncity_sumo.captures import new_captures
from dyncity_sumo.recording import Crew
from dyncity_sumo.rendering import drive_notes, render, rig_of
from dyncity_sumo.shots import Capture
from dyncity_sumo.telling import Tally, class_counts, progress_bar
from dyncity_sumo.town import WARM_UP_S, Town, open_town

SHORTEST_DRIVE = 2

TOWNS_PER_SEED = 10_000
"""Town k of seed s is town ``s * TOWNS_PER_SEED + k``: recordings of different seeds share no town."""

TRAFFIC_RESERVE = 20.0
"""Traffic lasts this many times longer than the recorded time per ego: unkept bursts take time too."""

MOST_BARREN = 3
"""Once so many towns in a row gave nothing, the rest will not come either; a first one that gives nothing is enough."""


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
        captures: render nothing: write captures instead of a recording.
        standing: share of the people on foot who stand.
        off_nominal: share of drives in which the ego leaves its line or brakes for nothing.
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
    captures: bool = False
    standing: float = 0.0
    off_nominal: float = 0.0

    def __post_init__(self) -> None:
        for name, value, least in (
            ("minutes", self.minutes, 1e-3),
            ("egos", self.egos, 1),
            ("seed", self.seed, 0),
            ("burst", SHORTEST_DRIVE if self.burst is None else self.burst, SHORTEST_DRIVE),
            ("town-minutes", self.town_minutes, 1e-3),
        ):
            if not least <= value < inf:
                raise InvalidInputError(f"--{name}", value, f"a number of at least {least:g}")
        for name, share in (("standing", self.standing), ("off-nominal", self.off_nominal)):
            if not 0 <= share <= 1:
                raise InvalidInputError(f"--{name}", share, "a share in [0, 1]")
        if self.captures and self.blind:
            raise InvalidInputError(
                "--blind", "it beside --captures", "one of them", "Captures see nothing: say it to dyncity render."
            )
        if self.captures and self.format != "store":
            raise InvalidInputError(
                "--format", f"{self.format} beside --captures", "store", "Captures hold no cells: render them first."
            )
        if self.out.exists():
            raise InvalidInputError("--out", f"{self.out}, which exists", "a new folder", "Choose another name.")

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
            args.captures,
            args.standing,
            args.off_nominal,
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
    parser.add_argument(
        "--standing",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="share of the people on foot who stand: before crossings, under shelters, in pairs, alone; "
        "some start and some stop walking",
    )
    parser.add_argument(
        "--off-nominal",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="share of egos, and about of drives, that drift, swerve, leave their lane, cut corners and brake hard, "
        "where there is room",
    )
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
    parser.add_argument(
        "--captures",
        action="store_true",
        help="render nothing: write what a recording is made from, a hundredth of its size; see dyncity render",
    )


def record(options: RecordOptions, console: Console) -> None:
    """Make the recording that ``options`` asks for, and say on ``console`` how it goes and what came of it.

    Raises:
        InvalidInputError: the output exists.
        MapError, MissingExtraError, SimulatorError, StorageError: as their names say.
    """
    tally = Tally()
    with progress_bar(console) as progress, tempfile.TemporaryDirectory(prefix="dyncity-sumo-") as workdir:
        task = progress.add_task("building town 1", total=options.frames)

        def tell(doing: str) -> None:
            progress.update(task, completed=tally.frames, description=doing)

        visits = _visits(options, Path(workdir), tally, tell)
        if options.captures:
            _write_captures(options, visits)
        else:
            _write_recording(options, visits, Path(workdir), tally)
    console.print(f"{tally.frames} frames captured in {options.out}" if options.captures else tally.table())


@dataclass(frozen=True, eq=False)
class _Visit:
    """A town and what is captured in it, as it comes."""

    town: Town
    captures: Iterator[Capture]


def _write_captures(options: RecordOptions, visits: Iterator[_Visit]) -> None:
    with new_captures(options.out, _meta(options)) as writer:
        for visit in visits:
            town, captures = visit.town, list(visit.captures)
            if captures:
                writer.meta = _meta_in(town, writer.meta)
                writer.write_town(town.seed, town.network.net_file.read_bytes(), town.scenery, captures)


def _write_recording(options: RecordOptions, visits: Iterator[_Visit], workdir: Path, tally: Tally) -> None:
    folder = options.out if options.format == "store" else workdir / "recording"
    meta = _meta(options)
    with RecordingWriter(folder, replace(meta, options={**meta.options, "blind": options.blind})) as writer:
        for visit in visits:
            writer.meta = _meta_in(visit.town, writer.meta)
            for number, capture in enumerate(visit.captures):
                rig = rig_of(visit.town.seed, number, options.blind)
                frames = render(visit.town.scenery, capture, rig)
                writer.write_drive(frames, drive_notes(visit.town.seed, capture.ego_kind, capture.manoeuvre))
                tally.count(class_counts(frames))
    if options.format == "carlasc":
        export_carlasc(Recording.open(folder), options.out)


def _visits(options: RecordOptions, workdir: Path, tally: Tally, tell: Callable[[str], None]) -> Iterator[_Visit]:
    """One town after the other until there are enough frames; counts and tells what is captured."""
    number = barren = 0
    while tally.frames < options.frames:
        before = tally.frames
        tell(f"building town {number + 1}")
        wanted = min(options.frames - tally.frames, round(options.town_minutes * 60 * FRAME_RATE_HZ))
        burst_s = (options.burst or 0) / FRAME_RATE_HZ
        traffic_s = WARM_UP_S + 60 + burst_s + TRAFFIC_RESERVE * wanted / FRAME_RATE_HZ / options.egos
        folder = workdir / f"town{number}"
        folder.mkdir()
        with open_town(
            options.map, options.seed * TOWNS_PER_SEED + number, folder, traffic_s, options.standing
        ) as town:
            captures = _captures(options, town, round(traffic_s * 1e6), wanted)
            number += 1
            yield _Visit(town, _counted(captures, tally, partial(tell, f"town {number}")))
        barren = barren + 1 if tally.frames == before else 0
        if tally.frames == 0 or barren == MOST_BARREN:
            raise SimulatorError(
                f"No ego could be recorded in town {number} on {options.map}: try another seed or fewer egos."
            )
    tell(f"{number} towns")


def _captures(options: RecordOptions, town: Town, until_us: int, wanted: int) -> Iterator[Capture]:
    """Captures of at least ``wanted`` frames of a town, or what its traffic gives."""
    crew = Crew(town, options.egos, np.random.default_rng([town.seed, 2]), until_us, options.off_nominal)
    length = options.burst or max(-(-wanted // options.egos), SHORTEST_DRIVE)
    for capture in crew.bursts(length) if options.burst else crew.drives(length):
        yield capture
        wanted -= len(capture.shots)
        if wanted <= 0:
            return


def _counted(captures: Iterator[Capture], tally: Tally, tell: Callable[[], None]) -> Iterator[Capture]:
    for capture in captures:
        yield capture
        tally.add(len(capture.shots), capture.ego_kind, capture.manoeuvre)
        tell()


def _meta(options: RecordOptions) -> RecordingMeta:
    shares = {"standing": options.standing, "off_nominal": options.off_nominal}
    how: dict[str, Any] = {
        "burst": options.burst,
        "egos": options.egos,
        "minutes": options.minutes,
        "town_minutes": options.town_minutes,
    }
    # Left out where they are nothing: recordings that have neither say nothing of them.
    how |= {name: share for name, share in shares.items() if share}
    return RecordingMeta(options.map, options.seed, CARLASC_GRID, attribution="", simulator="SUMO", options=how)


def _meta_in(town: Town, meta: RecordingMeta) -> RecordingMeta:
    return replace(meta, attribution=town.network.attribution, simulator=f"{town.traffic.version}, libsumo")
