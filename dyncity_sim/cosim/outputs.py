"""All that is made of a drive: occupancy, scene, ground truth, pictures and the page."""

from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from dyncity_sim.cosim.drive import Drive
from dyncity_sim.cosim.write import provenance, write_occupancy
from dyncity_sim.dataset.chunk_files import frame_caption
from dyncity_sim.domain.ground_truth import LabelledFrame
from dyncity_sim.domain.scene import Scene
from dyncity_sim.extras import look_for_extra
from dyncity_sim.files import write_text
from dyncity_sim.groundtruth.build import labelled_drive, labelled_frames
from dyncity_sim.groundtruth.formats.write_semantickitti import open_semantickitti
from dyncity_sim.preview.film import film_frames, render_frame, write_animation, write_png
from dyncity_sim.preview.oblique import Image
from dyncity_sim.preview.page import PageText, build_page, write_page
from dyncity_sim.scene.build import build_scene
from dyncity_sim.scene.package.write import write_scene

OCCUPANCY, SCENE, GROUND_TRUTH = "occupancy", "scene", "ground_truth"
PICTURE, FILM, PAGE, ATTRIBUTION, SERVER_LOG = "drive.png", "drive.webp", "index.html", "ATTRIBUTION.txt", "server.log"
OUTPUT_NAMES = (OCCUPANCY, SCENE, GROUND_TRUTH, PICTURE, FILM, PAGE, ATTRIBUTION, SERVER_LOG)
"""Everything a drive's folder may hold."""


class Output(StrEnum):
    """What can be made of a drive's occupancy, which is always written."""

    SCENE = "scene"
    GROUND_TRUTH = "ground_truth"
    PICTURES = "pictures"


PACKAGES = ("numba", "pyarrow", "scenariogeneration", "trimesh")
"""What outputs are made with, of the extra ``scene``."""

FILM_WIDTH = 1280
FILM_EVERY = 2

Tell = Callable[[str, int, int], None]
"""Told of progress: what is being made, steps done, steps in all."""


@dataclass(frozen=True, eq=False)
class Derived:
    """What was made of a drive's occupancy.

    Attributes:
        scene: actors, static geometry and road.
        points: LiDAR points of all frames; None without ground truth.
        boxes: boxes of all frames; None without ground truth.
    """

    scene: Scene
    points: int | None = None
    boxes: int | None = None


def check_outputs(outputs: Set[Output]) -> None:
    """See that outputs can be made, before a drive of hours is driven for them.

    Raises:
        MissingExtraError: a package of the extra ``scene`` is not installed, and something is to be made.
    """
    if outputs:
        look_for_extra(PACKAGES, "scene", "What is made of a drive, unless --outputs is none,")


def write_data(drive: Drive, folder: Path, tell: Tell) -> Derived:
    """Write ``occupancy/``, the map's credit and all that ``write_derived`` can, which says what is raised."""
    tell("occupancy", 0, 1)
    write_occupancy(drive, folder / OCCUPANCY)
    write_credit(drive, folder)
    tell("occupancy", 1, 1)
    return write_derived(drive, folder, tell)


def write_credit(drive: Drive, folder: Path) -> None:
    """Write the map's credit where one is due; raises StorageError when it cannot be written whole."""
    if drive.attribution:
        write_text(drive.attribution + "\n", folder / ATTRIBUTION)


def write_derived(drive: Drive, folder: Path, tell: Tell, outputs: Set[Output] = frozenset(Output)) -> Derived:
    """Make the scene of a drive and write, if they are among the outputs, ``scene/`` and ``ground_truth/``.

    Raises:
        InvalidInputError: one of the folders holds something already.
        MissingExtraError: a package of the extra ``scene`` is not installed.
        StorageError: something could not be written whole.
    """
    tell("scene", 0, 1)
    scene = build_scene(drive.generated, tracks=drive.shown_tracks)
    if Output.SCENE in outputs:
        write_scene(scene, folder / SCENE, provenance(drive))
    tell("scene", 1, 1)
    if Output.GROUND_TRUTH not in outputs:
        return Derived(scene)
    tally = _Tally(tell, len(drive.generated))
    labelled = labelled_drive(drive.generated, scene.tracks, provenance(drive))
    with open_semantickitti(folder / GROUND_TRUTH, labelled) as writer:
        for frame in tally.counted(labelled_frames(drive.generated, labelled)):
            writer.add(frame)
    return Derived(scene, tally.points, tally.boxes)


def write_previews(drive: Drive, scene: Scene, title: str, map_name: str, folder: Path, tell: Tell) -> None:
    """Write ``drive.png``, ``drive.webp`` and ``index.html``.

    Raises:
        StorageError: something could not be written whole.
    """
    captions = frame_captions(drive)
    facts = (
        ("model", drive.model.model_id),
        ("map", map_name),
        ("drive", f"{len(drive.chunks)} chunks, {drive.frames} frames, seed {drive.seed}"),
        ("start", drive.start.value),
    )
    tell("page", 0, 1)
    page = build_page(
        drive.generated,
        PageText(title, facts, drive.attribution, captions),
        drive.recorded,
        scene,
        drive.model.frames_per_chunk,
        drive.model.rate_hz,
    )
    write_page(page, folder / PAGE)
    tell("page", 1, 1)
    frame = len(drive.generated) // 2
    write_png(render_frame(drive.generated, frame, 1400, captions[frame], drive.attribution), folder / PICTURE)
    count = len(range(0, len(drive.generated), FILM_EVERY))
    film = film_frames(
        drive.generated,
        replace(drive.recorded, observed=None),
        FILM_WIDTH,
        captions,
        drive.attribution,
        every=FILM_EVERY,
    )
    write_animation(_told(film, tell, count), folder / FILM, drive.model.rate_hz / FILM_EVERY)


def frame_captions(drive: Drive) -> tuple[str, ...]:
    """Chunk and command of each frame."""
    return tuple(
        frame_caption(number, chunk.command.value if chunk.command else None)
        for number, chunk in enumerate(drive.chunks)
        for _ in range(len(chunk.plan))
    )


def _told(film: Iterable[Image], tell: Tell, count: int) -> Iterator[Image]:
    """The pictures, told of as they pass by."""
    tell("film", 0, count)
    for number, picture in enumerate(film):
        yield picture
        tell("film", number + 1, count)


class _Tally:
    """Counts what passes by on its way to the writer."""

    def __init__(self, tell: Tell, frames: int) -> None:
        self._tell, self._frames = tell, frames
        self.points = self.boxes = 0

    def counted(self, frames: Iterable[LabelledFrame]) -> Iterator[LabelledFrame]:
        self._tell("ground truth", 0, self._frames)
        for number, frame in enumerate(frames):
            self.points += sum(len(sweep) for sweep in frame.sweeps)
            self.boxes += len(frame.boxes)
            self._tell("ground truth", number + 1, self._frames)
            yield frame
