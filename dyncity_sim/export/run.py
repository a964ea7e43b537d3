"""One pass over the frames of each drive feeds the writers of all formats."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from dyncity_sim.dataset.drives import ListedDrive, LoadedDrive
from dyncity_sim.domain.base_frame import mounted
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.export.clock import Clock, TimedWriter
from dyncity_sim.export.kept import KeptDrives
from dyncity_sim.export.plan import ExportedDrive, ExportedFormat, ExportPlan, Report
from dyncity_sim.export.staging import check_free, staged, take_places, told_of
from dyncity_sim.groundtruth.build import labelled_drive, labelled_frames
from dyncity_sim.groundtruth.formats.table import LabelFormat, formats_named
from dyncity_sim.groundtruth.formats.writer import OpenWriter
from dyncity_sim.scene.actors.find import find_tracks

READING, TRACKING, LABELLING = "reading", "tracking", "labelling"


def export_drive(
    loaded: LoadedDrive, plan: ExportPlan, out: Path, told: Callable[[int], None] = lambda frames: None
) -> Report:
    """Export one drive that is in memory; see ``export_drives``. ``told`` is called with the frames done."""
    drive = ListedDrive(loaded.name, len(loaded.occupancy), lambda: loaded)
    return export_drives([drive], plan, out, lambda _, frames: told(frames))


def export_drives(
    drives: Sequence[ListedDrive],
    plan: ExportPlan,
    out: Path,
    told: Callable[[int, int], None] = lambda drive, frames: None,
    keep: Path | None = None,
) -> Report:
    """Label each frame of each drive once and write it in every format; the memory holds one drive at a time.

    Drives are written one after the other into a hidden folder, and joined when all of them are whole: each format
    takes its place in ``out`` with all drives. An error or an interruption ends the export with the drives that are
    whole by then, and is the report's ``failure``; it is raised where there is none, and nothing is left.

    With ``keep``, whole drives stay in that folder under a digest of what they are made of, whatever ends the export,
    and are not made again: ``out`` is taken only by all of them. A failure is then a report of no formats.

    Args:
        drives: their actors are the true ones where the source knows them, else those found in its cells.
        plan: in which formats, from which sensors.
        out: folder for all; may exist and hold other formats.
        told: called with the number of a drive, from 0 on, and its frames done.
        keep: folder of whole drives to go on from; its files are linked to where it lies on the disk of ``out``.

    Raises:
        InvalidInputError: an unknown format, one that cannot hold the drive, its grid or its classes, resampling that
            no format asks for, no drive or two of one name, a place that is taken, or a sensor that stands in
            something.
        MissingExtraError: a package that a format needs is not installed.
        StorageError: something could not be written whole.
    """
    formats = formats_named(plan.formats)
    if plan.resample and not any(form.own_grid for form in formats):
        raise InvalidInputError(
            "--resample", "nearest", "a format with a grid of its own", "Leave it out: these formats take any grid."
        )
    _check_names(drives)
    openings = [(form, form.open_writer(plan.resample and form.own_grid is not None)) for form in formats]
    kept = None if keep is None else KeptDrives(keep)
    check_free([place for form in formats for place in _places(form, out, [drive.name for drive in drives])])
    clocks = {name: Clock() for name in (READING, TRACKING, LABELLING, *plan.formats)}
    whole: list[ExportedDrive] = []
    failure: BaseException | None = None
    with staged(out) as staging:
        try:
            for number, drive in enumerate(drives):
                part = staging / str(number)
                with told_of(out, part), _laid_to(drive, alone=len(drives) == 1):
                    whole.append(_part(drive, plan, openings, clocks, part, partial(told, number), kept))
        except BaseException as error:
            if not whole:
                raise
            failure = error
        spent_s = {name: clocks[name].seconds for name in (READING, TRACKING, LABELLING)}
        if kept is not None and failure is not None:
            return Report((), tuple(whole), spent_s, failure)
        parts = {drive.name: staging / str(number) for number, drive in enumerate(whole)}
        for form in formats:
            with clocks[form.name].running():
                form.join(parts, staging / "joined")
        taken = [_places(form, out, parts) for form in formats]
        take_places(staging / "joined", out, [place for places in taken for place in places])
    return Report(
        tuple(_exported(form, out, places, clocks[form.name]) for form, places in zip(formats, taken, strict=True)),
        tuple(whole),
        spent_s,
        failure,
    )


def _part(
    drive: ListedDrive,
    plan: ExportPlan,
    openings: Sequence[tuple[LabelFormat, OpenWriter]],
    clocks: Mapping[str, Clock],
    part: Path,
    told: Callable[[int], None],
    kept: KeptDrives | None,
) -> ExportedDrive:
    """Have one drive in every format in ``part``."""
    with clocks[READING].running():
        loaded = replace(drive.open(), name=drive.name)
    if kept is None:
        return _export(loaded, plan, openings, clocks, part, told)
    exported = kept.part(loaded, plan, part, lambda folder: _export(loaded, plan, openings, clocks, folder, told))
    told(exported.frames)
    return exported


def _export(
    loaded: LoadedDrive,
    plan: ExportPlan,
    openings: Sequence[tuple[LabelFormat, OpenWriter]],
    clocks: Mapping[str, Clock],
    out: Path,
    told: Callable[[int], None],
) -> ExportedDrive:
    """Write one drive in every format."""
    occupancy = loaded.occupancy
    if occupancy.taxonomy.id != CARLASC.id:
        raise InvalidInputError(
            "occupancy.taxonomy", repr(occupancy.taxonomy.id), repr(CARLASC.id), "Merge raw classes first."
        )
    with clocks[TRACKING].running():
        tracks = find_tracks(occupancy) if loaded.tracks is None else loaded.tracks
        rig = mounted(plan.rig, occupancy.grid)
        about = labelled_drive(occupancy, tracks, loaded.provenance, rig, loaded.name, plan.seed)
    points = boxes = 0
    with ExitStack() as stack:
        writers = [
            stack.enter_context(TimedWriter(opener(form.place(out, loaded.name), about), clocks[form.name]))
            for form, opener in openings
        ]
        for number, frame in enumerate(clocks[LABELLING].each(labelled_frames(occupancy, about)), start=1):
            for writer in writers:
                writer.add(frame)
            points += sum(len(sweep) for sweep in frame.sweeps)
            boxes += len(frame.boxes)
            told(number)
    return ExportedDrive(loaded.name, len(occupancy), points, boxes)


def _check_names(drives: Sequence[ListedDrive]) -> None:
    if not drives:
        raise InvalidInputError("drives", "none", "at least one")
    # Keys of samples in WebDataset's shards have no dots, and dashes in their place.
    numbers: dict[str, int] = {}
    for number, drive in enumerate(drives):
        same = numbers.setdefault(drive.name.replace(".", "-"), number)
        if same != number:
            raise InvalidInputError(
                "drives",
                f"{drives[same].name!r} and {drive.name!r}",
                "names that files can be told apart by",
                "Rename the folder of one, or export them to an --out each.",
            )


def _places(form: LabelFormat, out: Path, names: Iterable[str]) -> list[Path]:
    """Where a format lies: its folder, or the files of all drives."""
    return list(dict.fromkeys(form.place(out, name) for name in names))


@contextmanager
def _laid_to(drive: ListedDrive, alone: bool) -> Iterator[None]:
    """Wrong input is told with the drive that it is of, where there are others."""
    try:
        yield
    except InvalidInputError as error:
        if alone:
            raise
        raise InvalidInputError(f"{drive.name}: {error.field}", error.got, error.expected, error.mend) from error


def _exported(form: LabelFormat, out: Path, places: Sequence[Path], clock: Clock) -> ExportedFormat:
    files = [file for place in places for file in (place, *place.rglob("*")) if file.is_file()]
    place = places[0] if len(places) == 1 else out / form.name
    return ExportedFormat(form.name, place, len(files), sum(file.stat().st_size for file in files), clock.seconds)
