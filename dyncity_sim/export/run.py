"""One pass over the frames of a drive feeds the writers of all formats."""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from dyncity_sim.dataset.drives import LoadedDrive
from dyncity_sim.domain.base_frame import mounted
from dyncity_sim.domain.ground_truth import LabelledFrame
from dyncity_sim.domain.scene import Track
from dyncity_sim.domain.sensors import SensorRig
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import InvalidInputError, StorageError
from dyncity_sim.groundtruth.build import labelled_drive, labelled_frames
from dyncity_sim.groundtruth.formats.table import LabelFormat, formats_named
from dyncity_sim.groundtruth.formats.writer import FrameWriter
from dyncity_sim.scene.actors.find import find_tracks

LABELLING, TRACKING = "labelling", "tracking"


@dataclass(frozen=True)
class ExportPlan:
    """What is exported.

    Attributes:
        formats: names, see ``dyncity_sim.groundtruth.formats.table``.
        resample: formats that are published with a grid of their own take it, by nearest neighbour.
        rig: the sensors, as ``read_rig`` gives them.
        seed: of all that is random in what sensors measure.
    """

    formats: tuple[str, ...]
    rig: SensorRig
    resample: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Exported:
    """What became of one format.

    Attributes:
        name: of the format.
        place: its folder or file.
        files: how many.
        size_bytes: of all of them.
        seconds: spent on writing them.
    """

    name: str
    place: Path
    files: int
    size_bytes: int
    seconds: float


@dataclass(frozen=True)
class Report:
    """What became of an export.

    Attributes:
        formats: each format, in the order asked for.
        points: LiDAR points in all.
        boxes: boxes in all.
        seconds: spent on tracking and labelling, by name.
    """

    formats: tuple[Exported, ...]
    points: int
    boxes: int
    seconds: dict[str, float]


def export_drive(
    loaded: LoadedDrive, plan: ExportPlan, out: Path, told: Callable[[int], None] = lambda frames: None
) -> Report:
    """Label each frame of a drive once and write it in every format.

    Each format takes its place in ``out`` when all of them are whole; after an error or an interruption there is none.

    Args:
        loaded: the drive. Its actors are the true ones where the source knows them, else those found in its cells.
        plan: in which formats, from which sensors.
        out: folder for all; may exist and hold other formats.
        told: called with the frames done.

    Raises:
        InvalidInputError: an unknown format, one that cannot hold the drive, its grid or its classes, resampling that
            no format asks for, a place that is taken, or a sensor that stands in something.
        MissingExtraError: a package that a format needs is not installed.
        StorageError: something could not be written whole.
    """
    formats = formats_named(plan.formats)
    if plan.resample and not any(form.own_grid for form in formats):
        raise InvalidInputError(
            "--resample", "nearest", "a format with a grid of its own", "Leave it out: these formats take any grid."
        )
    if loaded.occupancy.taxonomy.id != CARLASC.id:
        raise InvalidInputError(
            "occupancy.taxonomy", repr(loaded.occupancy.taxonomy.id), repr(CARLASC.id), "Merge raw classes first."
        )
    clocks = {name: _Clock() for name in (TRACKING, LABELLING, *plan.formats)}
    openers = [form.open_writer(plan.resample and form.own_grid is not None) for form in formats]
    places = [form.place(out, loaded.name) for form in formats]
    _check_free(places)
    with clocks[TRACKING].running():
        rig = mounted(plan.rig, loaded.occupancy.grid)
        drive = labelled_drive(loaded.occupancy, _tracks(loaded), loaded.provenance, rig, loaded.name, plan.seed)
    points = boxes = 0
    with _staged(out, places) as staging, ExitStack() as stack:
        writers = [
            stack.enter_context(_Timed(opener(form.place(staging, drive.name), drive), clocks[form.name]))
            for form, opener in zip(formats, openers, strict=True)
        ]
        frames = labelled_frames(loaded.occupancy, drive)
        for number, frame in enumerate(clocks[LABELLING].each(frames), start=1):
            for writer in writers:
                writer.add(frame)
            points += sum(len(sweep) for sweep in frame.sweeps)
            boxes += len(frame.boxes)
            told(number)
    return Report(
        tuple(_exported(form, place, clocks[form.name]) for form, place in zip(formats, places, strict=True)),
        points,
        boxes,
        {name: clocks[name].seconds for name in (TRACKING, LABELLING)},
    )


def _tracks(loaded: LoadedDrive) -> tuple[Track, ...]:
    return find_tracks(loaded.occupancy) if loaded.tracks is None else loaded.tracks


def _check_free(places: Sequence[Path]) -> None:
    for place in places:
        if place.exists():
            raise InvalidInputError("--out", f"{place}, which exists", "a place that is free", "Name another --out.")


@contextmanager
def _staged(out: Path, places: Sequence[Path]) -> Iterator[Path]:
    """A hidden folder in ``out``; what it holds under the names of ``places`` moves there when the block succeeds.

    All of it moves or nothing.

    Raises:
        StorageError: the folder cannot be made, or something cannot be moved.
    """
    there, staging = out.exists(), out / f".export.{os.getpid()}.part"
    try:
        # A process that was killed may have had the number of this one, as all have that are alone in a container.
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        yield staging
        with ExitStack() as back:
            for place in places:
                staged = staging / place.relative_to(out)
                place.parent.mkdir(parents=True, exist_ok=True)
                os.replace(staged, place)
                back.callback(os.replace, place, staged)
            back.pop_all()
    except StorageError as error:
        # Writers know the hidden folder alone, which is gone by the time that somebody looks for it.
        raise StorageError(str(error).replace(str(staging), str(out))) from error
    except OSError as error:
        raise StorageError(f"{out} could not be written to: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if not there and out.is_dir() and not any(out.iterdir()):
            out.rmdir()


class _Clock:
    """Wall-clock seconds of one thing among others."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - start

    def each(self, frames: Iterator[LabelledFrame]) -> Iterator[LabelledFrame]:
        """The frames, each timed until it comes."""
        while True:
            with self.running():
                frame = next(frames, None)
            if frame is None:
                return
            yield frame


class _Timed:
    """A writer whose time is taken, from its opening to its end."""

    def __init__(self, opened: AbstractContextManager[FrameWriter], clock: _Clock) -> None:
        self._opened, self._clock = opened, clock

    def __enter__(self) -> Self:
        with self._clock.running():
            self._writer = self._opened.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        with self._clock.running():
            return self._opened.__exit__(kind, error, trace)

    def add(self, frame: LabelledFrame) -> None:
        with self._clock.running():
            self._writer.add(frame)


def _exported(form: LabelFormat, place: Path, clock: _Clock) -> Exported:
    files = [place] if place.is_file() else [file for file in place.rglob("*") if file.is_file()]
    return Exported(form.name, place, len(files), sum(file.stat().st_size for file in files), clock.seconds)
