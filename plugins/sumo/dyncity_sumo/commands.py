"""``dyncity record``: a data set of drives through the embedded world."""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from dyncity_sim.dataset.carlasc import export_carlasc
from dyncity_sim.dataset.store import Recording, RecordingMeta, RecordingWriter
from dyncity_sim.domain.grid import CARLASC_GRID, FRAME_RATE_HZ
from dyncity_sim.errors import SimulatorError
from dyncity_sumo.captures import new_captures
from dyncity_sumo.record_options import SHORTEST_DRIVE, RecordOptions, add_record_arguments
from dyncity_sumo.recording import Crew
from dyncity_sumo.rendering import drive_notes, render, rig_of
from dyncity_sumo.shots import Capture
from dyncity_sumo.telling import Tally, class_counts, progress_bar
from dyncity_sumo.town import WARM_UP_S, Town, open_town

TOWNS_PER_SEED = 10_000
"""Town k of seed s is town ``s * TOWNS_PER_SEED + k``: recordings of different seeds share no town."""

TRAFFIC_RESERVE = 20.0
"""Traffic lasts this many times longer than the recorded time per ego: unkept bursts take time too."""

MOST_BARREN = 3
"""Once so many towns in a row gave nothing, the rest will not come either; a first one that gives nothing is enough."""


class SumoRecorder:
    """What the entry point names: ``dyncity record --sim sumo``."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the recorder's own options."""
        add_record_arguments(parser)

    def run(self, args: argparse.Namespace) -> int:
        """Record what was asked for."""
        record(RecordOptions.of(args), Console(stderr=True))
        return 0


RECORDER = SumoRecorder()


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
    tell(f"{number} town{'s' if number > 1 else ''}")


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
